//! Every RPC that gives pages: what its page tokens are good for, and that pages
//! neither skip nor repeat a row.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::domain::values::ids::RuleId;
use countersign::grpc::pb;
use prost_types::DescriptorProto;
use prost_types::field_descriptor_proto::Type;
use tonic::{Code, Status};

use crate::contract::access_matrix::Things;
use crate::contract::message_bytes;
use crate::contract::proto::{messages, rpcs};
use crate::harness::federation;
use crate::harness::{Client, Org, TestServer, call_raw, grant, invite, refused, token_for, violated};

/// An RPC that gives pages.
struct List {
    rpc: String,
    kind: DescriptorProto,
    /// A good request for a page of one row.
    request: Vec<u8>,
    page_token: u32,
    next_page_token: u32,
}

impl List {
    async fn all(things: &Things<'_>) -> Vec<Self> {
        let mut lists = Vec::new();
        for rpc in rpcs() {
            let (kind, answer) = messages(&rpc);
            let Some(page_token) = message_bytes::number(&kind, "page_token") else { continue };
            if rpc.ends_with("/ListSigningKeys") {
                // The few keys of the platform, which no owner of an org lists: `signing_keys` pages them.
                continue;
            }
            let request = things.request(rpc.strip_prefix("/countersign.v1.").unwrap(), "list").await;
            let page_size = message_bytes::number(&kind, "page_size").unwrap();
            lists.push(Self {
                request: message_bytes::with_number(&request, page_size, 1),
                page_token,
                next_page_token: message_bytes::number(&answer, "next_page_token").unwrap(),
                rpc,
                kind,
            });
        }
        assert!(lists.len() >= 7);
        lists
    }

    fn number(&self, field: &str) -> u32 {
        message_bytes::number(&self.kind, field).unwrap()
    }

    fn sized(&self, size: i64) -> Vec<u8> {
        message_bytes::with_number(&self.request, self.number("page_size"), size)
    }

    async fn page(&self, by: &Client, request: &[u8], token: &str) -> Result<(Vec<Vec<u8>>, String), Status> {
        let request = message_bytes::with_text(request, self.page_token, token);
        let answer = call_raw(by, &self.rpc, request).await?;
        let next = message_bytes::values(&answer, self.next_page_token).pop().unwrap_or_default();
        // The list that has pages stands before the token of the next one.
        Ok((message_bytes::values(&answer, self.next_page_token - 1), String::from_utf8(next).unwrap()))
    }

    /// The token of the second page.
    async fn token(&self, by: &Client) -> String {
        let (rows, token) = self.page(by, &self.request, "").await.unwrap();
        assert!(rows.len() == 1 && !token.is_empty(), "{} has two rows to give", self.rpc);
        token
    }

    async fn refuses(&self, by: &Client, request: &[u8], token: &str, why: &str) {
        let answer = self.page(by, request, token).await;
        assert!(answer.is_err(), "{}: {why}", self.rpc);
        let refusal = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["page_token"], "{}: {why}", self.rpc);
    }

    /// The same request with another filter, once for each field that filters.
    fn filtered(&self, org: &Org) -> Vec<(String, Vec<u8>)> {
        let mut others = Vec::new();
        for field in &self.kind.field {
            let (name, number) = (field.name(), field.number() as u32);
            if ["org_id", "page_size", "page_token"].contains(&name) {
                continue;
            }
            let request = match field.r#type() {
                // Of an account yet to be created: in the place of one that is there.
                Type::Enum if name == "account_kind" => {
                    let unnamed = message_bytes::without(&self.request, self.number("account_id"));
                    message_bytes::with_number(&unnamed, number, 1)
                }
                Type::String => {
                    let other = match name {
                        "account_id" | "actor_id" | "resource_id" => org.owner_id.as_str(),
                        "role_id" => "owner",
                        "issuer_id" => "iss_01h455vb4pex5vsknk084sn02q",
                        "rule_id" => "fed_01h455vb4pex5vsknk084sn02q",
                        "parent" | "resource" => "a",
                        "type" => "token.created",
                        "query" => "root",
                        "external_id" => "x",
                        "permission" => "x.y",
                        "purpose" => "SCIM",
                        other => panic!("say what another {other} is"),
                    };
                    message_bytes::with_text(&self.request, number, other)
                }
                Type::Enum | Type::Bool => message_bytes::with_number(&self.request, number, 1),
                Type::Message if field.type_name() == ".google.protobuf.Timestamp" => {
                    message_bytes::with_bytes(&self.request, number, &message_bytes::with_number(&[], 1, 1))
                }
                // An entry of a map: key and value.
                Type::Message if field.type_name().ends_with("Entry") => {
                    let entry = message_bytes::with_text(&message_bytes::with_text(&[], 1, "a"), 2, "b");
                    message_bytes::with_bytes(&self.request, number, &entry)
                }
                other => panic!("say what another {name} is, which is a {other:?}"),
            };
            others.push((name.to_owned(), request));
        }
        others
    }
}

