//! A call that waited acts only if its caller is still what it was: every RPC that changes something begins
//! with the lock of the org that it acts in, and then with a check of its caller.

use countersign::domain::access::work::Work;
use countersign::domain::values::ids::OrgId;
use countersign::grpc::layers::access::{Access, row};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;
use tonic::Code;

use super::access_matrix::{Things, for_owner};
use super::proto::rpcs;
use super::sources::files_with;
use crate::harness::{Client, Org, PATIENCE, TestServer, call_named, reason, refused, until};

/// What has no caller, or changes nothing in the org of the caller.
const OPEN: [&str; 6] = [
    "AccountService/RequestPasswordReset",
    "AccountService/ResetPassword",
    "OrgService/AcceptInvitation",
    "TokenService/Login",
    "TokenService/RevokeToken",
    "TokenService/ReportLeakedToken",
];

/// What needs a password first, or a session: beside the walk.
const BY_PASSWORD: [&str; 2] = ["AccountService/ChangePassword", "TokenService/Logout"];

async fn lock(server: &TestServer, org: &Org) -> PgConnection {
    let mut db = PgConnection::connect_with(&server.database().options()).await.unwrap();
    // A call that waits for the org while it holds its credential is the one to give way, however slow the machine is.
    sqlx::raw_sql("begin; set local deadlock_timeout = '1min'").execute(&mut db).await.unwrap();
    let org_id = OrgId::parse(&org.id).unwrap().uuid();
    sqlx::query("select 1 from orgs where org_id = $1 for no key update")
        .bind(org_id)
        .execute(&mut db)
        .await
        .unwrap();
    db
}

async fn waits(observer: &mut PgConnection) -> bool {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::query_scalar::<_, i64>(sql).fetch_one(observer).await.unwrap() > 0
}

/// What only stops tokens, rules or sessions, and does not wait for the lock of the org.
const UNLOCKED: [&str; 6] = [
    "OrgService/DeleteFederationRule",
    "TokenService/CancelRotation",
    "TokenService/FinishRotation",
    "TokenService/RevokeAccountSessions",
    "TokenService/RevokeAccountTokens",
    "TokenService/RevokeToken",
];

/// Starts a call while the org is locked, revokes the credential by what it is given, and lets the call
/// go on. Returns its outcome.
async fn overtaken(
    server: &TestServer,
    org: &Org,
    caller: &Client,
    (rpc, message): (&str, Vec<u8>),
    revoke: &[String],
) -> Result<Vec<u8>, tonic::Status> {
    let mut held = lock(server, org).await;
    let mut observer = PgConnection::connect_with(&server.database().options()).await.unwrap();
    let (client, path) = (caller.clone(), rpc.to_owned());
    let call = tokio::spawn(async move { call_named(&client, &path, &message, "waits").await });
    if UNLOCKED.iter().any(|short| rpc.ends_with(short)) {
        // It ends while the org is locked.
        return timeout(PATIENCE, call).await.unwrap_or_else(|_| panic!("{rpc} waits for its org")).unwrap();
    }
    until(async || call.is_finished() || waits(&mut observer).await).await;
    assert!(!call.is_finished(), "{rpc} does not wait for the lock of its org: list it");
    for sql in revoke {
        // As another node would: this one hears of it later.
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(&mut held).await.unwrap();
    }
    sqlx::raw_sql("commit").execute(&mut held).await.unwrap();
    call.await.unwrap()
}

#[tokio::test]
async fn no_call_acts_after_its_credential_was_revoked() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, client) = server.account(&org.id, "target", &[]).await;
    let things = Things::new(&server, &org, target, client.token().into());
    let mut walked = 0;
    for rpc in rpcs() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        let changes = matches!(row(&rpc).map(|(_, work)| work), Some(Work::Changes | Work::Stops));
        let is_open = matches!(row(&rpc), Some((Access::Open, _)));
        assert!(!(changes && is_open) || OPEN.contains(&short), "{short} is open and changes something");
        if !changes || (is_open && short != "TokenService/RevokeToken") || BY_PASSWORD.contains(&short) {
            continue;
        }
        if for_owner(short) != "OK" {
            // Only for operators, whose transactions begin in the same place.
            continue;
        }
        let caller = server.client(server.managing_token(&org.id, &org.owner_id).await);
        let id = caller.caller().await.unwrap().credential_id;
        let message = things.request(short, &format!("waits-{walked}")).await;
        let revoke = [format!(
            "update tokens set revoke_time = create_time, revoke_reason = 'UNSPECIFIED' where token_id = '{}'",
            countersign::domain::values::ids::TokenId::parse(&id).unwrap().uuid()
        )];
        let outcome = overtaken(&server, &org, &caller, (&rpc, message), &revoke).await;
        walked += 1;
        if UNLOCKED.contains(&short) {
            outcome.unwrap_or_else(|refusal| panic!("{short}: {refusal:?}"));
            continue;
        }
        let refusal = outcome.expect_err(short);
        assert_eq!(
            (refusal.code(), reason(&refusal).as_str()),
            (Code::Unauthenticated, "TOKEN_REVOKED"),
            "{short}"
        );
    }
    assert!(walked > 30, "{walked} RPCs");
}

