//! Mails: written down with the change that they tell of, sent by whichever node is first.
//!
//! A handler makes a [`OutgoingEmail`] and gives it to its transaction ([`Transaction::mail`]): with
//! the change comes the mail, and without it none. From the outbox it is taken by
//! [`Delivery`], of this node or another.
//!
//! [`Transaction::mail`]: crate::flows::transaction::Transaction::mail

mod deliver;
mod failure;
mod mailer;
mod message;
mod outgoing_email;
mod render;
mod smtp;

pub use deliver::Delivery;
pub use lettre::message::Mailbox;
pub use mailer::{EmailDelivery, Mailer, Transport};
pub use outgoing_email::OutgoingEmail;
pub use smtp::Smtp;
