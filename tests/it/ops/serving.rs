//! Beside the three services: health, reflection, plain HTTP, limits and drain.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{
    Client, Database, LIMITS, PATIENCE, Running, Scratch, TestServer, call_held, countersign, http_get,
    serve, start, until,
};

#[tokio::test]
async fn plain_http_finds_documents_and_nothing_else() {
    let server = TestServer::start().await;
    for path in [
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ] {
        let answer = http_get(&server.endpoint, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").unwrap().contains("json"), "{path}");
        assert!(answer.header("cache-control").is_some(), "{path}");
    }
    assert_eq!(http_get(&server.endpoint, "/healthz").await.status, 200);
    assert_eq!(http_get(&server.endpoint, "/readyz").await.status, 200);
    assert_eq!(http_get(&server.endpoint, "/nothing").await.status, 404);
    // An RPC is no page.
    assert_eq!(http_get(&server.endpoint, "/countersign.v1.OrgService/GetOrg").await.status, 405);
}

#[tokio::test]
async fn health_tells_of_each_service_and_of_a_database_that_is_gone() {
    let grace = Duration::from_secs(5);
    let server = TestServer::with_limits(ServerLimits { outage_grace: grace, ..LIMITS }).await;
    let mut health = HealthClient::new(server.operator.channel.clone());
    let services =
        ["", "countersign.v1.AccountService", "countersign.v1.OrgService", "countersign.v1.TokenService"];
    for service in services {
        let mut watch =
            health.watch(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
    let unknown = health.check(HealthCheckRequest { service: "x".into() }).await.unwrap_err();
    assert_eq!(crate::harness::reason(&unknown), "RESOURCE_NOT_FOUND");
    // A watch is told so, and stays.
    let mut watch = health.watch(HealthCheckRequest { service: "x".into() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    assert!(timeout(Duration::ZERO, watch.message()).await.is_err());

    // Writes fail at once; exchanges go on for the grace.
    let watch = async |service: &str| {
        let mut health = HealthClient::new(server.operator.channel.clone());
        let request = HealthCheckRequest { service: service.into() };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watch
    };
    let (mut orgs, mut tokens, mut all) = (
        watch("countersign.v1.OrgService").await,
        watch("countersign.v1.TokenService").await,
        watch("").await,
    );
    server.state.close().await;
    while orgs.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    let ready = http_get(&server.endpoint, "/readyz").await.status;
    assert!(ready == 200 || server.state.feed.staleness() > grace, "{ready}");
    for watch in [&mut tokens, &mut all] {
        while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    }
    assert_eq!(http_get(&server.endpoint, "/readyz").await.status, 503);
    assert_eq!(http_get(&server.endpoint, "/healthz").await.status, 200);
}

#[tokio::test]
async fn reflection_speaks_both_versions() {
    let server = TestServer::start().await;
    let channel = server.operator.channel.clone();
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let older = format!("{:?}", answers.message().await.unwrap().unwrap());
    for service in ["AccountService", "OrgService", "TokenService", "grpc.health.v1.Health"] {
        assert!(answer.contains(service) && older.contains(service), "{service}");
    }
}

#[tokio::test]
async fn reflection_goes_on_after_a_question_without_an_answer() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let server = TestServer::start().await;
    let asks = [
        MessageRequest::FileContainingSymbol("countersign.v1.NoSuch".into()),
        MessageRequest::FileByFilename("no/such.proto".into()),
        MessageRequest::FileContainingSymbol("countersign.v1.TokenService.ExchangeToken".into()),
    ];
    let asks =
        asks.map(|ask| v1::ServerReflectionRequest { host: String::new(), message_request: Some(ask) });
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.operator.channel.clone());
    let answers = client.server_reflection_info(tokio_stream::iter(asks)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    assert_eq!(answers.len(), 3);
    for answer in &answers[..2] {
        let MessageResponse::ErrorResponse(error) = answer else { panic!("{answer:?}") };
        assert_eq!(error.error_code, i32::from(Code::NotFound));
    }
    assert!(
        matches!(&answers[2], MessageResponse::FileDescriptorResponse(files) if !files.file_descriptor_proto.is_empty())
    );
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let server = TestServer::with_limits(ServerLimits { reflection: false, ..LIMITS }).await;
    let ask = v1::ServerReflectionRequest { host: String::new(), message_request: None };
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.operator.channel.clone());
    let status = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap_err();
    assert_eq!(crate::harness::reason(&status), "METHOD_UNKNOWN");
}

#[tokio::test]
async fn headers_above_the_limit_are_refused_and_the_server_goes_on() {
    let server = TestServer::start().await;
    let large = server.client("x".repeat(64 << 10));
    large.caller().await.unwrap_err();
    server.operator.caller().await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_calls_end_and_waits_no_longer_than_its_limit() {
    let limits = ServerLimits { drain_timeout: Duration::from_secs(1), ..LIMITS };
    let mut server = TestServer::with_limits(limits).await;
    // A call whose message never comes.
    let (message, answer) = call_held(&server.operator, "/countersign.v1.AccountService/GetCaller");
    server.operator.caller().await.unwrap();
    server.shut_down();
    let serving = server.serving.take().unwrap();
    let done = timeout(PATIENCE, serving).await;
    done.expect("the drain has a time limit").unwrap().unwrap();
    assert!(answer.await.unwrap().is_err());
    drop(message);
}

#[tokio::test]
async fn a_watch_of_health_does_not_hold_up_a_stop() {
    let limits = ServerLimits { drain_timeout: Duration::from_secs(3_600), ..LIMITS };
    let mut server = TestServer::with_limits(limits).await;
    let mut health = HealthClient::new(server.operator.channel.clone());
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    server.shut_down();
    let done = timeout(PATIENCE, server.serving.take().unwrap()).await;
    done.expect("it waits for the watch").unwrap().unwrap();
    let mut last = None;
    while let Some(status) = watch.message().await.unwrap() {
        last = Some(status.status());
    }
    assert!(last.is_none_or(|last| last == ServingStatus::NotServing), "the last that it says");
}

/// Also as the first process of a container, which no signal ends that it does not handle.
#[tokio::test]
async fn a_server_that_is_to_stop_before_it_serves_does() {
    let (scratch, database) =
        (Scratch::new("stopped-early"), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("postgres://nobody@{}/none", database.local_addr().unwrap());
    let mut command = countersign();
    command.args(["serve", "--listen", "127.0.0.1:0", "--issuer", "https://id.example"]);
    command.args(["--database-url", &url, "--master-key-file"]).arg(scratch.master_key());
    until(async || {
        let mut running = Running::new(command.stderr(Stdio::piped()));
        // It waits for the database, which says nothing.
        let _connection = timeout(PATIENCE, database.accept()).await.expect("it connects").unwrap();
        running.signal(Signal::SIGTERM);
        let status = running.0.wait().unwrap();
        assert_eq!(status.signal(), None, "it handles it");
        // One that was asked too late has ended for want of the database.
        status.success()
    })
    .await;
}

/// A signal, and what is to be seen of it until the second one.
#[tokio::test]
async fn a_server_that_is_to_stop_says_so_and_goes_on() {
    let scratch = Scratch::new("shutdown-delay");
    let key = scratch.master_key();
    let database = Database::create().await;
    let mut command = serve(&database, &key);
    let (mut running, endpoint) = start(command.args(["--shutdown-delay", "1h"]));
    let connect = async || Endpoint::from_shared(endpoint.clone()).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(connect().await);
    let watched = HealthCheckRequest { service: "countersign.v1.TokenService".into() };
    let mut watch = health.watch(watched).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    running.signal(Signal::SIGTERM);
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    until(async || http_get(&endpoint, "/readyz").await.status == 503).await;
    // It takes connections and calls, and follows the feed.
    let client = Client { channel: connect().await, bearer: None };
    client.tokens().get_json_web_key_set(pb::GetJsonWebKeySetRequest {}).await.unwrap();
    let heard = async || {
        let ready = http_get(&endpoint, "/readyz").await.body;
        let line = ready.lines().find_map(|line| line.strip_prefix("feed_heard_seconds_ago "));
        line.unwrap().parse::<f64>().unwrap()
    };
    let before = heard().await;
    let mut last = before;
    until(async || {
        let now = heard().await;
        std::mem::replace(&mut last, now) > now
    })
    .await;
    assert!(running.0.try_wait().unwrap().is_none(), "it runs");
    running.signal(Signal::SIGTERM);
    assert!(running.0.wait().unwrap().success());
    // The watch ends without an error.
    while let Some(status) = watch.message().await.unwrap() {
        assert_eq!(status.status(), ServingStatus::NotServing);
    }
}
