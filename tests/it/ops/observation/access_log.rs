//! The line of each call: what it says, which calls have one, and how a flood of them is sampled.

use std::path::PathBuf;

use countersign::grpc::pb;
use countersign::state::shares::MAX_WAITING;
use serde_json::Value;
use tonic::{Code, Request};

use crate::harness::{
    Client, Database, Running, Scratch, bootstrap, by_id, connect, create_org, http, lines, logging, refused,
    serve, token_for, until,
};

struct Logged {
    _scratch: Scratch,
    _database: Database,
    _running: Running,
    operator: Client,
    endpoint: String,
    log: PathBuf,
}

async fn server(name: &str, level: Option<&str>) -> Logged {
    let scratch = Scratch::new(name);
    let key = scratch.master_key();
    let database = Database::create().await;
    let token = bootstrap(&scratch, &database, &key);
    let log = scratch.path("serve.log");
    let mut command = serve(&database, &key);
    if let Some(level) = level {
        command.args(["--access-log", level]);
    }
    let (running, endpoint) = logging(&mut command, &log).await;
    let operator = connect(&endpoint, &token).await;
    Logged { _scratch: scratch, _database: database, _running: running, operator, endpoint, log }
}

impl Logged {
    /// The first line with this message about this method.
    async fn line(&self, message: &str, method: &str) -> Value {
        let found = || {
            lines(&self.log, message)
                .into_iter()
                .find(|line| line["method"].as_str().unwrap().ends_with(method))
        };
        until(async || found().is_some()).await;
        found().unwrap()
    }
}

