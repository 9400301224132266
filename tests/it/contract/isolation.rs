//! One org never reads or changes another's data. Two orgs with the same names, roles and
//! paths; the owner of the one walks every RPC with every id of the other. What comes
//! back is what comes back for ids that do not exist, and the other's rows are unchanged.

use std::collections::BTreeMap;

use countersign::clock::random;
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use prost_types::DescriptorProto;
use prost_types::field_descriptor_proto::{Label, Type};
use sqlx::AssertSqlSafe;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::contract::access_matrix::{OK, Things, for_owner};
use crate::contract::message_bytes;
use crate::contract::proto::{message, messages, rpcs};
use crate::harness::federation;
use crate::harness::{Client, Org, TestServer, call_named, grant, invite, reason, token_for, violated};

/// A caller with a token string or a code is its holder, whatever org that is in; and so is one that
/// knows a password.
const BY_TEXT_ALONE: [&str; 6] = [
    "TokenService/ExchangeToken",
    "TokenService/Login",
    "TokenService/ReportLeakedToken",
    "AccountService/ResetPassword",
    "OrgService/GetInvitation",
    "OrgService/AcceptInvitation",
];

/// An org with everything in it that the other has too.
struct Twin {
    org: Org,
    target: pb::Account,
    target_token: String,
    token_id: String,
    role_id: String,
    grant_id: String,
    invitation_id: String,
    issuer_id: String,
    rule_id: String,
}

impl Twin {
    async fn make(server: &TestServer) -> Self {
        let org = server.org().await;
        server.resources(&org.id, &["a/b"]).await;
        let (target, _) = server.account(&org.id, "target", &[("auditor", "*"), ("x.y", "a")]).await;
        let request =
            pb::CreateTokenRequest { display_name: "kept".into(), ..token_for(&org.id, &target.id) };
        let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
        let role = pb::Role { name: "reader".into(), permissions: vec!["x.y".into()], ..Default::default() };
        let request =
            pb::CreateRoleRequest { org_id: org.id.clone(), role: Some(role), ..Default::default() };
        let role = server.operator.orgs().create_role(request).await.unwrap().into_inner().role;
        let role_id = role.unwrap().id;
        let grants = vec![grant(&role_id, "a")];
        let give = pb::GrantAccessRequest { org_id: org.id.clone(), account_id: target.id.clone(), grants };
        let given = server.operator.accounts().grant_access(give).await.unwrap().into_inner().account_grants;
        let grant_id = given[0].grant_id.clone();
        let (target_token, token_id) = (made.secret, made.token.unwrap().id);
        let email = format!("invited@{}.example", org.slug);
        let invitation_id = invite(&server.operator, &org.id, &email, &[]).await.unwrap().id;
        let issuer_id = federation::issuer(server, &org.id, "kept").await.id;
        let rule = pb::FederationRule {
            audiences: vec!["kept".into()],
            ..federation::rule_for(&issuer_id, &target.id)
        };
        let rule_id = federation::rule(server, &org.id, rule).await.id;
        Self { org, target, target_token, token_id, role_id, grant_id, invitation_id, issuer_id, rule_id }
    }

    fn things<'a>(&'a self, server: &'a TestServer) -> Things<'a> {
        let (target, target_token) = (self.target.clone(), self.target_token.clone());
        Things::new(server, &self.org, target, target_token)
    }

    /// The id of this org's that a field names; none for one that names no such thing.
    fn id_for(&self, field: &str) -> Option<&str> {
        Some(match field {
            "org_id" => &self.org.id,
            "account_id" | "from_account_id" | "actor_id" | "resource_id" => &self.target.id,
            "token_id" => &self.token_id,
            "role_id" => &self.role_id,
            "grant_id" => &self.grant_id,
            "invitation_id" => &self.invitation_id,
            "issuer_id" => &self.issuer_id,
            "rule_id" | "federation_rule_id" => &self.rule_id,
            // Ids that others give.
            "request_id" | "external_id" => return None,
            other if other.ends_with("_id") => panic!("say which id of the other org is for {other}"),
            _ => return None,
        })
    }

    /// The id that a message of this type has itself.
    fn own_id(&self, message: &str) -> Option<&str> {
        match message {
            "Org" => Some(&self.org.id),
            "Account" => Some(&self.target.id),
            "Token" => Some(&self.token_id),
            "Role" => Some(&self.role_id),
            "Issuer" => Some(&self.issuer_id),
            "FederationRule" => Some(&self.rule_id),
            _ => None,
        }
    }

