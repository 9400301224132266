//! TLS of the port: what is spoken there, what is refused, and that handshakes slow no other client.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use countersign::config::{ClientAuth, ConnectionLimits, ServerLimits};
use countersign_os::descriptors;
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{
    Database, LIMITS, PATIENCE, Scratch, TestServer, TlsFiles, bootstrap, countersign, fails, get, serve_on,
    shake, start,
};

const SHORT: Duration = Duration::from_millis(300);
/// The first bytes of a ClientHello, which announce more.
const HALF: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.endpoint.strip_prefix("https://").unwrap()).await.unwrap()
}

/// What the server sends until it closes the connection.
async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // An error is an end as well: it was reset.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("it stays open");
    rest
}

#[tokio::test]
async fn grpc_and_http_are_spoken_over_tls_on_one_port() {
    let files = TlsFiles::new("tls-port");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    // gRPC, by the harness's own client.
    server.operator.caller().await.unwrap();
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for offered in [&[][..], &[&b"http/1.1"[..]], &[b"spdy/3", b"http/1.1"]] {
            let mut config = files.client_of(&[version], None);
            config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
            let mut stream = shake(&server.endpoint, &Arc::new(config)).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(spoken));
            assert_eq!(session.alpn_protocol().is_some(), !offered.is_empty());
            // A connection goes on.
            for _ in 0..2 {
                assert!(get(&mut stream, "/healthz").await.unwrap().ends_with("ok\n"));
            }
        }
        let mut config = files.client_of(&[version], None);
        config.alpn_protocols = vec![b"spdy/3".to_vec()];
        assert!(shake(&server.endpoint, &Arc::new(config)).await.is_err(), "a protocol that is not spoken");
    }
}

#[tokio::test]
async fn plaintext_gets_no_answer_from_a_port_with_tls() {
    let files = TlsFiles::new("tls-plaintext");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    for said in [
        &b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        // A ClientHello of TLS 1.0, which has no extensions that would name others.
        b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x01AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\x00\x00\x02\x00\x2f\x01\x00",
    ] {
        let mut socket = connect(&server).await;
        socket.write_all(said).await.unwrap();
        let answer = rest(&mut socket).await;
        // At most an alert.
        assert!(answer.is_empty() || (answer[0] == 0x15 && answer.len() == 7), "{answer:?}");
    }
    server.operator.caller().await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_ends() {
    let limits = ConnectionLimits { first_request_timeout: SHORT, ..LIMITS.connections };
    let files = TlsFiles::new("tls-half");
    let server =
        TestServer::over_tls(&files, ClientAuth::None, None, ServerLimits { connections: limits, ..LIMITS })
            .await;
    for said in [&b""[..], &HALF[..1], HALF] {
        let mut socket = connect(&server).await;
        socket.write_all(said).await.unwrap();
        rest(&mut socket).await;
    }
    // One that is done, and sends no request.
    let mut stream = shake(&server.endpoint, &Arc::new(files.client(None))).await.unwrap();
    let mut sent = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut sent)).await.expect("it stays open");
    server.operator.caller().await.unwrap();
}

#[tokio::test]
async fn a_thousand_half_open_handshakes_keep_no_client_away() {
    descriptors::raise_limit();
    let files = TlsFiles::new("tls-flood");
    // Fewer places than there are half-open handshakes: these give way.
    let limits = ConnectionLimits { max: Some(400), ..LIMITS.connections };
    let limits = ServerLimits { connections: limits, ..LIMITS };
    let server = TestServer::over_tls(&files, ClientAuth::None, None, limits).await;
    let mut half_open = Vec::new();
    let config = Arc::new(files.client(None));
    for count in 0..1_000 {
        let mut socket = connect(&server).await;
        // Those that gave way meanwhile are reset.
        let _ = socket.write_all(HALF).await;
        half_open.push(socket);
        if count % 100 == 99 {
            server.operator.caller().await.unwrap();
            let mut stream = shake(&server.endpoint, &config).await.unwrap();
            assert!(get(&mut stream, "/healthz").await.unwrap().ends_with("ok\n"));
        }
    }
    // The newest are still there: none was answered or dropped for its slowness.
    let last = half_open.last_mut().unwrap();
    assert!(timeout(Duration::ZERO, last.read_u8()).await.is_err(), "it was closed");
}

