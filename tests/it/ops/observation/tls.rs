//! What a server says of the TLS of its port.

use std::fs;
use std::sync::Arc;

use countersign::config::ClientAuth;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{LIMITS, Metrics, TestServer, TlsFiles, get, shake, until};

/// A client that speaks no TLS is counted, and so is one that closes the connection before the handshake.
#[tokio::test]
async fn handshakes_are_counted_by_how_they_ended() {
    let files = TlsFiles::new("tls-handshakes");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    let metrics = Metrics::of(&server).await;
    let count = async |outcome: &str| {
        metrics.value("countersign_tls_handshakes_total", &[("outcome", outcome)]).await
    };
    let before = count("ok").await;
    let mut stream = shake(&server.endpoint, &Arc::new(files.client(None))).await.unwrap();
    get(&mut stream, "/healthz").await.unwrap();
    assert_eq!(count("ok").await, before + 1.0);
    let address = server.endpoint.split_once("://").unwrap().1;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let _ = plain.read_to_end(&mut Vec::new()).await;
    until(async || count("refused").await == 1.0).await;
    drop(TcpStream::connect(address).await.unwrap());
    until(async || count("left").await == 1.0).await;
}

/// Files that cannot be used fail each run as long as they are there.
#[tokio::test]
async fn a_reload_fails_until_its_files_are_good() {
    let files = TlsFiles::new("tls-reload-fails");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    let settings = files.settings(ClientAuth::None);
    let tls = files.open(ClientAuth::None, server.state.clock.clone());
    assert!(!tls.reload().unwrap());
    let good = fs::read(&settings.certificate).unwrap();
    fs::write(&settings.certificate, "no certificate").unwrap();
    let [first, second] = [tls.reload(), tls.reload()].map(|failed| format!("{:#}", failed.unwrap_err()));
    assert_eq!(first, second);
    fs::write(&settings.certificate, good).unwrap();
    assert!(tls.reload().unwrap());
    assert!(!tls.reload().unwrap());
}
