//! JSON says what protobuf says: every message of every RPC, found by its descriptor, so that a new one is
//! tested by itself. And the form of answers and errors on the wire.

use std::collections::BTreeSet;

use allocation_counter::measure;
use countersign::error::Reason;
use countersign::grpc::json::{self, POOL};
use countersign::grpc::wire::bounds::{MOST_PATHS, bound};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, SerializeOptions, Value,
};

use crate::contract::proto::unary;
use crate::harness::{TestServer, call_json, request_json};

const CALLER: &str = "/countersign.v1.AccountService/GetCaller";
const EXCHANGE: &str = "/countersign.v1.TokenService/ExchangeToken";
const JSON: (&str, &str) = ("content-type", "application/json");

/// Every request and response.
fn messages() -> Vec<MessageDescriptor> {
    let methods = unary().into_iter().map(|rpc| json::method(&rpc).unwrap_or_else(|| panic!("{rpc}")));
    methods.flat_map(|method| [method.input.clone(), method.output.clone()]).collect()
}

fn below(rng: &mut TestRng, end: usize) -> usize {
    rng.random_range(0..end)
}

fn text(rng: &mut TestRng) -> String {
    const PIECES: [&str; 10] =
        ["a", "", "\"\\/", "\0\u{1f}", "é", "\u{1f600}", "\u{2028}", "null", "1e3", " "];
    (0..below(rng, 4)).map(|_| PIECES[below(rng, PIECES.len())]).collect()
}

/// A value of a field: the names of a mask, times and durations are those that have a form in JSON.
fn value(rng: &mut TestRng, kind: &Kind, deep: usize) -> Value {
    let edge = [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, -(1 << 53) - 1][below(rng, 7)];
    match kind {
        Kind::Bool => Value::Bool(edge > 0),
        Kind::Int32 => Value::I32(edge as i32),
        Kind::Int64 => Value::I64(edge),
        Kind::Uint32 => Value::U32(edge as u32),
        Kind::Uint64 => Value::U64(edge as u64),
        Kind::Double => Value::F64(edge as f64 / 3.0),
        Kind::String => Value::String(text(rng)),
        Kind::Enum(values) => {
            let values: Vec<_> = values.values().map(|value| value.number()).collect();
            Value::EnumNumber(values[below(rng, values.len())])
        }
        Kind::Message(message) => Value::Message(match message.full_name() {
            "google.protobuf.FieldMask" => {
                let names = ["display_name", "settings.time_zone", "name"];
                of(
                    message,
                    &prost_types::FieldMask {
                        paths: names[..below(rng, 4)].iter().map(|&n| n.into()).collect(),
                    },
                )
            }
            "google.protobuf.Timestamp" => {
                let (seconds, nanos) = (edge.rem_euclid(253_402_300_799), [0, 1, 999_999_999][below(rng, 3)]);
                of(message, &prost_types::Timestamp { seconds, nanos })
            }
            "google.protobuf.Duration" => {
                let (seconds, nanos) = (edge.rem_euclid(315_576_000_000), [0, 1, 999_999_999][below(rng, 3)]);
                of(message, &prost_types::Duration { seconds, nanos })
            }
            _ => filled(rng, message, deep + 1),
        }),
        other => panic!("no value of {other:?} here"),
    }
}

fn of(descriptor: &MessageDescriptor, message: &impl prost::Message) -> DynamicMessage {
    DynamicMessage::decode(descriptor.clone(), &message.encode_to_vec()[..]).unwrap()
}

/// A message whose fields are all set, and one of each oneof.
fn filled(rng: &mut TestRng, descriptor: &MessageDescriptor, deep: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if let Some(oneof) = field.containing_oneof()
            && oneof.fields().any(|other| message.has_field(&other))
            && below(rng, 2) == 0
        {
            continue;
        }
        // An attribute may be a list of attributes.
        if deep > 6 && matches!(field.kind(), Kind::Message(_)) {
            assert_eq!(descriptor.package_name(), "google.protobuf", "{} is deep", field.full_name());
            continue;
        }
        let filled = if field.is_map() {
            let kind = field.kind();
            let entry = kind.as_message().unwrap().map_entry_value_field();
            let key = |rng: &mut TestRng| MapKey::String(text(rng));
            Value::Map((0..3).map(|_| (key(rng), value(rng, &entry.kind(), deep))).collect())
        } else if field.is_list() {
            Value::List((0..below(rng, 3)).map(|_| value(rng, &field.kind(), deep)).collect())
        } else {
            value(rng, &field.kind(), deep)
        };
        message.set_field(&field, filled);
    }
    if descriptor.full_name() == "google.protobuf.Value" && message.fields().next().is_none() {
        message.set_field_by_name("bool_value", Value::Bool(true));
    }
    message
}

