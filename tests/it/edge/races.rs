//! Concurrent calls.

use countersign::clock::Clock;
use countersign::config::SigningAlgorithm::EdDsa;
use countersign::db::keys;
use countersign::db::tokens::credentials;
use countersign::domain::values::ids::{AccountId, CredentialId, OrgId, TokenId};
use countersign::grpc::pb;
use pb::convert_account_request::Identity;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tonic::{Code, Status};

use crate::federation::World;
use crate::harness::{
    Client, Database, TestServer, by_id, grant, master_keys, reason, refused, token_for, until,
};

fn wins<T>(results: &[Result<T, Status>]) -> usize {
    results.iter().filter(|result| result.is_ok()).count()
}

#[tokio::test]
async fn of_many_that_take_one_name_one_wins() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let mut results = Vec::new();
    let calls = (0..8).map(|_| {
        let owner = org.owner.clone();
        tokio::spawn(async move {
            let request = pb::CreateServiceAccountRequest { name: "only".into(), ..Default::default() };
            owner.accounts().create_service_account(request).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        results.push(call.await.unwrap());
    }
    assert_eq!(wins(&results), 1);
    for lost in results.into_iter().filter_map(Result::err) {
        assert_eq!((reason(&lost).as_str(), lost.code()), ("RESOURCE_EXISTS", Code::AlreadyExists));
    }
    let operator = &server.operator;
    let create_org = async || operator.orgs().create_org(crate::harness::create_org("same")).await.map(drop);
    let create_role = async || {
        let role = pb::Role { name: "only".into(), permissions: vec!["x.y".into()], ..Default::default() };
        let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
        org.owner.orgs().create_role(request).await.map(drop)
    };
    let create_resource = async || {
        let request = pb::CreateResourceRequest { path: "only".into(), ..Default::default() };
        org.owner.orgs().create_resource(request).await.map(drop)
    };
    for (a, b) in [
        tokio::join!(create_org(), create_org()),
        tokio::join!(create_role(), create_role()),
        tokio::join!(create_resource(), create_resource()),
    ] {
        let both = [a, b];
        assert_eq!(wins(&both), 1, "{both:?}");
        for lost in both {
            lost.or_else(|lost| if reason(&lost) == "RESOURCE_EXISTS" { Ok(()) } else { Err(lost) }).unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_id_creates_once() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let id = "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf";
    let request = |name: &str| pb::CreateServiceAccountRequest {
        name: name.into(),
        request_id: id.into(),
        ..Default::default()
    };
    let calls = (0..8).map(|_| {
        let (owner, request) = (org.owner.clone(), request("bot"));
        tokio::spawn(async move { owner.accounts().create_service_account(request).await })
    });
    let mut accounts = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        accounts.push(call.await.unwrap().unwrap().into_inner().account.unwrap());
    }
    assert!(accounts.windows(2).all(|pair| pair[0] == pair[1]), "a replay answers as the first call did");
    let events: i64 = sqlx::query_scalar("select count(*) from events where type = 'account.created'")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    assert_eq!(events, 1);
    let other = org.owner.accounts().create_service_account(request("other")).await;
    refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED");
    // Another method's is another one, and so is one from two days ago.
    let resource = |path: &str| pb::CreateResourceRequest {
        path: path.into(),
        request_id: id.into(),
        ..Default::default()
    };
    let first = org.owner.orgs().create_resource(resource("a")).await.unwrap().into_inner();
    assert_eq!(org.owner.orgs().create_resource(resource("a")).await.unwrap().into_inner(), first);
    server.state.clock.advance(std::time::Duration::from_secs(25 * 3_600));
    let owner = server.client(server.managing_token_of(&org).await);
    owner.orgs().create_resource(resource("b")).await.unwrap();
}

#[tokio::test]
async fn a_request_id_of_two_callers_creates_once_for_each() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (manager, client) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let callers = [("the-owners", &org.owner, &org.owner_id), ("the-managers", &client, &manager.id)];
    let calls: Vec<_> = (0..16)
        .map(|n| {
            let (name, caller, _) = callers[n % 2];
            let request = pb::CreateServiceAccountRequest {
                name: name.into(),
                request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".into(),
                ..Default::default()
            };
            let caller = caller.clone();
            tokio::spawn(async move { caller.accounts().create_service_account(request).await })
        })
        .collect();
    let mut made = [const { Vec::new() }; 2];
    for (n, call) in calls.into_iter().enumerate() {
        made[n % 2].push(call.await.unwrap().unwrap().into_inner().account.unwrap());
    }
    for (accounts, (name, _, caller_id)) in made.iter().zip(callers) {
        assert!(accounts.iter().all(|account| *account == accounts[0]), "{name}");
        assert_eq!(accounts[0].name, name);
        let sql = "select count(*) from events where type = 'account.created' and actor_id = $1";
        let caller = AccountId::parse(caller_id).unwrap().uuid();
        let events: i64 = sqlx::query_scalar(sql).bind(caller).fetch_one(&server.state.db).await.unwrap();
        assert_eq!(events, 1, "{name}");
    }
    assert_ne!(made[0][0].id, made[1][0].id);
}

#[tokio::test]
async fn a_replayed_token_says_that_its_secret_is_gone() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::CreateTokenRequest {
        request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".into(),
        ..token_for("", &org.owner_id)
    };
    let made = org.owner.tokens().create_token(request.clone()).await.unwrap().into_inner().token.unwrap();
    let again =
        refused(org.owner.tokens().create_token(request).await, Code::AlreadyExists, "REQUEST_REPLAYED");
    use tonic_types::StatusExt as _;
    assert_eq!(again.get_details_error_info().unwrap().metadata["id"], made.id);
    // Also when the expiry that it was given has passed since.
    let end = prost_types::Timestamp { seconds: server.state.clock.now().unix_timestamp() + 60, nanos: 0 };
    let request = pb::CreateTokenRequest {
        request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eb0".into(),
        expiration: Some(pb::create_token_request::Expiration::ExpireTime(end)),
        ..token_for("", &org.owner_id)
    };
    org.owner.tokens().create_token(request.clone()).await.unwrap();
    server.state.clock.advance(std::time::Duration::from_secs(61));
    refused(org.owner.tokens().create_token(request).await, Code::AlreadyExists, "REQUEST_REPLAYED");
}

#[tokio::test]
async fn a_replay_is_authorised_anew() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (manager, client) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let request = pb::CreateServiceAccountRequest {
        name: "bot".into(),
        request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".into(),
        ..Default::default()
    };
    client.accounts().create_service_account(request.clone()).await.unwrap();
    let taken = vec![grant("manager", "*")];
    let revoke = pb::RevokeAccessRequest { account_id: manager.id, grants: taken, ..Default::default() };
    org.owner.accounts().revoke_access(revoke).await.unwrap();
    let again = client.accounts().create_service_account(request).await;
    refused(again, Code::PermissionDenied, "PERMISSION_MISSING");
}

