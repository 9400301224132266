//! The port of the metrics: what is there, and that no client of it holds anything up.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{
    Database, LIMITS, Metrics, Scratch, TestServer, bootstrap, http, http_get, output, serve, until,
};

#[tokio::test]
async fn the_port_serves_metrics_and_probes_and_nothing_else() {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let answer = metrics.get("/metrics").await;
    assert_eq!(answer.status, 200);
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(format));
    assert_eq!(metrics.get("/healthz").await.body, "ok\n");
    assert!(metrics.get("/readyz").await.body.starts_with("ready\n"));
    for path in ["/", "/metrics/", "/metric", "/.well-known/jwks.json", "/set-password", "/favicon.ico"] {
        assert_eq!(metrics.get(path).await.status, 404, "{path}");
    }
    for (method, status) in [("HEAD", 200), ("POST", 405), ("PUT", 405), ("DELETE", 405)] {
        let request = format!("{method} /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let answer = http(&metrics.endpoint, &request).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{method}");
    }
    // The port of the API serves no metrics.
    assert_eq!(http_get(&server.endpoint, "/metrics").await.status, 404);
}

#[tokio::test]
async fn clients_that_do_not_read_or_ask_hold_nothing_up() {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let address = metrics.endpoint.strip_prefix("http://").unwrap();
    let mut open = Vec::new();
    // More than there are places: half of them ask, and read nothing; half of them ask for nothing.
    for n in 0..40 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        }
        open.push(socket);
    }
    for _ in 0..5 {
        assert_eq!(metrics.get("/metrics").await.status, 200);
        server.operator.exchange().await.unwrap();
    }
    drop(open);
}

#[tokio::test]
async fn a_server_serves_metrics_where_it_is_told_to_and_says_who_can_reach_them() {
    let scratch = Scratch::new("metrics-listen");
    let key = scratch.master_key();
    let database = Database::create().await;
    bootstrap(&scratch, &database, &key);
    for (listen, said) in [
        (None, None),
        (Some("127.0.0.1:0"), Some("metrics served address=127.0.0.1:")),
        (Some("0.0.0.0:0"), Some("metrics served to other machines")),
    ] {
        let log = scratch.path("serve.log");
        let mut command = serve(&database, &key);
        if let Some(listen) = listen {
            command.args(["--metrics-listen", listen]);
        }
        command.stderr(std::fs::File::create(&log).unwrap());
        let running = crate::harness::Running::new(&mut command);
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        until(async || text().contains("ready")).await;
        match said {
            None => assert!(!text().contains("metrics"), "{}", text()),
            Some(said) => until(async || text().contains(said)).await,
        }
        drop(running);
    }
    // Before anything else is done.
    let mut command = serve(&database, &key);
    command.args(["--metrics-listen", "192.0.2.1:1"]);
    let failed = output(&mut command);
    assert!(!failed.status.success());
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("metrics: listening on 192.0.2.1:1"), "{said}");
}

/// The metrics work also while the server is not ready, and say so.
#[tokio::test]
async fn metrics_outlast_the_server() {
    let mut server = TestServer::with_limits(LIMITS).await;
    let metrics = Metrics::of(&server).await;
    assert_eq!(metrics.value("countersign_ready", &[]).await, 1.0);
    server.shut_down();
    until(async || metrics.value("countersign_ready", &[]).await == 0.0).await;
    assert_eq!(metrics.get("/readyz").await.status, 503);
}
