use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::WWW_AUTHENTICATE;
use ::http::{HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use serde_json::json;
use tonic::body::Body;
use tower_layer::Layer as _;
use tower_service::Service;

use super::*;
use crate::pb;
use crate::verifier::tests::{AUDIENCE, Bench};

#[test]
fn one_bearer_is_read_and_two_are_none() {
    let headers = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        headers
    };
    assert_eq!(bearer(&headers(&["Bearer a.b.c"])).unwrap(), "a.b.c");
    assert_eq!(bearer(&headers(&["bearer a.b.c"])).unwrap(), "a.b.c");
    assert_eq!(bearer(&headers(&[])).unwrap_err().reason(), "CREDENTIAL_MISSING");
    for wrong in
        [&["Bearer a.b.c", "Bearer a.b.c"][..], &["Basic YTpi"], &["Bearer"], &["Bearer "], &["a.b.c"]]
    {
        assert_eq!(bearer(&headers(wrong)).unwrap_err().reason(), "ACCESS_TOKEN_INVALID", "{wrong:?}");
    }
}

/// Answers with the subject of the claims, and what is left of the body.
#[derive(Clone)]
struct Echo;

impl Service<Request<String>> for Echo {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let sub = request.extensions().get::<Claims>().map(|claims| claims.sub.clone());
        ready(Ok(Response::new(format!("{}{}", sub.unwrap_or_default(), request.body()))))
    }
}

/// Answers with the request's body.
#[derive(Clone)]
struct Mirror;

impl Service<Request<Body>> for Mirror {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(request.extensions().get::<Claims>().is_some() || request.uri().path() == "/x.Y/Open");
        ready(Ok(Response::new(request.into_body())))
    }
}

fn with_grants(bench: &Bench) -> String {
    bench.jwt(|claims| {
        claims["authorization_details"] = json!([
            {"type": "countersign_grant", "identifier": "customers/acme", "actions": ["reports.write"]},
        ]);
    })
}

#[tokio::test]
async fn http_calls_are_let_in_or_answered_as_the_standards_say() {
    let bench = Bench::new();
    let guard = HttpGuard::builder(bench.verifier.clone(), AUDIENCE, "org_1")
        .resource_metadata("https://x.example/m")
        .build(|request| match request.uri.path() {
            "/healthz" => Access::Open,
            "/me" => Access::Authenticated,
            "/all" => Access::permission("reports.write"),
            "/closed" => Access::Denied,
            path => Access::permission_on("reports.write", path_resource(path, "/reports/")),
        });
    let mut service = guard.layer(Echo);
    let jwt = with_grants(&bench);
    for (path, credential, status, challenge) in [
        ("/healthz", None, 200, None),
        ("/me", Some(&jwt), 200, None),
        ("/me", None, 401, Some("Bearer resource_metadata=\"https://x.example/m\"")),
        ("/reports/customers/acme/x", Some(&jwt), 200, None),
        (
            "/all",
            Some(&jwt),
            403,
            Some(
                "Bearer resource_metadata=\"https://x.example/m\", error=\"insufficient_scope\", scope=\"reports.write\"",
            ),
        ),
        (
            "/closed",
            Some(&jwt),
            403,
            Some("Bearer resource_metadata=\"https://x.example/m\", error=\"insufficient_scope\""),
        ),
        (
            "/me",
            Some(&"a.b.c".to_owned()),
            401,
            Some("Bearer resource_metadata=\"https://x.example/m\", error=\"invalid_token\""),
        ),
        ("/reports/customers/acme/%2e%2e", Some(&jwt), 404, None),
    ] {
        let mut request = Request::get(path);
        if let Some(jwt) = credential {
            request = request.header(AUTHORIZATION, format!("Bearer {jwt}"));
        }
        let response = service.call(request.body(" body".to_owned()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{path} {response:?}");
        let found = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
        assert_eq!(found, challenge, "{path}");
        if status == 200 {
            assert!(response.body().ends_with(" body"), "{path}");
        } else {
            assert!(response.headers().contains_key("countersign-reason"), "{path}");
        }
    }
    bench.clock.set_monotonic(Duration::from_secs(9_000));
    let request =
        Request::get("/me").header(AUTHORIZATION, format!("Bearer {jwt}")).body(String::new()).unwrap();
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test]
async fn grpc_calls_are_let_in_whole_or_denied_with_the_reason() {
    let bench = Bench::new();
    let guard = GrpcGuard::builder(bench.verifier.clone(), AUDIENCE, "org_1")
        .open("/x.Y/Open")
        .authenticated("/x.Y/Any")
        .permission("/x.Y/All", "reports.write")
        .permission_on("/x.Y/One", "reports.write", |request: pb::CreateResourceRequest| request.path)
        .build();
    let mut service = guard.layer(Mirror);
    let jwt = with_grants(&bench);
    let mut call = async |method: &str, path: &str, credential: bool| {
        let message = pb::CreateResourceRequest { path: path.into(), ..Default::default() }.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = Bytes::from([&[0][..], &length, &message].concat());
        let mut request = Request::post(method);
        if credential {
            request = request.header(AUTHORIZATION, format!("Bearer {jwt}"));
        }
        let response = service.call(request.body(Full::new(body.clone())).unwrap()).await.unwrap();
        if let Some(status) = tonic::Status::from_header_map(response.headers()) {
            return Err(Error::from(status));
        }
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
        Ok(())
    };
    call("/x.Y/Open", "a", false).await.unwrap();
    call("/x.Y/Any", "a", true).await.unwrap();
    call("/x.Y/One", "customers/acme/emea", true).await.unwrap();
    let error = call("/x.Y/Any", "a", false).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unauthenticated, "CREDENTIAL_MISSING"));
    for (method, path, resource) in [
        ("/x.Y/One", "customers/umbrella", Some("customers/umbrella")),
        ("/x.Y/One", "", Some("")),
        ("/x.Y/All", "customers/acme", None),
    ] {
        let error = call(method, path, true).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (Code::PermissionDenied, "PERMISSION_MISSING"));
        assert_eq!(error.metadata().get("permission").map(String::as_str), Some("reports.write"));
        assert_eq!(error.metadata().get("resource").map(String::as_str), resource);
    }
    // What has no rule is denied, also with the right case of the path alone.
    for method in ["/x.Y/Other", "/x.y/One", "/x.Y/One/", "/"] {
        let error = call(method, "customers/acme", true).await.unwrap_err();
        assert_eq!((error.reason(), error.metadata().len()), ("PERMISSION_MISSING", 0), "{method}");
    }
}