/// The ways to remove an owner from an org.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Revoke,
    Deactivate,
    Delete,
    /// Into a person who has yet to set a password.
    Convert,
}

async fn take_owner(client: &Client, way: Way, org_id: &str, account_id: &str) -> Result<(), Status> {
    let (org_id, account_id) = (org_id.to_owned(), account_id.to_owned());
    let mut accounts = client.accounts();
    match way {
        Way::Revoke => {
            let grants = vec![grant("owner", "*")];
            accounts.revoke_access(pb::RevokeAccessRequest { org_id, account_id, grants }).await?;
        }
        Way::Deactivate => {
            let request = pb::DeactivateAccountRequest { org_id, account_id, ..Default::default() };
            accounts.deactivate_account(request).await?;
        }
        Way::Delete => {
            accounts
                .delete_account(pb::DeleteAccountRequest { org_id, account_id, ..Default::default() })
                .await?;
        }
        Way::Convert => {
            let email = format!("{}@example.org", account_id.to_lowercase());
            let request = pb::ConvertAccountRequest {
                org_id,
                account_id,
                kind: pb::AccountKind::User.into(),
                reason: "a person after all".into(),
                identity: Some(Identity::Email(email)),
            };
            accounts.convert_account(request).await?;
        }
    }
    Ok(())
}

