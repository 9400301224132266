//! The outbox: each mail goes out, in the end and once, whoever sends it; and what it looks
//! like when it is there.

use std::fs;
use std::time::Duration;

use countersign::clock::random;
use countersign::commands::keys;
use countersign::config::SmtpUrl;
use countersign::db::keys::sealed::Sealed;
use countersign::domain::accounts::{AccountState, Details};
use countersign::domain::mail::{MAX_TRIES, Mail};
use countersign::domain::values::ids::{SYSTEM_ORG, TokenId};
use countersign::domain::values::names::Email;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::flows::transaction::Transaction;
use countersign::grpc::pb;
use countersign::mail::{OutgoingEmail, Smtp};
use tonic::Request;
use tonic::transport::Endpoint;

use crate::command_line::{Scratch, countersign, fails, serve, start, succeeds};
use crate::feed::until;
use crate::harness::{
    Client, LIMITS, Manner, Org, Security, SmtpServer, TestServer, certificate, read_keys, token_for, watch,
};

const SOON: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);

/// A notice to a person of this address.
fn notice(address: &str) -> OutgoingEmail {
    let details = Details::new(None, Email::parse(address).unwrap());
    let mail = Mail::tokens_leaked("Acme", "ci", vec!["nightly".to_owned()]);
    OutgoingEmail::notice(SYSTEM_ORG, &details, AccountState::Active, true, mail).unwrap()
}

/// A mail with a code to this address, and the code.
fn with_code(server: &TestServer, address: &str, mail: Mail) -> (OutgoingEmail, TokenString) {
    let text =
        TokenString::new(TokenStringKind::SecretToken, server.state.clock.new_id::<TokenId>(), random());
    watch(text.expose());
    let end = server.state.clock.now() + MINUTE * 60;
    (OutgoingEmail::with_code(SYSTEM_ORG, &Email::parse(address).unwrap(), mail, text.clone(), end), text)
}

async fn post(server: &TestServer, letter: &OutgoingEmail) {
    let mut tx = Transaction::begin(&server.state).await.unwrap();
    tx.mail(letter, server.state.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
}

/// Mails that are sent, wait, were given up.
async fn counts(server: &TestServer) -> (i64, i64, i64) {
    let query = "select count(sent_time), count(next_time), count(dead_time) from outbox";
    sqlx::query_as(query).fetch_one(&server.state.db).await.unwrap()
}

async fn last_error(server: &TestServer) -> Option<String> {
    let query = "select max(last_error) from outbox";
    sqlx::query_scalar(query).fetch_one(&server.state.db).await.unwrap()
}

/// Waits until nothing is being sent, and each mail that waits was tried so often.
async fn quiet(server: &TestServer, tries: i32) {
    let query =
        "select count(*) from outbox where next_time is not null and (claim_id is not null or attempts < $1)";
    until(SOON, async || {
        let busy: i64 = sqlx::query_scalar(query).bind(tries).fetch_one(&server.state.db).await.unwrap();
        busy == 0
    })
    .await;
}

/// Time goes on, and the nodes notice. Only when nothing is being sent: a claim does not
/// outlive it.
fn later(server: &TestServer, by: Duration) {
    server.state.clock.advance(by);
    server.state.outbox_filled.notify_one();
}

#[tokio::test]
async fn a_mail_goes_out_with_its_change_and_not_without() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let mut undone = Transaction::begin(&server.state).await.unwrap();
    undone.mail(&notice("nobody@example.org"), server.state.clock.now()).await.unwrap();
    drop(undone);
    let (letter, code) =
        with_code(&server, "ana@example.org", Mail::SetPassword { org: "Müller & Söhne".into() });
    post(&server, &letter).await;
    let mail = smtp.mail_to("ana@example.org").await;

    assert_eq!(mail.from, "no-reply@test.example");
    assert_eq!(mail.header("To"), "ana@example.org");
    assert_eq!(mail.header("From"), "Countersign <no-reply@test.example>");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert!(mail.header("Message-ID").ends_with("@test.example>"));
    mail.header("Date");
    for part in ["text/plain", "text/html"] {
        let shown = mail.part(part).replace("&amp;", "&");
        assert!(shown.contains("Müller & Söhne"), "{shown}");
    }
    assert_eq!(mail.link(), format!("{}/set-password?code={}", server.state.issuer, code.expose()));

    // What is left of it holds no code.
    until(SOON, async || counts(&server).await == (1, 0, 0)).await;
    let query = "select count(*) from outbox where sealed is not null";
    assert_eq!(sqlx::query_scalar::<_, i64>(query).fetch_one(&server.state.db).await.unwrap(), 0);
    assert_eq!(smtp.received().len(), 1);
}

