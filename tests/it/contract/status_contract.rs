//! Every reason has its code and its form, and the statuses that the framework creates
//! by itself have them too.

use countersign::domain::access::request_context::{RequestContext, RequestId};
use countersign::error::{Error, Precondition, Reason, Violations};
use countersign::grpc::layers::status;
use countersign::grpc::pb;
use prost::Message as _;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    LIMITS, TestServer, call_raw, claims, create_org, header_bytes, reason, refused, violated,
};

fn answer(error: Error, origin: &RequestContext) -> Status {
    status::answer(&error.into_parts(), origin)
}

/// The published table: code, reasons.
const CODES: &[(Code, &str)] = &[
    (
        Code::Unauthenticated,
        "CREDENTIAL_MISSING TOKEN_INVALID TOKEN_EXPIRED TOKEN_REVOKED TOKEN_BLOCKED ACCESS_TOKEN_INVALID \
         ACCESS_TOKEN_STALE ACCOUNT_DEACTIVATED ORG_SUSPENDED LOGIN_FAILED",
    ),
    (
        Code::PermissionDenied,
        "PERMISSION_MISSING GRANT_EXCEEDS_CALLER TARGET_EXCEEDS_CALLER SCOPE_NOT_HELD \
         ORIGIN_NOT_ALLOWED ADDRESS_NOT_ALLOWED CLIENT_CERTIFICATE_NOT_ALLOWED PURPOSE_MISMATCH INVITATION_EMAIL_MISMATCH",
    ),
    (
        Code::InvalidArgument,
        "INVALID_FIELD MALFORMED_REQUEST INVALID_TARGET SUBJECT_NOT_EXCHANGEABLE TARGET_NOT_SERVICE_ACCOUNT \
         REQUEST_ID_REUSED ORIGIN_MISMATCH KIND_IS_IMMUTABLE EMAIL_IS_IMMUTABLE WIDENING_NOT_ALLOWED CANNOT_CLONE_SELF CANNOT_DEACTIVATE_SELF \
         CANNOT_DELETE_SELF UNSUPPORTED_GRANT_TYPE UNSUPPORTED_TOKEN_TYPE",
    ),
    (Code::NotFound, "RESOURCE_NOT_FOUND"),
    (Code::AlreadyExists, "RESOURCE_EXISTS NAME_HELD_BY_DELETED_ACCOUNT REQUEST_REPLAYED USE_INVITATION"),
    (
        Code::FailedPrecondition,
        "LAST_OWNER SCOPE_TOO_WIDE LIMIT_REACHED ACCOUNT_OWNS_TOKENS HOME_ORG ROTATION_IN_PROGRESS \
         RESOURCE_IN_USE",
    ),
    (Code::Aborted, "CONFLICT ETAG_MISMATCH"),
    (Code::OutOfRange, "CURSOR_EXPIRED"),
    (Code::ResourceExhausted, "MESSAGE_TOO_LARGE OVERLOADED THROTTLED"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::Unimplemented, "METHOD_UNKNOWN COMPRESSION_UNSUPPORTED"),
    (Code::Unavailable, "DATABASE_UNAVAILABLE"),
    (Code::Internal, "INTERNAL"),
];

#[test]
fn every_reason_comes_with_its_code_and_its_details() {
    let origin = RequestContext { request_id: RequestId::given("r-1").unwrap(), ..Default::default() };
    let mut seen = 0;
    for (code, names) in CODES {
        for name in names.split_whitespace() {
            let known = Reason::ALL.iter().find(|reason| reason.name() == name);
            let status = answer(Error::new(*known.unwrap_or_else(|| panic!("{name} is not there"))), &origin);
            assert_eq!((status.code(), reason(&status).as_str()), (*code, name));
            assert_eq!(status.get_details_request_info().unwrap().request_id, "r-1");
            assert!(!status.message().is_empty());
            assert_eq!(status.metadata().get("countersign-reason").unwrap().to_str().unwrap(), name);
            seen += 1;
        }
    }
    assert_eq!(seen, Reason::ALL.len());
}

#[test]
fn a_source_is_never_sent() {
    let error = Error::internal("select secret from vault at /etc/passwd");
    let status =
        answer(error, &RequestContext { request_id: RequestId::given("r").unwrap(), ..Default::default() });
    assert_eq!(reason(&status), "INTERNAL");
    assert!(!format!("{status:?}").contains("vault"));
    let error = Error::from(sqlx::Error::Protocol("insert into tokens".into()));
    assert_eq!(
        reason(&answer(
            error,
            &RequestContext { request_id: RequestId::given("r").unwrap(), ..Default::default() }
        )),
        "DATABASE_UNAVAILABLE"
    );
}

/// What all headers of a refusal may take (3.5 KB), less those that are added to a status: the name of the
/// request, the date, and what browsers ask for.
const FITS: usize = 3_200;

