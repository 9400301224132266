//! What pages in browsers may do, as their browsers see it: gRPC-Web and CORS over plain
//! HTTP/1.1. `tests/e2e/browser.py` does the same with a real page in a real browser.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, Engine as _};
use countersign::db::sweep;
use countersign::domain::values::ids::OrgId;
use countersign::grpc::pb;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::Status as Details;

use crate::contract::proto::rpcs;
use crate::harness::{Client, LIMITS, Org, TestServer, by_id, claims, refused, token_for};

const APP: &str = "https://app.example";
const SHOP: &str = "https://shop.example";
const OTHER: &str = "https://other.example";
const EXCHANGE: &str = "/countersign.v1.TokenService/ExchangeToken";
const KEY_SET: &str = "/countersign.v1.TokenService/GetJsonWebKeySet";
const WEB: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

/// An answer, as a browser has it.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The origin that the browser lets read it. Credentials are never allowed.
    fn reader(&self) -> Option<String> {
        assert_eq!(self.header("access-control-allow-credentials"), None);
        self.header("access-control-allow-origin")
    }

    /// Nothing in it is for pages.
    #[track_caller]
    fn is_for_nobody(&self) {
        let cors: Vec<_> =
            self.headers.iter().filter(|(key, _)| key.starts_with("access-control-")).collect();
        assert!(cors.is_empty(), "{self:?}");
    }

    /// The messages, and the trailers in the last frame.
    #[track_caller]
    fn frames(&self) -> (Vec<Vec<u8>>, Vec<(String, String)>) {
        let text = self.header("content-type").unwrap();
        let mut bytes = match text.as_str() {
            "application/grpc-web+proto" => self.body.clone(),
            "application/grpc-web-text+proto" => from_base64(&self.body),
            other => panic!("{other}: {self:?}"),
        };
        let (mut messages, mut trailers) = (Vec::new(), None);
        while !bytes.is_empty() {
            assert!(trailers.is_none(), "the trailers come last: {self:?}");
            let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            let rest = bytes.split_off(5 + length);
            let frame = bytes.split_off(5);
            match bytes[0] {
                0 => messages.push(frame),
                0x80 => trailers = Some(lines(&String::from_utf8(frame).unwrap())),
                flags => panic!("flags {flags}: {self:?}"),
            }
            bytes = rest;
        }
        (messages, trailers.unwrap_or_else(|| panic!("no trailers: {self:?}")))
    }

    /// The JWT of a good exchange.
    #[track_caller]
    fn jwt(&self) -> String {
        let (messages, trailers) = self.frames();
        assert_eq!((self.status, value(&trailers, "grpc-status")), (200, Some("0")), "{self:?}");
        let [message] = &messages[..] else { panic!("{self:?}") };
        pb::ExchangeTokenResponse::decode(&message[..]).unwrap().access_token
    }

    /// Code and reason of a refusal, both where a page reads them.
    #[track_caller]
    fn refusal(&self) -> (Code, String) {
        let (messages, trailers) = self.frames();
        assert!(self.status == 200 && messages.is_empty(), "{self:?}");
        assert_eq!(self.header("grpc-status"), None, "it is in the last frame: {self:?}");
        let code = Code::from_bytes(value(&trailers, "grpc-status").unwrap().as_bytes());
        assert!(value(&trailers, "grpc-message").is_some_and(|message| !message.is_empty()));
        let details = value(&trailers, "grpc-status-details-bin").unwrap().trim_end_matches('=');
        let details = Details::decode(&BASE64_STANDARD_NO_PAD.decode(details).unwrap()[..]).unwrap();
        let info = details.details.iter().find(|any| any.type_url.ends_with("ErrorInfo")).unwrap();
        let info = tonic_types::pb::ErrorInfo::decode(&info.value[..]).unwrap();
        (code, info.reason)
    }
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn lines(text: &str) -> Vec<(String, String)> {
    let pairs = text.split("\r\n").filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// Each frame may be padded by itself.
fn from_base64(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|four| BASE64_STANDARD.decode(four).unwrap()).collect()
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

/// One request over HTTP/1.1, on a connection of its own.
async fn http(
    server: &TestServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let address = server.endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(&[request.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let text = String::from_utf8(answer[..head].to_vec()).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines(text.split_once("\r\n").unwrap().1);
    let chunked = value(&headers, "transfer-encoding") == Some("chunked");
    let body = if chunked { unchunked(&answer[head + 4..]) } else { answer[head + 4..].to_vec() };
    Answer { status, headers, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
}

/// A page of this origin exchanges the token.
async fn exchange(server: &TestServer, token: &str, origin: &str, scopes: &[&str]) -> Answer {
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(token.into()),
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        ..Default::default()
    };
    let headers =
        [("content-type", WEB), ("x-grpc-web", "1"), ("origin", origin), ("x-request-id", "page-1")];
    http(server, "POST", EXCHANGE, &headers, &frame(&request.encode_to_vec())).await
}

/// What a browser asks before it sends such a call.
async fn preflight(server: &TestServer, path: &str, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-grpc-web"),
    ];
    http(server, "OPTIONS", path, &headers, b"").await
}

/// Waits until the node allows the origin, or no longer does.
async fn until(server: &TestServer, origin: &str, allowed: bool) {
    let is_allowed = async || preflight(server, EXCHANGE, origin).await.reader().is_some();
    crate::harness::until(async || is_allowed().await == allowed).await;
}

struct World {
    server: TestServer,
    org: Org,
    bot: pb::Account,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
        Self { server, org, bot }
    }

    fn publishable(&self, origins: &[&str]) -> pb::CreateTokenRequest {
        pb::CreateTokenRequest {
            kind: pb::TokenKind::Publishable.into(),
            scopes: vec!["invoices.read".into()],
            allowed_origins: origins.iter().map(|origin| (*origin).into()).collect(),
            ..token_for(&self.org.id, &self.bot.id)
        }
    }

    async fn make(&self, request: pb::CreateTokenRequest) -> (String, Client) {
        let made = self.org.owner.tokens().create_token(request).await.unwrap().into_inner();
        (made.token.unwrap().id, self.server.client(made.secret))
    }
}

#[tokio::test]
async fn the_allowed_page_gets_a_jwt_and_reads_what_is_refused() {
    let world = World::new().await;
    let (id, token) = world.make(world.publishable(&[APP, "http://localhost:3000"])).await;
    until(&world.server, APP, true).await;
    let asked = preflight(&world.server, EXCHANGE, APP).await;
    assert_eq!((asked.status, asked.reader().as_deref()), (204, Some(APP)));
    assert_eq!(asked.header("access-control-allow-methods").unwrap(), "POST");
    let headers = asked.header("access-control-allow-headers").unwrap();
    assert_eq!(
        headers,
        "content-type, x-grpc-web, x-user-agent, grpc-timeout, connect-protocol-version, connect-timeout-ms, \
         x-request-id, traceparent"
    );
    assert!(asked.header("access-control-max-age").unwrap().parse::<u32>().unwrap() <= 600);
    assert!(asked.header("vary").unwrap().split(", ").any(|name| name == "origin"));

    for origin in [APP, "http://localhost:3000"] {
        let answer = exchange(&world.server, token.token(), origin, &[]).await;
        assert_eq!(claims(&answer.jwt())["token_kind"], "PUBLISHABLE");
        assert_eq!(answer.reader().as_deref(), Some(origin));
        assert_eq!(answer.header("vary").as_deref(), Some("origin"));
        let readable = answer.header("access-control-expose-headers").unwrap();
        assert_eq!(
            readable,
            "grpc-status, grpc-message, grpc-status-details-bin, countersign-reason, retry-after, \
             www-authenticate, x-request-id"
        );
        assert_eq!(answer.header("x-request-id").as_deref(), Some("page-1"));
    }
    // Refusals are read by the page too, each with its reason.
    let answer = exchange(&world.server, token.token(), APP, &["payroll.read"]).await;
    assert_eq!(answer.refusal(), (Code::PermissionDenied, "SCOPE_NOT_HELD".into()));
    assert_eq!(answer.reader().as_deref(), Some(APP));
    let answer = exchange(&world.server, "junk", APP, &[]).await;
    assert_eq!(answer.refusal(), (Code::Unauthenticated, "TOKEN_INVALID".into()));
    let short =
        http(&world.server, "POST", EXCHANGE, &[("content-type", WEB), ("origin", APP)], &[0, 0]).await;
    assert_eq!(short.refusal(), (Code::InvalidArgument, "MALFORMED_REQUEST".into()));
    let large = vec![0; LIMITS.max_message_size + 1];
    let large =
        http(&world.server, "POST", EXCHANGE, &[("content-type", WEB), ("origin", APP)], &frame(&large))
            .await;
    assert_eq!(large.refusal(), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".into()));
    world.org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
    let answer = exchange(&world.server, token.token(), APP, &[]).await;
    assert_eq!(answer.refusal(), (Code::Unauthenticated, "TOKEN_REVOKED".into()));
}

#[tokio::test]
async fn text_is_understood_and_answered() {
    let world = World::new().await;
    let (_, token) = world.make(world.publishable(&[APP])).await;
    until(&world.server, APP, true).await;
    let message = |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| (*scope).into()).collect();
        let request = pb::ExchangeTokenRequest {
            subject_token: Some(token.token().into()),
            scopes,
            ..Default::default()
        };
        BASE64_STANDARD.encode(frame(&request.encode_to_vec()))
    };
    let headers = [("content-type", TEXT), ("accept", TEXT), ("origin", APP)];
    let answer = http(&world.server, "POST", EXCHANGE, &headers, message(&[]).as_bytes()).await;
    assert_eq!(answer.header("content-type").unwrap(), "application/grpc-web-text+proto");
    answer.jwt();
    let answer = http(&world.server, "POST", EXCHANGE, &headers, message(&["payroll.read"]).as_bytes()).await;
    assert_eq!(answer.refusal(), (Code::PermissionDenied, "SCOPE_NOT_HELD".into()));
    assert_eq!(answer.header("content-type").unwrap(), "application/grpc-web-text+proto");
    let answer = http(&world.server, "POST", EXCHANGE, &headers, b"not base64!").await;
    assert_eq!(answer.refusal(), (Code::InvalidArgument, "MALFORMED_REQUEST".into()));
}

