//! `countersign mail show-link`: letting a person in where no email can be sent.

use std::path::Path;
use std::process::Command;

use countersign::grpc::pb;
use tonic::Code;

use crate::harness::{
    Org, PASSWORD, Scratch, TestServer, accept, countersign, fails, invite, refused, search_too, sign_up,
    until, watch, write_private,
};

fn show(server: &TestServer, key: &Path, of: &str) -> Command {
    let mut command = countersign();
    command.args(["mail", "show-link", of, "--issuer", "https://id.example", "--database-url"]);
    command.arg(server.database().url()).arg("--master-key-file").arg(key);
    command
}

/// What a command prints, which holds links on purpose, and is therefore not searched for secrets.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    search_too(&output.stderr);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The codes of the links that a command prints.
fn codes(text: &str, page: &str) -> Vec<String> {
    let begin = format!("https://id.example/{page}?code=");
    let codes: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix(&begin)).map(str::to_owned).collect();
    codes.iter().for_each(|code| watch(code));
    codes
}

async fn set(server: &TestServer, code: &str) -> Result<pb::Account, tonic::Status> {
    watch(PASSWORD);
    let request = pb::ResetPasswordRequest { code: code.into(), new_password: PASSWORD.into() };
    server.anonymous().accounts().reset_password(request).await.map(|_| pb::Account::default())
}

async fn events(org: &Org, kind: &str) -> usize {
    let request = pb::ListEventsRequest { r#type: kind.into(), ..Default::default() };
    org.owner.orgs().list_events(request).await.unwrap().into_inner().events.len()
}

#[tokio::test]
async fn a_shown_link_lets_a_person_in_and_proves_no_mailbox() {
    let scratch = Scratch::new("show-link");
    let server = TestServer::start().await;
    let key = scratch.path("master.key");
    write_private(&key, server.master_key_file());
    let (org, host) = (server.org().await, server.org().await);

    // A first password: by the id of the email, and by the address of a user who was sent none.
    server.user(&org, "ana@example.org").await;
    let emailed = server.code_for("ana@example.org").await.unwrap();
    let id: String =
        sqlx::query_scalar("select mail_id::text from outbox where recipient = 'ana@example.org'")
            .fetch_one(&server.state.db)
            .await
            .unwrap();
    let text = printed(&mut show(&server, &key, &id));
    assert!(text.contains("first password for ana@example.org"), "{text}");
    let shown = codes(&text, "set-password");
    assert_eq!(shown.len(), 1);
    // It has replaced the link of the email.
    refused(set(&server, &emailed).await, Code::Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(server.code_for("ana@example.org").await, None);
    set(&server, &shown[0]).await.unwrap();
    assert_eq!(events(&org, "account.link_shown").await, 1);
    let request = pb::CreateUserRequest {
        email: "import@example.org".into(),
        suppress_email: true,
        ..Default::default()
    };
    org.owner.accounts().create_user(request).await.unwrap();
    let shown = codes(&printed(&mut show(&server, &key, "Import@example.org")), "set-password");
    set(&server, &shown[0]).await.unwrap();

    // Both sign in, and have proved nothing: an invitation does not take them for the owner of the mailbox.
    let session = server.session("ana@example.org").await;
    invite(&host.owner, "", "ana@example.org", &[]).await.unwrap();
    let shown = codes(&printed(&mut show(&server, &key, "ana@example.org")), "accept-invitation");
    refused(accept(&session, &shown[0]).await, Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH");
    // Nor does a link that an operator saw take the address from them.
    refused(sign_up(&server, &shown[0]).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    assert_eq!(events(&host, "invitation.link_shown").await, 1);

    // An invitation: it signs up, and what is made proves no mailbox either.
    invite(&org.owner, "", "new@example.org", &[]).await.unwrap();
    let shown = codes(&printed(&mut show(&server, &key, "new@example.org")), "accept-invitation");
    sign_up(&server, &shown[0]).await.unwrap();
    let proved: i64 = sqlx::query_scalar("select count(*) from accounts where email_proved_time is not null")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    assert_eq!(proved, 0);
}

#[tokio::test]
async fn no_link_to_an_account_in_use_is_shown() {
    let scratch = Scratch::new("show-no-link");
    let server = TestServer::start().await;
    let key = scratch.path("master.key");
    write_private(&key, server.master_key_file());
    let org = server.org().await;
    fails(&mut show(&server, &key, "nobody@example.org"), "not found");
    fails(&mut show(&server, &key, "rubbish"), "must be the id of an email, or an address");
    server.person(&org.id, "ana@example.org", &[]).await;
    fails(&mut show(&server, &key, "ana@example.org"), "not found");
    let request = pb::RequestPasswordResetRequest { email: "ana@example.org".into() };
    server.anonymous().accounts().request_password_reset(request).await.unwrap();
    let resets = "select count(*) from outbox where template = 'RESET_PASSWORD'";
    until(async || sqlx::query_scalar::<_, i64>(resets).fetch_one(&server.state.db).await.unwrap() == 1)
        .await;
    let id: String = sqlx::query_scalar("select mail_id::text from outbox where template = 'RESET_PASSWORD'")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    for of in [id.as_str(), "ana@example.org"] {
        fails(&mut show(&server, &key, of), "not found");
    }
    // The one in the email works still.
    set(&server, &server.code_for("ana@example.org").await.unwrap()).await.unwrap();
}