/// Makes the account an active owner again.
async fn bring_back(operator: &Client, org_id: &str, account_id: &str) {
    let (org_id, account_id) = (org_id.to_owned(), account_id.to_owned());
    let mut accounts = operator.accounts();
    let undelete = pb::UndeleteAccountRequest { org_id: org_id.clone(), account_id: account_id.clone() };
    let account = accounts.undelete_account(undelete).await.unwrap().into_inner().account.unwrap();
    if account.kind() == pb::AccountKind::User {
        let request = pb::ConvertAccountRequest {
            org_id: org_id.clone(),
            account_id: account_id.clone(),
            kind: pb::AccountKind::ServiceAccount.into(),
            reason: "no person".into(),
            identity: Some(Identity::Name(account_id.to_lowercase())),
        };
        accounts.convert_account(request).await.unwrap();
    }
    let (org, account) = (org_id.clone(), account_id.clone());
    let activate = pb::ActivateAccountRequest { org_id: org, account_id: account, ..Default::default() };
    accounts.activate_account(activate).await.unwrap();
    let grants = vec![grant("owner", "*")];
    accounts.grant_access(pb::GrantAccessRequest { org_id, account_id, grants }).await.unwrap();
}

/// In all pairings of ways. An owner who is deleted or converted has no active token, so that there the operator
/// makes both calls; else the two owners do, each against the other.
#[tokio::test]
async fn two_owners_who_remove_each_other_leave_one() {
    let server = TestServer::start().await;
    let ways = [Way::Revoke, Way::Deactivate, Way::Delete, Way::Convert];
    for (first, second) in ways.into_iter().flat_map(|a| ways.map(|b| (a, b))) {
        let org = server.org().await;
        let (other, other_client) = server.account(&org.id, "second", &[("owner", "*")]).await;
        let (a, b) = if [first, second].iter().any(|way| [Way::Delete, Way::Convert].contains(way)) {
            for client in [&org.owner, &other_client] {
                let id = client.caller().await.unwrap().credential_id;
                server.operator.tokens().revoke_token(by_id(&org.id, &id)).await.unwrap();
            }
            (&server.operator, &server.operator)
        } else {
            (&org.owner, &other_client)
        };
        for _ in 0..3 {
            let (x, y) = tokio::join!(
                take_owner(a, first, &org.id, &other.id),
                take_owner(b, second, &org.id, &org.owner_id)
            );
            assert_eq!(
                usize::from(x.is_ok()) + usize::from(y.is_ok()),
                1,
                "{first:?} {second:?}: {x:?} {y:?}"
            );
            // The one that lost was too late: its own rights were gone, or the org's last owner was left.
            let lost = reason(&x.and(y).unwrap_err());
            let expected = [
                "LAST_OWNER",
                "PERMISSION_MISSING",
                "ACCOUNT_DEACTIVATED",
                "TARGET_EXCEEDS_CALLER",
                "CONFLICT",
            ];
            assert!(expected.contains(&lost.as_str()), "{first:?} {second:?}: {lost}");
            let sql = "select count(*) from grants g
                       join accounts a on a.org_id = g.org_id and a.account_id = g.account_id
                       where g.right_id = 'owner' and a.deactivate_time is null and a.delete_time is null
                         and a.kind <> 'USER'
                         and g.org_id = (select org_id from slugs where slug = $1)";
            let owners: i64 =
                sqlx::query_scalar(sql).bind(&org.slug).fetch_one(&server.state.db).await.unwrap();
            assert_eq!(owners, 1, "{first:?} {second:?}");
            for account_id in [&other.id, &org.owner_id] {
                bring_back(&server.operator, &org.id, account_id).await;
            }
        }
    }
}

#[tokio::test]
async fn the_hundredth_token_is_made_once() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    for _ in 1..97 {
        server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap();
    }
    let calls = (0..8).map(|_| {
        let (operator, request) = (server.operator.clone(), token_for(&org.id, &bot.id));
        tokio::spawn(async move { operator.tokens().create_token(request).await })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        made += usize::from(call.await.unwrap().is_ok());
    }
    assert_eq!(made, 3);
}

