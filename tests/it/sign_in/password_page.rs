//! The pages that the links in emails lead to, as a browser without JavaScript uses them.

use std::time::Duration;

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::{
    Answer, LIMITS, PATIENCE, SmtpServer, TestServer, by_text, hides_secrets, http, http_get, refused, watch,
};

const PASSWORD: &str = "correct horse battery";

/// A form, as a browser sends it: to the page that it came from.
async fn post(server: &TestServer, headers: &str, fields: &[(&str, &str)]) -> Answer {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let body = body.finish();
    let request = format!(
        "POST /set-password HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    http(&server.endpoint, &request).await
}

fn fields<'a>(code: &'a str, password: &'a str, again: &'a str) -> [(&'a str, &'a str); 3] {
    [("code", code), ("password", password), ("password_again", again)]
}

async fn login(
    server: &TestServer,
    username: &str,
    password: &str,
) -> Result<pb::LoginResponse, tonic::Status> {
    let request =
        pb::LoginRequest { username: username.into(), password: password.into(), ..Default::default() };
    let answer = server.anonymous().tokens().login(request).await?.into_inner();
    watch(&answer.session_token);
    watch(&answer.access_token);
    Ok(answer)
}

/// The headers and the contents that every page has.
#[track_caller]
pub fn is_a_page(answer: &Answer) {
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let policy = answer.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    assert_eq!(answer.header("set-cookie"), None);
    let html = &answer.body;
    assert!(html.starts_with("<!doctype html>") && html.contains("<html lang=\"en\">"), "{html}");
    assert!(html.contains("name=\"viewport\"") && html.contains("<h1>") && html.contains("<main>"), "{html}");
    for elsewhere in ["<script", "http://", "https://", "<img", "<link", "<iframe", " on", "style=\""] {
        let outside_text = html.split("</style>").nth(1).unwrap();
        let found = outside_text.match_indices(elsewhere).any(|(at, _)| {
            // " on" stands for attributes such as onclick: only within a tag.
            elsewhere != " on" || outside_text[..at].rfind('<') > outside_text[..at].rfind('>')
        });
        assert!(!found, "{elsewhere}: {html}");
    }
}

#[tokio::test]
async fn a_link_from_a_mail_leads_to_a_page_whose_form_sets_the_password() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let org = server.org().await;
    let update =
        pb::Org { id: org.id.clone(), display_name: "Müller <b>& Söhne</b>".into(), ..Default::default() };
    let update = pb::UpdateOrgRequest { org: Some(update), ..Default::default() };
    org.owner.orgs().update_org(update).await.unwrap();
    let ana = server.user(&org, "ana@example.org").await;
    refused(login(&server, "ana@example.org", PASSWORD).await, Code::Unauthenticated, "LOGIN_FAILED");
    let mail = smtp.mail_to("ana@example.org").await;
    let (link, code) = (mail.link(), mail.code());
    let path = link.strip_prefix(&server.endpoint).unwrap();

    // Email scanners fetch it, again and again.
    for _ in 0..3 {
        let shown = http_get(&server.endpoint, path).await;
        assert_eq!(shown.status, 200);
        is_a_page(&shown);
        assert!(shown.body.contains("Müller &lt;b&gt;&amp; Söhne&lt;/b&gt;"), "{}", shown.body);
        assert!(shown.body.contains("value=\"ana@example.org\""), "{}", shown.body);
        assert!(shown.body.contains("<form method=\"post\" action=\"set-password\""), "{}", shown.body);
    }
    let head = format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(http(&server.endpoint, &head).await.status, 200);

    // All errors are reported at once, beside their fields, and the password is not repeated.
    let wrong = post(&server, "", &fields(&code, "swordfish", "sw0rdfish")).await;
    assert_eq!(wrong.status, 422);
    is_a_page(&wrong);
    for part in [
        "id=\"password-wrong\"",
        "id=\"password_again-wrong\"",
        "role=\"alert\"",
        "Must be 12 to 128 characters.",
    ] {
        assert!(wrong.body.contains(part), "{part}: {}", wrong.body);
    }
    assert_eq!(wrong.body.matches("aria-invalid=\"true\" required").count(), 2);
    assert!(!wrong.body.contains("swordfish") && !wrong.body.contains("sw0rdfish"));
    for (password, again) in [("", ""), (PASSWORD, ""), ("passwordpassword", "passwordpassword")] {
        assert_eq!(post(&server, "", &fields(&code, password, again)).await.status, 422);
    }

    let origin = format!("origin: {}\r\n", server.state.issuer);
    let done = post(&server, &origin, &fields(&code, PASSWORD, PASSWORD)).await;
    assert_eq!((done.status, done.header("location")), (303, Some("set-password?done=active")));
    let done = http_get(&server.endpoint, "/set-password?done=active").await;
    assert_eq!(done.status, 200);
    is_a_page(&done);
    let session = login(&server, "ana@example.org", PASSWORD).await.unwrap();
    assert_eq!(session.account.unwrap().id, ana.id);

    // Once, and the page says so.
    for answer in
        [http_get(&server.endpoint, path).await, post(&server, "", &fields(&code, PASSWORD, PASSWORD)).await]
    {
        assert_eq!(answer.status, 410);
        is_a_page(&answer);
        assert!(answer.body.contains("no longer works"), "{}", answer.body);
    }
    hides_secrets(&done.body);
}

