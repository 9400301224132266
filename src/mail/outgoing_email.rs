//! An email that is to be inserted into the outbox.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crypto::seal::{MasterKeys, SealPurpose};
use crate::db::outbox;
use crate::db::outbox::{NewEmail, SealedCode};
use crate::domain::accounts::{AccountState, Details};
use crate::domain::mail::{Budget, Mail, recipient};
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::Email;
use crate::domain::values::token_string::TokenString;
use crate::error::Result;

/// An email to be sent.
pub struct OutgoingEmail {
    org_id: OrgId,
    recipient: Email,
    mail: Mail,
    /// Whether the holder of the mailbox requested it.
    asked: bool,
    code: Option<LinkCode>,
}

/// The code that the link of an email carries.
struct LinkCode {
    code: TokenString<'static>,
    expire_time: OffsetDateTime,
}

impl OutgoingEmail {
    /// An email whose link carries a code, to the mailbox that the code is to prove.
    pub fn with_code(
        org_id: OrgId,
        recipient: &Email,
        mail: Mail,
        asked: bool,
        code: TokenString<'static>,
        expire_time: OffsetDateTime,
    ) -> Self {
        let code = Some(LinkCode { code, expire_time });
        Self { org_id, recipient: recipient.clone(), mail, asked, code }
    }

    /// A notice of the org about an account; none if there is no one to notify ([`recipient`]).
    pub fn notice(
        org_id: OrgId,
        details: &Details,
        state: AccountState,
        proved: bool,
        mail: Mail,
    ) -> Option<Self> {
        let recipient = recipient(details, state, proved)?.clone();
        Some(Self { org_id, recipient, mail, asked: false, code: None })
    }

    /// The org that sends it.
    pub fn org_id(&self) -> OrgId {
        self.org_id
    }

    /// The mailbox that it is sent to.
    pub fn recipient(&self) -> &Email {
        &self.recipient
    }

    /// Whether it informs of something, and needs no action.
    pub fn is_notice(&self) -> bool {
        self.code.is_none()
    }

    /// The template and its parameters.
    pub fn mail(&self) -> &Mail {
        &self.mail
    }

    /// Inserts it into the outbox, with its code sealed.
    pub(crate) async fn enqueue(
        &self,
        tx: &mut PgConnection,
        master: &MasterKeys,
        mail_id: Uuid,
        now: OffsetDateTime,
    ) -> Result<()> {
        let seal = |code: &LinkCode| SealedCode {
            code_id: code.code.id().uuid(),
            sealed: master.seal(SealPurpose::Mail, &mail_id.to_string(), code.code.expose().as_bytes()),
            expire_time: code.expire_time,
        };
        let code = self.code.as_ref().map(seal);
        let new = NewEmail {
            mail_id,
            org_id: self.org_id,
            recipient: self.recipient.as_str(),
            budget: &Budget::of(&self.recipient, self.asked),
            mail: &self.mail,
            code: code.as_ref(),
        };
        outbox::insert(tx, &new, now).await
    }
}
