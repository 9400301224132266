//! Rules about people, names and emails that stand in one place. A new RPC, field or query that goes round
//! them is in none of these lists.

use std::collections::BTreeSet;

use countersign::grpc::pb::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

use super::sources::{shipped_with, text_of};

/// The messages of the API, with the name and the type of each field.
fn fields() -> Vec<(String, String, Type)> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let files = files.into_iter().filter(|file| file.package() == "countersign.v1");
    let messages = files.flat_map(|file| file.message_type);
    let fields = messages.flat_map(|message| {
        let name = message.name().to_owned();
        message.field.into_iter().map(move |field| (name.clone(), field.name().to_owned(), field.r#type()))
    });
    fields.collect()
}

/// What a call answers that is rolled back must not depend on other orgs: it leaves no event, sends no
/// email, and counts nowhere.
#[test]
fn what_is_only_validated_stays_within_its_org() {
    let previews: BTreeSet<_> = fields()
        .into_iter()
        .filter(|(_, field, _)| field == "validate_only")
        .map(|(name, ..)| name)
        .collect();
    let known = [
        // `NewAccount::preview`: `a_preview_says_nothing_about_other_orgs`.
        "CloneAccountRequest",
        // The token of an account of the org, or the policy of the org: nothing of another one is read.
        "CreateTokenRequest",
        "ReassignAccountTokensRequest",
        "ReassignTokenRequest",
        // Of the platform alone: other orgs' verifiers are counted, not named.
        "RevokeSigningKeyRequest",
        "UpdateTokenPolicyRequest",
        // Issuers, rules and accounts of the org. What is fetched of an issuer is the same for every org.
        "CreateFederationRuleRequest",
        "CreateIssuerRequest",
        "UpdateFederationRuleRequest",
        "UpdateIssuerRequest",
    ];
    let known: BTreeSet<_> = known.into_iter().map(str::to_owned).collect();
    let unknown: Vec<_> = previews.difference(&known).collect();
    assert!(unknown.is_empty(), "does the preview of {unknown:?} say anything about other orgs?");
    // An address is taken, and looked up across orgs, in one function.
    assert_eq!(shipped_with("insert into usernames"), ["db/accounts/account.rs"]);
    let source = text_of("db/accounts/account.rs");
    assert_eq!(source.matches("take_username(").count(), 2, "its definition, and the one that is no preview");
}

#[test]
fn a_mailbox_is_proved_in_one_place() {
    assert_eq!(shipped_with("set email_proved_time"), ["db/accounts/account.rs"]);
    assert_eq!(shipped_with("accounts::prove_mailbox("), ["flows/mailboxes.rs"]);
    // An account is removed before its retention only by its address.
    assert_eq!(shipped_with("accounts::remove("), ["flows/mailboxes.rs"]);
    // Who has an address is asked by what knows that a claim is none.
    let asked = shipped_with("accounts::find_holder(");
    let known = [
        // Sends to the address itself.
        "flows/password_reset.rs",
        "flows/invitations.rs",
        "flows/mailboxes.rs",
        "flows/shown_links.rs",
        // Members and names of the org alone.
        "grpc/orgs/invitations.rs",
        "flows/sign_in.rs",
    ];
    let unknown: Vec<_> = asked.iter().filter(|file| !known.contains(&file.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_email_counts_towards_its_budgets() {
    // Written in one place, which checks what the org has written.
    assert_eq!(shipped_with("insert into outbox"), ["db/outbox.rs"]);
    let source = text_of("db/outbox.rs");
    let insert = source.split("pub async fn insert(").nth(1).unwrap().split("\npub ").next().unwrap();
    assert!(insert.contains("refuse_too_many("), "{insert}");
    // Claimed in one place, which takes a place of the mailbox before.
    assert_eq!(shipped_with("outbox::claim("), ["mail/deliver.rs"]);
    let source = text_of("mail/deliver.rs");
    let claim = source.split("async fn claim(").nth(1).unwrap();
    let (taken, claimed) =
        (claim.find("email_budgets::take(").unwrap(), claim.find("outbox::claim(").unwrap());
    assert!(taken < claimed);
    // A code is created where it is decided whether it proves a mailbox.
    assert_eq!(shipped_with("emailed_codes::insert("), ["flows/emailed_codes.rs"]);
}

#[test]
fn a_guest_is_renamed_in_one_place() {
    assert_eq!(shipped_with("memberships set title"), ["db/accounts/update.rs"]);
    assert_eq!(shipped_with("Renames::Everywhere"), ["db/accounts/update.rs", "grpc/accounts/update.rs"]);
}

/// What people read of others, and chose themselves: each field is read by a type that checks it.
#[test]
fn every_name_of_a_request_is_checked() {
    let is_name =
        |field: &str| field.ends_with("name") || matches!(field, "title" | "description" | "reason");
    let texts: BTreeSet<_> = fields()
        .into_iter()
        .filter(|(_, field, kind)| *kind == Type::String && is_name(field))
        .map(|(message, field, _)| format!("{message}.{field}"))
        .collect();
    let known: BTreeSet<_> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let unknown: Vec<_> = texts.difference(&known).collect();
    assert!(
        unknown.is_empty(),
        "which type of domain/values checks {unknown:?}? Add it here, and to tests/it/accounts/names_of_people.rs"
    );
    // Text is normalized and compared in one place.
    for (text, files) in [
        ("unicode_security", &["domain/values/text.rs"][..]),
        ("caseless", &["domain/values/text.rs"]),
        ("unicode_normalization", &["domain/sign_in/password.rs", "domain/values/text.rs"]),
    ] {
        assert_eq!(shipped_with(text), files, "{text}");
    }
}

const NAMES: &[&str] = &[
    // `AccountName`: ASCII letters and digits, `_` and `-`.
    "Account.name",
    "CloneAccountRequest.name",
    "ConvertAccountRequest.name",
    "CreateOrgRequest.owner_service_account_name",
    "CreateServiceAccountRequest.name",
    "Role.name",
    // `Email`: ASCII.
    "Account.username",
    "CreateServiceAccountRequest.username",
    "LoginRequest.username",
    // `DisplayName`.
    "AcknowledgeRevocationsRequest.verifier_name",
    "Verifier.verifier_name",
    "WatchRevocationsRequest.verifier_name",
    "AcceptInvitationRequest.family_name",
    "AcceptInvitationRequest.given_name",
    "CreateOrgRequest.display_name",
    "CreateResourceRequest.display_name",
    "CreateTokenRequest.display_name",
    "FederationRule.display_name",
    "Issuer.display_name",
    "Org.display_name",
    "Profile.display_name",
    "Profile.family_name",
    "Profile.given_name",
    "Resource.display_name",
    "Role.display_name",
    "Token.display_name",
    // Written by the server.
    "FederationWarning.description",
    // `Description`.
    "Account.description",
    "ActivateAccountRequest.reason",
    "ConvertAccountRequest.reason",
    "CreateServiceAccountRequest.description",
    "CreateUserRequest.description",
    "DeactivateAccountRequest.reason",
    "DeleteOrgRequest.reason",
    "ImpersonateAccountRequest.reason",
    "ResumeOrgRequest.reason",
    "Role.description",
    "SuspendOrgRequest.reason",
    "UndeleteOrgRequest.reason",
    // Output only.
    "Account.title",
    "GetInvitationResponse.org_display_name",
    "GrantableResource.display_name",
    "GrantableRole.display_name",
    "GrantableRole.name",
    "IntrospectTokenResponse.username",
    "LoginOrg.display_name",
    "Member.title",
    "PermissionDescription.description",
    "ResolveLinkResponse.display_name",
    "TokenCheck.name",
    "TokenCheck.reason",
];