#[tokio::test]
async fn a_server_that_stops_waits_for_no_handshake() {
    let files = TlsFiles::new("tls-stop");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    let mut socket = connect(&server).await;
    socket.write_all(HALF).await.unwrap();
    timeout(PATIENCE / 2, server.stop()).await.expect("it waits for the handshake");
    rest(&mut socket).await;
}

#[tokio::test]
async fn without_tls_a_server_listens_on_its_own_machine_alone() {
    let (scratch, database) = (Scratch::new("insecure-listen"), Database::create().await);
    let key = scratch.master_key();
    bootstrap(&scratch, &database, &key);
    for listen in ["0.0.0.0:0", ":0", "[::]:0"] {
        fails(&mut serve_on(listen, &database, &key), "--insecure-listen");
        let (_running, _) = start(serve_on(listen, &database, &key).arg("--insecure-listen"));
    }
    let (_running, _) =
        start(serve_on("0.0.0.0:0", &database, &key).env("COUNTERSIGN_INSECURE_LISTEN", "true"));
    for listen in ["127.0.0.1:0", "localhost:0"] {
        let (_running, _) = start(&mut serve_on(listen, &database, &key));
    }
    fails(
        countersign().args(["dev", "--listen", "0.0.0.0:0", "--data-dir"]).arg(scratch.path("dev")),
        "--insecure-listen",
    );
    assert!(!scratch.path("dev").exists(), "nothing was created");
}

/// `serve` with these arguments about TLS.
fn serve_with(database: &Database, files: &TlsFiles, arguments: &[&str]) -> Command {
    let key = files.path("master.key");
    let mut command = serve_on("0.0.0.0:0", database, &key);
    command.arg("--tls-cert").arg(files.path("tls.crt")).arg("--tls-key").arg(files.path("tls.key"));
    command.args(arguments);
    command
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let (scratch, database) = (Scratch::new("tls-files"), Database::create().await);
    let files = TlsFiles::new("tls-files-of");
    std::fs::copy(scratch.master_key(), files.path("master.key")).unwrap();
    bootstrap(&scratch, &database, &files.path("master.key"));
    let serve = |arguments: &[&str]| serve_with(&database, &files, arguments);
    let (_running, _) = start(&mut serve(&[]));
    let (_running, _) = start(&mut serve(&["--tls-client-auth", "optional"]));
    fails(&mut serve(&["--tls-client-auth", "required"]), "--tls-client-ca");
    fails(&mut serve(&["--tls-client-ca", "/nowhere.pem"]), "--tls-client-ca /nowhere.pem");
    let key = files.path("tls.key").display().to_string();
    fails(&mut serve(&["--tls-client-ca", &key]), "--tls-client-ca: no certificate in PEM");
    for (name, content, says) in [
        ("tls.key", "", "--tls-key: no private key"),
        (
            "tls.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "passphrase",
        ),
        ("tls.key", &files.authority.server().key, "do not belong together"),
        ("tls.crt", "", "--tls-cert: no certificate"),
        (
            "tls.crt",
            "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
            "--tls-cert: malformed",
        ),
    ] {
        let path = files.path(name);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        fails(&mut serve(&[]), says);
        std::fs::write(&path, good).unwrap();
    }
    // One without the other.
    let mut command = serve_on("127.0.0.1:0", &database, &files.path("master.key"));
    fails(command.arg("--tls-cert").arg(files.path("tls.crt")), "--tls-key");
}