#[test]
fn every_message_comes_back_from_json_as_it_was() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut fields = 0;
    for descriptor in messages() {
        for _ in 0..20 {
            // As it is on the wire, where what is empty is not there.
            let message = of(&descriptor, &filled(&mut rng, &descriptor, 0));
            fields += message.fields().count();
            let text = json::to_json(&descriptor, &message.encode_to_vec()).unwrap();
            let shown = String::from_utf8_lossy(&text).into_owned();
            // What reads it need not know the schema.
            serde_json::from_slice::<serde_json::Value>(&text).unwrap();
            let options = SerializeOptions::new();
            for options in [
                options.clone(),
                options.clone().use_proto_field_name(true).skip_default_fields(false),
                options.use_enum_numbers(true).stringify_64_bit_integers(false),
            ] {
                let mut text = Vec::new();
                message
                    .serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)
                    .unwrap();
                let read = json::to_protobuf(&descriptor, &text);
                let read =
                    read.unwrap_or_else(|error| panic!("{}: {error}: {shown}", descriptor.full_name()));
                let read = DynamicMessage::decode(descriptor.clone(), read).unwrap();
                assert!(read == message, "{}: {shown}", descriptor.full_name());
            }
        }
    }
    assert!(fields > 1_000, "{fields}");
}

/// The reader knows the messages that JSON writes in a way of their own.
#[test]
fn every_message_of_others_is_one_that_json_is_written_for() {
    let ours = POOL.all_messages().filter(|message| message.package_name() == "countersign.v1");
    let of_others: BTreeSet<_> = ours
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter_map(|field| field.kind().as_message().map(|message| message.full_name().to_owned()))
        .filter(|name| !name.starts_with("countersign.v1."))
        .collect();
    let known =
        ["Duration", "FieldMask", "Struct", "Timestamp"].map(|name| format!("google.protobuf.{name}"));
    assert_eq!(of_others, known.into());
}

/// A repeated field of a request.
struct Repeated {
    /// As a violation names it.
    name: String,
    most: u32,
    /// What is before and after its elements.
    around: (String, String),
    element: fn(usize) -> String,
}

impl Repeated {
    fn json(&self, elements: usize) -> Vec<u8> {
        let elements: Vec<_> = (0..elements).map(self.element).collect();
        [&self.around.0, &*elements.join(","), &self.around.1].concat().into()
    }
}

/// All of them in a message, with what is before and after it.
fn repeated(
    message: &MessageDescriptor,
    name: &str,
    around: (String, String),
    deep: usize,
    found: &mut Vec<Repeated>,
) {
    assert!(deep < 8, "{name}");
    for field in message.fields() {
        let name = if name.is_empty() { field.name().to_owned() } else { format!("{name}.{}", field.name()) };
        let at = |open: &str, close: &str| {
            (format!("{}{{\"{}\":{open}", around.0, field.json_name()), format!("{close}}}{}", around.1))
        };
        let of_field = |around, most, element| Repeated { name: name.clone(), most, around, element };
        let most = bound(message.full_name(), field.name());
        match field.kind() {
            Kind::Message(inner) if field.is_map() => {
                let element = match inner.map_entry_value_field().kind() {
                    Kind::Message(_) => |n| format!("\"{n}\":{{}}"),
                    _ => |n| format!("\"{n}\":\"\""),
                };
                found.push(of_field(at("{", "}"), most, element));
            }
            Kind::Message(inner) if field.is_list() => {
                found.push(of_field(at("[", "]"), most, |_| "{}".to_owned()));
                repeated(&inner, &format!("{name}[0]"), at("[", "]"), deep + 1, found);
            }
            Kind::Message(inner) => match inner.full_name() {
                "google.protobuf.FieldMask" => {
                    found.push(of_field(at("\"", "\""), MOST_PATHS, |_| "a".to_owned()))
                }
                "google.protobuf.Struct" => {
                    found.push(of_field(at("{", "}"), 1_000, |n| format!("\"{n}\":[]")));
                    found.push(of_field(at("{\"a\":[", "]}"), 1_000, |_| "{}".to_owned()));
                    // All of them together.
                    found.push(of_field(at("{\"a\":[[", "]]}"), 8_000, |n| {
                        if n % 900 == 899 { "0],[0".to_owned() } else { "0".to_owned() }
                    }));
                }
                "google.protobuf.Timestamp" | "google.protobuf.Duration" => {}
                _ => repeated(&inner, &name, at("", ""), deep + 1, found),
            },
            _ if field.is_list() => {
                let element = match field.kind() {
                    Kind::String => |_| "\"\"".to_owned(),
                    _ => |_| "1".to_owned(),
                };
                found.push(of_field(at("[", "]"), most, element));
            }
            _ => {}
        }
    }
}