#[tokio::test]
async fn a_reset_ends_every_session() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    assert_eq!(post(&server, "", &fields(&code, PASSWORD, PASSWORD)).await.status, 303);
    let session = login(&server, "ana@example.org", PASSWORD).await.unwrap();
    let (by_session, by_jwt) =
        (server.client(session.session_token.clone()), server.client(session.access_token.clone()));
    by_session.caller().await.unwrap();
    by_jwt.caller().await.unwrap();
    let ask = pb::RequestPasswordResetRequest { email: "ana@example.org".into() };
    server.anonymous().accounts().request_password_reset(ask).await.unwrap();
    crate::harness::until(async || server.code_for("ana@example.org").await.is_some_and(|new| new != code))
        .await;
    by_session.caller().await.unwrap();
    let code = server.code_for("ana@example.org").await.unwrap();
    let shown = http_get(&server.endpoint, &format!("/set-password?code={code}")).await;
    assert!(shown.body.contains("Choose a new password"), "{}", shown.body);
    assert_eq!(
        post(&server, "", &fields(&code, "another horse battery", "another horse battery")).await.status,
        303
    );
    for ended in [by_session, by_jwt] {
        refused(ended.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
    refused(login(&server, "ana@example.org", PASSWORD).await, Code::Unauthenticated, "LOGIN_FAILED");
    login(&server, "ana@example.org", "another horse battery").await.unwrap();
}

#[tokio::test]
async fn whoever_is_deactivated_is_told_that_it_has_to_wait() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request =
        pb::CreateUserRequest { email: "bea@example.org".into(), deactivated: true, ..Default::default() };
    org.owner.accounts().create_user(request).await.unwrap();
    let code = server.code_for("bea@example.org").await.unwrap();
    let done = post(&server, "", &fields(&code, PASSWORD, PASSWORD)).await;
    assert_eq!((done.status, done.header("location")), (303, Some("set-password?done=deactivated")));
    let done = http_get(&server.endpoint, "/set-password?done=deactivated").await;
    assert!(done.body.contains("deactivated at the moment"), "{}", done.body);
}