    /// The request once for each field that takes an id, with this org's put in there.
    fn injected(&self, request: &[u8], kind: &DescriptorProto) -> Vec<(String, Vec<u8>)> {
        let mut injected = Vec::new();
        for field in &kind.field {
            let (name, number) = (field.name(), field.number() as u32);
            if field.r#type() == Type::String {
                let id = self.id_for(name);
                injected
                    .extend(id.map(|id| (name.to_owned(), message_bytes::with_text(request, number, id))));
            } else if field.r#type() == Type::Message && field.type_name().starts_with(".countersign.v1.") {
                let Some(within) = message(field.type_name()) else { continue };
                // What is yet to be created has no id and no org: those that are sent are not checked.
                let made = message_bytes::number(kind, "request_id").is_some();
                let is_checked = |inner: &str| !made || !["id", "org_id"].contains(&inner);
                for (inner, bytes) in
                    self.messages(&within).into_iter().filter(|(inner, _)| is_checked(inner))
                {
                    let bytes = message_bytes::with_bytes(request, number, &bytes);
                    let list = if field.label() == Label::Repeated { "[]" } else { "" };
                    injected.push((format!("{name}{list}.{inner}"), bytes));
                }
            }
        }
        injected
    }

    /// A message within a request, once for each id in it.
    fn messages(&self, kind: &DescriptorProto) -> Vec<(String, Vec<u8>)> {
        let mut made = Vec::new();
        for field in kind.field.iter().filter(|field| field.r#type() == Type::String) {
            let own = || if field.name() == "id" { self.own_id(kind.name()) } else { None };
            let Some(id) = self.id_for(field.name()).or_else(own) else { continue };
            let mut bytes = message_bytes::with_text(&[], field.number() as u32, id);
            // A grant without a node is not checked.
            if let Some(place) = message_bytes::number(kind, "resource") {
                bytes = message_bytes::with_text(&bytes, place, "*");
            }
            made.push((field.name().to_owned(), bytes));
        }
        made
    }
}

/// A sum over all rows of an org, in every table that has one.
async fn checksum(server: &TestServer, org: &Org) -> BTreeMap<String, String> {
    let db = &server.state.db;
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.table_name::text from information_schema.columns c
         where c.table_schema = 'public' and c.column_name = 'org_id' order by 1",
    )
    .fetch_all(db)
    .await
    .unwrap();
    assert!(tables.len() > 10 && tables.iter().any(|table| table == "grants"));
    let each = tables.iter().map(|table| {
        format!(
            "select '{table}', coalesce(md5(string_agg(t::text, ' ' order by t::text)), '') from {table} t where org_id = $1"
        )
    });
    let sums: Vec<(String, String)> =
        sqlx::query_as(AssertSqlSafe(each.collect::<Vec<_>>().join(" union all ")))
            .bind(OrgId::parse(&org.id).unwrap().uuid())
            .fetch_all(db)
            .await
            .unwrap();
    sums.into_iter().collect()
}

/// The same request about things that do not exist, and what stands for what in it.
fn about_nothing(server: &TestServer, own: &str, request: &[u8]) -> (Vec<u8>, Vec<(String, String)>) {
    let mut unknown = Vec::new();
    for id in message_bytes::ids(request).into_iter().filter(|id| !own.contains(id.as_str())) {
        let (prefix, _) = id.split_once('_').unwrap();
        let fresh = server.state.clock.new_id::<OrgId>().to_string();
        unknown.push((id.clone(), fresh.replacen("org", prefix, 1)));
    }
    for text in message_bytes::credentials(request) {
        let fresh =
            TokenString::new(TokenStringKind::SecretToken, server.state.clock.new_id::<TokenId>(), random());
        unknown.push((text, fresh.expose().to_owned()));
    }
    let request =
        unknown.iter().fold(request.to_vec(), |request, (real, fake)| replaced(&request, real, fake));
    (request, unknown)
}

/// Ids of one kind are of one length, so that the message stays one.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "{from} {to}");
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// All of an answer that a caller can read.
fn seen(answer: &Result<Vec<u8>, Status>) -> String {
    match answer {
        Ok(bytes) => format!("OK {}", bytes.escape_ascii()),
        Err(status) => format!("{:?} {} {:?}", status.code(), status.message(), status.get_error_details()),
    }
}