#[tokio::test]
async fn while_it_waits_its_code_is_sealed_and_moves_to_another_master_key() {
    let smtp = SmtpServer::start().await;
    let first = TestServer::start().await;
    let (letter, code) = with_code(&first, "ana@example.org", Mail::ResetPassword { org: "Acme".into() });
    post(&first, &letter).await;
    let row: String =
        sqlx::query_scalar("select outbox::text from outbox").fetch_one(&first.state.db).await.unwrap();
    assert!(!row.contains(code.expose()));
    let (id, sealed): (String, Vec<u8>) =
        sqlx::query_as("select mail_id::text, sealed from outbox").fetch_one(&first.state.db).await.unwrap();
    assert!(
        !sealed.windows(20).any(|window| code.expose().as_bytes().windows(20).any(|part| part == window))
    );
    // Bound to its row.
    let open = |id: &str| first.state.keyring.master.open(Sealed::Outbox.purpose(), id, &sealed);
    assert_eq!(open(&id).unwrap().as_slice(), code.expose().as_bytes());
    assert!(open("00000000-0000-0000-0000-000000000000").is_err());

    let file = countersign::crypto::seal::MasterKeys::new_file().replacen("1:", "new:", 1);
    let both = read_keys(&format!("{file}{}", first.master_key_file()));
    let mut told = Vec::new();
    keys::reseal(&first.state.db.pool(), &both, &first.state.clock, |name| told.push(name.to_owned()))
        .await
        .unwrap();
    assert!(told.contains(&format!("mail {id}")), "{told:?}");
    let alone = first.with_master_keys_and_mail(&file, &smtp).await;
    assert_eq!(smtp.mail_to("ana@example.org").await.code(), code.expose());
    drop(alone);
}

#[tokio::test]
async fn a_mail_server_that_was_away_gets_each_mail_once() {
    let mut smtp = SmtpServer::start().await;
    let a = TestServer::with_mail(&smtp, LIMITS).await;
    let b = a.beside_with_mail(&smtp).await;
    smtp.stop().await;
    for n in 0..20 {
        post(if n % 2 == 0 { &a } else { &b }, &notice(&format!("p{n}@example.org"))).await;
    }
    quiet(&a, 1).await;
    assert_eq!(counts(&a).await, (0, 20, 0));
    // It is there again, and at first it takes none.
    smtp.restart().await;
    smtp.behave(Manner::Refuse("451 4.7.1 come back later\r\n"));
    later(&a, MINUTE);
    b.state.outbox_filled.notify_one();
    quiet(&a, 2).await;
    assert!(last_error(&a).await.unwrap().contains("come back later"));
    smtp.behave(Manner::Take);
    later(&a, MINUTE);
    b.state.outbox_filled.notify_one();
    until(SOON, async || counts(&a).await == (20, 0, 0)).await;
    let mut to: Vec<_> = smtp.received().into_iter().map(|mail| mail.to).collect();
    to.sort();
    to.dedup();
    assert_eq!((to.len(), smtp.received().len()), (20, 20), "none lost, none twice");
}

#[tokio::test]
async fn many_nodes_send_each_mail_once() {
    let smtp = SmtpServer::start().await;
    // Written where nobody sends; the others find them by themselves.
    let writer = TestServer::start().await;
    for n in 0..60 {
        post(&writer, &notice(&format!("p{n}@example.org"))).await;
    }
    let (a, b) = tokio::join!(writer.beside_with_mail(&smtp), writer.beside_with_mail(&smtp));
    until(SOON, async || counts(&writer).await == (60, 0, 0)).await;
    assert_eq!(smtp.received().len(), 60);
    drop((a, b));
}