fn all_repeated() -> Vec<(String, MessageDescriptor, Repeated)> {
    let mut all = Vec::new();
    for rpc in unary() {
        let input = &json::method(&rpc).unwrap().input;
        let mut found = Vec::new();
        repeated(input, "", Default::default(), 0, &mut found);
        all.extend(found.into_iter().map(|field| (rpc.clone(), input.clone(), field)));
    }
    all
}

#[test]
fn the_elements_of_every_field_are_bounded() {
    let all = all_repeated();
    assert!(all.len() > 40, "{}", all.len());
    for (rpc, input, field) in &all {
        let read = |elements| json::to_protobuf(input, &field.json(elements));
        read(field.most as usize).unwrap_or_else(|error| panic!("{rpc} {}: {error}", field.name));
        // Of all together, how many lists there are counts as well.
        let beyond = if field.most == 8_000 { 8_192 } else { field.most as usize + 1 };
        let parts = read(beyond).err().unwrap_or_else(|| panic!("{rpc} {}", field.name)).into_parts();
        assert_eq!((parts.reason, parts.violations.len()), (Reason::InvalidField, 1));
        assert_eq!(parts.violations[0].field, field.name, "{rpc}");
        assert!(parts.violations[0].description.contains("too many"), "{rpc}: {}", parts.message);
    }
}

/// A megabyte of the smallest elements, in each field that takes any.
#[test]
fn no_field_takes_memory_without_bound() {
    const BODY: usize = 1 << 20;
    let mut seen = BTreeSet::new();
    for (rpc, input, field) in all_repeated() {
        // Many RPCs have the same fields.
        if !seen.insert((field.name.clone(), field.most)) {
            continue;
        }
        let body = field.json(BODY / 3);
        let used = measure(|| {
            json::to_protobuf(&input, &body).unwrap_err();
        });
        assert!(
            used.bytes_max < 768 << 10,
            "{rpc} {}: {} bytes for {}",
            field.name,
            used.bytes_max,
            body.len()
        );
    }
    // What is nested in elements is bounded by them.
    let batch = "/countersign.v1.TokenService/BatchIntrospectTokens";
    let scopes = vec!["\"\""; 100].join(",");
    let one = format!("{{\"requiredScopes\":[{scopes}]}}");
    let body = format!("{{\"requests\":[{}]}}", vec![one; 100].join(","));
    let used = measure(|| {
        json::to_protobuf(&json::method(batch).unwrap().input, body.as_bytes()).unwrap();
    });
    assert!(used.bytes_max < 4 << 20, "{} bytes for {}", used.bytes_max, body.len());
}