#[tokio::test]
async fn another_orgs_things_are_as_if_they_were_not_there() {
    let server = TestServer::start().await;
    let (own, other) = (Twin::make(&server).await, Twin::make(&server).await);
    let callers = [("token", own.org.owner.clone()), ("jwt", own.org.owner.with_jwt().await)];
    let mut attacks = 0;
    let mut wrong = Vec::new();
    for (n, rpc) in rpcs().into_iter().enumerate() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        if BY_TEXT_ALONE.contains(&short) {
            continue;
        }
        let (kind, _) = messages(&rpc);
        for (form, caller) in &callers {
            let caller: &Client = caller;
            let unique = format!("attack-{form}-{n}");
            let about_other = other.things(&server).request(short, &unique).await;
            let about_own = own.things(&server).request(short, &unique).await;
            let known = String::from_utf8_lossy(&about_own).into_owned();
            let mut requests = vec![("as it is".to_owned(), about_other.clone())];
            if let Some(org_id) = message_bytes::number(&kind, "org_id") {
                requests.push(("without org_id".to_owned(), message_bytes::without(&about_other, org_id)));
            }
            requests.extend(other.injected(&about_own, &kind));
            for (how, request) in requests {
                let (control, unknown) = about_nothing(&server, &known, &request);
                if unknown.is_empty() {
                    continue;
                }
                attacks += 1;
                let before = checksum(&server, &other.org).await;
                let answer = call_named(caller, &rpc, &request, "isolation").await;
                let after = checksum(&server, &other.org).await;
                let expected = call_named(caller, &rpc, &control, "isolation").await;
                let expected =
                    unknown.iter().fold(seen(&expected), |text, (real, fake)| text.replace(fake, real));
                let case = format!("{short} by {form}, {how}");
                if before != after {
                    wrong.push(format!("{case} changes rows of the other org"));
                }
                if seen(&answer) != expected {
                    wrong.push(format!("{case}:\n  {}\n  instead of\n  {expected}", seen(&answer)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(attacks > 2 * rpcs().len(), "only {attacks}");
    // The sums detect changes, and the other org's owner reads that all is there.
    let before = checksum(&server, &other.org).await;
    server.resources(&other.org.id, &["c"]).await;
    assert_ne!(checksum(&server, &other.org).await, before);
    assert_ne!(checksum(&server, &other.org).await, checksum(&server, &own.org).await);
}

/// An org's id where an account's belongs, and the like: each field that takes an id is named.
#[tokio::test]
async fn ids_of_another_kind_are_refused_by_the_field() {
    let server = TestServer::start().await;
    let own = Twin::make(&server).await;
    let mut wrong = Twin::make(&server).await;
    let an_org = std::mem::replace(&mut wrong.org.id, wrong.target.id.clone());
    for id in [
        &mut wrong.target.id,
        &mut wrong.token_id,
        &mut wrong.role_id,
        &mut wrong.grant_id,
        &mut wrong.invitation_id,
        &mut wrong.issuer_id,
        &mut wrong.rule_id,
    ] {
        an_org.clone_into(id);
    }
    let (mut tried, mut answers) = (0, Vec::new());
    for rpc in rpcs() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        if BY_TEXT_ALONE.contains(&short) {
            continue;
        }
        let caller = if for_owner(short) == OK { &own.org.owner } else { &server.operator };
        let request = own.things(&server).request(short, "wrong-id").await;
        for (field, request) in wrong.injected(&request, &messages(&rpc).0) {
            let within = field.split_once('.').map_or("", |(_, within)| within);
            // Of a nested message, its identifying fields; the rest is set by the server. And a resource of
            // the log may be a path.
            if ["org_id", "account_id", "grant_id"].contains(&within)
                || (short, field.as_str()) == ("OrgService/ListEvents", "resource_id")
            {
                continue;
            }
            tried += 1;
            let said = match call_named(caller, &rpc, &request, "wrong-id").await {
                Ok(_) => "OK".to_owned(),
                Err(status) if reason(&status) != "INVALID_FIELD" => reason(&status),
                Err(status) => violated(&status).join(", "),
            };
            let named =
                [0, 1].map(|n| field.replace("[]", &format!("[{n}]")).replace("].role_id", "].right"));
            if !named.contains(&said) {
                answers.push(format!("{short} with another kind of id in {field}: {said}"));
            }
        }
    }
    assert!(answers.is_empty(), "{}", answers.join("\n"));
    assert!(tried > rpcs().len(), "only {tried}");
}