#[test]
fn a_status_fits_into_the_headers_of_every_client() {
    let origin =
        RequestContext { request_id: RequestId::given(&"r".repeat(64)).unwrap(), ..Default::default() };
    let entries = |subject: &str, description: &str| {
        let entry = |n| Precondition {
            kind: "PERMISSION",
            subject: format!("{subject}{n}"),
            description: description.into(),
        };
        (0..100).map(entry).collect::<Vec<_>>()
    };
    // A reason with all that can stand beside a message.
    let error = Error::not_found("account", "é".repeat(500)).with_metadata("resource", "é".repeat(600));
    let bytes = header_bytes(answer(error.with_metadata("permission", "x".repeat(63)), &origin));
    assert!(bytes < FITS, "{bytes}");
    let (short, long, wide) = ("tok_", "x".repeat(300), "é".repeat(500));
    for message in ["is refused", &long, &wide] {
        for subject in [short, &long, &wide] {
            for description in ["is live", &long] {
                let mut error = Error::with_message(Reason::AccountOwnsTokens, message.to_owned());
                error = error.with_preconditions(entries(subject, description));
                let status = answer(error, &origin);
                let listed = status.get_details_precondition_failure().unwrap().violations.len();
                let info = status.get_details_error_info().unwrap();
                let omitted = info.metadata.get("omitted").map_or(0, |count| count.parse::<usize>().unwrap());
                assert_eq!(listed + omitted, 100);
                let bytes = header_bytes(status);
                assert!(bytes < FITS, "{bytes}");
                // The details fill the space that there is.
                assert!(listed == 100 || bytes > 2_200, "{listed} entries in {bytes}");
                let mut violations = Violations::default();
                (0..100).for_each(|n| violations.add(format!("{subject}{n}"), description));
                let bytes = header_bytes(answer(violations.error(), &origin));
                assert!(bytes < FITS, "{bytes}");
            }
        }
    }
}

#[tokio::test]
async fn the_frameworks_own_statuses_have_a_reason() {
    let server = TestServer::start().await;
    let create = "/countersign.v1.OrgService/CreateOrg";
    // Field 2 is `slug`, a string: these bytes are not UTF-8.
    let status = call_raw(&server.operator, create, vec![0x12, 0x02, 0xff, 0xfe]).await.unwrap_err();
    assert_eq!((reason(&status).as_str(), status.code()), ("MALFORMED_REQUEST", Code::InvalidArgument));
    // A length that goes past the end.
    let status = call_raw(&server.operator, create, vec![0x12, 0x7f, 0x41]).await.unwrap_err();
    assert_eq!((reason(&status).as_str(), status.code()), ("MALFORMED_REQUEST", Code::InvalidArgument));
    // 10 MiB.
    let large = pb::CreateOrgRequest { display_name: "x".repeat(10 << 20), ..create_org("large") };
    let status = call_raw(&server.operator, create, large.encode_to_vec()).await.unwrap_err();
    assert_eq!((reason(&status).as_str(), status.code()), ("MESSAGE_TOO_LARGE", Code::ResourceExhausted));
    // The server goes on.
    server.operator.caller().await.unwrap();
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_told() {
    let limits = countersign::config::ServerLimits { request_timeout: std::time::Duration::ZERO, ..LIMITS };
    let server = TestServer::with_limits(limits).await;
    refused(server.operator.caller().await, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn more_calls_than_allowed_are_told_to_come_back() {
    let limits = countersign::config::ServerLimits { max_concurrent_requests: 0, ..LIMITS };
    let server = TestServer::with_limits(limits).await;
    let status = refused(server.operator.caller().await, Code::ResourceExhausted, "OVERLOADED");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn all_violations_come_at_once() {
    let server = TestServer::start().await;
    let request = pb::CreateOrgRequest { slug: "A".into(), request_id: "x".into(), ..Default::default() };
    let status =
        refused(server.operator.orgs().create_org(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["slug", "display_name", "owner", "request_id"]);
}

#[tokio::test]
async fn a_request_id_of_the_caller_comes_back() {
    let server = TestServer::start().await;
    let ask = async |id: &str| {
        let mut request = Request::new(pb::GetCallerRequest {});
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        let answer = server.operator.accounts().get_caller(request).await.unwrap();
        answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(ask("my-id.1").await, "my-id.1");
    for bad in ["a b", "x".repeat(65).as_str(), "a\tb", "<script>"] {
        assert_ne!(ask(bad).await, bad);
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_told_as_such() {
    let server = TestServer::start().await;
    let jwt = server.operator.exchange().await.unwrap().access_token;
    assert_eq!(claims(&jwt)["iss"], server.endpoint.as_str());
    server.state.close().await;
    server.state.principals.clear();
    refused(server.operator.caller().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    refused(server.operator.exchange().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
}
