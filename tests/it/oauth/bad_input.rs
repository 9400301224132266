//! What is no request of an endpoint: each has the error of the standard, and slows nobody.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{ACCESS_TOKEN, CLIENT_CREDENTIALS, TOKEN, TOKEN_EXCHANGE, basic, post, post_text};
use crate::harness::{TestServer, http};

#[tokio::test]
async fn parameters() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let header = basic(&bot);
    let header = [("authorization", header.as_str())];
    let many: String = (0..5_000).map(|n| format!("&p{n}=1")).collect();
    let scopes = format!("&scope={}", "a+".repeat(30_000));
    let grant = format!("grant_type={CLIENT_CREDENTIALS}");
    for (rest, outcome) in [
        ("", "200"),
        ("&scope=&audience=&resource=&unknown=1&actor_token=", "200"),
        ("&scope=invoices.read&scope=invoices.read", "400 invalid_request"),
        ("&unknown=1&unknown=1", "400 invalid_request"),
        ("&grant_type=client_credentials", "400 invalid_request"),
        ("&client_id=&client_id=", "400 invalid_request"),
        ("&scope=%", "400 invalid_request"),
        ("&scope=%4", "400 invalid_request"),
        ("&scope=%zz", "400 invalid_request"),
        ("&scope=%00", "400 invalid_request"),
        ("&scope=%0d%0aset-cookie:%20a=b", "400 invalid_request"),
        ("&scope=%ff", "400 invalid_request"),
        ("&scope=\u{0}", "400 invalid_request"),
        (&many, "400 invalid_request"),
        (&scopes, "400 invalid_scope"),
        ("&subject_token=x", "400 invalid_request"),
    ] {
        let answer = post_text(&server, TOKEN, &header, &format!("{grant}{rest}")).await;
        assert_eq!(answer.outcome(), outcome, "{rest:.60} {}", answer.body);
        assert_eq!(answer.http.header("cache-control"), Some("no-store"));
    }
    for (parameters, outcome) in [
        (&[][..], "400 invalid_request MALFORMED_REQUEST"),
        (&[("grant_type", "")], "400 invalid_request MALFORMED_REQUEST"),
        (&[("grant_type", "password")], "400 unsupported_grant_type UNSUPPORTED_GRANT_TYPE"),
        (&[("grant_type", "CLIENT_CREDENTIALS")], "400 unsupported_grant_type UNSUPPORTED_GRANT_TYPE"),
        (&[("grant_type", "authorization_code")], "400 unsupported_grant_type UNSUPPORTED_GRANT_TYPE"),
    ] {
        assert_eq!(post(&server, TOKEN, &header, parameters).await.refused(), outcome, "{parameters:?}");
    }
    let subject = ("subject_token", bot.token());
    let kind = ("subject_token_type", ACCESS_TOKEN);
    let jwt = bot.exchange().await.unwrap().access_token;
    for (parameters, outcome) in [
        (&[kind][..], "400 invalid_request MALFORMED_REQUEST"),
        (&[subject], "400 invalid_request MALFORMED_REQUEST"),
        (&[("subject_token", "x"), kind], "400 invalid_grant TOKEN_INVALID"),
        (&[("subject_token", &jwt), kind], "400 invalid_request SUBJECT_NOT_EXCHANGEABLE"),
        (&[subject, ("subject_token_type", "access_token")], "400 invalid_request MALFORMED_REQUEST"),
        (&[subject, kind, ("requested_token_type", "x")], "400 invalid_request MALFORMED_REQUEST"),
        (&[subject, kind, ("actor_token", "x")], "400 invalid_request MALFORMED_REQUEST"),
        (&[subject, kind, ("actor_token_type", "x")], "400 invalid_request MALFORMED_REQUEST"),
        (&[subject, kind, ("client_id", "x")], "401 invalid_client TOKEN_INVALID"),
    ] {
        let all = [&[("grant_type", TOKEN_EXCHANGE)], parameters].concat();
        let answer = post(&server, TOKEN, &[], &all).await;
        assert_eq!(answer.refused(), outcome, "{parameters:?} {}", answer.body);
    }
}

