//! What leaves for the mail server: over TLS as configured, and the contents of headers and links.

use std::fs;

use countersign::config::SmtpUrl;
use countersign::db::events::Author;
use countersign::domain::mail::Mail;
use countersign::domain::values::ids::SYSTEM_ORG;
use countersign::flows::transaction::Transaction;
use countersign::grpc::pb;
use countersign::mail::Smtp;
use tonic::Request;
use tonic::transport::Endpoint;

use super::{counts, last_error, notice, post, with_code};
use crate::harness::{
    Client, LIMITS, Scratch, Security, SmtpServer, TestServer, certificate, fails, serve, start, until,
    write_private,
};
#[tokio::test]
async fn tls_is_what_was_asked_for_or_nothing_is_sent() {
    for security in [Security::StartTls, Security::Tls] {
        let smtp = SmtpServer::with(security, Some("s3cret p@ss")).await;
        let url = smtp.url().replace("s3cret p@ss", "s3cret%20p%40ss");
        let mut postman = smtp.postman_to(&url);
        let server = TestServer::start().await;
        let node = server.beside_with_postman(postman.clone()).await;
        post(&server, &notice("ana@example.org")).await;
        smtp.mail_to("ana@example.org").await;
        node.stop().await;

        // An authority that signed nothing here; another name; no TLS; the wrong password.
        for (wrong, ca, says) in [
            (url.clone(), None, "certificate"),
            (url.replace("localhost", "127.0.0.1"), Some("authority.pem"), "certificate"),
            (url.replace("s3cret", "other"), Some("authority.pem"), "wrong password"),
        ] {
            let ca = ca.map(certificate);
            let smtp_way =
                Smtp::open(&SmtpUrl::from(wrong.clone()), None, ca.as_deref(), "test.example").unwrap();
            postman.transport = countersign::mail::Transport::Smtp(smtp_way);
            let node = server.beside_with_postman(postman.clone()).await;
            post(&server, &notice("bea@example.org")).await;
            until(async || {
                last_error(&server).await.is_some_and(|error| error.to_lowercase().contains(says))
            })
            .await;
            node.stop().await;
            sqlx::query("delete from outbox where sent_time is null")
                .execute(&server.state.db)
                .await
                .unwrap();
        }
        assert_eq!(smtp.received().len(), 1, "{security:?}");
    }
    // A server that offers none gets neither a password nor an email.
    let smtp = SmtpServer::with(Security::None, Some("pass")).await;
    let server = TestServer::start().await;
    let url = smtp.url().replace("?tls=none", "");
    let _node = server.beside_with_postman(smtp.postman_to(&url)).await;
    post(&server, &notice("ana@example.org")).await;
    until(async || last_error(&server).await.is_some_and(|error| error.contains("STARTTLS"))).await;
    assert!(smtp.received().is_empty());
}

#[tokio::test]
async fn names_and_addresses_add_no_lines() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    // What every handler refuses, written as if one had let it through.
    let evil = "Acme\r\nBcc: all@example.org\r\n\r\n<script>alert(1)</script>";
    let (letter, _) = with_code(&server, "ana@example.org", Mail::invitation(evil, Some(evil.to_owned())));
    post(&server, &letter).await;
    let mail = smtp.mail_to("ana@example.org").await;
    assert_eq!(
        mail.header_names(),
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
    );
    assert!(!mail.part("text/html").contains("<script"));
    for part in ["text/plain", "text/html"] {
        assert!(!mail.part(part).lines().any(|line| line.trim().starts_with("Bcc")), "{part}");
    }
    // Nothing is sent to an invalid address.
    for address in ["a@example.org\r\nRCPT TO:<b@example.org>", "a@example.org>", "a b@example.org", "nobody"]
    {
        sqlx::query("delete from outbox").execute(&server.state.db).await.unwrap();
        let mut tx = Transaction::begin(&server.state, Author::server(SYSTEM_ORG)).await.unwrap();
        tx.mail(&notice("later@example.org")).await.unwrap();
        let wrong = sqlx::query("update outbox set recipient = $1").bind(address);
        wrong.execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        until(async || counts(&server).await == (0, 0, 1)).await;
    }
    assert_eq!(smtp.received().len(), 1);
}

