//! An org's own roles: who may create and change them, what they give, and to whom.

use countersign::domain::values::ids::AccountId;
use countersign::domain::values::permissions::Permission;
use countersign::grpc::pb;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, Org, TestServer, by_id, claims, grant, refused, token_for, violated};

const SERVICE_ACCOUNT: i32 = pb::AccountKind::ServiceAccount as i32;
const USER: i32 = pb::AccountKind::User as i32;

fn role(name: &str, permissions: &[&str]) -> pb::Role {
    let permissions = permissions.iter().map(|text| (*text).to_owned()).collect();
    pb::Role { name: name.into(), permissions, ..Default::default() }
}

async fn create(client: &Client, role: pb::Role) -> Result<pb::Role, Status> {
    let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    Ok(client.orgs().create_role(request).await?.into_inner().role.unwrap())
}

async fn update(client: &Client, role: pb::Role, mask: &[&str]) -> Result<pb::Role, Status> {
    let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    let request = pb::UpdateRoleRequest { role: Some(role), update_mask, ..Default::default() };
    Ok(client.orgs().update_role(request).await?.into_inner().role.unwrap())
}

/// Gives the role these permissions instead.
async fn carry(client: &Client, role: &pb::Role, permissions: &[&str]) -> Result<pb::Role, Status> {
    let permissions = permissions.iter().map(|text| (*text).to_owned()).collect();
    update(client, pb::Role { id: role.id.clone(), permissions, ..Default::default() }, &["permissions"])
        .await
}

async fn delete(client: &Client, role_id: &str, etag: &str) -> Result<(), Status> {
    let request = pb::DeleteRoleRequest { role_id: role_id.into(), etag: etag.into(), ..Default::default() };
    client.orgs().delete_role(request).await.map(|_| ())
}

async fn get(client: &Client, role_id: &str) -> Result<pb::Role, Status> {
    let request = pb::GetRoleRequest { role_id: role_id.into(), ..Default::default() };
    Ok(client.orgs().get_role(request).await?.into_inner().role.unwrap())
}

async fn list(client: &Client, page_size: i32) -> Vec<pb::Role> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListRolesRequest { page_size, page_token, ..Default::default() };
        // Permissions are described beside the first page.
        let described = if request.page_token.is_empty() { Permission::OWN.len() } else { 0 };
        let page = client.orgs().list_roles(request).await.unwrap().into_inner();
        assert_eq!(page.own_permissions.len(), described);
        assert!(page.own_permissions.iter().all(|p| !p.description.is_empty()));
        all.extend(page.roles);
        assert_eq!(page.total_size, Some(6));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn give(client: &Client, account_id: &str, right: &str, on: &str) -> Result<(), Status> {
    let grants = vec![grant(right, on)];
    let request = pb::GrantAccessRequest { account_id: account_id.into(), grants, ..Default::default() };
    client.accounts().grant_access(request).await.map(|_| ())
}

async fn take(client: &Client, account_id: &str, right: &str, on: &str) {
    let grants = vec![grant(right, on)];
    let request = pb::RevokeAccessRequest { account_id: account_id.into(), grants, ..Default::default() };
    client.accounts().revoke_access(request).await.unwrap();
}

/// The id of an account that was deleted and held these.
async fn deleted_account(server: &TestServer, org: &Org, name: &str, grants: &[(&str, &str)]) -> String {
    let (account, client) = server.account(&org.id, name, grants).await;
    let token = client.caller().await.unwrap().credential_id;
    org.owner.tokens().revoke_token(by_id("", &token)).await.unwrap();
    let request = pb::DeleteAccountRequest { account_id: account.id.clone(), ..Default::default() };
    org.owner.accounts().delete_account(request).await.unwrap();
    account.id
}

