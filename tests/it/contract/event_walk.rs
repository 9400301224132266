//! Every RPC that changes something writes one event, which says who, what, where and
//! from where, and contains no secret; and nothing else writes one.

use countersign::db::pool::Db;
use countersign::domain::access::work::Work;
use countersign::domain::values::ids::{AccountId, OrgId, SYSTEM_ORG};
use countersign::domain::values::token_string::TokenString;
use countersign::grpc::layers::access::row;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::contract::access_matrix::{Things, for_owner};
use crate::contract::message_bytes;
use crate::contract::proto::{messages, rpcs};
use crate::harness::{Client, TestServer, call_named, hides_secrets, reason, watch};

/// What only reads.
const READS: &[&str] = &[
    "AccountService/CheckAccess",
    "AccountService/GetAccount",
    "AccountService/ListAccounts",
    "AccountService/ListGrants",
    "AccountService/ListGrantableAccess",
    "AccountService/ResolveLink",
    "AccountService/GetCaller",
    "OrgService/GetOrg",
    "OrgService/ListOrgs",
    "OrgService/GetRole",
    "OrgService/ListRoles",
    "OrgService/ListResources",
    "OrgService/ListMembers",
    "OrgService/ListInvitations",
    "OrgService/GetInvitation",
    "OrgService/ListEvents",
    "OrgService/WatchEvents",
    "OrgService/GetIssuer",
    "OrgService/ListIssuers",
    "OrgService/GetFederationRule",
    "OrgService/ListFederationRules",
    "OrgService/ListPresentations",
    "TokenService/GetToken",
    "TokenService/ListTokens",
    "TokenService/ExchangeToken",
    "TokenService/ExplainToken",
    "TokenService/IntrospectToken",
    "TokenService/GetJsonWebKeySet",
    "TokenService/ListSigningKeys",
    "TokenService/BatchIntrospectTokens",
    "TokenService/AcknowledgeRevocations",
    "TokenService/ListVerifiers",
    "TokenService/WatchRevocations",
];

/// An event with its feed row.
#[derive(Debug, sqlx::FromRow)]
struct Written {
    org_id: Uuid,
    event_id: Uuid,
    kind: String,
    actor_id: Option<Uuid>,
    operator: bool,
    address: Option<String>,
    request_id: Option<String>,
    resource_ids: Vec<String>,
    changes: String,
    /// What the rest of the row says.
    whole: String,
    subjects: Option<Vec<String>>,
}

/// The events written since the last check.
async fn news(db: &Db, seen: &mut Vec<Uuid>) -> Vec<Written> {
    let rows: Vec<Written> = sqlx::query_as(
        "select e.org_id, e.event_id, e.type as kind, e.actor_id, e.operator, e.address, e.request_id, e.resource_ids,
                e.changes::text as changes, e::text as whole, f.subjects
         from events e left join feed f on f.org_id = e.org_id and f.event_id = e.event_id
         where e.event_id <> all($1)",
    )
    .bind(&*seen)
    .fetch_all(db)
    .await
    .unwrap();
    seen.extend(rows.iter().map(|row| row.event_id));
    rows.iter().for_each(|row| spelled_as_in_the_api(&row.changes));
    rows
}

/// Times are in RFC 3339, and enums have their full names.
fn spelled_as_in_the_api(changes: &str) {
    let changes: Vec<serde_json::Value> = serde_json::from_str(changes).unwrap();
    for change in changes {
        let field = change["field"].as_str().unwrap();
        for value in ["old_value", "new_value"].iter().filter_map(|side| change[side].as_str()) {
            if field.ends_with("_time") {
                OffsetDateTime::parse(value, &Rfc3339).unwrap_or_else(|_| panic!("{field}: {value}"));
            }
            let prefix = match field {
                "kind" => ["ACCOUNT_KIND_", "ISSUER_KIND_", "TOKEN_KIND_"].as_slice(),
                "account_kinds" => &["ACCOUNT_KIND_"],
                "state" => &["SIGNING_KEY_STATE_"],
                "revoke_reason" => &["REVOKE_REASON_"],
                _ => continue,
            };
            assert!(prefix.iter().any(|prefix| value.starts_with(prefix)), "{field}: {value}");
        }
    }
}

/// What is in no cache: the catalogue (a node with something on it is not deleted), an
/// org's name, and that an account acts as another.
const UNCACHED: [&str; 5] =
    ["resource.created", "resource.updated", "resource.deleted", "org.updated", "account.impersonated"];

/// What is done anew on each request: the same password, set again, revokes the sessions
/// since, and an invitation that is sent again has another code.
const ANEW: [&str; 3] =
    ["AccountService/SetPassword", "OrgService/ResendInvitation", "TokenService/ImpersonateAccount"];

/// The caller does not matter: only the token string in the message counts, no caller is refused, and
/// the event has no actor.
const BY_TEXT_ALONE: [&str; 1] = ["TokenService/ReportLeakedToken"];

/// Methods open to every caller: none is refused for its identity, and the event names whose code or
/// name it was, which each RPC's own tests check. The first of them is answered before it is
/// known whether it changes something.
const OPEN: [&str; 3] =
    ["AccountService/RequestPasswordReset", "AccountService/ResetPassword", "OrgService/AcceptInvitation"];

/// Methods that need a password instead of a permission; `login.rs` checks their events.
const BY_PASSWORD: [&str; 3] = ["AccountService/ChangePassword", "TokenService/Login", "TokenService/Logout"];

