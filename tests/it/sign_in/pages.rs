//! The pages around those of the links: the first one, the one for a forgotten password, the one for what
//! does not exist; where they lead, and how they look.

use countersign::config::{Appearance, Image};
use countersign::grpc::pb;

use super::password_page::is_a_page;
use crate::harness::{
    Answer, LIMITS, PASSWORD, SmtpServer, TestServer, hides_secrets, http, http_get, until, watch,
};

async fn post(server: &TestServer, page: &str, headers: &str, fields: &[(&str, &str)]) -> Answer {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let body = body.finish();
    let request = format!(
        "POST /{page} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    http(&server.endpoint, &request).await
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_without_help() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = smtp.mail_to("ana@example.org").await.code();
    let set = pb::ResetPasswordRequest { code, new_password: PASSWORD.into() };
    watch(PASSWORD);
    server.anonymous().accounts().reset_password(set).await.unwrap();
    let page = http_get(&server.endpoint, "/forgot-password").await;
    assert_eq!(page.status, 200);
    is_a_page(&page);
    assert!(page.body.contains("<form method=\"post\" action=\"forgot-password\""), "{}", page.body);
    // What is no address is said beside the field.
    let wrong = post(&server, "forgot-password", "", &[("username", "ana")]).await;
    assert_eq!(wrong.status, 422);
    is_a_page(&wrong);
    assert!(wrong.body.contains("id=\"username-wrong\""), "{}", wrong.body);
    // The same answer, whether there is such an account or not.
    for email in ["nobody@example.org", " Ana@Example.org "] {
        let asked = post(&server, "forgot-password", "", &[("username", email)]).await;
        assert_eq!(
            (asked.status, asked.header("location")),
            (303, Some("forgot-password?done=requested")),
            "{email}"
        );
    }
    let done = http_get(&server.endpoint, "/forgot-password?done=requested").await;
    is_a_page(&done);
    assert!(done.body.contains("Check your email"), "{}", done.body);
    until(async || {
        smtp.received().iter().any(|mail| mail.header("Subject").starts_with("Choose a new password"))
    })
    .await;
    let mails = smtp.received();
    assert!(mails.iter().all(|mail| mail.to == "ana@example.org"));
    // A form of another site requests nothing.
    let forged = "origin: https://evil.example\r\nsec-fetch-site: cross-site\r\n";
    let refused = post(&server, "forgot-password", forged, &[("username", "ana@example.org")]).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn a_link_that_no_longer_works_leads_to_another_one() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let fields = [("code", code.as_str()), ("password", PASSWORD), ("password_again", PASSWORD)];
    watch(PASSWORD);
    assert_eq!(post(&server, "set-password", "", &fields).await.status, 303);
    let used = http_get(&server.endpoint, &format!("/set-password?code={code}")).await;
    assert_eq!(used.status, 410);
    is_a_page(&used);
    assert!(used.body.contains("href=\"forgot-password\""), "{}", used.body);
}

#[tokio::test]
async fn what_is_opened_in_a_browser_is_a_page_and_calls_are_calls() {
    let server = TestServer::start().await;
    let home = http_get(&server.endpoint, "/").await;
    assert_eq!(home.status, 200);
    is_a_page(&home);
    assert!(home.body.contains("href=\"forgot-password\""), "{}", home.body);
    let code = server.org().await.owner.token().to_owned();
    for path in [
        "/nowhere",
        "/a/b/c",
        "/index.html",
        "/.well-known/nothing",
        "/set-password/x",
        &format!("/nowhere?code={code}"),
    ] {
        let answer = http_get(&server.endpoint, path).await;
        assert_eq!(answer.status, 404, "{path}");
        is_a_page(&answer);
        // A referrer or a log line would carry what the query holds.
        assert!(!answer.body.contains(&code));
        hides_secrets(&answer.body);
    }
    let head = "HEAD /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(http(&server.endpoint, head).await.status, 404);
    // What programs fetch is as it was.
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration", "/healthz", "/readyz"] {
        let answer = http_get(&server.endpoint, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains("<html"), "{path}");
    }
    let icon = http_get(&server.endpoint, "/favicon.ico").await;
    assert_eq!((icon.status, icon.header("content-type")), (200, Some("image/svg+xml")));
    assert_eq!(icon.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(http_get(&server.endpoint, "/logo").await.status, 404);
    // A call is no page, with whichever method.
    let opened = http_get(&server.endpoint, "/countersign.v1.TokenService/ExchangeToken").await;
    assert_eq!((opened.status, opened.header("allow")), (405, Some("POST")));
    assert!(!opened.body.contains("<html"), "{}", opened.body);
    // An unknown RPC is refused as one.
    let call = "POST /countersign.v1.TokenService/Nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0";
    let refused = http(&server.endpoint, call).await;
    assert!(!refused.body.contains("<html"), "{}", refused.body);
}

#[tokio::test]
async fn pages_lead_on_and_look_as_they_are_configured() {
    let logo = Image { kind: "image/png", bytes: b"\x89PNG".as_slice().into() };
    let server = TestServer::with_appearance(Appearance {
        sign_in_url: Some("https://app.example.com/login?from=id&to=a".parse().unwrap()),
        logo: Some(logo.clone()),
        favicon: Some(logo),
        colour: Some("#ffd400".parse().unwrap()),
    })
    .await;
    let link = "<a class=\"button\" href=\"https://app.example.com/login?from=id&amp;to=a\">Sign in</a>";
    for (path, leads) in [
        ("/", true),
        ("/nowhere", true),
        ("/forgot-password", true),
        ("/set-password?done=active", true),
        ("/set-password?done=deactivated", false),
        ("/accept-invitation?done=joined", true),
        ("/accept-invitation?done=with-less", true),
    ] {
        let page = http_get(&server.endpoint, path).await;
        assert_eq!(page.body.contains(link), leads, "{path}: {}", page.body);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("img-src 'self'") && !policy.contains("unsafe"), "{policy}");
        // Its address is relative to that of a page.
        assert_eq!(page.body.contains("<img class=\"logo\" src=\"logo\" alt=\"\">"), path != "/nowhere");
        assert!(page.body.contains("--on-accent:#"), "{path}");
    }
    for path in ["/logo", "/favicon", "/favicon.ico"] {
        let image = http_get_bytes(&server, path).await;
        assert!(image.ends_with(b"\x89PNG"), "{path}");
    }
    let request = pb::GetJsonWebKeySetRequest {};
    server.anonymous().tokens().get_json_web_key_set(request).await.unwrap();
}

/// What is no text.
async fn http_get_bytes(server: &TestServer, path: &str) -> Vec<u8> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = server.endpoint.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}