/// The events of roles, oldest first: type, ids, changes as `field old new`.
async fn events(server: &TestServer) -> Vec<(String, Vec<String>, Vec<String>)> {
    let rows: Vec<(String, Vec<String>, serde_json::Value)> = sqlx::query_as(
        "select type, resource_ids, changes from events where type like 'role.%' order by event_id",
    )
    .fetch_all(&server.state.db)
    .await
    .unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let change = |c: &serde_json::Value| {
        format!("{} {} {}", text(&c["field"]), text(&c["old_value"]), text(&c["new_value"]))
    };
    rows.into_iter()
        .map(|(kind, ids, changes)| (kind, ids, changes.as_array().unwrap().iter().map(change).collect()))
        .collect()
}

async fn org_version(server: &TestServer, org: &Org) -> i64 {
    let sql = "select version from orgs where slug = $1";
    sqlx::query_scalar(sql).bind(&org.slug).fetch_one(&server.state.db).await.unwrap()
}

#[tokio::test]
async fn a_role_is_made_read_changed_and_deleted() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let owner = &org.owner;
    let wanted = pb::Role {
        display_name: Some("Billing".into()),
        account_kinds: vec![SERVICE_ACCOUNT],
        ..role("Billing", &["invoices.write", "accounts.read", "invoices.write"])
    };
    let made = create(owner, wanted).await.unwrap();
    assert!(made.id.starts_with("role_") && !made.system && made.create_time.is_some());
    assert_eq!(made.permissions, ["accounts.read", "invoices.write"], "sorted, each once");
    assert_eq!(made.account_kinds, [SERVICE_ACCOUNT]);
    assert_eq!(get(owner, &made.id).await.unwrap(), made);
    let other = create(owner, role("Other", &["x.y"])).await.unwrap();

    // The system's come first; pages of any size neither skip nor repeat one.
    for page_size in [0, 1, 2, 3, 4, 5] {
        let ids: Vec<_> = list(owner, page_size).await.into_iter().map(|role| role.id).collect();
        assert_eq!(ids, ["owner", "manager", "auditor", "member", &made.id, &other.id], "{page_size}");
    }
    let auditor = get(owner, "auditor").await.unwrap();
    assert!(auditor.system && auditor.etag.is_empty() && auditor.create_time.is_none());
    assert!(auditor.description().contains(".read"), "{auditor:?}");
    assert!(auditor.permissions.iter().all(|permission| permission.ends_with(".read")));

    let change = pb::Role {
        id: made.id.clone(),
        name: "billing-2".into(),
        description: Some("Bills".into()),
        display_name: Some(String::new()),
        permissions: vec!["invoices.read".into(), "accounts.read".into()],
        etag: made.etag.clone(),
        ..Default::default()
    };
    let changed = update(owner, change.clone(), &[]).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.display_name.clone()), ("billing-2", None));
    assert_eq!(changed.permissions, ["accounts.read", "invoices.read"]);
    assert_eq!(changed.account_kinds, [SERVICE_ACCOUNT], "what is not set stays");
    assert_ne!(changed.etag, made.etag);
    assert_eq!(get(owner, &made.id).await.unwrap(), changed);
    // The same again is of an older revision; without an etag it changes nothing.
    refused(update(owner, change.clone(), &[]).await, Code::Aborted, "ETAG_MISMATCH");
    let again = update(owner, pb::Role { etag: String::new(), ..change }, &[]).await.unwrap();
    assert_eq!(again, changed);

    refused(delete(owner, &made.id, &made.etag).await, Code::Aborted, "ETAG_MISMATCH");
    delete(owner, &made.id, &changed.etag).await.unwrap();
    refused(get(owner, &made.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(delete(owner, &made.id, "").await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // The name is free again.
    create(owner, role("BILLING-2", &["x.y"])).await.unwrap();

    let events = events(&server).await;
    let kinds: Vec<_> = events.iter().map(|event| event.0.as_str()).collect();
    assert_eq!(kinds, ["role.created", "role.created", "role.updated", "role.deleted", "role.created"]);
    assert_eq!(events[2].1, [made.id]);
    assert_eq!(
        events[2].2,
        [
            "name Billing billing-2",
            "display_name Billing -",
            "description - Bills",
            "permissions invoices.write -",
            "permissions - invoices.read"
        ]
    );
    assert_eq!(
        events[3].2,
        [
            "name billing-2 -",
            "description Bills -",
            "permissions accounts.read -",
            "permissions invoices.read -",
            "account_kinds SERVICE_ACCOUNT -"
        ]
    );
}

#[tokio::test]
async fn a_request_id_makes_one_role() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = |name: &str| pb::CreateRoleRequest {
        request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".into(),
        role: Some(role(name, &["x.y"])),
        ..Default::default()
    };
    let first = org.owner.orgs().create_role(request("a")).await.unwrap().into_inner();
    assert_eq!(org.owner.orgs().create_role(request("a")).await.unwrap().into_inner(), first);
    let other = org.owner.orgs().create_role(request("b")).await;
    refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!(events(&server).await.len(), 1);
}

#[tokio::test]
async fn nobody_makes_or_widens_a_role_beyond_what_they_hold() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["customers/acme"]).await;
    let (_, manager) =
        server.account(&org.id, "manager", &[("manager", "*"), ("a.b", "*"), ("x.y", "customers")]).await;
    let (_, local) = server.account(&org.id, "local", &[("owner", "customers")]).await;
    let exceeds = "GRANT_EXCEEDS_CALLER";
    // Each must be held on the whole org: `x.y` is held only below `customers`.
    let refusal = create(&manager, role("r", &["a.b", "orgs.write", "x.y", "tokens.read"])).await;
    let refusal = refused(refusal, Code::PermissionDenied, exceeds);
    let missing = refusal.get_details_precondition_failure().unwrap().violations;
    let missing: Vec<_> = missing.into_iter().map(|violation| violation.subject).collect();
    assert_eq!(missing, ["orgs.write on *", "x.y on *"]);
    refused(create(&local, role("r", &["x.y"])).await, Code::PermissionDenied, "PERMISSION_MISSING");
    // Platform permissions are never given outside the system org, not even by an operator.
    refused(create(&org.owner, role("r", &["platform.keys"])).await, Code::PermissionDenied, exceeds);
    let abroad = pb::CreateRoleRequest {
        org_id: org.id.clone(),
        role: Some(role("r", &["platform.accounts"])),
        ..Default::default()
    };
    refused(server.operator.orgs().create_role(abroad).await, Code::PermissionDenied, exceeds);

    let bots = pb::Role { account_kinds: vec![SERVICE_ACCOUNT], ..role("bots", &["orgs.write", "a.b"]) };
    let made = create(&org.owner, bots).await.unwrap();
    let refusal = carry(&manager, &made, &["orgs.write", "a.b", "x.y"]).await;
    refused(refusal, Code::PermissionDenied, exceeds);
    // To widen it to users is to create it for them: all of it must be held.
    let kinds =
        |kinds: Vec<i32>| pb::Role { id: made.id.clone(), account_kinds: kinds, ..Default::default() };
    for wider in [vec![], vec![USER], vec![USER, SERVICE_ACCOUNT]] {
        let refusal = update(&manager, kinds(wider), &["account_kinds"]).await;
        refused(refusal, Code::PermissionDenied, exceeds);
    }
    assert_eq!(get(&org.owner, &made.id).await.unwrap(), made, "nothing has changed");
    // What is held is added, and everything that is there may be removed.
    carry(&manager, &made, &["orgs.write", "a.b", "tokens.read"]).await.unwrap();
    carry(&manager, &made, &["a.b"]).await.unwrap();
    update(&manager, kinds(vec![]), &["account_kinds"]).await.unwrap();
    // A credential narrower than its account creates what the credential holds.
    let request = pb::CreateTokenRequest {
        scopes: vec!["roles.write".into(), "a.b".into()],
        ..token_for(&org.id, &org.owner_id)
    };
    let narrow = server.operator.tokens().create_token(request).await.unwrap().into_inner().secret;
    let narrow = server.client(narrow);
    for caller in [&narrow, &narrow.with_jwt().await] {
        refused(create(caller, role("s", &["x.y"])).await, Code::PermissionDenied, exceeds);
    }
    create(&narrow, role("s", &["a.b"])).await.unwrap();
}

