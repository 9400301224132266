//! Connections that do nothing, or too slowly, end; and as many of them as there can be keep no
//! other client away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream as Blocking;
use std::process::Command;
use std::time::Duration;

use countersign::config::{ConnectionLimits, ServerLimits};
use countersign::grpc::pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{
    Client, Database, LIMITS, PATIENCE, Scratch, TestServer, bootstrap, by_id, http_get, serve, start,
    token_for, until,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const SHORT: Duration = Duration::from_millis(300);

fn with(connections: ConnectionLimits) -> ServerLimits {
    ServerLimits { connections, ..LIMITS }
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Waits until the server has closed the connection, whatever it said before.
async fn ends(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    // An error is an end as well: it was reset.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("it stays open");
}

#[tokio::test]
async fn a_connection_without_a_request_ends() {
    let limits = ConnectionLimits { first_request_timeout: SHORT, ..LIMITS.connections };
    let server = TestServer::with_limits(with(limits)).await;
    for said in [
        &b""[..],
        b"P",
        &PREFACE[..20],
        PREFACE,
        &[PREFACE, SETTINGS].concat(),
        b"GET /healthz HT",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ",
    ] {
        let mut socket = connect(&server).await;
        socket.write_all(said).await.unwrap();
        ends(&mut socket).await;
    }
    // Bytes that come one at a time, and pings, are no requests.
    for (said, more) in
        [(&b"GET /healthz HTTP/1.1\r\n"[..], &b"x"[..]), (&[PREFACE, SETTINGS].concat(), PING)]
    {
        let socket = connect(&server).await;
        let (mut reading, mut writing) = socket.into_split();
        writing.write_all(said).await.unwrap();
        let dripping = tokio::spawn(async move {
            while writing.write_all(more).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, reading.read_to_end(&mut rest)).await.expect("it stays open");
        dripping.abort();
    }
    server.operator.caller().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_ends_and_so_does_half_of_another_request() {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let answered = async |server: &TestServer| {
        // Again where a busy machine connects, and asks too late.
        let mut asked = None;
        until(async || {
            let mut socket = connect(server).await;
            let _ = socket.write_all(REQUEST).await;
            let mut answer = Vec::new();
            while socket.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {
                if answer.ends_with(b"ok\n") {
                    asked = Some(socket);
                    return true;
                }
            }
            false
        })
        .await;
        asked.unwrap()
    };
    let limits = ConnectionLimits { idle_timeout: SHORT, ..LIMITS.connections };
    let server = TestServer::with_limits(with(limits)).await;
    ends(&mut answered(&server).await).await;
    let limits = ConnectionLimits { first_request_timeout: SHORT, ..LIMITS.connections };
    let server = TestServer::with_limits(with(limits)).await;
    let mut socket = answered(&server).await;
    socket.write_all(&REQUEST[..10]).await.unwrap();
    ends(&mut socket).await;
}

#[tokio::test]
async fn streams_end_with_the_age_of_their_connection_and_calls_go_on() {
    let limits = ConnectionLimits { max_age: SHORT, ..LIMITS.connections };
    let server = TestServer::with_limits(with(limits)).await;
    for _ in 0..3 {
        let mut health = HealthClient::new(server.operator.channel.clone());
        let request = HealthCheckRequest { service: String::new() };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        // It ends without an error. On a busy machine the status may change before.
        let mut said = 0;
        while timeout(PATIENCE, watch.message()).await.expect("it stays open").unwrap().is_some() {
            said += 1;
        }
        assert!(said > 0);
        server.operator.caller().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    let limits = ConnectionLimits { write_timeout: SHORT, ..LIMITS.connections };
    let server = TestServer::with_limits(with(limits)).await;
    let socket = connect(&server).await;
    // It gives the server no room for a body.
    let mut client = h2::client::Builder::new();
    let (mut requests, connection) =
        client.initial_window_size(0).handshake::<_, bytes::Bytes>(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let get = http::Request::get("http://x/.well-known/jwks.json").body(()).unwrap();
    let (answer, _) = requests.send_request(get, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    // Though it pings.
    let _ = timeout(PATIENCE, connection).await.expect("it stays open");
    let mut body = answer.into_body();
    assert!(body.data().await.is_none_or(|data| data.is_err()), "nothing was sent");
    server.operator.caller().await.unwrap();
}

#[tokio::test]
async fn streams_leave_permits_to_calls() {
    let server = TestServer::with_limits(ServerLimits { max_concurrent_requests: 4, ..LIMITS }).await;
    let org = server.org().await;
    let token = server.operator.tokens().create_token(token_for(&org.id, &org.owner_id)).await.unwrap();
    let watch = pb::WatchRevocationsRequest { org_ids: vec![org.id.clone()], ..Default::default() };
    let mut told = server.operator.tokens().watch_revocations(watch).await.unwrap().into_inner();
    told.message().await.unwrap().unwrap();
    let mut health = HealthClient::new(server.operator.channel.clone());
    let mut watches = Vec::new();
    for _ in 0..5 {
        let request = HealthCheckRequest { service: String::new() };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();
        watches.push(watch);
    }
    // The oldest gave way to the newest, and calls have the other permits.
    for watch in &mut watches[..4] {
        // It ends without an error. On a busy machine the status may change before.
        while timeout(PATIENCE, watch.message()).await.expect("it stays open").unwrap().is_some() {}
    }
    tokio::try_join!(server.operator.caller(), server.operator.caller()).unwrap();
    // None of them took the place of a stream of a caller.
    let revoke = by_id("", &token.into_inner().token.unwrap().id);
    org.owner.tokens().revoke_token(revoke).await.unwrap();
    let is_told = async {
        loop {
            let item = told.message().await.unwrap().expect("it stays open").item;
            if matches!(item, Some(pb::watch_revocations_response::Item::Revocation(_))) {
                break;
            }
        }
    };
    timeout(PATIENCE, is_told).await.unwrap();
}

/// Calls of clients that give the server no room for a response.
#[tokio::test]
async fn streams_that_are_not_read_leave_permits_to_calls() {
    const CALLS: usize = 16;
    let server = TestServer::with_limits(ServerLimits { max_concurrent_requests: CALLS, ..LIMITS }).await;
    let (mut requests, _connection) = without_room(&server).await;
    let mut streams = Vec::new();
    for _ in 0..3 * CALLS {
        let answer = unread(&mut requests, "/grpc.health.v1.Health/Watch");
        // Its headers: it was admitted, or refused in them.
        let answer = answer.await.unwrap();
        assert!(!answer.headers().contains_key("grpc-status"), "each takes the place of an older one");
        streams.push(answer);
    }
    for _ in 0..CALLS {
        server.operator.caller().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_many_responses_unread_gets_no_more() {
    let server = TestServer::with_limits(ServerLimits { max_concurrent_requests: 4, ..LIMITS }).await;
    const KEYS: &str = "/countersign.v1.TokenService/GetJsonWebKeySet";
    const CALLER: &str = "/countersign.v1.AccountService/GetCaller";
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    let message: &[u8] = &[0; 5];
    // What answers, how it is asked, and what it then says to a client that reads nothing.
    let doors: [(&str, Option<&str>, &[u8], u16); 14] = [
        (KEYS, Some("application/grpc"), message, 200),
        ("/grpc.health.v1.Health/Check", Some("application/grpc"), message, 200),
        (KEYS, Some("application/grpc-web+proto"), message, 200),
        (CALLER, Some("application/grpc-web+proto"), message, 200),
        (KEYS, Some(json), b"{}", 429),
        (CALLER, Some(json), b"{}", 401),
        ("/oauth2/token", Some(form), b"rubbish", 400),
        ("/oauth2/token", Some(json), b"{}", 503),
        ("/oauth2/nowhere", Some(form), b"", 503),
        ("/favicon", None, b"", 503),
        ("/nowhere", None, b"", 503),
        ("/.well-known/jwks.json", None, b"", 503),
        ("/healthz", None, b"", 503),
        ("/readyz", None, b"", 503),
    ];
    for (path, media_type, message, status) in doors {
        let (mut requests, connection) = without_room(&server).await;
        let mut answers = Vec::new();
        let refused = loop {
            let answer = ask(&mut requests, path, media_type, message).await.unwrap();
            if answer.body().is_end_stream() {
                break answer;
            }
            answers.push(answer);
            // Some of those of the connection before may be freed meanwhile.
            assert!(answers.len() < 2 * 64, "{path} {media_type:?}");
        };
        let refused = refused.status().as_u16();
        assert!(refused == status || (status > 200 && [429, 503].contains(&refused)), "{path} {refused}");
        assert!(answers.len() >= 64, "{path} {media_type:?}: {}", answers.len());
        // Once its connection has ended, there is room again.
        connection.abort();
        drop((answers, requests));
        until(async || http_get(&server.endpoint, "/healthz").await.status == 200).await;
    }
    server.operator.caller().await.unwrap();
}

type Requests = h2::client::SendRequest<bytes::Bytes>;

/// A connection of a client that gives the server no room for a body.
async fn without_room(server: &TestServer) -> (Requests, JoinHandle<()>) {
    let mut client = h2::client::Builder::new();
    let client = client.initial_window_size(0).handshake(connect(server).await);
    let (requests, connection) = client.await.unwrap();
    let driven = tokio::spawn(async move {
        let _ = connection.await;
    });
    (requests, driven)
}

/// The answer to an empty message.
fn unread(requests: &mut Requests, path: &str) -> h2::client::ResponseFuture {
    ask(requests, path, Some("application/grpc"), &[0; 5])
}

/// The answer to a body of this type, or to a request without one.
fn ask(
    requests: &mut Requests,
    path: &str,
    media_type: Option<&str>,
    body: &[u8],
) -> h2::client::ResponseFuture {
    let method = if media_type.is_some() { http::Method::POST } else { http::Method::GET };
    let mut request = http::Request::builder().method(method).uri(format!("http://x{path}"));
    if let Some(media_type) = media_type {
        request = request.header("content-type", media_type);
    }
    let (answer, mut message) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    message.send_data(bytes::Bytes::copy_from_slice(body), true).unwrap();
    answer
}

/// More silent sockets than the process may have descriptors.
#[tokio::test]
async fn sockets_that_say_nothing_keep_no_client_away() {
    let scratch = Scratch::new("descriptors");
    let key = scratch.master_key();
    let database = Database::create().await;
    let token = bootstrap(&scratch, &database, &key);

    let mut server = serve(&database, &key);
    // Longer than the test takes: it is not time that ends them.
    server.args(["--first-request-timeout", "1h"]);
    let (_running, endpoint) = start(&mut limited(&server, 200));
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut silent: Vec<Blocking> = Vec::new();
    let mut fill = |said: &[u8]| {
        for _ in 0..130 {
            let mut socket = Blocking::connect(address).unwrap();
            socket.write_all(said).unwrap();
            silent.push(socket);
        }
    };
    for said in [&b""[..], &PREFACE[..12], b"GET /readyz HTTP/1.1\r\nhost:"] {
        fill(said);
        assert_eq!(http_get(&endpoint, "/readyz").await.status, 200);
        // Each on a connection of its own.
        let channel = Endpoint::from_shared(endpoint.clone()).unwrap().connect().await.unwrap();
        let check = HealthCheckRequest { service: "countersign.v1.AccountService".into() };
        let health = HealthClient::new(channel.clone()).check(check).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
        let client = Client { channel, bearer: Some(token.clone()) };
        client.caller().await.unwrap();
        // Several connections to the database at once, which need descriptors as well.
        let lists = (0..8).map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.orgs().list_orgs(pb::ListOrgsRequest::default()).await })
        });
        for list in lists.collect::<Vec<_>>() {
            list.await.unwrap().unwrap();
        }
    }
    // The oldest were closed, and not the newest.
    let mut oldest = silent.swap_remove(0);
    assert_eq!(oldest.read(&mut [0]).unwrap_or_default(), 0);
}

/// The command with at most so many descriptors.
fn limited(command: &Command, descriptors: u32) -> Command {
    let mut limited = Command::new("/bin/sh");
    limited.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""));
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}
