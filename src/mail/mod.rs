//! Emails: stored in the same transaction as the change that they notify of, sent by any node.
//!
//! A handler creates an [`OutgoingEmail`] and passes it to its transaction ([`Transaction::mail`]), so
//! that the email is stored if and only if the change is. The job of mail delivery, of this node or another, sends
//! it from the outbox.
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