#[tokio::test]
async fn a_role_that_makes_operators_is_of_the_system_org_alone() {
    let server = TestServer::start().await;
    let made = create(&server.operator, role("operators", &["platform.accounts"])).await.unwrap();
    let system = server.operator.caller().await.unwrap().org.unwrap().id;
    let (deputy, client) = server.account(&system, "deputy", &[("owner", "*")]).await;
    // An owner of the system org without it neither gives it nor revokes it from operators.
    let refusal = give(&client, &deputy.id, &made.id, "*").await;
    refused(refusal, Code::PermissionDenied, "GRANT_EXCEEDS_CALLER");
    refused(carry(&client, &made, &["x.y"]).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let (second, second_client) = server.account(&system, "second", &[(&made.id, "*")]).await;
    let org = server.org().await;
    let abroad = pb::GetOrgRequest { org_id: org.id };
    second_client.orgs().get_org(abroad).await.unwrap();
    // An operator by a role is deactivated only by operators, too.
    let request = pb::RevokeAccessRequest {
        account_id: second.id,
        grants: vec![grant(&made.id, "*")],
        ..Default::default()
    };
    let refusal = client.accounts().revoke_access(request.clone()).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    server.operator.accounts().revoke_access(request).await.unwrap();
}

#[tokio::test]
async fn widening_counts_on_the_next_request_and_narrowing_ends_jwts() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let made = create(&org.owner, role("reader", &["x.y", "roles.read"])).await.unwrap();
    let (bot, client) = server.account(&org.id, "bot", &[(&made.id, "*")]).await;
    assert_eq!(client.exchange().await.unwrap().scopes, ["roles.read", "x.y"]);
    let before = client.with_jwt().await;
    let version = org_version(&server, &org).await;

    carry(&org.owner, &made, &["x.y", "roles.read", "accounts.read"]).await.unwrap();
    assert_eq!(client.exchange().await.unwrap().scopes, ["accounts.read", "roles.read", "x.y"]);
    assert_eq!(client.caller().await.unwrap().permissions, ["accounts.read", "roles.read", "x.y"]);
    let wide = client.with_jwt().await;
    wide.accounts().list_accounts(pb::ListAccountsRequest::default()).await.unwrap();
    before.caller().await.expect("nothing was lost: a JWT from before goes on");
    assert_eq!(org_version(&server, &org).await, version);

    // The owner's own call uses the current rights; so do all calls.
    carry(&org.owner, &made, &["x.y"]).await.unwrap();
    assert_eq!(org_version(&server, &org).await, version + 1, "one row, however many hold it");
    for jwt in [&before, &wide] {
        refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
        let request = jwt.accounts().list_accounts(pb::ListAccountsRequest::default()).await;
        refused(request, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    }
    assert_eq!(client.exchange().await.unwrap().scopes, ["x.y"]);
    let request = client.accounts().list_accounts(pb::ListAccountsRequest::default()).await;
    refused(request, Code::PermissionDenied, "PERMISSION_MISSING");
    let jwt = client.exchange().await.unwrap().access_token;
    assert_eq!(claims(&jwt)["scope"], "x.y");
    assert_eq!(claims(&jwt)["roles"], serde_json::json!(["member", made.id]));

    // What no account holds, no account loses.
    take(&org.owner, &bot.id, &made.id, "*").await;
    let version = org_version(&server, &org).await;
    carry(&org.owner, &made, &["other.verb"]).await.unwrap();
    assert_eq!(org_version(&server, &org).await, version);
    // Nor under another name.
    give(&org.owner, &bot.id, &made.id, "*").await.unwrap();
    let jwt = client.with_jwt().await;
    let renamed = pb::Role { id: made.id.clone(), name: "renamed".into(), ..Default::default() };
    update(&org.owner, renamed, &[]).await.unwrap();
    jwt.caller().await.unwrap();
}

#[tokio::test]
async fn an_owners_list_names_what_roles_name() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (_, on_a) = server.account(&org.id, "on-a", &[("owner", "a")]).await;
    let knows = async |permission: &str| {
        let all = org.owner.exchange().await.unwrap().scopes;
        let jwt = on_a.exchange().await.unwrap().access_token;
        let below = claims(&jwt)["authorization_details"][0]["actions"].to_string();
        (all.contains(&permission.to_owned()), below.contains(permission))
    };
    assert_eq!(knows("bills.pay").await, (false, false));
    let made = create(&org.owner, role("r", &["bills.pay"])).await.unwrap();
    assert_eq!(knows("bills.pay").await, (true, true));
    carry(&org.owner, &made, &["bills.send"]).await.unwrap();
    assert_eq!((knows("bills.pay").await, knows("bills.send").await), ((false, false), (true, true)));
    delete(&org.owner, &made.id, "").await.unwrap();
    assert_eq!(knows("bills.send").await, (false, false));
}