/// More rows of every list.
async fn grow(server: &TestServer, org: &Org, target: &pb::Account, n: usize) {
    let issuer = federation::issuer(server, &org.id, &format!("late-{n}")).await;
    federation::rule(server, &org.id, federation::rule_for(&issuer.id, &target.id)).await;
    let things = Things::new(server, org, target.clone(), String::new());
    presented(server, &things.rule().await, &format!("late-{n}")).await;
    server.org().await;
    server.account(&org.id, &format!("late-{n}"), &[]).await;
    server.resources(&org.id, &[&format!("late-{n}")]).await;
    let role = pb::Role { name: format!("late-{n}"), permissions: vec!["x.y".into()], ..Default::default() };
    let request = pb::CreateRoleRequest { org_id: org.id.clone(), role: Some(role), ..Default::default() };
    server.operator.orgs().create_role(request).await.unwrap();
    let grants = vec![grant(&format!("late.n{n}"), "*")];
    let give = pb::GrantAccessRequest { org_id: org.id.clone(), account_id: target.id.clone(), grants };
    server.operator.accounts().grant_access(give).await.unwrap();
    server.operator.tokens().create_token(token_for(&org.id, &target.id)).await.unwrap();
    invite(&server.operator, &org.id, &format!("late-{n}@example.org"), &[]).await.unwrap();
    acknowledge(org, &format!("late-{n}")).await;
}

/// Makes a verifier.
async fn acknowledge(org: &Org, name: &str) {
    let request = pb::AcknowledgeRevocationsRequest { verifier_name: name.into(), ..Default::default() };
    org.owner.tokens().acknowledge_revocations(request).await.unwrap();
}

/// Records that this subject presented a JWT to the rule.
async fn presented(server: &TestServer, rule_id: &str, subject: &str) {
    let rule_id = RuleId::parse(rule_id).unwrap().uuid();
    let sql = "insert into presentations (org_id, rule_id, outcome, subject, failed_check, audiences, claims, count,
                                          first_time, last_time)
               select org_id, rule_id, 'PASSED', $2, '', '{}', '{}', 1, $3, $3
               from federation_rules where rule_id = $1";
    let query = sqlx::query(sql).bind(rule_id).bind(subject).bind(server.state.clock.now());
    query.execute(&server.state.db).await.unwrap();
}

