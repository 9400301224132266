//! What the server answers to requests as they stand on the wire: framing, content types, paths,
//! methods, metadata. No client library is between.

use bytes::Bytes;
use countersign::grpc::pb;
use http::{HeaderMap, Request};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_types::StatusExt as _;

use crate::harness::{PATIENCE, TestServer};

const EXCHANGE: &str = "/countersign.v1.TokenService/ExchangeToken";
const CALLER: &str = "/countersign.v1.AccountService/GetCaller";
const KEY_SET: &str = "/countersign.v1.TokenService/GetJsonWebKeySet";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const JSON: (&str, &str) = ("content-type", "application/json");

type Headers<'a> = &'a [(&'a str, &'a str)];
/// Method, path, headers, body; and the answer.
type Question<'a> = (&'a str, &'a str, Headers<'a>, &'a [u8], &'a str);

/// The whole answer to one request.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Answer {
    /// `http 415`, or the code of the call and its reason: `0`, `3 MALFORMED_REQUEST`.
    fn summary(&self) -> String {
        let outcome = if self.headers.contains_key("grpc-status") { &self.headers } else { &self.trailers };
        match Status::from_header_map(outcome) {
            Some(status) if self.status == 200 => {
                let code = status.code() as i32;
                let reason = status.get_details_error_info().map(|info| info.reason);
                reason.map_or_else(|| code.to_string(), |reason| format!("{code} {reason}"))
            }
            _ => format!("http {}", self.status),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A connection of HTTP/2, on which each question is a stream.
struct Connection(h2::client::SendRequest<Bytes>);

impl Connection {
    async fn open(server: &TestServer) -> Self {
        let socket = TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://countersign.test{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.0.clone().ready().await.unwrap();
        let (answer, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
        // The server may have refused it already.
        let _ = stream.send_data(Bytes::copy_from_slice(body), true);
        let answer = timeout(PATIENCE, answer).await.expect("it is answered").unwrap();
        let (head, mut rest) = answer.into_parts();
        let mut body = Vec::new();
        while let Some(data) = rest.data().await {
            body.extend_from_slice(&data.unwrap());
        }
        let trailers = rest.trailers().await.unwrap().unwrap_or_default();
        Answer { status: head.status.as_u16(), headers: head.headers, body, trailers }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask("POST", path, headers, body).await
    }
}

/// A message behind its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// The same with another flag of compression, and another length.
fn prefixed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

#[tokio::test]
async fn framing() {
    let server = TestServer::start().await;
    let connection = Connection::open(&server).await;
    let subject_token = Some(server.operator.token().to_owned());
    let message = pb::ExchangeTokenRequest { subject_token, ..Default::default() }.encode_to_vec();
    let (whole, length) = (framed(&message), message.len() as u32);
    let largest = crate::harness::LIMITS.max_message_size as u32;
    let gzip = ("grpc-encoding", "gzip");
    let unknown_field = [&message[..], &[0xfa, 0x7f, 1, b'x']].concat();
    let questions: &[(Headers<'_>, Vec<u8>, &str)] = &[
        (&[], whole.clone(), "0"),
        (&[], framed(&unknown_field), "0"),
        (&[("grpc-encoding", "identity")], whole.clone(), "0"),
        (&[gzip], whole.clone(), "0"),
        (&[gzip], prefixed(1, length, &message), "12 COMPRESSION_UNSUPPORTED"),
        (&[("grpc-encoding", "br")], prefixed(1, length, &message), "12 COMPRESSION_UNSUPPORTED"),
        (&[("grpc-encoding", "identity")], prefixed(1, length, &message), "3 MALFORMED_REQUEST"),
        (&[], prefixed(1, length, &message), "3 MALFORMED_REQUEST"),
        (&[], prefixed(2, length, &message), "3 MALFORMED_REQUEST"),
        (&[], vec![], "3 MALFORMED_REQUEST"),
        (&[], vec![0], "3 MALFORMED_REQUEST"),
        (&[], whole[..4].to_vec(), "3 MALFORMED_REQUEST"),
        (&[], whole[..5].to_vec(), "3 MALFORMED_REQUEST"),
        (&[], whole[..whole.len() - 1].to_vec(), "3 MALFORMED_REQUEST"),
        (&[], [&whole[..], &[0]].concat(), "3 MALFORMED_REQUEST"),
        (&[], [&whole[..], &whole].concat(), "3 MALFORMED_REQUEST"),
        (&[], [&whole[..], &framed(&[])].concat(), "3 MALFORMED_REQUEST"),
        (&[], prefixed(0, u32::MAX, &message), "8 MESSAGE_TOO_LARGE"),
        (&[], prefixed(0, largest + 1, &message), "8 MESSAGE_TOO_LARGE"),
        (&[], prefixed(0, largest, &message), "3 MALFORMED_REQUEST"),
        (&[], framed(b"\xff\xff\xff"), "3 MALFORMED_REQUEST"),
        (&[], framed(&[10, 2, 0xff, 0xfe]), "3 MALFORMED_REQUEST"),
        (&[], framed(&[10, 200, 1, b'x']), "3 MALFORMED_REQUEST"),
        (&[], b"GET / HTTP/1.1\r\n\r\n".to_vec(), "8 MESSAGE_TOO_LARGE"),
    ];
    for (headers, body, expected) in questions {
        let answer = connection.post(EXCHANGE, &[&[GRPC], *headers].concat(), body).await;
        assert_eq!(answer.summary(), *expected, "{headers:?} {:?}", &body[..body.len().min(12)]);
        assert_eq!(answer.header("content-type"), "application/grpc");
        let accepts = if expected.starts_with("12") { "identity" } else { "" };
        assert_eq!(answer.header("grpc-accept-encoding"), accepts, "{headers:?}");
    }
}

#[tokio::test]
async fn framing_of_streams() {
    let server = TestServer::start().await;
    let connection = Connection::open(&server).await;
    let gzip = ("grpc-encoding", "gzip");
    for path in [
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        for (headers, body, expected) in [
            (&[GRPC, gzip][..], prefixed(1, 2, b"ab"), "12 COMPRESSION_UNSUPPORTED"),
            (&[GRPC], prefixed(1, 2, b"ab"), "3 MALFORMED_REQUEST"),
            (&[GRPC], framed(&[0xff]), "3 MALFORMED_REQUEST"),
            (&[GRPC], prefixed(0, 1 << 20, b"ab"), "8 MESSAGE_TOO_LARGE"),
        ] {
            let answer = connection.post(path, headers, &body).await;
            assert_eq!(answer.summary(), expected, "{path} {headers:?}");
            let accepts = if headers.contains(&gzip) { "identity" } else { "" };
            assert_eq!(answer.header("grpc-accept-encoding"), accepts, "{path}");
        }
    }
}

/// Asks each question of a table.
async fn asked(connection: &Connection, questions: &[Question<'_>]) {
    for (method, path, headers, body, expected) in questions {
        let answer = connection.ask(method, path, headers, body).await;
        assert_eq!(answer.summary(), *expected, "{method} {path} {headers:?}");
    }
}

#[tokio::test]
async fn content_types_methods_and_paths() {
    let server = TestServer::start().await;
    let connection = Connection::open(&server).await;
    let typed = |value| [("content-type", value)];
    let empty: &[u8] = &[0, 0, 0, 0, 0];
    let health =
        framed(&HealthCheckRequest { service: "countersign.v1.TokenService".into() }.encode_to_vec());
    let unknown = framed(&HealthCheckRequest { service: "acme.Nothing".into() }.encode_to_vec());
    asked(
        &connection,
        &[
            ("POST", KEY_SET, &[GRPC], empty, "0"),
            ("POST", KEY_SET, &typed("application/grpc+proto"), empty, "0"),
            ("POST", KEY_SET, &typed("Application/GRPC"), empty, "0"),
            ("POST", KEY_SET, &typed("application/grpc;charset=utf-8"), empty, "0"),
            ("POST", KEY_SET, &typed("application/grpc+json"), empty, "http 415"),
            ("POST", KEY_SET, &typed("application/grpcx"), empty, "http 415"),
            ("POST", KEY_SET, &typed("application/grpc-web+thrift"), empty, "http 415"),
            ("POST", KEY_SET, &typed("application/json"), b"{}", "http 200"),
            ("POST", KEY_SET, &typed("Application/JSON; charset=utf-8"), b"{}", "http 200"),
            ("POST", KEY_SET, &[JSON, JSON], b"{}", "http 415"),
            ("POST", KEY_SET, &[JSON, GRPC], b"{}", "http 415"),
            ("POST", KEY_SET, &typed("application/json+connect"), b"{}", "http 415"),
            ("POST", KEY_SET, &typed("application/connect+json"), b"{}", "http 415"),
            ("POST", KEY_SET, &typed("application/proto"), b"", "http 415"),
            ("POST", KEY_SET, &typed("application/json, text/plain"), b"{}", "http 415"),
            ("POST", KEY_SET, &typed("text/json"), b"{}", "http 415"),
            ("POST", KEY_SET, &typed("text/plain"), b"{}", "http 415"),
            ("POST", KEY_SET, &typed("text/plain"), empty, "http 415"),
            ("POST", KEY_SET, &[], empty, "http 415"),
            ("GET", KEY_SET, &[], b"", "http 405"),
            ("GET", KEY_SET, &[JSON], b"", "http 405"),
            ("PUT", KEY_SET, &[JSON], b"{}", "http 405"),
            ("OPTIONS", KEY_SET, &[], b"", "http 405"),
            ("OPTIONS", KEY_SET, &[JSON], b"", "http 405"),
            ("POST", "/countersign.v1.TokenService/Nothing", &[JSON], b"{}", "http 501"),
            ("POST", "/countersign.v1.TokenService/getjsonwebkeyset", &[JSON], b"{}", "http 501"),
            ("POST", "/countersign.v1.TokenService/GetJsonWebKeySet/", &[JSON], b"{}", "http 501"),
            ("POST", "/countersign.v1.TokenService/%47etJsonWebKeySet", &[JSON], b"{}", "http 501"),
            ("POST", "//countersign.v1.TokenService/GetJsonWebKeySet", &[JSON], b"{}", "http 404"),
            ("POST", "/idp/countersign.v1.TokenService/GetJsonWebKeySet", &[JSON], b"{}", "http 404"),
            ("POST", "/countersign.v1.TokenService/GetJsonWebKeySet?a=b", &[JSON], b"{}", "http 200"),
            ("GET", KEY_SET, &typed("application/grpc-web"), b"", "http 405"),
            ("PUT", KEY_SET, &typed("application/grpc-web-text"), b"", "http 405"),
            ("POST", "/countersign.v1.TokenService/Nothing", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "/countersign.v1.TokenService/", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "/countersign.v1.TokenService", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "/countersign.v1.TokenService/getjsonwebkeyset", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "/countersign.v1.TokenService/GetJsonWebKeySet/", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "//countersign.v1.TokenService/GetJsonWebKeySet", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "/countersign.v2.TokenService/ExchangeToken", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "/", &[GRPC], empty, "12 METHOD_UNKNOWN"),
            ("POST", "/bench.Echo/Echo", &[GRPC], b"junk", "12 METHOD_UNKNOWN"),
            ("POST", "/countersign.v1.TokenService/GetJsonWebKeySet?a=b", &[GRPC], empty, "0"),
            ("POST", "/countersign.v1.TokenService/Nothing", &[], empty, "http 404"),
            ("GET", "/nothing", &[], b"", "http 404"),
            ("GET", "/healthz", &[], b"", "http 200"),
            ("HEAD", "/healthz", &[], b"", "http 200"),
            ("GET", "/.well-known/jwks.json", &[], b"", "http 200"),
            ("POST", "/.well-known/jwks.json", &[], b"", "http 405"),
            ("POST", CHECK, &[JSON], br#"{"service":"countersign.v1.TokenService"}"#, "http 200"),
            ("POST", CHECK, &[JSON], b"{}", "http 200"),
            ("POST", CHECK, &[JSON], br#"{"service":"acme.Nothing"}"#, "http 404"),
            ("POST", "/grpc.health.v1.Health/Watch", &[JSON], b"{}", "http 501"),
            ("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[JSON], b"{}", "http 501"),
            ("POST", CHECK, &[GRPC], &health, "0"),
            ("POST", CHECK, &[GRPC], empty, "0"),
            ("POST", CHECK, &[GRPC], &unknown, "5 RESOURCE_NOT_FOUND"),
            ("POST", CHECK, &[GRPC], b"", "3 MALFORMED_REQUEST"),
            ("POST", CHECK, &[GRPC], &framed(&[0xff]), "3 MALFORMED_REQUEST"),
            ("POST", CHECK, &[GRPC], &framed(&vec![0; 5 << 10]), "8 MESSAGE_TOO_LARGE"),
            ("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[GRPC], b"", "0"),
            ("POST", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &[GRPC], b"", "0"),
        ],
    )
    .await;
}

fn bearer(value: &str) -> (&str, &str) {
    ("authorization", value)
}

#[tokio::test]
async fn metadata() {
    let server = TestServer::start().await;
    let connection = Connection::open(&server).await;
    let token = server.operator.token();
    let (good, lower) = (format!("Bearer {token}"), format!("bearer   {token}  "));
    let empty: &[u8] = &[0, 0, 0, 0, 0];
    asked(
        &connection,
        &[
            ("POST", CALLER, &[GRPC], empty, "16 CREDENTIAL_MISSING"),
            ("POST", CALLER, &[GRPC, bearer(&good)], empty, "0"),
            ("POST", CALLER, &[GRPC, bearer(&lower)], empty, "0"),
            ("POST", CALLER, &[GRPC, bearer(&good), bearer(&good)], empty, "16 TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer(token)], empty, "16 TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer("")], empty, "16 TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer("Bearer")], empty, "16 TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer("Bearer ")], empty, "16 TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer("Basic YTpi")], empty, "16 TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer("Bearer \u{fc}")], empty, "16 TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer("Bearer a.b.c")], empty, "16 ACCESS_TOKEN_INVALID"),
            ("POST", CALLER, &[GRPC, bearer(&good), ("grpc-timeout", "0S")], empty, "4 DEADLINE_EXCEEDED"),
            ("POST", CALLER, &[GRPC, bearer(&good), ("grpc-timeout", "soon")], empty, "0"),
            ("POST", CALLER, &[GRPC, bearer(&good), ("grpc-timeout", "99999999H")], empty, "0"),
            ("POST", CALLER, &[GRPC, bearer(&good), ("te", "trailers")], empty, "0"),
            ("POST", CALLER, &[GRPC, bearer(&good), ("x-custom-bin", "AAA")], empty, "0"),
            // Refused before its message is looked at.
            ("POST", CALLER, &[GRPC], b"", "16 CREDENTIAL_MISSING"),
            ("POST", EXCHANGE, &[GRPC], empty, "16 CREDENTIAL_MISSING"),
        ],
    )
    .await;
    for (given, kept) in [
        ("call-1", true),
        ("a.b_c-D9", true),
        (&"x".repeat(64), true),
        (&"x".repeat(65), false),
        ("", false),
        ("two words", false),
        ("a\u{fc}", false),
        ("a/b", false),
    ] {
        let answer = connection.post(KEY_SET, &[GRPC, ("x-request-id", given)], empty).await;
        let id = answer.header("x-request-id");
        assert_eq!(id == given, kept, "{given:?} {id:?}");
        assert!(kept || uuid::Uuid::parse_str(id).is_ok(), "{given:?} {id:?}");
        assert_eq!(answer.summary(), "0");
        assert_eq!(answer.trailers.len(), 1, "{:?}", answer.trailers);
        assert_eq!(answer.body[..5], prefixed(0, answer.body.len() as u32 - 5, &[]));
    }
}

#[tokio::test]
async fn what_a_client_breaks_off_costs_no_other_call() {
    let server = TestServer::start().await;
    let connection = Connection::open(&server).await;
    let good = format!("Bearer {}", server.operator.token());
    let headers = [GRPC, ("authorization", &good)];
    for end in 0..4 {
        for path in [EXCHANGE, CALLER, "/countersign.v1.OrgService/ListOrgs"] {
            let mut request = Request::builder().method("POST").uri(format!("http://countersign.test{path}"));
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let mut send = connection.0.clone().ready().await.unwrap();
            let (answer, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
            match end {
                // Reset before the message, within it, and while it is being handled; and trailers.
                0 => stream.send_reset(h2::Reason::CANCEL),
                1 => {
                    stream.send_data(Bytes::from_static(&[0, 0, 0]), false).unwrap();
                    stream.send_reset(h2::Reason::CANCEL);
                }
                2 => {
                    stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), true).unwrap();
                    drop(answer);
                }
                _ => {
                    stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), false).unwrap();
                    let trailers = HeaderMap::from_iter([("x-more".parse().unwrap(), "1".parse().unwrap())]);
                    stream.send_trailers(trailers).unwrap();
                    assert_eq!(answer.await.unwrap().status(), 200);
                }
            }
            let after = connection.post(CALLER, &headers, &[0, 0, 0, 0, 0]).await;
            assert_eq!(after.summary(), "0", "{end} {path}");
        }
    }
}