/// Whatever ends a caller while it waits, in the order of authentication.
#[tokio::test]
async fn what_ended_meanwhile_is_said() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let rpc = "/countersign.v1.AccountService/CreateServiceAccount";
    let message = |n: usize| {
        let name = format!("late-{n}");
        prost::Message::encode_to_vec(&countersign::grpc::pb::CreateServiceAccountRequest {
            name,
            ..Default::default()
        })
    };
    let org_id = OrgId::parse(&org.id).unwrap().uuid();
    let cases: [(&str, &str, &str); 5] = [
        (
            "update accounts set deactivate_time = create_time where account_id = '$account'",
            "ACCOUNT_DEACTIVATED",
            "ACCOUNT_DEACTIVATED",
        ),
        (
            "update token_secrets set expire_time = create_time where token_id = '$token'",
            "TOKEN_EXPIRED",
            "ACCESS_TOKEN_STALE",
        ),
        (
            "update tokens set expire_time = create_time where token_id = '$token'",
            "TOKEN_EXPIRED",
            "TOKEN_EXPIRED",
        ),
        // The role that carried what the call needs.
        (
            "delete from grants where account_id = '$account'; update memberships set version = version + 1 where account_id = '$account'",
            "CONFLICT",
            "ACCESS_TOKEN_STALE",
        ),
        // What another account lost is no reason to refuse a token; a JWT may list it.
        ("update orgs set version = version + 1 where org_id = '$org'", "OK", "ACCESS_TOKEN_STALE"),
    ];
    for (n, (sql, by_string, by_jwt)) in cases.into_iter().enumerate() {
        for (is_jwt, expected) in [(false, by_string), (true, by_jwt)] {
            let name = format!("caller-{n}-{is_jwt}");
            let (account, mut caller) = server.account(&org.id, &name, &[("manager", "*")]).await;
            let id = caller.caller().await.unwrap().credential_id;
            if is_jwt {
                caller = caller.with_jwt().await;
                caller.caller().await.unwrap();
            }
            let account_id = countersign::domain::values::ids::AccountId::parse(&account.id).unwrap().uuid();
            let token_id = countersign::domain::values::ids::TokenId::parse(&id).unwrap().uuid();
            let sql = sql
                .replace("$account", &account_id.to_string())
                .replace("$token", &token_id.to_string())
                .replace("$org", &org_id.to_string());
            let unique = n * 2 + usize::from(is_jwt);
            let outcome = overtaken(&server, &org, &caller, (rpc, message(unique)), &[sql]).await;
            let said = outcome.map_or_else(|refusal| reason(&refusal), |_| "OK".to_owned());
            assert_eq!(said, expected, "case {n}, JWT: {is_jwt}");
        }
    }
}

/// The race as it was found: many calls of one credential, which is revoked meanwhile.
#[tokio::test]
async fn nothing_is_made_after_the_answer_to_a_revocation() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let caller = server.client(server.managing_token(&org.id, &org.owner_id).await);
    caller.caller().await.unwrap();
    let held = lock(&server, &org).await;
    let calls: Vec<_> = (0..60)
        .map(|n| {
            let caller = caller.clone();
            let request = countersign::grpc::pb::CreateServiceAccountRequest {
                name: format!("raced-{n}"),
                ..Default::default()
            };
            tokio::spawn(async move { caller.accounts().create_service_account(request).await })
        })
        .collect();
    let mut observer = PgConnection::connect_with(&server.database().options()).await.unwrap();
    until(async || waits(&mut observer).await).await;
    // It needs no lock of the org, and is answered first.
    server.anonymous().tokens().revoke_token(crate::harness::by_text(caller.token())).await.unwrap();
    drop(held);
    for call in calls {
        refused(call.await.unwrap(), Code::Unauthenticated, "TOKEN_REVOKED");
    }
}

/// Only what the API authenticated is a caller, and it is one in every transaction.
#[test]
fn callers_are_actors_in_one_place() {
    let sources = [
        // A session that the call creates, and a token string in the message.
        "grpc/tokens/login.rs",
        "grpc/tokens/revoke.rs",
        // The reader of a mailbox.
        "flows/password_reset.rs",
        "flows/invitations.rs",
        // Who counts an attempt: the transaction that changes something checks the caller.
        "flows/sign_in.rs",
    ];
    assert_eq!(files_with(&["Actor::account("]), sources.map(str::to_owned).into());
    // In a call, an org is locked by its transaction, which checks the caller afterwards.
    let calls: Vec<_> =
        files_with(&["orgs::lock("]).into_iter().filter(|file| file.starts_with("grpc/")).collect();
    assert_eq!(calls, ["grpc/tokens/compromise.rs"]);
    let standing = ["db/events/mod.rs", "domain/access/caller.rs"];
    assert_eq!(files_with(&["caller.standing()", "fn standing(&self)"]), standing.map(str::to_owned).into());
}
