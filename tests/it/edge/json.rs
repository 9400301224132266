//! What is no message, or a hostile one, over JSON: each with its reason, and no error repeats a value.

use countersign::error::Reason;
use countersign::grpc::json::{self, MAX_DEPTH};

use crate::harness::{LIMITS, TestServer, call_json};

const EXCHANGE: &str = "/countersign.v1.TokenService/ExchangeToken";
const CALLER: &str = "/countersign.v1.AccountService/GetCaller";
const CREATE: &str = "/countersign.v1.AccountService/CreateServiceAccount";

/// What becomes of a body: `ok`, the reason, or the fields that are refused.
fn read(rpc: &str, body: &[u8]) -> String {
    match json::to_protobuf(&json::method(rpc).unwrap().input, body) {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let parts = error.into_parts();
            let fields: Vec<_> = parts.violations.iter().map(|violation| violation.field.as_str()).collect();
            let reason = parts.reason.name();
            if fields.is_empty() { reason.to_owned() } else { fields.join(" ") }
        }
    }
}

#[test]
fn what_is_no_message_is_refused() {
    const BAD: &str = "MALFORMED_REQUEST";
    for (body, expected) in [
        ("", BAD),
        ("{}", "ok"),
        (" \r\n\t{ } \n", "ok"),
        ("null", BAD),
        ("[]", BAD),
        ("[{}]", BAD),
        ("\"\"", BAD),
        ("1", BAD),
        ("true", BAD),
        ("{", BAD),
        ("{}}", BAD),
        ("{}{}", BAD),
        ("{} x", BAD),
        ("\u{feff}{}", BAD),
        ("{/**/}", BAD),
        ("{'orgId':'a'}", BAD),
        ("{\"orgId\":\"a\",}", BAD),
        ("{\"orgId\":NaN}", BAD),
        ("{\"orgId\":Infinity}", BAD),
        ("{\"orgId\":1e999}", BAD),
        ("{\"orgId\":01}", BAD),
        ("{\"orgId\":\"\n\"}", BAD),
        (r#"{"orgId":"\ud800"}"#, BAD),
        (r#"{"orgId":"\ud800\u0041"}"#, BAD),
        (r#"{"orgId":"\udc00"}"#, BAD),
        (r#"{"orgId":"\x41"}"#, BAD),
        (r#"{"\ud800":1}"#, BAD),
        // The handler decides about it, as over gRPC.
        (r#"{"orgId":"\u0000"}"#, "ok"),
        (r#"{"orgId":"\ud83d\ude00"}"#, "ok"),
        (r#"{"orgId":null}"#, "ok"),
        (r#"{"orgId":null,"orgId":null}"#, "org_id"),
        (r#"{"orgId":"a","orgId":"a"}"#, "org_id"),
        (r#"{"orgId":"","org_id":""}"#, "org_id"),
        (r#"{"orgid":"a"}"#, "orgid"),
        (r#"{"ORGID":"a"}"#, "ORGID"),
        (r#"{"":1}"#, "?"),
        (r#"{"org id":1}"#, "?"),
        (r#"{"orgId":1}"#, "org_id"),
        (r#"{"orgId":true}"#, "org_id"),
        (r#"{"orgId":["a"]}"#, "org_id"),
        (r#"{"orgId":{}}"#, "org_id"),
        (r#"{"scopes":"a"}"#, "scopes"),
        (r#"{"scopes":{"0":"a"}}"#, "scopes"),
        (r#"{"scopes":[["a"]]}"#, "scopes[0]"),
        (r#"{"scopes":["a",null]}"#, "scopes[1]"),
        (r#"{"scopes":["a",1]}"#, "scopes[1]"),
        (r#"{"scopes":null}"#, "ok"),
        (r#"{"requestedTtl":"60s"}"#, "ok"),
        (r#"{"requestedTtl":"60.5s"}"#, "ok"),
        (r#"{"requestedTtl":60}"#, "requested_ttl"),
        (r#"{"requestedTtl":"60"}"#, "requested_ttl"),
        (r#"{"requestedTtl":"1h"}"#, "requested_ttl"),
        (r#"{"requestedTtl":{"seconds":60}}"#, "requested_ttl"),
        (r#"{"requestedTtl":"99999999999999999999s"}"#, "requested_ttl"),
        (r#"{"@type":"x"}"#, "?"),
    ] {
        assert_eq!(read(EXCHANGE, body.as_bytes()), expected, "{body}");
    }
    for body in [&b"{\"orgId\":\"\xff\"}"[..], b"\xff\xfe{\0}\0", b"{\"\xc3\x28\":1}", b"\0", b"{}\0"] {
        assert_eq!(read(EXCHANGE, body), BAD, "{body:?}");
    }
}

#[test]
fn values_are_of_their_fields_type() {
    const LIST: &str = "/countersign.v1.AccountService/ListAccounts";
    const TOKEN: &str = "/countersign.v1.TokenService/CreateToken";
    const UPDATE: &str = "/countersign.v1.AccountService/UpdateAccount";
    for (rpc, body, expected) in [
        (LIST, r#"{"pageSize":1}"#, "ok"),
        (LIST, r#"{"pageSize":"1"}"#, "ok"),
        (LIST, r#"{"pageSize":1.0}"#, "ok"),
        (LIST, r#"{"pageSize":1e1}"#, "ok"),
        (LIST, r#"{"pageSize":1.5}"#, "page_size"),
        (LIST, r#"{"pageSize":"1.5"}"#, "page_size"),
        (LIST, r#"{"pageSize":" 1"}"#, "page_size"),
        (LIST, r#"{"pageSize":"+1"}"#, "page_size"),
        (LIST, r#"{"pageSize":""}"#, "page_size"),
        (LIST, r#"{"pageSize":2147483648}"#, "page_size"),
        (LIST, r#"{"pageSize":-2147483649}"#, "page_size"),
        (LIST, r#"{"pageSize":99999999999999999999999999}"#, "page_size"),
        (LIST, r#"{"pageSize":1e300}"#, "page_size"),
        (LIST, r#"{"pageSize":true}"#, "page_size"),
        (LIST, r#"{"kind":"ACCOUNT_KIND_USER"}"#, "ok"),
        (LIST, r#"{"kind":1}"#, "ok"),
        (LIST, r#"{"kind":"USER"}"#, "kind"),
        (LIST, r#"{"kind":"1"}"#, "kind"),
        (LIST, r#"{"kind":1.5}"#, "kind"),
        (LIST, r#"{"kind":4294967297}"#, "kind"),
        (LIST, r#"{"updatedSince":"2030-01-31T08:00:00Z"}"#, "ok"),
        (LIST, r#"{"updatedSince":"2030-01-31T08:00:00+02:00"}"#, "ok"),
        (LIST, r#"{"updatedSince":"2030-01-31"}"#, "updated_since"),
        (LIST, r#"{"updatedSince":"2030-13-31T08:00:00Z"}"#, "updated_since"),
        (LIST, r#"{"updatedSince":"+292277026597-12-04T15:30:07Z"}"#, "updated_since"),
        (LIST, r#"{"updatedSince":1900000000}"#, "updated_since"),
        (TOKEN, r#"{"validateOnly":true}"#, "ok"),
        (TOKEN, r#"{"validateOnly":"true"}"#, "validate_only"),
        (TOKEN, r#"{"validateOnly":1}"#, "validate_only"),
        (TOKEN, r#"{"ttl":"60s","neverExpires":true}"#, "never_expires"),
        (TOKEN, r#"{"ttl":null,"neverExpires":true}"#, "ok"),
        (TOKEN, r#"{"labels":{"a":"b"}}"#, "ok"),
        (TOKEN, r#"{"labels":{"a":"b","a":"c"}}"#, "labels"),
        (TOKEN, r#"{"labels":{"a":1}}"#, "labels"),
        (TOKEN, r#"{"labels":{"a":null}}"#, "labels"),
        (TOKEN, r#"{"labels":[]}"#, "labels"),
        (UPDATE, r#"{"updateMask":"description,settings.timeZone"}"#, "ok"),
        (UPDATE, r#"{"updateMask":{"paths":["description"]}}"#, "update_mask"),
        (UPDATE, r#"{"account":{"settings":{"nothing":1}}}"#, "account.settings.nothing"),
        (UPDATE, r#"{"account":{"settings":{"links":{"a":{"slug":1}}}}}"#, "account.settings.links.slug"),
        (CREATE, r#"{"settings":{"attributes":{"a":{"b":[1,null,"c",{}]}}}}"#, "ok"),
        (CREATE, r#"{"settings":{"attributes":{"a":1,"a":1}}}"#, "settings.attributes"),
        (CREATE, r#"{"settings":{"attributes":{"a":{"b":1,"b":1}}}}"#, "settings.attributes"),
        (CREATE, r#"{"settings":{"attributes":[]}}"#, "settings.attributes"),
        (CREATE, r#"{"settings":{"attributes":"a"}}"#, "settings.attributes"),
        (CREATE, r#"{"settings":{"attributes":null}}"#, "ok"),
        (CREATE, r#"{"grants":[{"roleId":"a","permission":"b"}]}"#, "grants[0].permission"),
    ] {
        assert_eq!(read(rpc, body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn a_mask_is_read_in_either_form_of_its_names() {
    let update = &json::method("/countersign.v1.AccountService/UpdateAccount").unwrap().input;
    let read =
        |mask: &str| json::to_protobuf(update, format!(r#"{{"updateMask":"{mask}"}}"#).as_bytes()).unwrap();
    assert_eq!(read("displayName,settings.timeZone"), read("display_name,settings.time_zone"));
    assert_eq!(read(",description,,"), read("description"));
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| {
        // The body, its settings and the attributes are three levels.
        let (open, close) = ("[".repeat(levels - 3), "]".repeat(levels - 3));
        format!(r#"{{"settings":{{"attributes":{{"a":{open}{close}}}}}}}"#)
    };
    assert_eq!(read(CREATE, nested(24).as_bytes()), "ok");
    let parts = json::to_protobuf(&json::method(CREATE).unwrap().input, nested(MAX_DEPTH + 1).as_bytes());
    let parts = parts.unwrap_err().into_parts();
    assert_eq!((parts.reason, parts.message.contains("too deeply")), (Reason::MalformedRequest, true));
    // Fewer levels are too many messages within each other, which gRPC refuses alike.
    assert_eq!(read(CREATE, nested(MAX_DEPTH).as_bytes()), "MALFORMED_REQUEST");
    // Where the parser itself would not go, and where nothing may be nested at all.
    for levels in [129, 100_000] {
        assert_eq!(read(CREATE, nested(levels).as_bytes()), "MALFORMED_REQUEST");
    }
    assert_eq!(read(EXCHANGE, "[".repeat(1 << 20).as_bytes()), "MALFORMED_REQUEST");
    assert_eq!(read(EXCHANGE, format!("{{\"scopes\":{}", "[".repeat(1 << 20)).as_bytes()), "scopes[0]");
    assert_eq!(read(EXCHANGE, "{\"a\":".repeat(1 << 18).as_bytes()), "a");
}

/// A secret that ended up where it does not belong is not repeated: errors are logged, and shown to others.
#[test]
fn no_error_repeats_a_value() {
    const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let login = "/countersign.v1.TokenService/Login";
    for body in [
        format!(r#"{{"password":["{SECRET}"]}}"#),
        format!(r#"{{"password":{{"{SECRET}":"{SECRET}"}}}}"#),
        format!(r#"{{"password":"{SECRET}","password":"{SECRET}"}}"#),
        format!(r#"{{"{SECRET}":"{SECRET}"}}"#),
        format!(r#"{{"password":"{SECRET}\ud800"}}"#),
        format!(r#"{{"password":"{SECRET}"#),
        format!(r#"{{"password":{SECRET}}}"#),
        format!(r#""{SECRET}""#),
        format!(r#"{{"password":"a"}} {SECRET}"#),
        format!(r#"{{"password":"a"}}"{SECRET}""#),
    ] {
        for rpc in [login, EXCHANGE] {
            let error = json::to_protobuf(&json::method(rpc).unwrap().input, body.as_bytes()).unwrap_err();
            let shown = format!("{error:?} {error}");
            let parts = error.into_parts();
            let fields = parts.violations.iter().map(|v| format!("{} {}", v.field, v.description));
            let shown = format!("{shown} {:?} {}", parts.source, fields.collect::<String>());
            assert!(!shown.contains("hunter2"), "{body}: {shown}");
        }
    }
    for (rpc, body) in [
        ("/countersign.v1.AccountService/ListAccounts", r#"{"kind":"hunter2"}"#),
        ("/countersign.v1.AccountService/ListAccounts", r#"{"pageSize":"hunter2"}"#),
        ("/countersign.v1.AccountService/ListAccounts", r#"{"updatedSince":"hunter2"}"#),
        (EXCHANGE, r#"{"requestedTtl":"hunter2"}"#),
    ] {
        let error = json::to_protobuf(&json::method(rpc).unwrap().input, body.as_bytes()).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn the_caller_is_known_before_the_body_is_read() {
    let server = TestServer::start().await;
    for body in ["", "{", "{\"nothing\":1}"] {
        let answer = call_json(&server.anonymous(), CALLER, body).await;
        assert_eq!(answer.summary(), "401 CREDENTIAL_MISSING", "{body}");
        let answer = call_json(&server.client("rubbish"), CALLER, body).await;
        assert_eq!(answer.summary(), "401 TOKEN_INVALID", "{body}");
    }
    let answer = call_json(&server.operator, CALLER, "").await;
    assert_eq!(answer.summary(), "400 MALFORMED_REQUEST");
    let answer = call_json(&server.operator, CALLER, "{\n  \"nothing\": 1\n}").await;
    assert_eq!(
        (answer.summary().as_str(), answer.violated()),
        ("400 INVALID_FIELD", vec!["nothing".to_owned()])
    );
    let answer = call_json(&server.operator, CALLER, "{\n  nothing\n}").await;
    let message = answer.value()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("line 2 column 3"), "{message}");
}

#[tokio::test]
async fn the_largest_body_is_that_of_a_message() {
    let server = TestServer::start().await;
    let padded = |size: usize| format!("{{}}{}", " ".repeat(size - 2));
    let largest = LIMITS.max_message_size;
    for (size, expected) in
        [(largest, "200"), (largest + 1, "429 MESSAGE_TOO_LARGE"), (10 << 20, "429 MESSAGE_TOO_LARGE")]
    {
        assert_eq!(call_json(&server.operator, CALLER, padded(size)).await.summary(), expected, "{size}");
    }
    // The first bytes are no length.
    let text = format!(r#"{{"subjectToken":"{}"}}"#, server.operator.token());
    assert_eq!(call_json(&server.anonymous(), EXCHANGE, text).await.summary(), "200");
}
