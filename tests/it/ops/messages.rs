//! What the operator of a server reads: errors at the start, log lines, and the output of commands.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use countersign::grpc::pb;
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{
    Client, Database, Scratch, bootstrap, connect, countersign, fails, lines, logging, output, refused,
    search_too, serve, succeeds, until, watch,
};

#[tokio::test]
async fn a_master_key_file_that_others_can_read_is_refused() {
    let scratch = Scratch::new("key-mode");
    let key = scratch.master_key();
    let database = Database::create().await;
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        fails(&mut serve(&database, &key), &format!("others can read it (mode {mode:04o}): chmod 600"));
        let mut keys = countersign();
        keys.args(["keys", "list"]).env("COUNTERSIGN_DATABASE_URL", database.url());
        fails(keys.env("COUNTERSIGN_MASTER_KEY_FILE", &key), "others can read it");
    }
    fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
    bootstrap(&scratch, &database, &key);
}

#[tokio::test]
async fn an_error_at_the_start_has_the_form_of_the_log() {
    let scratch = Scratch::new("start-errors");
    let key = scratch.master_key();
    let database = Database::create().await;
    let nowhere = database.url().replace(database.name(), "nosuch");
    let start = |format: &[&str]| {
        let mut command = countersign();
        command.args(["serve", "--issuer", "https://id.example"]).args(format);
        command.env("COUNTERSIGN_DATABASE_URL", &nowhere).env("COUNTERSIGN_MASTER_KEY_FILE", &key);
        output(&mut command)
    };
    let pretty = String::from_utf8(start(&[]).stderr).unwrap();
    assert!(pretty.starts_with("countersign: the database cannot be reached: "), "{pretty}");
    // What PostgreSQL says, without the line of its own source.
    assert!(pretty.contains("does not exist (SQLSTATE 3D000)") && !pretty.contains("at line"), "{pretty}");
    for format in [&["--log-format", "json"][..], &["--log-format=json"]] {
        let said = start(format);
        assert!(!said.status.success());
        let line: Value = serde_json::from_slice(&said.stderr).unwrap();
        assert_eq!(
            (line["level"].as_str(), line["message"].as_str()),
            (Some("ERROR"), Some("command failed"))
        );
        assert!(line["error"].as_str().unwrap().contains("does not exist"), "{line}");
        assert!(line["timestamp"].is_string());
    }
    // Arguments that cannot be parsed as well.
    let mut wrong = countersign();
    let said = output(wrong.args(["serve", "--nosuch"]).env("COUNTERSIGN_LOG_FORMAT", "json"));
    assert_eq!(said.status.code(), Some(2));
    let line: Value = serde_json::from_slice(&said.stderr).unwrap();
    assert!(line["error"].as_str().unwrap().contains("--nosuch"), "{line}");
}

#[tokio::test]
async fn a_server_says_what_it_serves_and_that_an_operator_is_missing() {
    let scratch = Scratch::new("start-line");
    let key = scratch.master_key();
    let database = Database::create().await;
    let log = scratch.path("serve.log");
    let mut command = serve(&database, &key);
    let (running, _) = logging(command.args(["--trusted-proxies", "10.0.0.0/8,::1"]), &log).await;
    let ready = lines(&log, "ready").remove(0);
    assert_eq!(ready["issuer"], "https://id.example");
    assert_eq!(ready["signing_algorithm"], "EdDSA");
    assert_eq!(ready["trusted_proxies"], "10.0.0.0/8,::1/128");
    let shown = ready["database"].as_str().unwrap();
    assert!(shown.ends_with(database.name()) && !shown.contains('@'), "{shown}");
    let missing = "ready without an operator: `countersign bootstrap` creates it";
    until(async || lines(&log, missing).len() == 1).await;
    drop(running);
    bootstrap(&scratch, &database, &key);
    let (_running, _) = logging(&mut serve(&database, &key), &log).await;
    until(async || !lines(&log, "ready").is_empty()).await;
    assert!(lines(&log, missing).is_empty());
}

#[tokio::test]
async fn bootstrap_writes_to_standard_output_where_that_is_asked_for() {
    let scratch = Scratch::new("output");
    let key = scratch.master_key();
    let database = Database::create().await;
    let mut command = countersign();
    command.args(["bootstrap", "--issuer", "https://id.example", "--output", "-"]);
    command.env("COUNTERSIGN_DATABASE_URL", database.url()).env("COUNTERSIGN_MASTER_KEY_FILE", &key);
    let said = command.output().unwrap();
    search_too(&said.stderr);
    assert!(said.status.success());
    let token = String::from_utf8(said.stdout).unwrap();
    watch(token.trim_end());
    assert!(token.starts_with("csign_sat_") && token.len() == 84 && token.ends_with('\n'));
    assert!(!Path::new("-").exists());
}