#[tokio::test]
async fn every_change_is_one_event_and_nothing_else_is() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, client) = server.account(&org.id, "target", &[]).await;
    let (_, member) = server.account(&org.id, "member", &[("member", "*")]).await;
    let things = Things::new(&server, &org, target, client.token().into());
    let operator_id = server.operator.caller().await.unwrap().account.unwrap().id;
    let db = &server.state.db;
    let mut seen = Vec::new();
    let mut walked = 0_u128;

    for rpc in rpcs() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        let reads = matches!(row(&rpc), Some((_, Work::Reads | Work::Cached)));
        assert_eq!(READS.contains(&short), reads, "{rpc} in the access table");
        if BY_PASSWORD.contains(&short) {
            continue;
        }
        for (who, caller, caller_id) in
            [("operator", &server.operator, &operator_id), ("owner", &org.owner, &org.owner_id)]
        {
            let request = things.request(short, &format!("by-{who}-{walked}")).await;
            news(db, &mut seen).await;
            let call = async |client: &Client, message: &[u8], id: &str| {
                let (_, work) = row(&rpc).unwrap();
                let before = server.state.shares.counts().asked[work as usize].get();
                let answer = call_named(client, &rpc, message, id).await;
                let asked = server.state.shares.counts().asked[work as usize].get() > before;
                assert!(asked || work == Work::Cached || answer.is_err(), "{rpc} has no place in a share");
                answer
            };
            let id = format!("walk-{walked}-{who}");
            walked += 1;
            let denied = who == "owner" && for_owner(short) != "OK";
            if OPEN.contains(&short) {
                let anybody = server.anonymous();
                call(&anybody, &request, &id).await.unwrap_or_else(|status| panic!("{rpc}: {status:?}"));
                let rows = news(db, &mut seen).await;
                assert_eq!(rows.len(), usize::from(short != OPEN[0]), "{rpc}: {rows:?}");
                for event in rows {
                    assert_eq!(event.request_id.as_deref(), Some(id.as_str()), "{rpc}");
                    assert!(event.changes.contains("\"field\"") && event.subjects.is_some(), "{rpc}");
                    hides_secrets(&event.whole);
                }
                continue;
            }
            if READS.contains(&short) && !denied {
                call(caller, &request, &id).await.unwrap_or_else(|status| panic!("{rpc}: {status:?}"));
                assert_eq!(news(db, &mut seen).await.len(), 0, "{rpc} only reads");
                continue;
            }
            let anonymous = BY_TEXT_ALONE.contains(&short);
            if !anonymous {
                let refusal = call(&member, &request, &id).await.expect_err(&rpc);
                assert_eq!(reason(&refusal), "PERMISSION_MISSING", "{rpc} by a member");
                assert_eq!(news(db, &mut seen).await.len(), 0, "{rpc} was refused");
            }
            if denied {
                call(caller, &request, &id).await.expect_err(&rpc);
                assert_eq!(news(db, &mut seen).await.len(), 0, "{rpc} was refused");
                continue;
            }

            // The change, under a request_id where the RPC has one.
            let request_id = message_bytes::number(&messages(&rpc).0, "request_id");
            let request = match request_id {
                Some(field) => {
                    message_bytes::with_text(&request, field, &Uuid::from_u128(walked).to_string())
                }
                None => request,
            };
            let answer =
                call(caller, &request, &id).await.unwrap_or_else(|status| panic!("{rpc}: {status:?}"));
            message_bytes::credentials(&answer).iter().for_each(|text| watch(text));
            let rows = news(db, &mut seen).await;
            assert_eq!(rows.len(), 1, "{rpc} by the {who}: {rows:?}");
            let event = &rows[0];
            // An operator's change is an event of the org that was changed.
            let all =
                if anonymous { org.id.clone().into_bytes() } else { [request.as_slice(), &answer].concat() };
            let changed = message_bytes::ids(&all).into_iter().find(|id| id.starts_with("org_"));
            // What names no org is of the platform itself.
            let changed = changed.map_or(SYSTEM_ORG, |id| OrgId::parse(&id).unwrap());
            assert_eq!(event.org_id, changed.uuid(), "{rpc} by the {who}");
            let actor = (!anonymous).then(|| AccountId::parse(caller_id).unwrap().uuid());
            assert_eq!((event.actor_id, event.operator), (actor, !anonymous && who == "operator"), "{rpc}");
            assert_eq!(event.address.as_deref(), Some("127.0.0.1"), "{rpc}");
            assert_eq!(event.request_id.as_deref(), Some(id.as_str()), "{rpc}");
            assert!(!event.resource_ids.is_empty(), "{rpc} names what it touched");
            assert!(event.changes.contains("\"field\""), "{rpc} says what changed: {}", event.changes);
            let subjects = event.subjects.as_ref().unwrap_or_else(|| panic!("{rpc} wrote no feed row"));
            assert_eq!(subjects.is_empty(), UNCACHED.contains(&event.kind.as_str()), "{rpc}: {subjects:?}");
            // The display prefix of a token, which tells it from others, is no secret.
            assert!(
                message_bytes::credentials(event.whole.as_bytes())
                    .iter()
                    .all(|text| TokenString::parse(text).is_err()),
                "{rpc}"
            );
            hides_secrets(&event.whole);

            // A replay, or the same once more, which changes nothing or is refused.
            let again = call(caller, &request, &id).await;
            if request_id.is_some() {
                let replayed = again.as_ref().err().is_none_or(|status| reason(status) == "REQUEST_REPLAYED");
                assert!(replayed, "{rpc} again: {again:?}");
            }
            let more = usize::from(ANEW.contains(&short));
            assert_eq!(news(db, &mut seen).await.len(), more, "{rpc} again");
        }
    }
}
