//! The page that accepts an invitation, as a browser without JavaScript uses it.

use countersign::grpc::pb;
use url::form_urlencoded::Serializer;

use crate::harness::{
    Answer, LIMITS, PASSWORD, SmtpServer, TestServer, grant, hides_secrets, http, http_get, invite, watch,
};
use crate::sign_in::password_page::is_a_page;

/// The form, as a browser sends it.
async fn post(server: &TestServer, fields: &[(&str, &str)]) -> Answer {
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = format!(
        "POST /accept-invitation HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    http(&server.endpoint, &request).await
}

fn names<'a>(code: &'a str, password: &'a str, again: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("code", code),
        ("given_name", "Ann <b>"),
        ("family_name", "Ruiz"),
        ("password", password),
        ("password_again", again),
    ]
}

async fn page(server: &TestServer, code: &str) -> Answer {
    http_get(&server.endpoint, &format!("/accept-invitation?code={code}")).await
}

#[tokio::test]
async fn from_the_mail_to_a_login() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let org = server.org().await;
    invite(&org.owner, "", "ann@example.org", &[("auditor", "*")]).await.unwrap();
    let mail = smtp.mail_to("ann@example.org").await;
    let (link, code) = (mail.link(), mail.code());
    let path = link.strip_prefix(&server.endpoint).unwrap();
    assert_eq!(path, format!("/accept-invitation?code={code}"));
    for _ in 0..3 {
        let shown = http_get(&server.endpoint, path).await;
        assert_eq!(shown.status, 200);
        is_a_page(&shown);
        for part in [
            "value=\"ann@example.org\"",
            "action=\"accept-invitation\"",
            "for=\"given_name\"",
            "for=\"password_again\"",
        ] {
            assert!(shown.body.contains(part), "{part}: {}", shown.body);
        }
    }
    // All errors at once; what was typed is still there, except the passwords.
    let wrong = post(
        &server,
        &[
            ("code", &code),
            ("given_name", "<b>Ann</b>"),
            ("password", "swordfish"),
            ("password_again", "sw0rdfish"),
        ],
    )
    .await;
    assert_eq!(wrong.status, 422);
    is_a_page(&wrong);
    for field in ["family_name", "password", "password_again"] {
        assert!(wrong.body.contains(&format!("id=\"{field}-wrong\"")), "{field}: {}", wrong.body);
    }
    assert!(wrong.body.contains("value=\"&lt;b&gt;Ann&lt;/b&gt;\""), "{}", wrong.body);
    assert!(!wrong.body.contains("swordfish") && !wrong.body.contains("sw0rdfish"));

    let done = post(&server, &names(&code, PASSWORD, PASSWORD)).await;
    assert_eq!((done.status, done.header("location")), (303, Some("accept-invitation?done=joined")));
    let done = http_get(&server.endpoint, "/accept-invitation?done=joined").await;
    assert_eq!(done.status, 200);
    is_a_page(&done);
    let session = server.login("ann@example.org", PASSWORD, None).await.unwrap();
    let account = session.account.unwrap();
    assert_eq!((account.title.as_str(), &account.org_id), ("Ann <b> Ruiz", &org.id));
    for answer in [page(&server, &code).await, post(&server, &names(&code, PASSWORD, PASSWORD)).await] {
        assert_eq!(answer.status, 410);
        is_a_page(&answer);
    }
    hides_secrets(&done.body);
}

