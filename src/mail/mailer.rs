//! Who sends mails, how, and what goes wrong.

use std::path::PathBuf;

use lettre::message::Mailbox;
use zeroize::Zeroizing;

use super::smtp::Smtp;
use crate::config::WebUrl;

/// What a server needs to send mails and to serve the pages that their links lead to.
#[derive(Clone)]
pub struct EmailDelivery {
    /// What every link begins with.
    pub pages_url: WebUrl,
    /// None: mails wait in the outbox for a node that can send them.
    pub mailer: Option<Mailer>,
}

impl EmailDelivery {
    /// One that sends nothing.
    pub fn closed(pages_url: WebUrl) -> Self {
        Self { pages_url, mailer: None }
    }
}

/// Who sends mails, and from whom they are.
#[derive(Clone)]
pub struct Mailer {
    pub from: Mailbox,
    pub transport: Transport,
}

/// The way that a mail goes.
#[derive(Clone)]
pub enum Transport {
    /// To a mail server.
    Smtp(Smtp),
    /// Into this directory, and its link on the terminal: for trying out.
    Files(PathBuf),
}

/// A link with its code, wiped when it is not needed any more.
pub(super) type Link = Zeroizing<String>;
