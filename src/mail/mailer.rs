//! The settings of email delivery: the sender, the transport, and the URL of the pages.

use std::path::PathBuf;

use lettre::message::Mailbox;
use zeroize::Zeroizing;

use super::smtp::Smtp;
use crate::config::{Appearance, WebUrl};

/// What a server needs to send emails and to serve the pages that their links lead to.
#[derive(Clone)]
pub struct EmailDelivery {
    /// The URL that every link starts with.
    pub pages_url: WebUrl,
    /// How this node's pages look.
    pub appearance: Appearance,
    /// None if this node sends no emails: they wait in the outbox for a node that does.
    pub mailer: Option<Mailer>,
}

impl EmailDelivery {
    /// A delivery that sends nothing.
    pub fn closed(pages_url: WebUrl) -> Self {
        Self { pages_url, appearance: Appearance::default(), mailer: None }
    }
}

/// The transport of emails, and their sender.
#[derive(Clone)]
pub struct Mailer {
    pub from: Mailbox,
    pub transport: Transport,
}

/// How an email is sent.
#[derive(Clone)]
pub enum Transport {
    /// To an SMTP server.
    Smtp(Smtp),
    /// Into a file of this directory, with its link on the terminal, for `countersign dev`.
    Files(PathBuf),
}

/// A link with its code, which is erased from memory when it is dropped.
pub(super) type Link = Zeroizing<String>;