#[tokio::test]
async fn who_has_an_account_accepts_with_its_password() {
    let server = TestServer::start().await;
    let (home, org) = (server.org().await, server.org().await);
    let bea = server.proved_person(&home.id, "bea@example.org").await;
    let (boss, sender) = server.account(&org.id, "boss", &[("manager", "*"), ("x.y", "*")]).await;
    invite(&sender, "", "bea@example.org", &[("auditor", "*"), ("x.y", "*")]).await.unwrap();
    let code = server.code_for("bea@example.org").await.unwrap();
    let shown = page(&server, &code).await;
    is_a_page(&shown);
    assert!(shown.body.contains("value=\"bea@example.org\"") && !shown.body.contains("given_name"));
    assert!(shown.body.contains("autocomplete=\"current-password\""), "{}", shown.body);

    // The address is the invitation's, whatever the form says; a code is no password.
    server.proved_person(&home.id, "eve@example.org").await;
    for (password, said) in
        [("", "is required"), ("a wrong password", "not the password"), (&code, "not the password")]
    {
        let answer =
            post(&server, &[("code", &code), ("username", "eve@example.org"), ("password", password)]).await;
        assert_eq!(answer.status, 422, "{}", answer.body);
        is_a_page(&answer);
        assert!(answer.body.to_lowercase().contains(said), "{}", answer.body);
        assert!(password.is_empty() || password == code || !answer.body.contains(password));
    }
    let take = pb::RevokeAccessRequest {
        org_id: org.id.clone(),
        account_id: boss.id.clone(),
        grants: vec![grant("x.y", "*")],
    };
    server.operator.accounts().revoke_access(take).await.unwrap();
    let done = post(&server, &[("code", &code), ("password", PASSWORD)]).await;
    assert_eq!((done.status, done.header("location")), (303, Some("accept-invitation?done=with-less")));
    assert_eq!(done.header("set-cookie"), None);
    let less = http_get(&server.endpoint, "/accept-invitation?done=with-less").await;
    is_a_page(&less);
    assert!(less.body.contains("could not be granted"), "{}", less.body);
    let sessions = "select count(*) from sessions";
    assert_eq!(sqlx::query_scalar::<_, i64>(sessions).fetch_one(&server.state.db).await.unwrap(), 0);
    let orgs = server.login("bea@example.org", PASSWORD, None).await.unwrap().orgs;
    assert!(orgs.len() == 2 && orgs.iter().any(|joined| joined.org_id == org.id), "{}: {orgs:?}", bea.id);
}

#[tokio::test]
async fn wrong_passwords_are_counted_as_those_of_logins() {
    let server = TestServer::start().await;
    let (home, org) = (server.org().await, server.org().await);
    server.proved_person(&home.id, "bea@example.org").await;
    invite(&org.owner, "", "bea@example.org", &[]).await.unwrap();
    let code = server.code_for("bea@example.org").await.unwrap();
    let mut last = 0;
    for n in 0..6 {
        let wrong = format!("a wrong password {n}");
        last = post(&server, &[("code", &code), ("password", &wrong)]).await.status;
    }
    assert_eq!(last, 429);
    // For a name that is throttled the right password is refused, too, and the invitation remains.
    let waits = post(&server, &[("code", &code), ("password", PASSWORD)]).await;
    assert!(waits.status == 429 && waits.header("retry-after").is_some());
    is_a_page(&waits);
    server.state.clock.advance(std::time::Duration::from_secs(20 * 60));
    assert_eq!(post(&server, &[("code", &code), ("password", PASSWORD)]).await.status, 303);
}

#[tokio::test]
async fn pages_for_whom_there_is_nothing_to_accept() {
    let server = TestServer::start().await;
    let (home, org) = (server.org().await, server.org().await);
    // A person whose mailbox was never proved: the page asks for names, as where there is no account.
    server.person(&home.id, "claims@example.org", &[]).await;
    // A person without a password yet.
    server.user(&home, "new@example.org").await;
    let mut codes = Vec::new();
    for email in ["claims@example.org", "new@example.org", "soon@example.org", "gone@example.org"] {
        invite(&org.owner, "", email, &[]).await.unwrap();
        codes.push(server.code_for(email).await.unwrap());
    }
    server.proved_person(&org.id, "soon@example.org").await;
    for (code, status) in codes.iter().zip([422, 422, 409]) {
        let answer = post(&server, &[("code", code), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        is_a_page(&answer);
    }
    // A technical user has no pages, though the API would know the password.
    let bot = server.technical(&org.id, "bot", &[]).await;
    sqlx::query("update invitations set email = $1 where email = 'gone@example.org'")
        .bind(&bot.username)
        .execute(&server.state.db)
        .await
        .unwrap();
    let answer = post(&server, &[("code", &codes[3]), ("password", PASSWORD)]).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("not the password"), "{}", answer.body);
    let suspend = pb::SuspendOrgRequest { org_id: org.id.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(suspend).await.unwrap();
    for answer in [page(&server, &codes[0]).await, post(&server, &names(&codes[0], PASSWORD, PASSWORD)).await]
    {
        assert_eq!(answer.status, 403);
        is_a_page(&answer);
    }
    watch(PASSWORD);
    for code in ["", "rubbish", &codes[0].replacen("_inv_", "_rst_", 1)] {
        assert_eq!(page(&server, code).await.status, 404);
        assert_eq!(post(&server, &names(code, PASSWORD, PASSWORD)).await.status, 404);
    }
}
