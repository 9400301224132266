//! How many emails one mailbox gets, and one org sends.

use std::time::Duration;

use countersign::domain::mail::Mail;
use countersign::grpc::pb;
use tonic::Code;

use super::{MINUTE, counts, later, notice, post, with_code};
use crate::harness::{Client, LIMITS, PASSWORD, SmtpServer, TestServer, invite, refused, until};

const HOUR: Duration = Duration::from_secs(3_600);

/// Emails to this address that were sent, and that wait.
async fn to(server: &TestServer, address: &str) -> (i64, i64) {
    let query = "select count(sent_time), count(next_time) from outbox where recipient = $1";
    sqlx::query_as(query).bind(address).fetch_one(&server.state.db).await.unwrap()
}

/// Waits until so many were sent, and the others wait for a place.
async fn settles(server: &TestServer, sent: i64, waiting: i64) {
    until(async || {
        let now = server.state.clock.now();
        let query =
            "select count(*) from outbox where next_time <= $1 or claim_id is not null and sent_time is null";
        let due: i64 = sqlx::query_scalar(query).bind(now).fetch_one(&server.state.db).await.unwrap();
        due == 0 && counts(server).await == (sent, waiting, 0)
    })
    .await;
}

async fn create(by: &Client, email: &str, suppress_email: bool) -> Result<pb::Account, tonic::Status> {
    let request = pb::CreateUserRequest { email: email.into(), suppress_email, ..Default::default() };
    Ok(by.accounts().create_user(request).await?.into_inner().account.unwrap())
}

#[tokio::test]
async fn a_mailbox_gets_five_an_hour_whichever_orgs_send_and_the_others_wait() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let other = server.beside_with_mail(&smtp).await;
    for _ in 0..7 {
        let org = server.org().await;
        // The call succeeds, and does not say what others have sent.
        invite(&org.owner, "", "ana@example.org", &[]).await.unwrap();
    }
    // Of one person, by the reckoning of most mail servers.
    invite(&server.org().await.owner, "", "ana+spam@example.org", &[]).await.unwrap();
    settles(&server, 5, 3).await;
    invite(&server.org().await.owner, "", "bea@example.org", &[]).await.unwrap();
    settles(&server, 6, 3).await;
    assert_eq!(to(&server, "bea@example.org").await, (1, 0));
    // Not before an hour has passed since the first.
    later(&server, HOUR - MINUTE * 5);
    other.state.outbox_filled.notify_one();
    settles(&server, 6, 3).await;
    later(&server, MINUTE * 5);
    other.state.outbox_filled.notify_one();
    settles(&server, 9, 0).await;
    assert_eq!(smtp.received().len(), 9);
}

#[tokio::test]
async fn deleting_and_undeleting_bombs_no_mailbox() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let org = server.org().await;
    let ana = create(&org.owner, "ana@example.org", false).await.unwrap();
    for sent in 1..=6 {
        settles(&server, sent.min(5), i64::from(sent > 5)).await;
        let (org_id, account_id) = (String::new(), ana.id.clone());
        let delete = pb::DeleteAccountRequest {
            org_id: org_id.clone(),
            account_id: account_id.clone(),
            ..Default::default()
        };
        org.owner.accounts().delete_account(delete).await.unwrap();
        org.owner
            .accounts()
            .undelete_account(pb::UndeleteAccountRequest { org_id, account_id })
            .await
            .unwrap();
    }
    settles(&server, 5, 1).await;
    assert_eq!(smtp.received().len(), 5);
}

#[tokio::test]
async fn resets_have_a_budget_of_their_own() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let home = server.org().await;
    server.user(&home, "ana@example.org").await;
    let code = smtp.mail_to("ana@example.org").await.code();
    // An email that is not marked as sent goes with its code.
    until(async || to(&server, "ana@example.org").await == (1, 0)).await;
    let set = pb::ResetPasswordRequest { code, new_password: PASSWORD.into() };
    server.anonymous().accounts().reset_password(set).await.unwrap();
    for _ in 0..8 {
        invite(&server.org().await.owner, "", "ana@example.org", &[]).await.unwrap();
    }
    until(async || to(&server, "ana@example.org").await.0 == 5).await;
    let request = pb::RequestPasswordResetRequest { email: "ana@example.org".into() };
    server.anonymous().accounts().request_password_reset(request).await.unwrap();
    until(async || {
        smtp.received().iter().any(|mail| mail.header("Subject").starts_with("Choose a new password"))
    })
    .await;
}