/// Otherwise an org with very many would be too much to read for its owners.
#[tokio::test]
async fn an_owners_list_names_a_thousand_at_most() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let many = "insert into grants (org_id, grant_id, account_id, right_id, create_time)
                select a.org_id, gen_random_uuid(), a.account_id, 'x.p' || n, now()
                from accounts a, generate_series(1000, 5000) n where a.account_id = $1";
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let bot = AccountId::parse(&bot.id).unwrap().uuid();
    sqlx::query(many).bind(bot).execute(&server.state.db).await.unwrap();
    server.state.principals.clear();
    let named = org.owner.caller().await.unwrap().permissions;
    let named: Vec<_> = named.iter().filter(|name| name.starts_with("x.")).collect();
    assert_eq!((named.len(), named[0].as_str(), named[999].as_str()), (1_000, "x.p1000", "x.p1999"));
    // It holds them all, and a verifier that asks for one gets the answer.
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(org.owner.token().into()),
        scopes: vec!["x.p4999".into()],
        ..Default::default()
    };
    assert_eq!(org.owner.tokens().exchange_token(request).await.unwrap().into_inner().scopes, ["x.p4999"]);
    let request = pb::IntrospectTokenRequest {
        token_text: org.owner.token().into(),
        required_scopes: vec!["x.p4999".into()],
        ..Default::default()
    };
    let told = org.owner.tokens().introspect_token(request).await.unwrap().into_inner();
    assert!(told.active && told.scope.split(' ').any(|scope| scope == "x.p4999"));
    refused(org.owner.exchange().await, Code::FailedPrecondition, "SCOPE_TOO_WIDE");
}