#[tokio::test]
async fn a_node_that_is_killed_while_sending_loses_no_mail() {
    let scratch = Scratch::new("mail-kill");
    let smtp = SmtpServer::start().await;
    let writer = TestServer::start().await;
    let key = scratch.path("master.key");
    fs::write(&key, writer.master_key_file()).unwrap();
    smtp.behave(Manner::Hang);
    for n in 0..3 {
        post(&writer, &notice(&format!("p{n}@example.org"))).await;
    }
    let mut command = serve(writer.database(), &key);
    command.args(["--smtp-url", &smtp.url(), "--mail-from", "no-reply@test.example"]);
    let (mut node, _) = start(&mut command);
    // The mail server has them in whole; the node has not heard so.
    smtp.has_had(3).await;
    node.0.kill().unwrap();
    node.0.wait().unwrap();
    smtp.behave(Manner::Take);
    assert_eq!(counts(&writer).await, (0, 3, 0));
    // The claims of the dead are respected while they last, and no longer.
    let other = writer.beside_with_mail(&smtp).await;
    post(&writer, &notice("later@example.org")).await;
    smtp.mail_to("later@example.org").await;
    assert_eq!(smtp.received().len(), 1);
    later(&other, MINUTE * 6);
    until(SOON, async || counts(&writer).await == (4, 0, 0)).await;
    assert_eq!(smtp.received().len(), 4);
}

#[tokio::test]
async fn a_server_that_ends_finishes_what_it_sends() {
    let smtp = SmtpServer::start().await;
    let mut server = TestServer::with_mail(&smtp, LIMITS).await;
    for n in 0..30 {
        post(&server, &notice(&format!("p{n}@example.org"))).await;
    }
    smtp.has_had(1).await;
    server.shut_down();
    server.serving.take().unwrap().await.unwrap().unwrap();
    let (sent, _, dead) = counts(&server).await;
    assert_eq!((smtp.received().len() as i64, dead), (sent, 0), "what was handed over is noted");
}

#[tokio::test]
async fn what_is_refused_for_good_is_given_up_and_tried_again_by_hand() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    smtp.behave(Manner::Refuse("550 5.1.1 no such mailbox\r\n"));
    post(&server, &notice("typo@example.org")).await;
    let (letter, _) = with_code(&server, "gone@example.org", Mail::ResetPassword { org: "Acme".into() });
    post(&server, &letter).await;
    until(SOON, async || counts(&server).await == (0, 0, 2)).await;
    smtp.behave(Manner::Take);

    let mail = |arguments: &[&str]| {
        let mut command = countersign();
        command.arg("mail").args(arguments).env("COUNTERSIGN_DATABASE_URL", server.database().url());
        command
    };
    let listed = succeeds(&mut mail(&["list"]));
    let line = listed.lines().find(|line| line.contains("typo@example.org")).unwrap();
    assert!(line.contains("TOKEN_LEAKED") && line.contains("given up after 1 tries"), "{line}");
    assert!(line.contains("no such mailbox"), "{line}");
    let (id, _) = line.split_once(' ').unwrap();
    succeeds(&mut mail(&["retry", id]));
    smtp.mail_to("typo@example.org").await;
    fails(&mut mail(&["retry", id]), "not given up");
    fails(&mut mail(&["retry"]), "ID");
    fails(&mut mail(&["retry", "--all", id]), "cannot be used with");
    // The link of the other one has ended meanwhile.
    server.state.clock.advance(MINUTE * 61);
    sqlx::query("update outbox set expire_time = create_time where expire_time is not null")
        .execute(&server.state.db)
        .await
        .unwrap();
    assert_eq!(succeeds(&mut mail(&["retry", "--all"])), "");
    assert_eq!(smtp.received().len(), 1);
}

