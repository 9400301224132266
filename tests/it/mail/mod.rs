//! Emails: that each is sent once, what it contains, and who gets which.

mod budgets;
mod delivery;
mod emailed_codes;
mod expiry_reminders;
mod notices;
mod shown_links;
mod smtp;

use std::time::Duration;

use countersign::clock::random;
use countersign::db::events::Author;
use countersign::domain::accounts::{AccountState, Details};
use countersign::domain::mail::Mail;
use countersign::domain::values::ids::{SYSTEM_ORG, TokenId};
use countersign::domain::values::names::Email;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::flows::transaction::Transaction;
use countersign::mail::OutgoingEmail;

use crate::harness::{TestServer, until, watch};

pub const MINUTE: Duration = Duration::from_secs(60);
/// A notice to a person of this address.
pub fn notice(address: &str) -> OutgoingEmail {
    let details = Details::new(None, Email::parse(address).unwrap());
    let mail = Mail::tokens_leaked("Acme", "ci", vec!["nightly".to_owned()]);
    OutgoingEmail::notice(SYSTEM_ORG, &details, AccountState::Active, true, mail).unwrap()
}

/// An email with a code to this address, and the code.
pub fn with_code(server: &TestServer, address: &str, mail: Mail) -> (OutgoingEmail, TokenString<'static>) {
    let text =
        TokenString::new(TokenStringKind::SecretToken, server.state.clock.new_id::<TokenId>(), random());
    watch(text.expose());
    let end = server.state.clock.now() + MINUTE * 60;
    (
        OutgoingEmail::with_code(SYSTEM_ORG, &Email::parse(address).unwrap(), mail, false, text.clone(), end),
        text,
    )
}

pub async fn post(server: &TestServer, letter: &OutgoingEmail) {
    let mut tx = Transaction::begin(&server.state, Author::server(SYSTEM_ORG)).await.unwrap();
    tx.mail(letter).await.unwrap();
    tx.commit().await.unwrap();
}

/// Emails that are sent, that wait, that were given up.
pub async fn counts(server: &TestServer) -> (i64, i64, i64) {
    let query = "select count(sent_time), count(next_time), count(dead_time) from outbox";
    sqlx::query_as(query).fetch_one(&server.state.db).await.unwrap()
}

pub async fn last_error(server: &TestServer) -> Option<String> {
    let query = "select max(last_error) from outbox";
    sqlx::query_scalar(query).fetch_one(&server.state.db).await.unwrap()
}

/// Waits until nothing is being sent, and each waiting email was tried so often.
pub async fn quiet(server: &TestServer, tries: i32) {
    let query =
        "select count(*) from outbox where next_time is not null and (claim_id is not null or attempts < $1)";
    until(async || {
        let busy: i64 = sqlx::query_scalar(query).bind(tries).fetch_one(&server.state.db).await.unwrap();
        busy == 0
    })
    .await;
}

/// Time goes on, and the nodes notice. Only when nothing is being sent: a claim does not
/// outlive it.
pub fn later(server: &TestServer, by: Duration) {
    server.state.clock.advance(by);
    server.state.outbox_filled.notify_one();
}