#[tokio::test]
async fn keys_list_fails_where_something_does_not_open() {
    let scratch = Scratch::new("keys-list");
    let key = scratch.master_key();
    let database = Database::create().await;
    bootstrap(&scratch, &database, &key);
    let list = |key: &Path| {
        let mut command = countersign();
        command.args(["keys", "list"]).env("COUNTERSIGN_DATABASE_URL", database.url());
        command.env("COUNTERSIGN_MASTER_KEY_FILE", key);
        command
    };
    succeeds(&mut list(&key));
    let other = Scratch::new("keys-list-other");
    fails(&mut list(&other.master_key()), "2 of 2 do not open with the master keys of the file");
}

#[tokio::test]
async fn refused_credentials_are_lines_and_a_flood_of_them_is_a_count() {
    let scratch = Scratch::new("refused-log");
    let key = scratch.master_key();
    let database = Database::create().await;
    let token = bootstrap(&scratch, &database, &key);
    let log = scratch.path("serve.log");
    let (_running, endpoint) = logging(&mut serve(&database, &key), &log).await;
    let operator = connect(&endpoint, &token).await;
    let id = operator.caller().await.unwrap().credential_id;
    let revoke = pb::RevokeTokenRequest {
        target: Some(pb::revoke_token_request::Target::TokenText(token.clone())),
        ..Default::default()
    };
    operator.tokens().revoke_token(revoke).await.unwrap();
    refused(operator.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(operator.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    const REFUSED: &str = "credential refused";
    until(async || lines(&log, REFUSED).len() == 2).await;
    for (line, method) in
        lines(&log, REFUSED).iter().zip(["AccountService/GetCaller", "TokenService/ExchangeToken"])
    {
        assert_eq!(line["reason"], "TOKEN_REVOKED");
        assert_eq!(line["credential"], id.as_str());
        assert!(line["method"].as_str().unwrap().ends_with(method), "{line}");
        assert!(line["request_id"].is_string() && line["address"].is_string(), "{line}");
    }
    // No credential at all is none that is refused.
    let nobody = Client { channel: operator.channel.clone(), bearer: None };
    refused(nobody.caller().await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    // Of a flood a few lines are logged; how they are counted is tested with the sampler.
    let mut flood = JoinSet::new();
    for _ in 0..300 {
        let operator = operator.clone();
        flood.spawn(async move { operator.caller().await });
    }
    for answer in flood.join_all().await {
        refused(answer, Code::Unauthenticated, "TOKEN_REVOKED");
    }
    let logged = lines(&log, REFUSED).len();
    assert!(logged < 150, "{logged}");
    // Another reason is not hidden by it.
    let guess = Client { channel: operator.channel.clone(), bearer: Some("guess".into()) };
    refused(guess.caller().await, Code::Unauthenticated, "TOKEN_INVALID");
    until(async || lines(&log, REFUSED).iter().any(|line| line["reason"] == "TOKEN_INVALID")).await;
}

#[tokio::test]
async fn a_failed_call_names_its_method_and_caller() {
    let scratch = Scratch::new("failed-log");
    let key = scratch.master_key();
    let database = Database::create().await;
    let token = bootstrap(&scratch, &database, &key);
    let log = scratch.path("serve.log");
    let (_running, endpoint) = logging(&mut serve(&database, &key), &log).await;
    let operator = connect(&endpoint, &token).await;
    let caller = operator.caller().await.unwrap().account.unwrap();
    // What a query names is missing.
    sqlx::query("alter table orgs rename column slug to slug_gone").execute(&database.pool()).await.unwrap();
    operator.orgs().list_orgs(pb::ListOrgsRequest::default()).await.unwrap_err();
    until(async || !lines(&log, "call failed").is_empty()).await;
    let line = lines(&log, "call failed").remove(0);
    assert_eq!(line["method"], "/countersign.v1.OrgService/ListOrgs");
    assert_eq!(line["caller"], caller.id.as_str());
    assert!(line["address"].is_string() && line["request_id"].is_string());
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("does not exist (SQLSTATE 42703)") && !error.contains("at line"), "{error}");
}
