//! What a warm call takes of memory: counted, since each allocation is work on the hottest path.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use axum::body::Body;
use bytes::Bytes;
use countersign::client_addr::TrustedProxies;
use countersign::config::{AccessLogLevel, WebUrl};
use countersign::connections::Connection;
use countersign::flows::access_log::AccessLog;
use countersign::grpc::door::{Door, Protocol, RequestLimits};
use countersign::grpc::pb;
use countersign::grpc::rpcs::paths;
use countersign::mail::EmailDelivery;
use countersign::server;
use http::Request;
use pb::token_service_client::TokenServiceClient;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Endpoint;
use tonic_health::server::health_reporter;

use crate::harness::{LIMITS, TestServer};

/// The most allocations between the request frame and the encoded answer, of an exchange and of an introspection.
const MOST: [u64; 2] = [12, 20];

/// A call as it comes from the transport.
fn call(path: &str, bearer: Option<&str>, message: &[u8]) -> Request<Body> {
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    request.body(Body::from(Bytes::from(frame))).unwrap()
}

#[tokio::test]
async fn a_warm_call_takes_few_allocations_and_no_statement() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let grants = [("invoices.read", "*"), ("payments.read", "*"), ("tokens.introspect", "*")];
    let (_, client) = server.account(&org.id, "bot", &grants).await;
    let limits = RequestLimits {
        max_message_size: LIMITS.max_message_size,
        max_concurrent_requests: LIMITS.max_concurrent_requests,
        request_timeout: LIMITS.request_timeout,
        trusted_proxies: Arc::new(TrustedProxies::new(Vec::new())),
    };
    let access_log =
        Arc::new(AccessLog::new(AccessLogLevel::Errors, server.state.metrics.rpcs.rows(paths(false))));
    let door = Door::new(server.state.clone(), limits, health_reporter().0, false, access_log);
    let connection = Connection::none("192.0.2.1:1234".parse().unwrap());
    let token = client.token();
    server.hear_all().await;
    let exchange = pb::ExchangeTokenRequest {
        subject_token: Some(token.to_owned()),
        audiences: vec!["https://billing.example".into()],
        ..Default::default()
    };
    let introspection = pb::IntrospectTokenRequest { token_text: token.to_owned(), ..Default::default() };
    let calls = [
        ("/countersign.v1.TokenService/ExchangeToken", None, exchange.encode_to_vec()),
        ("/countersign.v1.TokenService/IntrospectToken", Some(token), introspection.encode_to_vec()),
    ];
    for ((path, bearer, message), most) in calls.into_iter().zip(MOST) {
        let first = door.answer(call(path, bearer, &message), &connection, Protocol::Grpc).await;
        assert_eq!(first.headers().get("grpc-status"), None, "{path}");
        let looks = server.state.principals.looks();
        let request = call(path, bearer, &message);
        let mut answered = None;
        // As in production: tests log each span and event.
        let silent = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
        let counted = measure(|| {
            let answer = pin!(door.answer(request, &connection, Protocol::Grpc));
            answered = Some(answer.poll(&mut Context::from_waker(Waker::noop())));
        });
        drop(silent);
        // A statement would be waited for.
        let Some(Poll::Ready(response)) = answered else { panic!("{path} waited") };
        assert_eq!(response.headers().get("grpc-status"), None, "{path}");
        assert_eq!(server.state.principals.looks(), looks);
        println!("{path}: {} allocations, {} bytes", counted.count_total, counted.bytes_total);
        assert!(counted.count_total <= most, "{path}: {} allocations", counted.count_total);
    }
    let (few, many) = (of_a_server(&server, 100).await, of_a_server(&server, 600).await);
    println!("an exchange with its transport: {} allocations", many.saturating_sub(few) / 500);
}

/// The allocations of a server on a thread of its own that answers so many exchanges.
async fn of_a_server(server: &TestServer, count: usize) -> u64 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let (state, token) = (server.state.clone(), server.operator.token().to_owned());
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // What tests log of each frame is not the transport's.
        let _silent = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
        measure(|| {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let delivery = EmailDelivery::closed(WebUrl::from(&state.issuer));
                let stopped = Box::pin(async move { drop(stopped.await) });
                server::run_with_jobs(listener, state, LIMITS, delivery, Vec::new(), stopped).await.unwrap();
            });
        })
    });
    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let mut client = TokenServiceClient::new(channel);
    for _ in 0..count {
        let request = pb::ExchangeTokenRequest { subject_token: Some(token.clone()), ..Default::default() };
        client.exchange_token(request).await.unwrap();
    }
    drop(client);
    stop.send(()).unwrap();
    tokio::task::spawn_blocking(move || serving.join().unwrap().count_total).await.unwrap()
}
