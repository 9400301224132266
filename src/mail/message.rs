//! Building the message (RFC 5322) of a claimed email.

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::mailer::{EmailDelivery, Link};
use super::render;
use super::render::Rendered;
use crate::config::WebUrl;
use crate::crypto::seal::{MasterKeys, SealPurpose};
use crate::db::outbox::Claimed;
use crate::domain::mail::Mail;

/// A message, with its subject and link.
pub(super) struct Built {
    pub message: Message,
    pub subject: String,
    /// The link in it, which `countersign dev` prints.
    pub link: Option<Link>,
}

/// Builds the message of an email.
///
/// Its message id is derived from the id of the email, so that a receiver can detect a duplicate.
pub(super) fn build(
    claimed: &Claimed,
    from: &Mailbox,
    delivery: &EmailDelivery,
    master: &MasterKeys,
    now: std::time::SystemTime,
) -> Result<Built, Failure> {
    let lasting = |error: &dyn std::fmt::Display| Failure::Lasting(error.to_string());
    let mail = claimed.mail().map_err(|_| {
        // A node of a newer version may know it.
        Failure::Passing("this version of the server does not know this email template".to_owned())
    })?;
    let link = link(claimed, &mail, &delivery.pages_url, master)?;
    let Rendered { subject, text, html } = render::render(&mail, link.as_ref().map(|link| link.as_str()));
    let to: Address = claimed.recipient.parse().map_err(|error| lasting(&error))?;
    let message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(&subject)
        .date(now)
        .message_id(Some(message_id(claimed.mail_id, from)))
        // RFC 3834: no auto-responder answers it.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .multipart(MultiPart::alternative_plain_html(text, html))
        .map_err(|error| lasting(&error))?;
    Ok(Built { message, subject, link })
}

fn message_id(mail_id: Uuid, from: &Mailbox) -> String {
    format!("<{mail_id}@{}>", from.email.domain())
}

/// The link of an email: `<pages url>/<page>?code=<code>`.
///
/// The URL is the configured one; nothing else can determine where a link leads.
fn link(
    claimed: &Claimed,
    mail: &Mail,
    pages_url: &WebUrl,
    master: &MasterKeys,
) -> Result<Option<Link>, Failure> {
    let Some(page) = render::page(mail) else { return Ok(None) };
    let sealed = claimed.sealed.as_deref();
    let sealed = sealed.ok_or_else(|| Failure::Lasting("its code was erased".to_owned()))?;
    // Transient, because another node may have the master key that this one lacks.
    let unopenable =
        |_| Failure::Passing("its code does not open with the master keys of this server".to_owned());
    let code = master.open(SealPurpose::Mail, &claimed.mail_id.to_string(), sealed).map_err(unopenable)?;
    let code = std::str::from_utf8(&code).map_err(|error| Failure::Lasting(error.to_string()))?;
    Ok(Some(Zeroizing::new(format!("{pages_url}/{page}?code={code}"))))
}