#[tokio::test]
async fn requests() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    let header = basic(&bot);
    let authorization = ("authorization", header.as_str());
    let body = format!("grant_type={CLIENT_CREDENTIALS}");
    for (path, kind, outcome) in [
        (TOKEN, "application/x-www-form-urlencoded; charset=UTF-8", "200"),
        (TOKEN, "Application/X-WWW-Form-Urlencoded", "200"),
        (TOKEN, "application/json", "415 invalid_request"),
        (TOKEN, "text/plain", "415 invalid_request"),
        (TOKEN, "multipart/form-data; boundary=x", "415 invalid_request"),
        (TOKEN, "", "415 invalid_request"),
        (
            "/oauth2/token?grant_type=client_credentials",
            "application/x-www-form-urlencoded",
            "400 invalid_request",
        ),
        ("/oauth2/token?", "application/x-www-form-urlencoded", "400 invalid_request"),
        ("/oauth2/token/", "application/x-www-form-urlencoded", "404 invalid_request"),
        ("/oauth2/Token", "application/x-www-form-urlencoded", "404 invalid_request"),
        ("/oauth2/%74oken", "application/x-www-form-urlencoded", "404 invalid_request"),
        ("/oauth2/", "application/x-www-form-urlencoded", "404 invalid_request"),
        ("/oauth2/authorize", "application/x-www-form-urlencoded", "404 invalid_request"),
    ] {
        let answer = post_text(&server, path, &[authorization, ("content-type", kind)], &body).await;
        assert_eq!(answer.outcome(), outcome, "{path} {kind}");
        assert_eq!(answer.http.header("content-type"), Some("application/json"));
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let request = format!("{method} {TOKEN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = http(&server.endpoint, &request).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
        assert!(method == "HEAD" || answer.body.contains("\"error\":\"invalid_request\""), "{}", answer.body);
    }
    // A body beyond its limit, which is told before it has all arrived where its length is.
    let large = "a".repeat(10 << 20);
    let answer = post_whatever_arrives(&server, &large).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"error\":\"invalid_request\""),
        "{answer}"
    );
    let answer = post_text(&server, TOKEN, &[authorization], &"a".repeat(65 << 10)).await;
    assert_eq!(answer.outcome(), "413 invalid_request");
}

/// Posts a body of which the server need not read all.
async fn post_whatever_arrives(server: &TestServer, body: &str) -> String {
    let stream = TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = format!(
        "POST {TOKEN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let body = body.to_owned();
    let sending = tokio::spawn(async move {
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(body.as_bytes()).await;
    });
    let mut answer = Vec::new();
    let mut part = [0; 1_024];
    while let Ok(length @ 1..) = read.read(&mut part).await {
        answer.extend_from_slice(&part[..length]);
    }
    sending.abort();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_hidden_in_others() {
    let server = TestServer::start().await;
    let hidden = "POST /oauth2/revoke HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "content-length: 5\r\ncontent-length: 6\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "content-length: +5\r\n".to_owned(),
    ] {
        let request = format!("POST {TOKEN} HTTP/1.1\r\nhost: x\r\n{form}{framing}\r\n0\r\n\r\n{hidden}");
        let stream = TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        write.write_all(request.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        // At most one answer, and the connection is closed.
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{framing} {answer}");
        assert!(!answer.starts_with("HTTP/1.1 200"), "{framing} {answer}");
    }
    // Requests one behind the other are answered in their order.
    let request =
        |path: &str| format!("POST {path} HTTP/1.1\r\nhost: x\r\n{form}content-length: 7\r\n\r\ntoken=x");
    let all = format!("{}{}", request(TOKEN), request("/oauth2/revoke"));
    let stream = TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    write.write_all(all.as_bytes()).await.unwrap();
    write.shutdown().await.unwrap();
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.unwrap();
    let statuses: Vec<_> =
        answer.split("HTTP/1.1 ").skip(1).map(|answer| answer.split(' ').next().unwrap()).collect();
    assert_eq!(statuses, ["400", "200"], "{answer}");
}
