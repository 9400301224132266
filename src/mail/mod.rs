//! Mails: written down with the change that they tell of, sent by whichever node is first.
//!
//! A handler makes a [`Letter`] and gives it to its transaction ([`Transaction::mail`]): with
//! the change comes the mail, and without it none. From the outbox it is taken by
//! [`deliver()`], of this node or another.
//!
//! [`Transaction::mail`]: crate::transaction::Transaction::mail

mod deliver;
mod message;
mod notice;
mod render;
mod smtp;

use std::path::PathBuf;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::WebUrl;
use crate::db::outbox::{self, NewMail, SealedCode};
use crate::domain::accounts::{AccountState, Details};
use crate::domain::ids::OrgId;
use crate::domain::mail::{Mail, recipient};
use crate::domain::names::Email;
use crate::domain::token_text::TokenText;
use crate::error::Result;
use crate::keys::seal::{MasterKeys, Purpose};

pub use deliver::deliver;
pub use lettre::message::Mailbox;
pub use notice::{tell, tell_rarely};
pub use smtp::Smtp;

/// A mail to be sent.
pub struct Letter {
    org_id: OrgId,
    recipient: Email,
    mail: Mail,
    code: Option<Code>,
}

/// The code that a mail's link carries.
struct Code {
    text: TokenText,
    expire_time: OffsetDateTime,
}

impl Letter {
    /// A mail whose link carries a code, to the mailbox that the code is to prove.
    pub fn with_code(
        org_id: OrgId,
        recipient: &Email,
        mail: Mail,
        text: TokenText,
        expire_time: OffsetDateTime,
    ) -> Self {
        let code = Some(Code { text, expire_time });
        Self { org_id, recipient: recipient.clone(), mail, code }
    }

    /// A notice of the org about an account; none when nobody is to be told ([`recipient`]).
    pub fn notice(
        org_id: OrgId,
        details: &Details,
        state: AccountState,
        proved: bool,
        mail: Mail,
    ) -> Option<Self> {
        let recipient = recipient(details, state, proved)?.clone();
        Some(Self { org_id, recipient, mail, code: None })
    }

    /// Writes it into the outbox, its code sealed.
    pub(crate) async fn post(
        &self,
        tx: &mut PgConnection,
        master: &MasterKeys,
        mail_id: Uuid,
        now: OffsetDateTime,
    ) -> Result<()> {
        let seal = |code: &Code| SealedCode {
            code_id: code.text.id().uuid(),
            sealed: master.seal(Purpose::Mail, &mail_id.to_string(), code.text.expose().as_bytes()),
            expire_time: code.expire_time,
        };
        let code = self.code.as_ref().map(seal);
        let new = NewMail {
            mail_id,
            org_id: self.org_id,
            recipient: self.recipient.as_str(),
            mail: &self.mail,
            code: code.as_ref(),
        };
        outbox::insert(tx, &new, now).await
    }
}

/// What a server needs to send mails and to serve the pages that their links lead to.
#[derive(Clone)]
pub struct PostOffice {
    /// What every link begins with.
    pub pages_url: WebUrl,
    /// None: mails wait in the outbox for a node that can send them.
    pub postman: Option<Postman>,
}

impl PostOffice {
    /// One that sends nothing.
    pub fn closed(pages_url: WebUrl) -> Self {
        Self { pages_url, postman: None }
    }
}

/// Who sends mails, and from whom they are.
#[derive(Clone)]
pub struct Postman {
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

/// Why a mail was not sent.
#[derive(Debug)]
enum Failure {
    /// It is worth trying again.
    Passing(String),
    /// It is not: whoever reads the mail's error decides.
    Lasting(String),
}

/// A link with its code, wiped when it is not needed any more.
type Link = Zeroizing<String>;
