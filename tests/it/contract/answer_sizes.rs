//! Answers stay below what clients and proxies accept: 4 MB for a message, 3.5 KB for the headers of a
//! refusal.

use std::collections::BTreeSet;

use countersign::grpc::pb;
use prost::Message as _;
use prost_types::field_descriptor_proto::Label;
use tonic::Code;

use crate::contract::proto::{messages, rpcs};
use crate::harness::{Client, TestServer, header_bytes, refused, token_for};

/// Lists in answers without pages, and why they are small.
const BOUNDED: &[(&str, &str)] = &[
    ("CloneAccountResponse.dropped_grants", "the grants of an account: 1 000"),
    ("GrantAccessResponse.account_grants", "those of the call: 100"),
    ("GrantAccessResponse.first_seen_permissions", "those of the call"),
    ("CreateServiceAccountResponse.first_seen_permissions", "those of the call"),
    ("CreateUserResponse.first_seen_permissions", "those of the call"),
    ("CreateRoleResponse.first_seen_permissions", "those of a role: 1 000"),
    ("UpdateRoleResponse.first_seen_permissions", "those of a role: 1 000"),
    ("CreateTokenResponse.first_seen_permissions", "those of the call: 100"),
    ("UpdateTokenResponse.first_seen_permissions", "those of the call: 100"),
    ("CreateInvitationResponse.first_seen_permissions", "those of the call: 100"),
    ("RevokeAccessResponse.account_grants", "those of the call: 100"),
    ("GetCallerResponse.permissions", "cut to fit"),
    ("UpdateTokenPolicyResponse.affected_tokens", "cut to fit"),
    ("UpdateTokenPolicyResponse.affected_rules", "cut to fit"),
    ("CreateIssuerResponse.warnings", "one for each key of a set: 100"),
    ("UpdateIssuerResponse.warnings", "one for each key of a set: 100"),
    ("CreateFederationRuleResponse.warnings", "the warnings that there are"),
    ("CreateFederationRuleResponse.first_seen_permissions", "those of the call: 100"),
    ("UpdateFederationRuleResponse.warnings", "the warnings that there are"),
    ("AcceptInvitationResponse.dropped_grants", "those of an invitation: 100"),
    ("LoginResponse.orgs", "1 000"),
    ("UpdateFederationRuleResponse.would_stop", "100, without claims"),
    ("UpdateFederationRuleResponse.would_start", "100, without claims"),
    ("ReassignTokenResponse.lost_scopes", "cut to fit"),
    ("ReassignAccountTokensResponse.tokens", "cut to fit"),
    ("ReassignAccountTokensResponse.lost_scopes", "cut to fit"),
    ("ExchangeTokenResponse.scopes", "those of a JWT: 4 KiB"),
    ("ExplainTokenResponse.checks", "the checks that there are"),
    ("CheckAccessResponse.results", "those of the call: 100, each with 100 ids"),
    ("IntrospectTokenResponse.authorization_details", "cut to fit"),
    ("IntrospectTokenResponse.aud", "those of a token: 100"),
    ("BatchIntrospectTokensResponse.responses", "those of the call, each cut to fit"),
    ("RevokeSigningKeyResponse.verifiers_pending", "200"),
    ("GetJsonWebKeySetResponse.keys", "the keys that are published"),
];

/// A new list in an answer has pages, or stands in the table.
#[test]
fn every_list_has_pages_or_a_bound() {
    let mut unpaged = BTreeSet::new();
    for rpc in rpcs() {
        let (_, answer) = messages(&rpc);
        let has_pages = answer.field.iter().any(|field| field.name() == "next_page_token");
        let lists = answer.field.iter().filter(|field| field.label() == Label::Repeated);
        if !has_pages {
            unpaged.extend(lists.map(|field| format!("{}.{}", answer.name(), field.name())));
        }
    }
    let known: BTreeSet<_> = BOUNDED.iter().map(|(field, _)| (*field).to_owned()).collect();
    assert_eq!(unpaged, known);
    assert!(BOUNDED.iter().all(|(_, why)| !why.is_empty()));
}

/// All pages of the tokens of an org, as the number of rows of each.
async fn pages(client: &Client) -> Vec<usize> {
    let (mut sizes, mut page_token, mut seen) = (Vec::new(), String::new(), BTreeSet::new());
    loop {
        let request = pb::ListTokensRequest { page_size: 200, page_token, ..Default::default() };
        let page = client.tokens().list_tokens(request).await.unwrap().into_inner();
        assert!(page.encoded_len() < 4_000_000, "{}", page.encoded_len());
        sizes.push(page.tokens.len());
        seen.extend(page.tokens.into_iter().map(|token| token.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            assert_eq!(seen.len(), sizes.iter().sum::<usize>(), "no token twice");
            return sizes;
        }
    }
}

#[tokio::test]
async fn a_page_of_large_rows_is_shorter_than_asked_for() {
    let server = TestServer::start().await;
    let org = server.org().await;
    // 100 audiences of 255 characters: some 26 KB for each token.
    let audiences: Vec<_> = (0..100).map(|n| format!("https://{n:03}.{}", "a".repeat(243))).collect();
    for n in 0..2 {
        let (account, _) = server.account(&org.id, &format!("bot-{n}"), &[]).await;
        for _ in 0..70 {
            let request = pb::CreateTokenRequest {
                allowed_audiences: audiences.clone(),
                ..token_for(&org.id, &account.id)
            };
            server.operator.tokens().create_token(request).await.unwrap();
        }
    }
    let sizes = pages(&org.owner).await;
    assert!(sizes.len() > 1 && sizes[0] > 100 && sizes[0] < 140, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
}

#[tokio::test]
async fn a_refusal_with_many_entries_fits_into_the_headers_of_a_proxy() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let grants = (0..100).map(|_| pb::Grant { resource: "!".repeat(300), ..Default::default() }).collect();
    let request = pb::GrantAccessRequest { account_id: "x".repeat(500), grants, ..Default::default() };
    let status =
        refused(org.owner.accounts().grant_access(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(status.metadata().get("countersign-reason").unwrap(), "INVALID_FIELD");
    let bytes = header_bytes(status);
    assert!(bytes < 3_500, "{bytes}");
}