#[tokio::test]
async fn a_page_token_is_good_for_one_question_of_one_caller() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b"]).await;
    let (target, client) = server.account(&org.id, "target", &[("auditor", "*"), ("x.y", "a")]).await;
    let things = Things::new(&server, &org, target, client.token().into());
    let operator = &server.operator;
    for n in 0..2 {
        invite(operator, &org.id, &format!("invited-{n}@example.org"), &[]).await.unwrap();
        acknowledge(&org, &format!("verifier-{n}")).await;
        federation::issuer(&server, &org.id, &format!("early-{n}")).await;
        federation::rule(&server, &org.id, federation::rule_for(&things.issuer().await, &things.target.id))
            .await;
        presented(&server, &things.rule().await, &format!("early-{n}")).await;
    }
    let lists = List::all(&things).await;
    let mut tokens = BTreeMap::new();
    for list in &lists {
        tokens.insert(list.rpc.as_str(), list.token(operator).await);
    }
    let other = server.org().await;
    for list in &lists {
        let token = &tokens[list.rpc.as_str()];
        let request = &list.request;
        list.page(operator, request, token).await.unwrap();
        // Of another size it is the same question.
        list.page(operator, &list.sized(200), token).await.unwrap();
        list.refuses(&org.owner, request, token, "another caller").await;
        if let Some(org_id) = message_bytes::number(&list.kind, "org_id") {
            let elsewhere = message_bytes::with_text(request, org_id, &other.id);
            list.refuses(operator, &elsewhere, token, "another org").await;
        }
        for (field, request) in list.filtered(&org) {
            list.refuses(operator, &request, token, &format!("another {field}")).await;
        }
        for (rpc, token) in &tokens {
            if *rpc != list.rpc {
                list.refuses(operator, request, token, &format!("of {rpc}")).await;
            }
        }
        let middle = token.len() / 2;
        let changed = if token.as_bytes()[middle] == b'A' { "B" } else { "A" };
        let mut forged = token.clone();
        forged.replace_range(middle..=middle, changed);
        for (made, why) in [
            (&token[..token.len() - 2], "cut"),
            (&token[..1], "cut short"),
            (&format!("{token}AAAA"), "longer"),
            (&forged, "changed"),
            ("AAAA", "made up"),
            ("made up!", "no base64"),
            (&"A".repeat(10_000), "very long"),
            (&org.id, "an id"),
        ] {
            list.refuses(operator, request, made, why).await;
        }
        for size in [-1, i64::from(i32::MIN)] {
            let refusal = list.page(operator, &list.sized(size), "").await;
            let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(violated(&refusal), ["page_size"], "{}", list.rpc);
        }
        let refusal = list.page(operator, &list.sized(-1), "AAAA").await;
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["page_size", "page_token"], "{}", list.rpc);
        let (rows, _) = list.page(operator, &list.sized(i64::from(i32::MAX)), "").await.unwrap();
        assert!((2..=200).contains(&rows.len()), "{}", list.rpc);
    }
    // They are valid for a day, whatever credential the caller has by then.
    server.state.clock.advance(Duration::from_secs(24 * 3_600 - 60));
    let later = server.fresh_operator().await;
    for list in &lists {
        list.page(&later, &list.request, &tokens[list.rpc.as_str()]).await.unwrap();
    }
    server.state.clock.advance(Duration::from_secs(61));
    for list in &lists {
        list.refuses(&later, &list.request, &tokens[list.rpc.as_str()], "a day later").await;
    }
}

#[tokio::test]
async fn pages_hold_every_row_once_while_others_are_made() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b", "m", "z"]).await;
    let (target, client) = server.account(&org.id, "target", &[("auditor", "*"), ("x.y", "a")]).await;
    let things = Things::new(&server, &org, target, client.token().into());
    let mut made = 3;
    for n in 0..made {
        grow(&server, &org, &things.target, n).await;
    }
    for list in List::all(&things).await {
        let (before, rest) = list.page(&server.operator, &list.sized(200), "").await.unwrap();
        assert!(before.len() >= 3 && rest.is_empty(), "{}", list.rpc);
        let (mut rows, mut token) = (Vec::new(), String::new());
        for page in 0.. {
            let (row, next) = list.page(&server.operator, &list.request, &token).await.unwrap();
            assert_eq!(row.len(), 1, "{}", list.rpc);
            rows.extend(row);
            token = next;
            if token.is_empty() {
                break;
            }
            if page < 2 {
                made += 1;
                grow(&server, &org, &things.target, made).await;
            }
        }
        for row in &before {
            assert_eq!(rows.iter().filter(|seen| *seen == row).count(), 1, "{} skips or repeats", list.rpc);
        }
        let all = rows.len();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), all, "{} repeats a row", list.rpc);
    }
}