#[tokio::test]
async fn a_role_is_for_its_kinds_of_account() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let people = pb::Role { account_kinds: vec![USER], ..role("people", &["x.y"]) };
    let people = create(&org.owner, people).await.unwrap();
    let (bot, client) = server.account(&org.id, "bot", &[]).await;
    let refusal = give(&org.owner, &bot.id, &people.id, "*").await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["grants[0].role_id"]);
    let request = pb::CreateServiceAccountRequest {
        name: "new".into(),
        grants: vec![grant("x.y", "*"), grant(&people.id, "*"), grant("x.y", "nowhere")],
        ..Default::default()
    };
    let refusal = org.owner.accounts().create_service_account(request).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["grants[1].role_id", "grants[2].resource"]);

    // For all kinds, it is given; and that is not revoked while accounts of a kind hold it.
    let kinds =
        |kinds: Vec<i32>| pb::Role { id: people.id.clone(), account_kinds: kinds, ..Default::default() };
    update(&org.owner, kinds(vec![]), &["account_kinds"]).await.unwrap();
    give(&org.owner, &bot.id, &people.id, "*").await.unwrap();
    let refusal = update(&org.owner, kinds(vec![USER]), &[]).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "RESOURCE_IN_USE");
    let holders = refusal.get_details_precondition_failure().unwrap().violations;
    assert_eq!(holders.len(), 1);
    assert_eq!((holders[0].r#type.as_str(), holders[0].subject.as_str()), ("ACCOUNT", bot.id.as_str()));
    // The other kind is removed, since no account of it holds the role; no JWT is revoked.
    let jwt = client.with_jwt().await;
    update(&org.owner, kinds(vec![SERVICE_ACCOUNT]), &[]).await.unwrap();
    assert_eq!(jwt.caller().await.unwrap().permissions, ["x.y"]);
    take(&org.owner, &bot.id, &people.id, "*").await;
    update(&org.owner, kinds(vec![USER]), &[]).await.unwrap();
}

#[tokio::test]
async fn a_role_that_is_held_is_not_deleted() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let made = create(&org.owner, role("r", &["x.y"])).await.unwrap();
    let (one, _) = server.account(&org.id, "one", &[(&made.id, "*"), (&made.id, "a")]).await;
    // A deleted account would get it back when undeleted.
    let two = deleted_account(&server, &org, "two", &[(&made.id, "a")]).await;
    let refusal = delete(&org.owner, &made.id, "").await;
    let refusal = refused(refusal, Code::FailedPrecondition, "RESOURCE_IN_USE");
    let mut holders: Vec<_> = refusal.get_details_precondition_failure().unwrap().violations;
    holders.sort_by(|a, b| a.subject.cmp(&b.subject));
    let holders: Vec<_> = holders.iter().map(|holder| holder.subject.as_str()).collect();
    assert_eq!(holders, [one.id.as_str(), two.as_str()]);
    take(&org.owner, &one.id, &made.id, "*").await;
    take(&org.owner, &one.id, &made.id, "a").await;
    refused(delete(&org.owner, &made.id, "").await, Code::FailedPrecondition, "RESOURCE_IN_USE");
    take(&org.owner, &two, &made.id, "a").await;
    delete(&org.owner, &made.id, "").await.unwrap();
    // Of many holders a hundred are named.
    let made = create(&org.owner, role("r", &["x.y"])).await.unwrap();
    sqlx::query(
        "with new as (
             insert into memberships (org_id, account_id, home_org_id, title, version, create_time)
             select org_id, gen_random_uuid(), org_id, 'x', 1, now() from orgs, generate_series(1, 150) where slug = $1
             returning org_id, account_id)
         insert into grants (org_id, grant_id, account_id, right_id, role_id, create_time)
         select org_id, gen_random_uuid(), account_id, $2, (select role_id from roles where name = 'r'), now() from new",
    )
    .bind(&org.slug)
    .bind(&made.id)
    .execute(&server.state.db)
    .await
    .unwrap();
    let refusal = delete(&org.owner, &made.id, "").await;
    let refusal = refused(refusal, Code::FailedPrecondition, "RESOURCE_IN_USE");
    assert!(refusal.message().starts_with("100 or more accounts"), "{}", refusal.message());
    // As many as fit into the headers that clients accept.
    assert!(refusal.get_details_precondition_failure().unwrap().violations.len() >= 90);
}

