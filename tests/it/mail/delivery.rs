//! The outbox: each email is sent, eventually and once, whichever node sends it.

use countersign::commands::keys;
use countersign::db::events::Author;
use countersign::db::keys::sealed::Sealed;
use countersign::domain::mail::{MAX_TRIES, Mail};
use countersign::domain::values::ids::SYSTEM_ORG;
use countersign::flows::transaction::Transaction;

use super::{MINUTE, counts, last_error, later, notice, post, quiet, with_code};
use crate::harness::{
    LIMITS, Manner, Scratch, SmtpServer, TestServer, countersign, fails, read_keys, serve, start, succeeds,
    until, write_private,
};
#[tokio::test]
async fn a_mail_goes_out_with_its_change_and_not_without() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let mut undone = Transaction::begin(&server.state, Author::server(SYSTEM_ORG)).await.unwrap();
    undone.mail(&notice("nobody@example.org")).await.unwrap();
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
    until(async || counts(&server).await == (1, 0, 0)).await;
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
    keys::reseal(&first.state.db, &both, &first.state.clock, |name| told.push(name.to_owned()))
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
    // It is there again, and at first it accepts none.
    smtp.restart().await;
    smtp.behave(Manner::Refuse("451 4.7.1 come back later\r\n"));
    later(&a, MINUTE);
    b.state.outbox_filled.notify_one();
    quiet(&a, 2).await;
    assert!(last_error(&a).await.unwrap().contains("come back later"));
    smtp.behave(Manner::Take);
    later(&a, MINUTE);
    b.state.outbox_filled.notify_one();
    until(async || counts(&a).await == (20, 0, 0)).await;
    let mut to: Vec<_> = smtp.received().into_iter().map(|mail| mail.to).collect();
    to.sort();
    to.dedup();
    assert_eq!((to.len(), smtp.received().len()), (20, 20), "none lost, none twice");
}

#[tokio::test]
async fn many_nodes_send_each_mail_once() {
    let smtp = SmtpServer::start().await;
    // Written on a node that does not send; the others find them by themselves.
    let writer = TestServer::start().await;
    for n in 0..60 {
        post(&writer, &notice(&format!("p{n}@example.org"))).await;
    }
    let (a, b) = tokio::join!(writer.beside_with_mail(&smtp), writer.beside_with_mail(&smtp));
    until(async || counts(&writer).await == (60, 0, 0)).await;
    assert_eq!(smtp.received().len(), 60);
    drop((a, b));
}

#[tokio::test]
async fn a_node_that_is_killed_while_sending_loses_no_mail() {
    let scratch = Scratch::new("mail-kill");
    let smtp = SmtpServer::start().await;
    let writer = TestServer::start().await;
    let key = scratch.path("master.key");
    write_private(&key, writer.master_key_file());
    smtp.behave(Manner::Hang);
    for n in 0..3 {
        post(&writer, &notice(&format!("p{n}@example.org"))).await;
    }
    let mut command = serve(writer.database(), &key);
    command.args(["--smtp-url", &smtp.url(), "--mail-from", "no-reply@test.example"]);
    let (mut node, _) = start(&mut command);
    // The mail server has received them in full; the node has no acknowledgement yet.
    smtp.has_had(3).await;
    node.0.kill().unwrap();
    node.0.wait().unwrap();
    smtp.behave(Manner::Take);
    assert_eq!(counts(&writer).await, (0, 3, 0));
    // The claims of dead nodes are respected while they last, and no longer.
    let other = writer.beside_with_mail(&smtp).await;
    post(&writer, &notice("later@example.org")).await;
    smtp.mail_to("later@example.org").await;
    assert_eq!(smtp.received().len(), 1);
    later(&other, MINUTE * 6);
    until(async || counts(&writer).await == (4, 0, 0)).await;
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
    until(async || counts(&server).await == (0, 0, 2)).await;
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
    // The link of the other one has expired meanwhile.
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
    until(async || counts(&server).await == (0, 0, 1)).await;
    let attempts: i32 =
        sqlx::query_scalar("select attempts from outbox").fetch_one(&server.state.db).await.unwrap();
    assert_eq!(attempts, MAX_TRIES);
    // An email whose code expires before is given up with it, and stores no code.
    let (letter, _) = with_code(&server, "bea@example.org", Mail::ResetPassword { org: "Acme".into() });
    post(&server, &letter).await;
    quiet(&server, 1).await;
    later(&server, MINUTE * 61);
    until(async || counts(&server).await == (0, 0, 2)).await;
    let kept: i64 =
        sqlx::query_scalar("select count(sealed) from outbox").fetch_one(&server.state.db).await.unwrap();
    assert_eq!(kept, 0);
}
