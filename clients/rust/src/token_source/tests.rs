use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const TOKEN: &str = "acme_sat_02xEbsg6yCEU5pMibQo2gB_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_2xcTET";

/// A token endpoint of some other make, which answers as it is told.
struct Server {
    endpoint: Endpoint,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// The function answers each request, by its number, with a status line, headers and body.
    async fn start(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (requests, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    let mut piece = [0; 1024];
                    while !is_whole(&request) {
                        let length = stream.read(&mut piece).await.unwrap();
                        assert_ne!(length, 0, "the request is cut");
                        request.extend_from_slice(&piece[..length]);
                    }
                    let answer = answer(number, &String::from_utf8(request).unwrap());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        Self { endpoint, requests }
    }

    fn source(&self, credential: Credential) -> TokenSource {
        TokenSource::builder(&self.endpoint, credential).transport(Transport::Http).build()
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn good(name: &str) -> String {
    http("200 OK", "", &format!(r#"{{"access_token": "{name}", "token_type": "Bearer", "expires_in": 300}}"#))
}

fn refusal(status: &str, reason: &str, headers: &str) -> String {
    let body = format!(r#"{{"error": "invalid_grant", "error_description": "{reason}: no"}}"#);
    http(status, &format!("countersign-reason: {reason}\r\n{headers}"), &body)
}

#[tokio::test]
async fn a_hundred_callers_make_one_exchange_and_the_request_is_as_the_server_asks() {
    let server = Server::start(|_, request| {
        let (head, form) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /oauth2/token HTTP/1.1\r\n"), "{head}");
        assert!(
            form.contains("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant%2Dtype%3Atoken%2Dexchange"),
            "{form}"
        );
        assert!(
            form.contains("audience=https%3A%2F%2Fa%2Eexample&audience=https%3A%2F%2Fb%2Eexample"),
            "{form}"
        );
        assert!(form.ends_with("&scope=x%2Ey&requested_ttl=60"), "{form}");
        good("one")
    })
    .await;
    let source = server.source(Credential::secret(TOKEN));
    let request =
        |audiences: [&str; 2]| TokenRequest::new(audiences, ["x.y"]).with_ttl(Duration::from_secs(60));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..100 {
        let source = source.clone();
        let mut audiences = ["https://b.example", "https://a.example"];
        audiences.rotate_left(number % 2);
        let request = request(audiences);
        calls.spawn(async move { source.get(&request).await });
    }
    while let Some(token) = calls.join_next().await {
        assert_eq!(token.unwrap().unwrap().as_str(), "one");
    }
    assert_eq!(server.count(), 1);
    assert_eq!(source.statistics(), TokenSourceStatistics { cached: 1, exchanges: 1 });
    assert_eq!(source.try_get(&request(["https://a.example", "https://b.example"])).unwrap().as_str(), "one");
}

#[tokio::test]
async fn a_final_reason_ends_the_source_for_all_audiences() {
    let server = Server::start(|_, _| refusal("400 Bad Request", "TOKEN_REVOKED", "")).await;
    let source = server.source(Credential::secret(TOKEN));
    for audience in ["a", "b", "a"] {
        let error = source.get(&TokenRequest::audience(audience)).await.unwrap_err();
        assert_eq!(
            (error.reason(), error.is_final(), error.code()),
            ("TOKEN_REVOKED", true, Code::InvalidArgument)
        );
    }
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_refusal_of_one_request_ends_no_other() {
    let server = Server::start(|_, request| {
        if request.contains("scope=") {
            refusal("400 Bad Request", "SCOPE_NOT_HELD", "")
        } else {
            good("one")
        }
    })
    .await;
    let source = server.source(Credential::secret(TOKEN));
    let scoped = TokenRequest::new([] as [&str; 0], ["x.y"]);
    for count in 1..=2 {
        assert_eq!(source.get(&scoped).await.unwrap_err().reason(), "SCOPE_NOT_HELD");
        assert_eq!(server.count(), count);
    }
    assert!(source.get(&TokenRequest::default()).await.is_ok());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_not_before_the_server_says() {
    let server = Server::start(|number, _| match number {
        0 => http("200 OK", "", "<html>"),
        1 => http("502 Bad Gateway", "", ""),
        2 => refusal("503 Service Unavailable", "OVERLOADED", ""),
        3 => good("one"),
        _ => refusal("429 Too Many Requests", "THROTTLED", "retry-after: 3600\r\n"),
    })
    .await;
    let source = server.source(Credential::secret(TOKEN));
    assert_eq!(source.get(&TokenRequest::default()).await.unwrap().as_str(), "one");
    assert_eq!(server.count(), 4);
    // The wait is longer than the call may take: it is answered at once, and later ones ask nothing.
    for _ in 0..3 {
        let error = source.get(&TokenRequest::audience("a")).await.unwrap_err();
        assert_eq!((error.reason(), error.retry_after()), ("THROTTLED", Some(Duration::from_secs(3_600))));
    }
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn a_jwt_that_a_service_refuses_is_replaced_but_not_one_of_a_moment_ago() {
    let server = Server::start(|number, _| good(&format!("jwt-{number}"))).await;
    let source = server.source(Credential::secret(TOKEN));
    let request = TokenRequest::default();
    let token = source.get(&request).await.unwrap();
    source.refused(&request, &token);
    assert_eq!(source.get(&request).await.unwrap().as_str(), "jwt-0");
    let entry = source.0.entry(&request).unwrap();
    entry.state.send_modify(|state| {
        let held = state.held.as_mut().unwrap();
        held.since = held.since.checked_sub(REFUSED_AFTER).unwrap();
    });
    drop(entry);
    source.refused(&request, &token);
    assert_eq!(source.get(&request).await.unwrap().as_str(), "jwt-1");
}

#[tokio::test]
async fn an_assertion_of_a_platform_is_sent_with_its_rule() {
    let path = std::env::temp_dir().join(format!("countersign-client-{}", crate::random::uuid()));
    std::fs::write(&path, "e30.e30.c2ln\n").unwrap();
    let server = Server::start(|_, request| {
        let form = request.split_once("\r\n\r\n").unwrap().1;
        assert!(form.contains("grant%2Dtype%3Ajwt%2Dbearer&assertion=e30%2Ee30%2Ec2ln&"), "{form}");
        assert!(form.contains("federation_rule_id=fed%5F1"), "{form}");
        good("one")
    })
    .await;
    let source = server.source(Credential::assertion_file(&path, "fed_1"));
    assert!(source.get(&TokenRequest::default()).await.is_ok());
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn the_background_ends_with_the_source() {
    let server = Server::start(|_, _| good("one")).await;
    let source = server.source(Credential::secret(TOKEN));
    source.get(&TokenRequest::default()).await.unwrap();
    let inner = Arc::downgrade(&source.0);
    drop(source);
    // The task holds it only while it exchanges.
    while inner.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_secret_shows() {
    let server = Server::start(|_, _| good("the-jwt")).await;
    let source = server.source(Credential::secret(TOKEN));
    let token = source.get(&TokenRequest::default()).await.unwrap();
    let shown = format!("{token:?} {source:?}");
    assert!(!shown.contains("the-jwt") && !shown.contains("acme"), "{shown}");
}