#[tokio::test]
async fn what_is_wrong_with_a_role_is_named() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let owner = &org.owner;
    let made = create(owner, role("taken", &["x.y"])).await.unwrap();
    let many: Vec<String> = (0..1_001).map(|n| format!("x.y{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(64);
    let cases: Vec<(pb::Role, &[&str])> = vec![
        (pb::Role::default(), &["role.name", "role.permissions"]),
        (role("a b", &["x.y"]), &["role.name"]),
        (role(&long, &["x.y"]), &["role.name"]),
        (role("Owner", &["x.y"]), &["role.name"]),
        (
            role("r", &["accounts.frobnicate", "x.y", "X.y", "*"]),
            &["role.permissions[0]", "role.permissions[2]", "role.permissions[3]"],
        ),
        (role("r", &["platform.all"]), &["role.permissions[0]"]),
        (pb::Role { account_kinds: vec![0], ..role("r", &["x.y"]) }, &["role.account_kinds"]),
        (pb::Role { account_kinds: vec![USER, 7], ..role("r", &["x.y"]) }, &["role.account_kinds"]),
        (
            pb::Role {
                display_name: Some("x".repeat(101)),
                description: Some("x".repeat(1_001)),
                ..role("r", &["x.y"])
            },
            &["role.display_name", "role.description"],
        ),
    ];
    for (bad, fields) in cases {
        let refusal = refused(create(owner, bad.clone()).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields, "{bad:?}");
    }
    let refusal = create(owner, role("r", &many)).await;
    refused(refusal, Code::FailedPrecondition, "LIMIT_REACHED");
    create(owner, role("hundred", &many[..1_000])).await.unwrap();
    refused(create(owner, role("TAKEN", &["x.y"])).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    let rename = pb::Role { id: made.id.clone(), name: "Hundred".into(), ..Default::default() };
    refused(update(owner, rename, &[]).await, Code::AlreadyExists, "RESOURCE_EXISTS");

    let account = format!("acct_{}", made.id.strip_prefix("role_").unwrap());
    let unknown = "role_00000000000000000000000001";
    for (id, field) in [("owner", "role.id"), (&account, "role.id"), ("", "role.id"), ("Owner", "role.id")] {
        let change = pb::Role { id: id.into(), ..role("r", &["x.y"]) };
        let refusal = refused(update(owner, change, &[]).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), [field], "{id:?}");
        let refusal = refused(delete(owner, id, "").await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["role_id"], "{id:?}");
    }
    refused(get(owner, &account).await, Code::InvalidArgument, "INVALID_FIELD");
    for refusal in [get(owner, unknown).await.err(), delete(owner, unknown, "").await.err()] {
        refused::<()>(Err(refusal.unwrap()), Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let change = pb::Role { id: unknown.into(), ..role("r", &["x.y"]) };
    refused(update(owner, change, &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // A role of another org is none.
    let other = server.org().await;
    refused(get(&other.owner, &made.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(delete(&other.owner, &made.id, "").await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let refusal = give(&other.owner, &other.owner_id, &made.id, "*").await;
    refused(refusal, Code::InvalidArgument, "INVALID_FIELD");

    let own = |role: pb::Role| pb::Role { id: made.id.clone(), ..role };
    for (change, mask, fields) in [
        (own(pb::Role::default()), &[][..], &["update_mask"][..]),
        (own(role("r", &[])), &["*"], &["update_mask"]),
        (own(role("r", &[])), &["name", "id"], &["update_mask"]),
        (own(role("r", &[])), &["system", "etag"], &["update_mask", "update_mask"]),
        (own(pb::Role::default()), &["permissions"], &["role.permissions"]),
        (own(pb::Role::default()), &["name"], &["role.name"]),
        (own(role("Manager", &["nonsense"])), &[], &["role.name", "role.permissions[0]"]),
    ] {
        let refusal = refused(update(owner, change, mask).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields, "{mask:?}");
    }
    assert_eq!(get(owner, &made.id).await.unwrap(), made);
}

#[tokio::test]
async fn an_org_has_a_thousand_roles_at_most() {
    let server = TestServer::start().await;
    let org = server.org().await;
    sqlx::query(
        "insert into roles (org_id, role_id, name, name_key, permissions, account_kinds, revision, create_time, update_time)
         select org_id, gen_random_uuid(), 'r' || n, 'r' || n, array['x.y'], '{}', 1, now(), now()
         from orgs, generate_series(1, 999) n where slug = $1",
    )
    .bind(&org.slug)
    .execute(&server.state.db)
    .await
    .unwrap();
    create(&org.owner, role("thousandth", &["x.y"])).await.unwrap();
    let refusal = create(&org.owner, role("more", &["x.y"])).await;
    refused(refusal, Code::FailedPrecondition, "LIMIT_REACHED");
    create(&server.org().await.owner, role("more", &["x.y"])).await.unwrap();
}

/// Inserts roles of a thousand permissions each, as if by many calls.
async fn fill_roles(server: &TestServer, slug: &str, count: i32) {
    sqlx::query(
        "insert into roles (org_id, role_id, name, name_key, permissions, account_kinds, revision, create_time, update_time)
         select org_id, gen_random_uuid(), 'r' || n, 'r' || n,
                array(select 'r' || n || '.p' || p from generate_series(1, 1000) p), '{}', 1, now(), now()
         from orgs, generate_series(1, $2) n where slug = $1",
    )
    .bind(slug)
    .bind(count)
    .execute(&server.state.db)
    .await
    .unwrap();
}

#[tokio::test]
async fn the_roles_of_an_org_have_twenty_thousand_permissions_together() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let owner = &org.owner;
    let at_limit = |outcome: Result<pb::Role, Status>| {
        let refusal = refused(outcome, Code::FailedPrecondition, "LIMIT_REACHED");
        let details = refusal.get_details_precondition_failure().unwrap();
        assert_eq!(details.violations[0].subject, "permissions of all roles of one org");
    };
    fill_roles(&server, &org.slug, 19).await;
    let many: Vec<String> = (0..999).map(|n| format!("last.p{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let last = create(owner, role("last", &many)).await.unwrap();
    at_limit(create(owner, role("more", &["x.y", "x.z"])).await);
    let one = create(owner, role("one", &["x.y"])).await.unwrap();
    at_limit(create(owner, role("more", &["x.y"])).await);
    // It does not grow by an update, either, and is freed by one.
    let of =
        |made: &pb::Role, permissions: &[&str]| pb::Role { id: made.id.clone(), ..role("", permissions) };
    at_limit(update(owner, of(&one, &["x.y", "x.z"]), &["permissions"]).await);
    update(owner, of(&one, &["x.z"]), &["permissions"]).await.unwrap();
    update(owner, of(&last, &many[..998]), &["permissions"]).await.unwrap();
    // Of two calls at once, one finds what the other has written.
    let (a, b) = tokio::join!(create(owner, role("a", &["x.y"])), create(owner, role("b", &["x.y"])));
    assert_eq!(u8::from(a.is_ok()) + u8::from(b.is_ok()), 1);
    at_limit(if a.is_ok() { b } else { a });
    // An org that had more before may shrink and rename its roles.
    let full = server.org().await;
    let made = create(&full.owner, role("large", &["x.a", "x.b", "x.c"])).await.unwrap();
    fill_roles(&server, &full.slug, 21).await;
    update(&full.owner, of(&made, &["x.a", "x.b"]), &["permissions"]).await.unwrap();
    update(&full.owner, pb::Role { name: "renamed".into(), ..of(&made, &[]) }, &["name"]).await.unwrap();
    at_limit(update(&full.owner, of(&made, &["x.a", "x.b", "x.d"]), &["permissions"]).await);
}

#[tokio::test]
async fn a_role_is_granted_or_deleted_and_never_both() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[]).await;
    for n in 0..10 {
        let made = create(&org.owner, role(&format!("r{n}"), &["x.y"])).await.unwrap();
        let (given, deleted) =
            tokio::join!(give(&org.owner, &bot.id, &made.id, "*"), delete(&org.owner, &made.id, ""));
        match (given, deleted) {
            (Ok(()), Err(status)) => {
                refused::<()>(Err(status), Code::FailedPrecondition, "RESOURCE_IN_USE");
                take(&org.owner, &bot.id, &made.id, "*").await;
            }
            (Err(status), Ok(())) => {
                refused::<()>(Err(status), Code::InvalidArgument, "INVALID_FIELD");
            }
            both => panic!("{both:?}"),
        }
    }
    assert!(client.caller().await.unwrap().permissions.is_empty());
}