#[tokio::test]
async fn another_page_is_told_nothing() {
    let world = World::new().await;
    let (_, token) = world.make(world.publishable(&[APP])).await;
    until(&world.server, APP, true).await;
    for origin in [
        OTHER,
        "null",
        "*",
        "http://app.example",
        "https://www.app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://app.example, https://app.example",
        "junk",
        "",
    ] {
        for path in [EXCHANGE, KEY_SET] {
            let asked = preflight(&world.server, path, origin).await;
            assert_eq!(asked.status, 403, "{origin}");
            asked.is_for_nobody();
        }
        let answer = exchange(&world.server, token.token(), origin, &[]).await;
        assert_eq!(answer.refusal(), (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED".into()), "{origin}");
        answer.is_for_nobody();
        // Otherwise a shared cache would give an answer for one origin to another.
        assert_eq!(answer.header("vary").as_deref(), Some("origin"));
    }
    // Two origins are none, also where both are allowed; nor is there one where none is named.
    let request =
        pb::ExchangeTokenRequest { subject_token: Some(token.token().into()), ..Default::default() };
    let message = frame(&request.encode_to_vec());
    for origins in [&[("origin", APP), ("origin", APP)][..], &[]] {
        let headers = [&[("content-type", WEB)], origins].concat();
        let answer = http(&world.server, "POST", EXCHANGE, &headers, &message).await;
        assert_eq!(answer.refusal(), (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED".into()));
        answer.is_for_nobody();
    }
    // An origin that only another org's token names may read the answer, which is a refusal.
    let other = World { org: world.server.org().await, ..world };
    let (bot, _) = other.server.account(&other.org.id, "bot", &[("invoices.read", "*")]).await;
    let other = World { bot, ..other };
    other.make(other.publishable(&[OTHER])).await;
    until(&other.server, OTHER, true).await;
    let answer = exchange(&other.server, token.token(), OTHER, &[]).await;
    assert_eq!(answer.refusal(), (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED".into()));
    assert_eq!(answer.reader().as_deref(), Some(OTHER));
}

#[tokio::test]
async fn nothing_else_is_served_to_pages() {
    let world = World::new().await;
    world.make(world.publishable(&[APP])).await;
    until(&world.server, APP, true).await;
    let bearer = format!("Bearer {}", world.server.operator.token());
    let mut paths = rpcs();
    assert!(paths.len() > 10);
    paths.retain(|path| path != EXCHANGE && path != KEY_SET);
    paths.push("/grpc.health.v1.Health/Check".into());
    paths.push("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".into());
    paths.push("/countersign.v1.TokenService/Nothing".into());
    for path in &paths {
        for content_type in ["application/grpc-web", WEB, TEXT, "application/grpc-web-text+proto"] {
            // With a credential that has every right: no handler sees it.
            let headers = [("content-type", content_type), ("origin", APP), ("authorization", &bearer)];
            let body = if content_type.contains("text") { &b"AAAAAAA="[..] } else { &[0, 0, 0, 0, 0] };
            let answer = http(&world.server, "POST", path, &headers, body).await;
            assert_eq!(answer.refusal(), (Code::Unimplemented, "METHOD_UNKNOWN".into()), "{path}");
            answer.is_for_nobody();
        }
        let asked = preflight(&world.server, path, APP).await;
        assert!((400..500).contains(&asked.status), "{path}: {asked:?}");
        asked.is_for_nobody();
    }
    // A form or a script that needs no preflight gets nowhere either.
    for (method, content_type, status) in [
        ("POST", "application/grpc-web+json", 415),
        ("POST", "text/plain", 415),
        ("POST", "application/x-www-form-urlencoded", 415),
        ("POST", "multipart/form-data", 415),
        ("GET", WEB, 405),
        ("PUT", TEXT, 405),
        ("OPTIONS", "text/plain", 405),
        ("GET", "application/json", 405),
    ] {
        let headers = [("content-type", content_type), ("origin", OTHER)];
        let answer = http(&world.server, method, EXCHANGE, &headers, &frame(b"")).await;
        assert_eq!(answer.status, status, "{method} {content_type}");
        answer.is_for_nobody();
    }
}

#[tokio::test]
async fn pages_speak_json_as_well() {
    let world = World::new().await;
    let (_, token) = world.make(world.publishable(&[APP])).await;
    until(&world.server, APP, true).await;
    let subject = format!(r#"{{"subjectToken":"{}"}}"#, token.token());
    for (origin, reader) in [(APP, Some(APP)), (OTHER, None), ("null", None), ("", None)] {
        let headers = [("content-type", "application/json"), ("origin", origin), ("x-request-id", "page-1")];
        let answer = http(&world.server, "POST", EXCHANGE, &headers, subject.as_bytes()).await;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.header("vary").as_deref(), Some("origin"));
        assert_eq!(answer.reader().as_deref(), reader);
        if reader.is_some() {
            assert_eq!(claims(body["accessToken"].as_str().unwrap())["token_kind"], "PUBLISHABLE");
        } else {
            assert_eq!((answer.status, &body["code"]), (403, &"permission_denied".into()));
            assert_eq!(answer.header("countersign-reason").as_deref(), Some("ORIGIN_NOT_ALLOWED"));
            answer.is_for_nobody();
        }
        let keys = http(&world.server, "POST", KEY_SET, &headers, b"{}").await;
        assert_eq!((keys.status, keys.reader().as_deref()), (200, reader));
    }
    let headers = [("content-type", "application/json"), ("origin", APP)];
    let refused = http(&world.server, "POST", EXCHANGE, &headers, b"{}").await;
    assert_eq!((refused.status, refused.reader().as_deref()), (401, Some(APP)));
    let readable = refused.header("access-control-expose-headers").unwrap();
    for name in ["countersign-reason", "www-authenticate", "x-request-id", "retry-after"] {
        assert!(readable.split(", ").any(|readable| readable == name), "{name}");
    }
}

/// Whichever protocol a page speaks, and whatever it presents.
#[tokio::test]
async fn a_page_calls_nothing_else_over_any_protocol() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", world.server.operator.token());
    let mut paths = rpcs();
    paths.push("/grpc.health.v1.Health/Check".into());
    let pages = [&[("origin", APP)][..], &[("origin", "")], &[("sec-fetch-site", "cross-site")]];
    for path in &paths {
        let served = path == EXCHANGE || path == KEY_SET;
        for page in pages {
            for (content_type, body) in [("application/json", &b"{}"[..]), ("application/grpc", &[0; 5])] {
                let headers = [&[("content-type", content_type), ("authorization", &bearer)], page].concat();
                let answer = http(&world.server, "POST", path, &headers, body).await;
                let unknown = answer.header("countersign-reason").as_deref() == Some("METHOD_UNKNOWN");
                assert_eq!(unknown, !served, "{path} {headers:?}: {answer:?}");
                answer.is_for_nobody();
            }
        }
    }
    // A program of the same machine, and a page of the API's own site, are none of these.
    for (name, value) in [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")] {
        let headers = [("content-type", "application/json"), ("authorization", &bearer), (name, value)];
        let caller = "/countersign.v1.AccountService/GetCaller";
        assert_eq!(http(&world.server, "POST", caller, &headers, b"{}").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn what_is_public_can_be_read_by_pages() {
    let world = World::new().await;
    for path in [
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ] {
        for headers in [&[("origin", OTHER)][..], &[]] {
            let answer = http(&world.server, "GET", path, headers, b"").await;
            assert_eq!((answer.status, answer.reader().as_deref()), (200, Some("*")), "{path}");
            assert!(!answer.body.windows(2).any(|two| two == b"[]"), "{path}: no empty lists");
        }
        let asked = preflight(&world.server, path, OTHER).await;
        assert_eq!((asked.status, asked.reader().as_deref()), (204, Some("*")), "{path}");
        assert_eq!(asked.header("access-control-allow-methods").unwrap(), "GET, HEAD");
        assert_eq!(asked.header("access-control-allow-credentials"), None);
    }
    let probe = http(&world.server, "GET", "/readyz", &[("origin", OTHER)], b"").await;
    assert_eq!(probe.status, 200);
    probe.is_for_nobody();
    // Over gRPC-Web the key set is read by the same pages as what is exchanged.
    world.make(world.publishable(&[APP])).await;
    until(&world.server, APP, true).await;
    for (origin, reader) in [(APP, Some(APP)), (OTHER, None)] {
        let headers = [("content-type", WEB), ("origin", origin)];
        let answer = http(&world.server, "POST", KEY_SET, &headers, &frame(b"")).await;
        let (messages, trailers) = answer.frames();
        assert_eq!(value(&trailers, "grpc-status"), Some("0"));
        assert_eq!(pb::GetJsonWebKeySetResponse::decode(&messages[0][..]).unwrap().keys.len(), 1);
        assert_eq!(answer.reader().as_deref(), reader);
    }
}

#[tokio::test]
async fn a_preflight_asks_the_database_nothing() {
    let world = World::new().await;
    let (_, token) = world.make(world.publishable(&[APP])).await;
    until(&world.server, APP, true).await;
    world.server.hear_all().await;
    exchange(&world.server, token.token(), APP, &[]).await.jwt();
    let looks = world.server.state.principals.looks();
    // Any query now would fail: these are all the connections that this server has.
    world.server.state.close().await;
    for _ in 0..20 {
        assert_eq!(preflight(&world.server, EXCHANGE, APP).await.reader().as_deref(), Some(APP));
        preflight(&world.server, EXCHANGE, OTHER).await.is_for_nobody();
        preflight(&world.server, KEY_SET, "https://never-named.example").await.is_for_nobody();
    }
    assert_eq!(world.server.state.principals.looks(), looks);
}

#[tokio::test]
async fn every_node_follows_which_origins_are_named() {
    let world = World::new().await;
    let second = world.server.beside(LIMITS).await;
    let nodes = [&world.server, &second];
    let all = async |origin: &str, allowed: bool| {
        for node in nodes {
            until(node, origin, allowed).await;
        }
    };
    for node in nodes {
        preflight(node, EXCHANGE, APP).await.is_for_nobody();
    }
    let (first, _) = world.make(world.publishable(&[APP, "HTTPS://APP.example:443"])).await;
    let (both, _) = world.make(world.publishable(&[APP, SHOP])).await;
    all(SHOP, true).await;
    all(APP, true).await;
    // A `validate_only` call adds no origin: one created after it is allowed, and this one is not.
    let trial = pb::CreateTokenRequest { validate_only: true, ..world.publishable(&[OTHER]) };
    world.org.owner.tokens().create_token(trial).await.unwrap();
    world.org.owner.tokens().revoke_token(by_id("", &first)).await.unwrap();
    let (later, _) = world.make(world.publishable(&["https://later.example"])).await;
    all("https://later.example", true).await;
    for node in nodes {
        preflight(node, EXCHANGE, OTHER).await.is_for_nobody();
        // The other token names it still.
        assert_eq!(preflight(node, EXCHANGE, APP).await.reader().as_deref(), Some(APP));
    }
    // A node that starts later knows at once.
    let third = world.server.beside(LIMITS).await;
    assert_eq!(preflight(&third, EXCHANGE, SHOP).await.reader().as_deref(), Some(SHOP));
    preflight(&third, EXCHANGE, OTHER).await.is_for_nobody();

    world.org.owner.tokens().revoke_token(by_id("", &both)).await.unwrap();
    all(APP, false).await;
    all(SHOP, false).await;
    assert_eq!(preflight(&third, EXCHANGE, "https://later.example").await.status, 204);
    world.org.owner.tokens().revoke_token(by_id("", &later)).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from token_origins")
        .fetch_one(&world.server.state.db)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_update_of_a_token_changes_whose_pages_it_serves() {
    let world = World::new().await;
    let server = &world.server;
    let (token, _) = world.make(world.publishable(&[APP])).await;
    until(server, APP, true).await;
    let moved = pb::Token { id: token.clone(), allowed_origins: vec![SHOP.into()], ..Default::default() };
    let request = pb::UpdateTokenRequest { token: Some(moved), ..Default::default() };
    world.org.owner.tokens().update_token(request).await.unwrap();
    until(server, SHOP, true).await;
    until(server, APP, false).await;
    // A shorter lifetime is one of its origins, too.
    let soon = server.state.clock.now().unix_timestamp() + 60;
    let shorter = pb::Token {
        id: token,
        expire_time: Some(prost_types::Timestamp { seconds: soon, nanos: 0 }),
        ..Default::default()
    };
    let request = pb::UpdateTokenRequest { token: Some(shorter), ..Default::default() };
    world.org.owner.tokens().update_token(request).await.unwrap();
    let (later, _) = world.make(world.publishable(&["https://later.example"])).await;
    until(server, "https://later.example", true).await;
    server.state.clock.advance(Duration::from_secs(61));
    preflight(server, EXCHANGE, SHOP).await.is_for_nobody();
    assert!(!later.is_empty());
}

#[tokio::test]
async fn an_origin_ends_with_its_last_token() {
    let world = World::new().await;
    let ttl = |seconds| Some(pb::create_token_request::Expiration::Ttl(duration(seconds)));
    world.make(pb::CreateTokenRequest { expiration: ttl(3_600), ..world.publishable(&[APP, SHOP]) }).await;
    world.make(pb::CreateTokenRequest { expiration: ttl(7_200), ..world.publishable(&[APP, OTHER]) }).await;
    // Only the origin of the second token: both are known then.
    until(&world.server, OTHER, true).await;
    let clock = &world.server.state.clock;
    // A slow machine has taken some of that hour already.
    clock.advance(Duration::from_secs(3_540));
    assert_eq!(preflight(&world.server, EXCHANGE, SHOP).await.status, 204);
    // Nothing is written when a token expires.
    clock.advance(Duration::from_secs(61));
    preflight(&world.server, EXCHANGE, SHOP).await.is_for_nobody();
    assert_eq!(preflight(&world.server, EXCHANGE, APP).await.status, 204);
    clock.advance(Duration::from_secs(3_600));
    preflight(&world.server, EXCHANGE, APP).await.is_for_nobody();
    let db = &world.server.state.db;
    let count = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from token_origins").fetch_one(db).await.unwrap()
    };
    // The rows go a day later.
    sweep::sweep(db, clock.now()).await.unwrap();
    assert_eq!(count().await, 4);
    clock.advance(Duration::from_secs(23 * 3_600 + 1_800));
    sweep::sweep(db, clock.now()).await.unwrap();
    assert_eq!(count().await, 2);
}

fn duration(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[tokio::test]
async fn another_database_has_other_origins() {
    let world = World::new().await;
    world.make(world.publishable(&[APP])).await;
    until(&world.server, APP, true).await;
    // As in a restored database: other rows, and no feed rows for them.
    let db = &world.server.state.db;
    sqlx::query("update token_origins set origin = $1").bind(SHOP).execute(db).await.unwrap();
    sqlx::query("update deployment set feed_epoch = feed_epoch + 1").execute(db).await.unwrap();
    until(&world.server, SHOP, true).await;
    until(&world.server, APP, false).await;
}

#[tokio::test]
async fn an_org_does_not_fill_the_memory_of_all() {
    let world = World::new().await;
    let fill = "insert into token_origins (origin, token_id, org_id, expire_time)
                select 'https://a' || n || '.example', gen_random_uuid(), $1, null from generate_series(1, 9998) n";
    let org_id = OrgId::parse(&world.org.id).unwrap();
    sqlx::query(fill).bind(org_id.uuid()).execute(&world.server.state.db).await.unwrap();
    let (id, _) = world.make(world.publishable(&[APP, SHOP])).await;
    let owner = &world.org.owner;
    let refusal = owner.tokens().create_token(world.publishable(&[OTHER])).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "LIMIT_REACHED");
    assert!(
        refusal.message().contains("origins of all active tokens, at most 10000"),
        "{}",
        refusal.message()
    );
    // Other tokens are created, and other orgs have a limit of their own.
    owner.tokens().create_token(token_for(&world.org.id, &world.bot.id)).await.unwrap();
    let org = world.server.org().await;
    let (bot, _) = world.server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let other =
        pb::CreateTokenRequest { org_id: org.id.clone(), account_id: bot.id, ..world.publishable(&[OTHER]) };
    org.owner.tokens().create_token(other).await.unwrap();
    owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
    world.make(world.publishable(&[OTHER])).await;
}