#[test]
fn a_field_is_known_by_either_name() {
    let of = |rpc: &str| json::method(rpc).unwrap().input.clone();
    let exchange = of(EXCHANGE);
    let read = |text: &str| json::to_protobuf(&exchange, text.as_bytes());
    assert_eq!(read(r#"{"subjectToken":"a"}"#).unwrap(), read(r#"{"subject_token":"a"}"#).unwrap());
    let field = |name: &str| -> FieldDescriptor { exchange.get_field_by_name(name).unwrap() };
    assert_eq!((field("subject_token").json_name(), field("org_id").json_name()), ("subjectToken", "orgId"));
}

#[tokio::test]
async fn an_answer_is_plain_json() {
    let server = TestServer::start().await;
    let answer = call_json(&server.operator, CALLER, "{}").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.headers.get("grpc-status"), None);
    assert_eq!(answer.header("content-length"), answer.text.len().to_string());
    let caller = answer.value();
    let known = server.operator.caller().await.unwrap();
    assert_eq!(caller["credentialId"], known.credential_id);
    assert_eq!(caller["account"]["kind"], "ACCOUNT_KIND_SERVICE_ACCOUNT");
    assert!(caller["account"]["createTime"].as_str().unwrap().ends_with('Z'), "{caller}");
    // What has its default is left out.
    assert_eq!(caller.get("impersonatorId"), None);
    let token = server.operator.token();
    let introspected = format!(r#"{{"tokenText":"{token}"}}"#);
    let path = "/countersign.v1.TokenService/IntrospectToken";
    let introspected = call_json(&server.operator, path, introspected).await.value();
    assert_eq!(introspected["active"], true);
    // Numbers of 64 bits are strings.
    introspected["iat"].as_str().unwrap().parse::<i64>().unwrap();
}

#[tokio::test]
async fn a_refusal_says_why() {
    let server = TestServer::start().await;
    let named = [JSON, ("x-request-id", "mine-1")];
    let answer = request_json(&server.anonymous(), "POST", CALLER, &named, "{}").await;
    assert_eq!((answer.status, answer.header("content-type")), (401, "application/json"));
    assert_eq!((answer.header("x-request-id"), answer.header("cache-control")), ("mine-1", "no-store"));
    let metadata = format!("{}/.well-known/oauth-protected-resource", server.endpoint);
    assert_eq!(answer.header("www-authenticate"), format!("Bearer resource_metadata=\"{metadata}\""));
    let error = answer.value();
    assert_eq!(
        (&error["code"], answer.reason().as_deref()),
        (&"unauthenticated".into(), Some("CREDENTIAL_MISSING"))
    );
    assert!(!error["message"].as_str().unwrap().is_empty());
    assert_eq!(error["details"][1]["type"], "google.rpc.RequestInfo");
    assert_eq!(error["details"][1]["debug"]["requestId"], "mine-1");
    // The details are those of gRPC, encoded as there.
    use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};
    let info = BASE64_STANDARD_NO_PAD.decode(error["details"][0]["value"].as_str().unwrap()).unwrap();
    let info = tonic_types::pb::ErrorInfo::decode(&info[..]).unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("CREDENTIAL_MISSING", "countersign"));

    let create = "/countersign.v1.OrgService/CreateOrg";
    let answer = call_json(&server.operator, create, r#"{"slug":"A","requestId":"x"}"#).await;
    assert_eq!(answer.summary(), "400 INVALID_FIELD");
    assert_eq!(answer.violated(), ["slug", "display_name", "owner", "request_id"]);
    assert_eq!(answer.headers.get("www-authenticate"), None);
}

#[tokio::test]
async fn the_headers_of_the_protocol() {
    let server = TestServer::start().await;
    let ask = async |headers: &[(&str, &str)]| {
        request_json(&server.operator, "POST", CALLER, &[&[JSON], headers].concat(), "{}").await
    };
    for (header, expected) in [
        (("connect-protocol-version", "1"), "200"),
        (("connect-protocol-version", "2"), "400 MALFORMED_REQUEST"),
        (("connect-protocol-version", ""), "400 MALFORMED_REQUEST"),
        (("connect-timeout-ms", "0"), "504 DEADLINE_EXCEEDED"),
        (("connect-timeout-ms", "9999999999"), "200"),
        (("connect-timeout-ms", "soon"), "200"),
        (("content-encoding", "identity"), "200"),
        (("content-encoding", "gzip"), "501 COMPRESSION_UNSUPPORTED"),
        (("content-encoding", "identity, br"), "501 COMPRESSION_UNSUPPORTED"),
        (("accept-encoding", "gzip"), "200"),
        (("accept", "text/html"), "200"),
    ] {
        let answer = ask(&[header]).await;
        assert_eq!(answer.summary(), expected, "{header:?}");
        let accepts = if expected.contains("COMPRESSION") { "identity" } else { "" };
        assert_eq!(answer.header("accept-encoding"), accepts, "{header:?}");
    }
    for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
        let answer = request_json(&server.operator, method, CALLER, &[JSON], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
    }
}

#[tokio::test]
async fn a_refusal_that_passes_says_when() {
    let limits = countersign::config::ServerLimits { max_concurrent_requests: 0, ..crate::harness::LIMITS };
    let server = TestServer::with_limits(limits).await;
    let answer = call_json(&server.operator, CALLER, "{}").await;
    assert_eq!((answer.summary().as_str(), answer.header("retry-after")), ("429 OVERLOADED", "1"));
    assert_eq!(answer.value()["code"], "resource_exhausted");
    // A server that is overloaded is healthy.
    let health = call_json(&server.anonymous(), "/grpc.health.v1.Health/Check", "{}").await;
    assert_eq!((health.status, health.value()["status"].as_str()), (200, Some("SERVING")));
}