#[tokio::test]
async fn a_mail_that_is_refused_again_and_again_is_given_up_after_a_day() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    smtp.behave(Manner::Refuse("450 4.2.0 not now\r\n"));
    post(&server, &notice("ana@example.org")).await;
    for tries in 1..MAX_TRIES {
        quiet(&server, tries).await;
        assert_eq!(counts(&server).await, (0, 1, 0), "after {tries} tries");
        later(&server, MINUTE * 60);
    }
    until(SOON, async || counts(&server).await == (0, 0, 1)).await;
    let attempts: i32 =
        sqlx::query_scalar("select attempts from outbox").fetch_one(&server.state.db).await.unwrap();
    assert_eq!(attempts, MAX_TRIES);
    // Whose code ends before is given up with it, and keeps no code.
    let (letter, _) = with_code(&server, "bea@example.org", Mail::ResetPassword { org: "Acme".into() });
    post(&server, &letter).await;
    quiet(&server, 1).await;
    later(&server, MINUTE * 61);
    until(SOON, async || counts(&server).await == (0, 0, 2)).await;
    let kept: i64 =
        sqlx::query_scalar("select count(sealed) from outbox").fetch_one(&server.state.db).await.unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn tls_is_what_was_asked_for_or_nothing_is_sent() {
    for security in [Security::StartTls, Security::Tls] {
        let smtp = SmtpServer::with(security, Some("s3cret p@ss")).await;
        let url = smtp.url().replace("s3cret p@ss", "s3cret%20p%40ss");
        let mut mailer = smtp.postman_to(&url);
        let server = TestServer::start().await;
        let node = server.beside_with_postman(mailer.clone()).await;
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
            let smtp_way = Smtp::open(&SmtpUrl::from(wrong.clone()), ca.as_deref(), "test.example").unwrap();
            mailer.transport = countersign::mail::Transport::Smtp(smtp_way);
            let node = server.beside_with_postman(mailer.clone()).await;
            post(&server, &notice("bea@example.org")).await;
            until(SOON, async || {
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
    // One that offers none gets neither a password nor a mail.
    let smtp = SmtpServer::with(Security::None, Some("pass")).await;
    let server = TestServer::start().await;
    let url = smtp.url().replace("?tls=none", "");
    let _node = server.beside_with_postman(smtp.postman_to(&url)).await;
    post(&server, &notice("ana@example.org")).await;
    until(SOON, async || last_error(&server).await.is_some_and(|error| error.contains("STARTTLS"))).await;
    assert!(smtp.received().is_empty());
}

#[tokio::test]
async fn names_and_addresses_add_no_lines() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    // What no handler lets through, written as if one had.
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
    // An address that is none goes nowhere.
    for address in ["a@example.org\r\nRCPT TO:<b@example.org>", "a@example.org>", "a b@example.org", "nobody"]
    {
        sqlx::query("delete from outbox").execute(&server.state.db).await.unwrap();
        let mut tx = Transaction::begin(&server.state).await.unwrap();
        tx.mail(&notice("later@example.org"), server.state.clock.now()).await.unwrap();
        let wrong = sqlx::query("update outbox set recipient = $1").bind(address);
        wrong.execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        until(SOON, async || counts(&server).await == (0, 0, 1)).await;
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
    fs::write(&key, writer.master_key_file()).unwrap();
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
    fs::write(&key, server.master_key_file()).unwrap();
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

/// Mails that were written down for this mailbox: which, and what they say.
async fn written(server: &TestServer, address: &str) -> Vec<(String, String)> {
    let query = "select template, parameters::text from outbox where recipient = $1 order by mail_id";
    sqlx::query_as(query).bind(address).fetch_all(&server.state.db).await.unwrap()
}

/// A service account that is to be told at this mailbox, or not.
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
    // One mail for both, and none the second time.
    server.anonymous().tokens().report_leaked_token(report).await.unwrap();
    let mails = written(&server, "list@example.org").await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].0, "TOKEN_LEAKED");
    for part in ["nightly", "weekly", "told", org.slug.as_str()] {
        assert!(mails[0].1.contains(part), "{part}: {}", mails[0].1);
    }
    // A token for two months, a month before its end.
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
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let reset = pb::ResetPasswordRequest { code, new_password: "correct horse battery".into() };
    server.anonymous().accounts().reset_password(reset).await.unwrap();
    // Nobody has shown that this mailbox is theirs.
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
        until(SOON, async || {
            sqlx::query_scalar::<_, i64>(query).fetch_one(&server.state.db).await.unwrap() == count
        })
        .await;
    };
    throttle("ana@example.org").await;
    events(1).await;
    assert_eq!(told().await, 1);
    // The next back-off begins after a while; the next mail the day after.
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
