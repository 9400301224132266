//! Spans by OTLP, as a collector gets them. A test binary of its own, so that for the feature `otel` the others
//! are not compiled again. (Not named in Cargo.toml: images are built without tests.)
#![cfg(feature = "otel")]

#[allow(dead_code, unreachable_pub, unused_imports, reason = "the other tests use the rest")]
#[path = "it/harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use countersign::grpc::pb;
use prost::Message;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::Request;

use harness::{
    Database, Scratch, bootstrap, connect, create_org, hides_secrets, lines, logging, serve, token_for,
    until, watch,
};

/// What of `opentelemetry.proto.collector.trace.v1` is read here.
#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.string_value
}

/// A collector: it takes `POST /v1/traces` over HTTP/1.1.
struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let mut serving = JoinSet::new();
        let taken = spans.clone();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.spawn(take(socket, taken.clone()));
            }
        });
        Self { endpoint, spans, _serving: serving }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// The spans of this trace, once one of them is that of a call.
    async fn trace(&self, trace_id: u128) -> Vec<Span> {
        let of_trace = || {
            let spans = self.spans().into_iter().filter(|span| span.trace_id == trace_id.to_be_bytes());
            spans.collect::<Vec<_>>()
        };
        until(async || of_trace().iter().any(|span| span.name == "call")).await;
        of_trace()
    }
}

async fn take(socket: TcpStream, spans: Arc<Mutex<Vec<Span>>>) {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut line, mut headers) = (String::new(), BTreeMap::new());
        if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        assert_eq!(line.trim_end(), "POST /v1/traces HTTP/1.1");
        loop {
            let mut header = String::new();
            socket.read_line(&mut header).await.unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        socket.read_exact(&mut body).await.unwrap();
        hides_secrets(&String::from_utf8_lossy(&body));
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        for resource in request.resource_spans {
            let service = text(&resource.resource.unwrap().attributes, "service.name");
            assert_eq!(service.as_deref(), Some("countersign"));
            spans.lock().unwrap().extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(answer).await.unwrap();
    }
}

#[tokio::test]
async fn spans_of_a_call_reach_the_collector_in_the_trace_of_its_client() {
    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let collector = Collector::start().await;
    let scratch = Scratch::new("traces");
    let key = scratch.master_key();
    let database = Database::create().await;
    let token = bootstrap(&scratch, &database, &key);
    let log = scratch.path("serve.log");
    let mut command = serve(&database, &key);
    command.args(["--otlp-endpoint", &collector.endpoint, "--access-log", "all"]);
    let (running, endpoint) = logging(&mut command, &log).await;
    let operator = connect(&endpoint, &token).await;

    let traced = |trace: u128, sampled: bool| {
        let mut request = Request::new(pb::ExchangeTokenRequest::default());
        let parent = format!("00-{trace:032x}-b7ad6b7169203331-{:02x}", u8::from(sampled));
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        request
    };
    // Not recorded, since its client does not; the next one is loaded already.
    let answer = operator.tokens().exchange_token(traced(TRACE + 1, false)).await.unwrap();
    watch(&answer.get_ref().access_token);
    let mut create = Request::new(create_org("traced"));
    create
        .metadata_mut()
        .insert("traceparent", format!("00-{TRACE:032x}-b7ad6b7169203331-01").parse().unwrap());
    let answer = operator.orgs().create_org(create).await.unwrap();
    let named = answer.metadata().get("traceresponse").unwrap().to_str().unwrap().to_owned();
    let answer = answer.into_inner();
    let (org, owner) = (answer.org.unwrap().id, answer.owner.unwrap().id);

    let spans = collector.trace(TRACE).await;
    let call = spans.iter().find(|span| span.name == "call").unwrap();
    assert_eq!(call.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(text(&call.attributes, "method").as_deref(), Some("/countersign.v1.OrgService/CreateOrg"));
    assert_eq!(text(&call.attributes, "code").as_deref(), Some("OK"));
    let span_id: String = call.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(named, format!("00-{TRACE:032x}-{span_id}-01"));
    let statements: Vec<_> = spans.iter().filter(|span| span.name == "statement").collect();
    assert!(statements.len() > 3, "{spans:?}");
    for statement in statements {
        assert_eq!(statement.parent_span_id, call.span_id);
        assert!(statement.start_time_unix_nano <= statement.end_time_unix_nano);
        assert!(text(&statement.attributes, "summary").is_some());
    }

    // A trace of its own: what is loaded, signed and hashed is below the call.
    let made = operator.tokens().exchange_token(pb::ExchangeTokenRequest::default()).await.unwrap();
    watch(&made.get_ref().access_token);
    let named = made.metadata().get("traceresponse").unwrap().to_str().unwrap().to_owned();
    let own = u128::from_str_radix(&named[3..35], 16).unwrap();
    let spans = collector.trace(own).await;
    let call = spans.iter().find(|span| span.name == "call").unwrap();
    assert!(call.parent_span_id.is_empty());
    let sign = spans.iter().find(|span| span.name == "sign").unwrap();
    assert_eq!(sign.parent_span_id, call.span_id);
    let login = pb::LoginRequest {
        username: "nobody@example.com".into(),
        password: "guess".into(),
        ..Default::default()
    };
    operator.tokens().login(login).await.unwrap_err();
    // A credential that is in no cache.
    let made = operator.tokens().create_token(token_for(&org, &owner)).await.unwrap().into_inner().secret;
    watch(&made);
    connect(&endpoint, &made).await.caller().await.unwrap();
    until(async || {
        let names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
        ["hash", "load"].iter().all(|name| names.iter().any(|known| known == name))
    })
    .await;
    assert!(collector.spans().iter().all(|span| span.trace_id != (TRACE + 1).to_be_bytes()));
    // The lines name the traces, and show nothing of the spans.
    let logged = lines(&log, "call answered");
    let of =
        |trace: u128| logged.iter().filter(move |line| line["trace_id"] == format!("{trace:032x}")).count();
    assert_eq!((of(TRACE), of(TRACE + 1), of(own)), (1, 1, 1));
    assert!(logged.iter().all(|line| line.get("span").is_none() && line.get("spans").is_none()));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("sqlx::query") && !text.contains("db.statement"), "{text}");
    drop(running);
}

/// A collector that is gone costs spans, and nothing else.
#[tokio::test]
async fn without_its_collector_a_server_works() {
    let gone = Collector::start().await.endpoint;
    let scratch = Scratch::new("no-collector");
    let key = scratch.master_key();
    let database = Database::create().await;
    let token = bootstrap(&scratch, &database, &key);
    let log = scratch.path("serve.log");
    let mut command = serve(&database, &key);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &gone);
    let (_running, endpoint) = logging(&mut command, &log).await;
    let operator = connect(&endpoint, &token).await;
    for _ in 0..20 {
        operator.caller().await.unwrap();
    }
    until(async || !lines(&log, "spans not exported").is_empty()).await;
    assert!(lines(&log, "spans not exported")[0]["spans"].as_u64().unwrap() > 0);
    operator.caller().await.unwrap();
}
