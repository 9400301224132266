//! Notices: who is notified of tokens that expire or leak, and of logins that are throttled.

use countersign::grpc::pb;

use super::MINUTE;
use crate::harness::{LIMITS, Org, TestServer, token_for, until, watch};
/// Emails stored for this mailbox: which, and their contents.
async fn written(server: &TestServer, address: &str) -> Vec<(String, String)> {
    let query = "select template, parameters::text from outbox where recipient = $1 order by mail_id";
    sqlx::query_as(query).bind(address).fetch_all(&server.state.db).await.unwrap()
}

/// A service account that is to be notified at this mailbox, or not.
async fn bot(org: &Org, name: &str, contact: &str, told: bool) -> pb::Account {
    let settings = pb::AccountSettings { email_notifications: Some(told), ..Default::default() };
    let request = pb::CreateServiceAccountRequest {
        name: name.into(),
        contact_email: contact.into(),
        settings: Some(settings),
        ..Default::default()
    };
    org.owner.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap()
}

#[tokio::test]
async fn whoever_is_to_be_told_hears_of_tokens_that_end_or_leak() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let told = bot(&org, "told", "list@example.org", true).await;
    let quiet = bot(&org, "quiet", "quiet@example.org", false).await;
    let mut texts = Vec::new();
    for account in [&told, &quiet] {
        for name in ["nightly", "weekly"] {
            let request = pb::CreateTokenRequest { display_name: name.into(), ..token_for("", &account.id) };
            texts.push(org.owner.tokens().create_token(request).await.unwrap().into_inner().secret);
        }
    }
    texts.iter().for_each(|text| watch(text));
    let report = pb::ReportLeakedTokenRequest { token_texts: texts.clone() };
    server.anonymous().tokens().report_leaked_token(report.clone()).await.unwrap();
    // One email for both, and none the second time.
    server.anonymous().tokens().report_leaked_token(report).await.unwrap();
    let mails = written(&server, "list@example.org").await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].0, "TOKEN_LEAKED");
    for part in ["nightly", "weekly", "told", org.slug.as_str()] {
        assert!(mails[0].1.contains(part), "{part}: {}", mails[0].1);
    }
    // A token for two months, a month before it expires.
    let request = pb::CreateTokenRequest {
        display_name: "monthly".into(),
        expiration: Some(pb::create_token_request::Expiration::Ttl(prost_types::Duration {
            seconds: 60 * 24 * 3_600,
            nanos: 0,
        })),
        ..token_for("", &told.id)
    };
    org.owner.tokens().create_token(request).await.unwrap();
    server.state.clock.advance(MINUTE * 60 * 24 * 31);
    for _ in 0..2 {
        countersign::jobs::remind(&server.state).await.unwrap();
    }
    let mails = written(&server, "list@example.org").await;
    assert_eq!(
        mails.iter().map(|(template, _)| template.as_str()).collect::<Vec<_>>(),
        ["TOKEN_LEAKED", "TOKEN_EXPIRING"]
    );
    assert!(mails[1].1.contains("monthly"), "{}", mails[1].1);
    assert!(written(&server, "quiet@example.org").await.is_empty());
}

#[tokio::test]
async fn a_person_is_told_once_a_day_that_somebody_tries_their_account() {
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let reset = pb::ResetPasswordRequest { code, new_password: "correct horse battery".into() };
    server.anonymous().accounts().reset_password(reset).await.unwrap();
    // This mailbox was never proved.
    server.person(&org.id, "unproved@example.org", &[]).await;
    let throttle = async |name: &str| {
        for _ in 0..6 {
            server.login(name, "wrong password x", None).await.unwrap_err();
        }
    };
    let told = async || {
        let mails = written(&server, "ana@example.org").await;
        mails.into_iter().filter(|(template, _)| template == "SIGN_IN_THROTTLED").count()
    };
    let events = async |count: i64| {
        let query = "select count(*) from events where type = 'login.throttled'";
        until(async || {
            sqlx::query_scalar::<_, i64>(query).fetch_one(&server.state.db).await.unwrap() == count
        })
        .await;
    };
    throttle("ana@example.org").await;
    events(1).await;
    assert_eq!(told().await, 1);
    // The next back-off begins after a while; the next email the day after.
    server.state.clock.advance(MINUTE * 60);
    throttle("ana@example.org").await;
    events(2).await;
    assert_eq!(told().await, 1);
    server.state.clock.advance(MINUTE * 60 * 24);
    throttle("ana@example.org").await;
    events(3).await;
    assert_eq!(told().await, 2);
    throttle("unproved@example.org").await;
    events(4).await;
    assert!(written(&server, "unproved@example.org").await.iter().all(|(kind, _)| kind == "SET_PASSWORD"));
}
