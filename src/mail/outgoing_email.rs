//! A mail on its way into the outbox.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crypto::seal::{MasterKeys, SealPurpose};
use crate::db::outbox;
use crate::db::outbox::{NewMail, SealedCode};
use crate::domain::accounts::{AccountState, Details};
use crate::domain::mail::{Mail, recipient};
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::Email;
use crate::domain::values::token_string::TokenString;
use crate::error::Result;

/// A mail to be sent.
pub struct OutgoingEmail {
    org_id: OrgId,
    recipient: Email,
    mail: Mail,
    code: Option<LinkCode>,
}

/// The code that a mail's link carries.
struct LinkCode {
    text: TokenString,
    expire_time: OffsetDateTime,
}

impl OutgoingEmail {
    /// A mail whose link carries a code, to the mailbox that the code is to prove.
    pub fn with_code(
        org_id: OrgId,
        recipient: &Email,
        mail: Mail,
        text: TokenString,
        expire_time: OffsetDateTime,
    ) -> Self {
        let code = Some(LinkCode { text, expire_time });
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

    /// The mailbox that it goes to.
    pub fn recipient(&self) -> &Email {
        &self.recipient
    }

    /// What it says.
    pub fn mail(&self) -> &Mail {
        &self.mail
    }

    /// Writes it into the outbox, its code sealed.
    pub(crate) async fn post(
        &self,
        tx: &mut PgConnection,
        master: &MasterKeys,
        mail_id: Uuid,
        now: OffsetDateTime,
    ) -> Result<()> {
        let seal = |code: &LinkCode| SealedCode {
            code_id: code.text.id().uuid(),
            sealed: master.seal(SealPurpose::Mail, &mail_id.to_string(), code.text.expose().as_bytes()),
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