#[tokio::test]
async fn links_begin_as_it_was_set_whatever_host_a_call_names() {
    const PAGES: &str = "https://accounts.example.com/id";
    let scratch = Scratch::new("mail-pages");
    let smtp = SmtpServer::start().await;
    let writer = TestServer::start().await;
    let org = writer.org().await;
    let key = scratch.path("master.key");
    write_private(&key, writer.master_key_file());
    let mut command = serve(writer.database(), &key);
    command.args(["--smtp-url", &smtp.url(), "--mail-from", "no-reply@test.example", "--pages-url", PAGES]);
    let (_node, endpoint) = start(&mut command);
    // Its calls have `:authority: evil.example`, which is the `Host` of HTTP/2.
    let endpoint = Endpoint::from_shared(endpoint).unwrap().origin("http://evil.example".parse().unwrap());
    let channel = endpoint.connect().await.unwrap();
    let owner = Client { channel: channel.clone(), bearer: Some(org.owner.token().to_owned()) };
    let anybody = Client { channel, bearer: None };

    let mut user =
        Request::new(pb::CreateUserRequest { email: "ana@example.org".into(), ..Default::default() });
    let mut invitation =
        Request::new(pb::CreateInvitationRequest { email: "bea@example.org".into(), ..Default::default() });
    let mut reset = Request::new(pb::RequestPasswordResetRequest { email: "ana@example.org".into() });
    for headers in [user.metadata_mut(), invitation.metadata_mut(), reset.metadata_mut()] {
        headers.insert("host", "evil.example".parse().unwrap());
        headers.insert("x-forwarded-host", "evil.example".parse().unwrap());
        headers.insert("forwarded", "host=evil.example;proto=https".parse().unwrap());
    }
    owner.accounts().create_user(user).await.unwrap();
    owner.orgs().create_invitation(invitation).await.unwrap();
    let mut mails = vec![smtp.mail_to("ana@example.org").await, smtp.mail_to("bea@example.org").await];
    anybody.accounts().request_password_reset(reset).await.unwrap();
    mails.extend(smtp.mails_to("ana@example.org", 2).await.pop());

    for (mail, page, kind) in [
        (&mails[0], "set-password", "csign_rst_"),
        (&mails[1], "accept-invitation", "csign_inv_"),
        (&mails[2], "set-password", "csign_rst_"),
    ] {
        let code = mail.code();
        assert!(code.starts_with(kind), "{page}");
        let link = format!("{PAGES}/{page}?code={code}");
        assert_eq!(mail.link(), link);
        for part in ["text/plain", "text/html"] {
            let shown = mail.part(part);
            assert!(shown.contains(&link) && !shown.contains("evil"), "{shown}");
        }
    }
    assert_ne!(mails[0].code(), mails[2].code());
}

#[tokio::test]
async fn serve_says_what_is_wrong_with_the_mail_server_and_hides_its_password() {
    let scratch = Scratch::new("mail-settings");
    let server = TestServer::start().await;
    let key = scratch.path("master.key");
    write_private(&key, server.master_key_file());
    let run = |arguments: &[&str]| {
        let mut command = serve(server.database(), &key);
        command.args(arguments);
        command
    };
    fails(&mut run(&["--smtp-url", "smtp://localhost"]), "--mail-from");
    for url in
        ["http://u:hunter2@localhost", "smtp://u:hunter2@mail.example?tls=none", "smtp://hunter2@localhost"]
    {
        let mut command = run(&["--smtp-url", url, "--mail-from", "no-reply@example.org"]);
        fails(&mut command, "--smtp-url");
        let said = command.output().unwrap();
        assert!(!String::from_utf8_lossy(&said.stderr).contains("hunter2"));
    }
    let good = ["--smtp-url", "smtp://localhost", "--mail-from", "no-reply@example.org"];
    let bad_file = scratch.path("bad.pem");
    fs::write(&bad_file, "nothing").unwrap();
    fails(run(&good).arg("--smtp-ca-file").arg(&bad_file), "no certificate in PEM form");
    fails(run(&good).arg("--smtp-ca-file").arg(scratch.path("nowhere")), "--smtp-ca-file");
    fails(&mut run(&["--mail-from", "no mailbox"]), "--mail-from");
    fails(&mut run(&["--pages-url", "https://x/?y"]), "--pages-url");
}