#[tokio::test]
async fn a_code_that_does_not_work_is_told_apart_only_to_who_had_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    for (query, status) in [
        ("", 404),
        ("?code=", 404),
        ("?code=rubbish", 404),
        (&format!("?code={}", &code[..80]), 404),
        (&format!("?code={}", code.replacen("_rst_", "_inv_", 1)), 404),
        (&format!("?code={}", org.owner.token()), 404),
        ("?code=%00%ff%3Cscript%3E", 404),
        (&format!("?x=1&code={code}&utm_source=mail"), 200),
    ] {
        let answer = http_get(&server.endpoint, &format!("/set-password{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        is_a_page(&answer);
        assert_eq!(answer.body.contains("ana@example.org"), status == 200);
    }
    server.anonymous().tokens().revoke_token(by_text(&code)).await.unwrap();
    assert_eq!(http_get(&server.endpoint, &format!("/set-password?code={code}")).await.status, 410);
    server.user(&org, "late@example.org").await;
    let late = server.code_for("late@example.org").await.unwrap();
    server.state.clock.advance(Duration::from_secs(8 * 24 * 3_600));
    let answer = http_get(&server.endpoint, &format!("/set-password?code={late}")).await;
    assert_eq!(answer.status, 410);
    assert!(answer.body.contains("expired"), "{}", answer.body);
    // Guesses of one address are slowed down, as those of tokens are.
    let mut last = 0;
    for _ in 0..120 {
        last = http_get(&server.endpoint, "/set-password?code=rubbish").await.status;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let form = fields(&code, PASSWORD, PASSWORD);
    for headers in [
        "origin: https://evil.example\r\n",
        "origin: null\r\nsec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
    ] {
        let answer = post(&server, headers, &form).await;
        assert_eq!(answer.status, 403, "{headers}");
        is_a_page(&answer);
    }
    // The headers that a browser sends for our own page, which reveals its address to no one.
    let answer = post(&server, "origin: null\r\nsec-fetch-site: same-origin\r\n", &form).await;
    assert_eq!(answer.status, 303);
}

#[tokio::test]
async fn a_body_is_a_small_form_or_refused() {
    let server = TestServer::start().await;
    let send = async |head: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!("POST /set-password HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may be refused before all of it was sent.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split(' ').nth(1).unwrap_or("closed").to_owned()
    };
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    // Declared, and not even sent.
    assert_eq!(send(&format!("{form}content-length: 10485760\r\n"), b"").await, "413");
    let large = vec![b'a'; 10 << 20];
    // Refused, and cut off: how far it came depends on the network.
    let outcome = send(&format!("{form}content-length: {}\r\n", large.len()), &large).await;
    assert!(["413", "closed"].contains(&outcome.as_str()), "{outcome}");
    let chunk = [format!("{:x}\r\n", 64 << 10).as_bytes(), &large[..64 << 10], b"\r\n0\r\n\r\n"].concat();
    let outcome = send(&format!("{form}transfer-encoding: chunked\r\n"), &chunk).await;
    assert!(["413", "closed"].contains(&outcome.as_str()), "{outcome}");
    for (kind, expected) in [
        ("application/json", "415"),
        ("multipart/form-data; boundary=x", "415"),
        ("text/plain", "415"),
        ("application/x-www-form-urlencoded; charset=utf-8", "404"),
    ] {
        let head = format!("content-type: {kind}\r\ncontent-length: 7\r\n");
        assert_eq!(send(&head, b"code=%f").await, expected, "{kind}");
    }
    assert_eq!(send("content-length: 0\r\n", b"").await, "415");
    let put = "PUT /set-password HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(http(&server.endpoint, put).await.status, 405);
}

#[tokio::test]
async fn what_is_refused_is_answered_by_a_page_as_well() {
    let server = TestServer::start().await;
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for path in ["/set-password", "/accept-invitation"] {
        for (method, query, rest, status) in [
            ("GET", "?code=csign_rst_guessed", String::new(), 404),
            ("POST", "", format!("{form}content-length: 10485760\r\n"), 413),
            ("POST", "", "content-type: application/json\r\ncontent-length: 0\r\n".to_owned(), 415),
            ("POST", "", "content-length: 0\r\n".to_owned(), 415),
            ("PUT", "?code=csign_rst_guessed", "content-length: 0\r\n".to_owned(), 405),
            ("DELETE", "", String::new(), 405),
            // Links as they look when they were copied by hand.
            ("GET", "/?code=csign_rst_guessed", String::new(), 404),
            ("POST", "/", format!("{form}content-length: 0\r\n"), 404),
        ] {
            let head =
                format!("{method} {path}{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{rest}\r\n");
            let answer = http(&server.endpoint, &head).await;
            assert_eq!(answer.status, status, "{head}");
            is_a_page(&answer);
            assert!(!answer.body.contains("guessed"), "{}", answer.body);
            assert_eq!(answer.header("allow"), (status == 405).then_some("GET,HEAD,POST"), "{head}");
        }
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let limits = ServerLimits { request_timeout: Duration::from_secs(1), ..LIMITS };
    let server = TestServer::with_limits(limits).await;
    let mut stream = TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /set-password HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\ncode=";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}