#[tokio::test]
async fn servers_that_start_at_once_leave_one_key_of_each_kind() {
    let database = Database::create().await;
    let master = std::sync::Arc::new(master_keys());
    let starts = (0..10).map(|_| {
        let (pool, master) = (database.db(), master.clone());
        tokio::spawn(async move { keys::ensure(&pool, &master, EdDsa, &Clock::default()).await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    let pool = database.db();
    let count = "select (select count(*) from signing_keys), (select count(*) from peppers)";
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(count).fetch_one(&pool).await.unwrap(), (1, 1));
    keys::find_signing_keys(&pool, &master).await.unwrap();
    // Another master key opens none of it, and creates no key of its own beside them.
    let other = std::sync::Arc::new(master_keys());
    keys::ensure(&pool, &other, EdDsa, &Clock::default()).await.unwrap();
    assert!(
        keys::find_signing_keys(&pool, &other).await.is_err()
            && keys::find_peppers(&pool, &other).await.is_err()
    );
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(count).fetch_one(&pool).await.unwrap(), (1, 1));
}

#[tokio::test]
async fn a_credential_that_ends_while_its_org_is_waited_for_is_found_ended() {
    let world = World::new().await;
    let (server, org) = (&world.server, &world.org);
    let person = server.person(&org.id, "ann@races.example", &[]).await;
    let session = server.session(&person.username).await;
    let of_rule = server.client(world.access_token().await);
    let org_id = OrgId::parse(&org.id).unwrap();
    let connect = async || PgConnection::connect_with(&server.database().options()).await.unwrap();
    let (mut blocker, mut other) = (connect().await, connect().await);
    for (caller, table, column, ends) in [
        (&org.owner, "tokens", "token_id", "revoke_time = create_time, revoke_reason = 'SUPERSEDED'"),
        (&session, "sessions", "session_id", "end_time = create_time"),
        (&of_rule, "federation_rules", "rule_id", "disabled = true"),
    ] {
        let id = CredentialId::parse(&caller.caller().await.unwrap().credential_id).unwrap();
        // Both rows are locked by another one, or not.
        let locks = format!(
            "select (select count(*) from (select 1 from orgs where org_id = $1 for no key update skip locked) o),
                    (select count(*) from (select 1 from {table} where {column} = $2 for update skip locked) c)"
        );
        let mut free = async || {
            let query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(locks.clone()));
            query.bind(org_id.uuid()).bind(id.uuid()).fetch_one(&mut other).await.unwrap()
        };
        for is_ended in [false, true] {
            let mut before = blocker.begin().await.unwrap();
            // As what narrows rights does, which leaves another version of the row.
            let version = "update orgs set version = version + 1 where org_id = $1";
            sqlx::query(version).bind(org_id.uuid()).execute(&mut *before).await.unwrap();
            let (mut waits, held_open) = (connect().await, tokio::sync::oneshot::channel::<()>());
            let (found, seen) = tokio::sync::oneshot::channel();
            let waiting = tokio::spawn(async move {
                let mut tx = waits.begin().await.unwrap();
                found.send(credentials::hold_with_org(&mut tx, org_id, id).await.unwrap()).unwrap();
                held_open.1.await.unwrap();
                tx.rollback().await.unwrap();
            });
            let waiters = "select count(*) from pg_stat_activity
                           where datname = current_database() and wait_event_type = 'Lock'";
            until(async || sqlx::query_scalar::<_, i64>(waiters).fetch_one(&mut *before).await.unwrap() == 1)
                .await;
            assert_eq!(free().await, (0, 1), "{table}: the credential is held before the org");
            if is_ended {
                let change = format!("update {table} set {ends} where {column} = $1");
                sqlx::query(AssertSqlSafe(change)).bind(id.uuid()).execute(&mut *before).await.unwrap();
            }
            before.commit().await.unwrap();
            let (locked, held) = seen.await.unwrap().expect("there is such an org");
            assert_eq!((locked.id(), held.unwrap().revoked), (org_id, is_ended), "{table}");
            assert_eq!(free().await, (0, 0), "{table}: both are locked until the transaction ends");
            held_open.0.send(()).unwrap();
            waiting.await.unwrap();
            assert_eq!(free().await, (1, 1));
        }
    }
    // One that does not exist is none, of an org that does.
    let unknown = CredentialId::Token(TokenId::from_u128(1));
    let held = credentials::hold_with_org(&mut other, org_id, unknown).await.unwrap();
    assert!(held.is_some_and(|(_, held)| held.is_none()));
    let nowhere = credentials::hold_with_org(&mut other, OrgId::from_u128(1), unknown).await.unwrap();
    assert!(nowhere.is_none());
}