#[tokio::test]
async fn no_org_fills_a_mailbox_and_keeps_the_emails_of_others_from_it() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    for _ in 0..12 {
        post(&server, &notice("ana@example.org")).await;
    }
    settles(&server, 5, 7).await;
    invite(&server.org().await.owner, "", "ana@example.org", &[]).await.unwrap();
    settles(&server, 5, 8).await;
    later(&server, HOUR);
    settles(&server, 10, 3).await;
    // It came last, and was the first of its org.
    let invited = smtp.received().into_iter().position(|mail| mail.header("Subject").contains("invited"));
    assert!(invited.is_some_and(|place| place < 10), "{invited:?}");
}

#[tokio::test]
async fn an_email_that_was_not_sent_takes_no_place() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    smtp.behave(crate::harness::Manner::Refuse("451 4.7.1 come back later\r\n"));
    for n in 0..6 {
        let mail = Mail::SetPassword { org: format!("Org {n}") };
        post(&server, &with_code(&server, "ana@example.org", mail).0).await;
    }
    super::quiet(&server, 1).await;
    smtp.behave(crate::harness::Manner::Take);
    later(&server, MINUTE);
    settles(&server, 5, 1).await;
}

#[tokio::test]
async fn an_import_sends_nothing_and_each_person_can_still_get_in() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ana = create(&org.owner, "ana@example.org", true).await.unwrap();
    assert_eq!((counts(&server).await, ana.state()), ((0, 0, 0), pb::AccountState::Invited));
    let request = pb::RequestPasswordResetRequest { email: "ana@example.org".into() };
    server.anonymous().accounts().request_password_reset(request).await.unwrap();
    until(async || counts(&server).await == (0, 1, 0)).await;
}

#[tokio::test]
async fn an_org_sends_a_thousand_a_day_and_its_refusal_says_nothing_of_others() {
    let server = TestServer::start().await;
    let (org, elsewhere) = (server.org().await, server.org().await);
    server.proved_person(&elsewhere.id, "taken@example.org").await;
    let sent = async |count: i64| {
        sqlx::query(
            "insert into outbox (mail_id, org_id, recipient, template, parameters, attempts, sent_time, create_time)
             select gen_random_uuid(), $1::uuid, 'p' || n || '@example.org', 'SET_PASSWORD', '{}', 1, $2, $2
             from generate_series(1, $3) n",
        )
        .bind(countersign::domain::values::ids::OrgId::parse(&org.id).unwrap().uuid())
        .bind(server.state.clock.now())
        .bind(count)
        .execute(&server.state.db)
        .await
        .unwrap();
    };
    sent(999).await;
    create(&org.owner, "last@example.org", false).await.unwrap();
    // The same for an address that another org has: a refusal after the look-up would tell the two apart.
    for email in ["free@example.org", "taken@example.org"] {
        let status =
            refused(create(&org.owner, email, false).await, Code::FailedPrecondition, "LIMIT_REACHED");
        assert!(status.message().contains("1000 in 24 h"), "{status:?}");
        let source = create(&org.owner, "source@example.org", true).await;
        if let Ok(source) = source {
            let clone = pb::CloneAccountRequest {
                account_id: source.id,
                email: email.into(),
                validate_only: true,
                ..Default::default()
            };
            refused(
                org.owner.accounts().clone_account(clone).await,
                Code::FailedPrecondition,
                "LIMIT_REACHED",
            );
        }
    }
    refused(invite(&org.owner, "", "free@example.org", &[]).await, Code::FailedPrecondition, "LIMIT_REACHED");
    // Other orgs are not concerned, nor is an import, nor tomorrow.
    create(&elsewhere.owner, "other@example.org", false).await.unwrap();
    create(&org.owner, "import@example.org", true).await.unwrap();
    server.state.clock.advance(HOUR * 25);
    create(&org.owner, "tomorrow@example.org", false).await.unwrap();
}