#[tokio::test]
async fn a_line_names_the_caller_and_what_it_changed() {
    let server = server("access-log", Some("all")).await;
    let caller = server.operator.caller().await.unwrap();
    let (account, org) = (caller.account.unwrap().id, caller.org.unwrap().id);

    let mut request = Request::new(pb::ExchangeTokenRequest::default());
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let answer = server.operator.tokens().exchange_token(request).await.unwrap();
    crate::harness::watch(&answer.get_ref().access_token);
    assert!(
        answer
            .metadata()
            .get("traceresponse")
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&format!("00-{trace}-"))
    );
    let line = server.line("call answered", "TokenService/ExchangeToken").await;
    assert_eq!((&line["level"], &line["code"]), (&"INFO".into(), &"OK".into()));
    assert_eq!((&line["request_id"], &line["trace_id"]), (&"mine".into(), &trace.into()));
    assert_eq!(line["credential"], caller.credential_id.as_str());
    assert_eq!((&line["caller"], &line["org"]), (&account.as_str().into(), &org.as_str().into()));
    assert!(line["micros"].as_u64().unwrap() > 0 && line["address"] == "127.0.0.1", "{line}");
    assert!(line.get("reason").is_none() && line.get("events").is_none(), "{line}");

    let made = server.operator.orgs().create_org(create_org("acme")).await.unwrap().into_inner();
    let line = server.line("call answered", "OrgService/CreateOrg").await;
    let events = server
        .operator
        .orgs()
        .list_events(pb::ListEventsRequest { org_id: made.org.unwrap().id, ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .events;
    let logged: Vec<_> = line["events"].as_str().unwrap().split(',').collect();
    for event in events {
        assert!(logged.contains(&event.id.as_str()), "{} is not in {line}", event.id);
    }
    // What was rolled back has no event.
    let again = server.operator.orgs().create_org(create_org("acme")).await;
    refused(again, Code::AlreadyExists, "RESOURCE_EXISTS");
    let line = server.line("call refused", "OrgService/CreateOrg").await;
    assert_eq!((&line["reason"], line.get("events")), (&"RESOURCE_EXISTS".into(), None), "{line}");
}

/// A call of an account that another one impersonates names both.
#[tokio::test]
async fn a_line_names_who_impersonates_the_caller() {
    let server = server("access-log-actor", Some("all")).await;
    let org = server.operator.orgs().create_org(create_org("acme")).await.unwrap().into_inner();
    let (org, owner) = (org.org.unwrap().id, org.owner.unwrap().id);
    let made = server.operator.tokens().create_token(token_for(&org, &owner)).await.unwrap().into_inner();
    crate::harness::watch(&made.secret);
    let client = Client { bearer: Some(made.secret), ..server.operator.clone() };
    let bot = pb::CreateServiceAccountRequest { name: "bot".into(), ..Default::default() };
    let bot = client.accounts().create_service_account(bot).await.unwrap().into_inner().account.unwrap().id;
    let role = client.impersonating(&bot).await.orgs().get_role(pb::GetRoleRequest::default()).await;
    refused(role, Code::PermissionDenied, "PERMISSION_MISSING");
    let line = server.line("call refused", "/GetRole").await;
    assert_eq!((&line["caller"], &line["actor"]), (&bot.as_str().into(), &owner.as_str().into()), "{line}");
    let line = server.line("call answered", "/CreateServiceAccount").await;
    assert_eq!((&line["caller"], line.get("actor")), (&owner.as_str().into(), None), "{line}");
}

/// A credential that is refused although its secret is right says whose it was.
#[tokio::test]
async fn a_refused_credential_names_its_account() {
    let server = server("access-log-refused", None).await;
    let org = server.operator.orgs().create_org(create_org("acme")).await.unwrap().into_inner();
    let (org, owner) = (org.org.unwrap().id, org.owner.unwrap().id);
    let made = server.operator.tokens().create_token(token_for(&org, &owner)).await.unwrap().into_inner();
    crate::harness::watch(&made.secret);
    let client = Client { bearer: Some(made.secret), ..server.operator.clone() };
    let jwt = client.exchange().await.unwrap().access_token;
    crate::harness::watch(&jwt);
    let id = made.token.unwrap().id;
    server.operator.tokens().revoke_token(by_id(&org, &id)).await.unwrap();
    refused(client.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    let line = server.line("credential refused", "/GetCaller").await;
    assert_eq!(line["credential"], id.as_str(), "{line}");
    assert_eq!((&line["caller"], &line["org"]), (&owner.as_str().into(), &org.as_str().into()), "{line}");
    let with_jwt = Client { bearer: Some(jwt), ..server.operator.clone() };
    let roles = with_jwt.orgs().get_role(pb::GetRoleRequest::default()).await;
    refused(roles, Code::Unauthenticated, "TOKEN_REVOKED");
    let line = server.line("credential refused", "/GetRole").await;
    assert_eq!((&line["caller"], &line["org"]), (&owner.as_str().into(), &org.as_str().into()), "{line}");
}

/// A page that refuses what was asked for has the line of a refusal, whatever has refused it.
#[tokio::test]
async fn pages_that_refuse_are_no_successes() {
    let server = server("access-log-pages", None).await;
    for (path, method, header, status, reason) in [
        ("/nothing", "GET", "x: y", 404, "RESOURCE_NOT_FOUND"),
        ("/set-password", "POST", "sec-fetch-site: cross-site", 403, "PERMISSION_MISSING"),
        ("/forgot-password", "DELETE", "x: y", 405, "METHOD_UNKNOWN"),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\n{header}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(http(&server.endpoint, &request).await.status, status, "{path}");
        let line = server.line("call refused", path).await;
        assert_eq!((&line["status"], &line["reason"]), (&status.into(), &reason.into()), "{line}");
        let logged = if method == "DELETE" { "other" } else { method };
        assert_eq!(line["http_method"], logged, "{line}");
    }
    assert_eq!(
        http(&server.endpoint, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.status,
        200
    );
    assert!(lines(&server.log, "call answered").is_empty());
}

#[tokio::test]
async fn which_calls_have_a_line_is_a_choice() {
    for (level, [answered, refusals, credentials]) in [
        (Some("all"), [true, true, true]),
        (None, [false, true, true]),
        (Some("errors"), [false, true, true]),
        (Some("none"), [false, false, false]),
    ] {
        let server = server("access-log-level", level).await;
        server.operator.caller().await.unwrap();
        let missing = server.operator.accounts().get_account(pb::GetAccountRequest::default()).await;
        refused(missing, Code::InvalidArgument, "INVALID_FIELD");
        let guess = Client { bearer: Some("guess".into()), ..server.operator.clone() };
        refused(guess.caller().await, Code::Unauthenticated, "TOKEN_INVALID");
        // Lines are written before the answer is sent.
        for (message, there) in
            [("call answered", answered), ("call refused", refusals), ("credential refused", credentials)]
        {
            assert_eq!(!lines(&server.log, message).is_empty(), there, "{level:?} {message}");
        }
    }
}

/// Whatever is left out is counted: in the next line of the kind, or in one of its own.
#[tokio::test]
async fn a_flood_is_sampled_and_nothing_goes_uncounted() {
    // At once: more calls of an org that read would be refused for another reason.
    const CALLS: u64 = MAX_WAITING as u64;
    let server = server("access-log-flood", None).await;
    let org = server.operator.orgs().create_org(create_org("flood")).await.unwrap().into_inner();
    let (org, owner) = (org.org.unwrap().id, org.owner.unwrap().id);
    let token =
        server.operator.tokens().create_token(token_for(&org, &owner)).await.unwrap().into_inner().secret;
    crate::harness::watch(&token);
    let flooding = Client { bearer: Some(token), ..server.operator.clone() };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let flooding = flooding.clone();
        calls.spawn(async move { flooding.orgs().get_role(pb::GetRoleRequest::default()).await });
    }
    while let Some(answer) = calls.join_next().await {
        refused(answer.unwrap(), Code::InvalidArgument, "INVALID_FIELD");
    }
    let of_flood = |message: &str| {
        let lines = lines(&server.log, message).into_iter();
        lines
            .filter(|line| line["method"].as_str().unwrap().ends_with("OrgService/GetRole"))
            .collect::<Vec<_>>()
    };
    let written = of_flood("call refused");
    assert!((written.len() as u64) < CALLS / 2, "{}", written.len());
    // The org that floods is named.
    assert!(written.iter().all(|line| line["org"] == org.as_str()), "{written:?}");
    let counted =
        |lines: &[Value]| lines.iter().map(|line| line["unlogged_before"].as_u64().unwrap_or(0)).sum::<u64>();
    until(async || {
        let written = of_flood("call refused");
        written.len() as u64 + counted(&written) + counted(&of_flood("calls left out of the log")) == CALLS
    })
    .await;
    // Another kind was not hidden by it.
    let guess = Client { bearer: Some("guess".into()), ..server.operator.clone() };
    refused(guess.exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
    server.line("credential refused", "TokenService/ExchangeToken").await;
}
