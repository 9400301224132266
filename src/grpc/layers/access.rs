//! The access table: one row for each RPC. A path that is not listed is denied.

use crate::domain::access::work::Work;
use crate::domain::values::permissions::Permission;

/// What an RPC requires of its caller before its message is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing. The message may still contain a credential.
    Open,
    /// A valid credential with any rights. The handler decides what the caller may do.
    Authenticated,
    /// A valid credential that holds the permission somewhere. The handler names the node that
    /// the call acts on, which only the message identifies.
    Requires(&'static Permission),
}

use Access::{Authenticated, Open, Requires};
use Work::{Cached, Changes, Reads, Stops};

/// Whether pages may call this RPC, over whichever protocol. All others are for programs.
pub fn serves_pages(path: &str) -> bool {
    matches!(
        path,
        "/countersign.v1.TokenService/ExchangeToken" | "/countersign.v1.TokenService/GetJsonWebKeySet"
    )
}

/// Whether a call may concern the credential itself alone: what a token may do whose list of audiences
/// lacks the issuer. The handler holds it to that token.
pub fn concerns_itself(path: &str) -> bool {
    matches!(
        path,
        "/countersign.v1.AccountService/GetCaller"
            | "/countersign.v1.TokenService/RotateToken"
            | "/countersign.v1.TokenService/FinishRotation"
            | "/countersign.v1.TokenService/CancelRotation"
            | "/countersign.v1.TokenService/RevokeToken"
            | "/oauth2/revoke"
    )
}

/// The row of a path: what the RPC requires of its caller, and what it does to the database, by which
/// it gets its share of the connections. None for an unknown path.
///
/// An RPC that only ends something is one that *stops*, and does not wait behind changes; one that
/// yields something new as well is not.
pub fn row(path: &str) -> Option<(Access, Work)> {
    Some(match path {
        "/countersign.v1.AccountService/CreateServiceAccount" => {
            (Requires(&Permission::ACCOUNTS_WRITE), Changes)
        }
        "/countersign.v1.AccountService/CreateUser" => (Requires(&Permission::ACCOUNTS_WRITE), Changes),
        "/countersign.v1.AccountService/CloneAccount" => (Requires(&Permission::ACCOUNTS_WRITE), Changes),
        "/countersign.v1.AccountService/GetAccount" => (Authenticated, Reads),
        "/countersign.v1.AccountService/CheckAccess" => (Authenticated, Reads),
        "/countersign.v1.AccountService/ListAccounts" => (Requires(&Permission::ACCOUNTS_READ), Reads),
        "/countersign.v1.AccountService/ActivateAccount" => (Requires(&Permission::ACCOUNTS_WRITE), Changes),
        "/countersign.v1.AccountService/DeactivateAccount" => (Requires(&Permission::ACCOUNTS_WRITE), Stops),
        "/countersign.v1.AccountService/DeleteAccount" => (Requires(&Permission::ACCOUNTS_WRITE), Stops),
        "/countersign.v1.AccountService/UndeleteAccount" => (Requires(&Permission::ACCOUNTS_WRITE), Changes),
        // An account needs no permission to change itself: the handler decides which fields.
        "/countersign.v1.AccountService/UpdateAccount" => (Authenticated, Changes),
        "/countersign.v1.AccountService/ConvertAccount" => {
            (Requires(&Permission::PLATFORM_ACCOUNTS), Changes)
        }
        // Changes the caller's own password, and requires the current one.
        "/countersign.v1.AccountService/ChangePassword" => (Authenticated, Changes),
        "/countersign.v1.AccountService/SetPassword" => (Requires(&Permission::ACCOUNTS_WRITE), Changes),
        "/countersign.v1.AccountService/GrantAccess" => (Requires(&Permission::ACCOUNTS_WRITE), Changes),
        "/countersign.v1.AccountService/RevokeAccess" => (Requires(&Permission::ACCOUNTS_WRITE), Stops),
        "/countersign.v1.AccountService/ListGrants" => (Authenticated, Reads),
        "/countersign.v1.AccountService/ListGrantableAccess" => (Requires(&Permission::ACCOUNTS_READ), Reads),
        "/countersign.v1.AccountService/ResolveLink" => (Authenticated, Reads),
        "/countersign.v1.AccountService/GetCaller" => (Authenticated, Reads),
        // A caller without a password cannot prove its identity yet.
        "/countersign.v1.AccountService/RequestPasswordReset" => (Open, Changes),
        // The code is the credential.
        "/countersign.v1.AccountService/ResetPassword" => (Open, Changes),

        "/countersign.v1.OrgService/CreateOrg" => (Requires(&Permission::PLATFORM_ORGS), Changes),
        "/countersign.v1.OrgService/GetOrg" => (Authenticated, Reads),
        "/countersign.v1.OrgService/ListOrgs" => (Authenticated, Reads),
        "/countersign.v1.OrgService/UpdateOrg" => (Requires(&Permission::ORGS_WRITE), Changes),
        "/countersign.v1.OrgService/UpdateTokenPolicy" => (Requires(&Permission::ORGS_WRITE), Changes),
        "/countersign.v1.OrgService/SuspendOrg" => (Requires(&Permission::PLATFORM_ORGS), Stops),
        "/countersign.v1.OrgService/ResumeOrg" => (Requires(&Permission::PLATFORM_ORGS), Changes),
        "/countersign.v1.OrgService/DeleteOrg" => (Requires(&Permission::PLATFORM_ORGS), Stops),
        "/countersign.v1.OrgService/UndeleteOrg" => (Requires(&Permission::PLATFORM_ORGS), Changes),
        "/countersign.v1.OrgService/CreateRole" => (Requires(&Permission::ROLES_WRITE), Changes),
        "/countersign.v1.OrgService/GetRole" => (Requires(&Permission::ROLES_READ), Reads),
        "/countersign.v1.OrgService/ListRoles" => (Requires(&Permission::ROLES_READ), Reads),
        "/countersign.v1.OrgService/UpdateRole" => (Requires(&Permission::ROLES_WRITE), Changes),
        "/countersign.v1.OrgService/DeleteRole" => (Requires(&Permission::ROLES_WRITE), Changes),
        "/countersign.v1.OrgService/CreateResource" => (Requires(&Permission::RESOURCES_WRITE), Changes),
        "/countersign.v1.OrgService/ListResources" => (Requires(&Permission::RESOURCES_READ), Reads),
        "/countersign.v1.OrgService/UpdateResource" => (Requires(&Permission::RESOURCES_WRITE), Changes),
        "/countersign.v1.OrgService/DeleteResource" => (Requires(&Permission::RESOURCES_WRITE), Changes),
        "/countersign.v1.OrgService/ListMembers" => (Requires(&Permission::ACCOUNTS_READ), Reads),
        "/countersign.v1.OrgService/RemoveMember" => (Requires(&Permission::ACCOUNTS_WRITE), Stops),
        "/countersign.v1.OrgService/CreateInvitation" => (Requires(&Permission::INVITATIONS_WRITE), Changes),
        "/countersign.v1.OrgService/ListInvitations" => (Requires(&Permission::INVITATIONS_READ), Reads),
        "/countersign.v1.OrgService/ResendInvitation" => (Requires(&Permission::INVITATIONS_WRITE), Changes),
        "/countersign.v1.OrgService/RevokeInvitation" => (Requires(&Permission::INVITATIONS_WRITE), Stops),
        // Requires the code. If an account has the address, the handler also requires the caller.
        "/countersign.v1.OrgService/GetInvitation" => (Open, Reads),
        "/countersign.v1.OrgService/AcceptInvitation" => (Open, Changes),
        "/countersign.v1.OrgService/ListEvents" => (Requires(&Permission::EVENTS_READ), Reads),
        "/countersign.v1.OrgService/WatchEvents" => (Requires(&Permission::EVENTS_READ), Cached),
        "/countersign.v1.OrgService/CreateIssuer" => (Requires(&Permission::FEDERATION_WRITE), Changes),
        "/countersign.v1.OrgService/GetIssuer" => (Requires(&Permission::FEDERATION_READ), Reads),
        "/countersign.v1.OrgService/ListIssuers" => (Requires(&Permission::FEDERATION_READ), Reads),
        "/countersign.v1.OrgService/UpdateIssuer" => (Requires(&Permission::FEDERATION_WRITE), Changes),
        "/countersign.v1.OrgService/DeleteIssuer" => (Requires(&Permission::FEDERATION_WRITE), Changes),
        "/countersign.v1.OrgService/CreateFederationRule" => {
            (Requires(&Permission::FEDERATION_WRITE), Changes)
        }
        "/countersign.v1.OrgService/GetFederationRule" => (Requires(&Permission::FEDERATION_READ), Reads),
        "/countersign.v1.OrgService/ListFederationRules" => (Requires(&Permission::FEDERATION_READ), Reads),
        "/countersign.v1.OrgService/UpdateFederationRule" => {
            (Requires(&Permission::FEDERATION_WRITE), Changes)
        }
        "/countersign.v1.OrgService/DeleteFederationRule" => (Requires(&Permission::FEDERATION_WRITE), Stops),
        "/countersign.v1.OrgService/ListPresentations" => (Requires(&Permission::FEDERATION_READ), Reads),

        // Takes a username and a password instead of a credential.
        "/countersign.v1.TokenService/Login" => (Open, Changes),
        "/countersign.v1.TokenService/Logout" => (Authenticated, Stops),
        // `accounts.write`, or the caller's own account.
        "/countersign.v1.TokenService/RevokeAccountSessions" => (Authenticated, Stops),
        // `tokens.write`, or the caller's own account with a password login, or a service account
        // whose administrator has it: the handler knows for which account.
        "/countersign.v1.TokenService/CreateToken" => (Authenticated, Changes),
        "/countersign.v1.TokenService/GetToken" => (Authenticated, Reads),
        "/countersign.v1.TokenService/ListTokens" => (Authenticated, Reads),
        // `tokens.write`, or a token of the caller's own account: the handler knows the token's
        // account.
        "/countersign.v1.TokenService/RotateToken" => (Authenticated, Changes),
        "/countersign.v1.TokenService/FinishRotation" => (Authenticated, Stops),
        "/countersign.v1.TokenService/CancelRotation" => (Authenticated, Stops),
        "/countersign.v1.TokenService/UpdateToken" => (Requires(&Permission::TOKENS_WRITE), Changes),
        // Open with the token string. With the token's id, the handler requires a caller.
        "/countersign.v1.TokenService/RevokeToken" => (Open, Stops),
        "/countersign.v1.TokenService/RevokeAccountTokens" => (Requires(&Permission::TOKENS_WRITE), Stops),
        "/countersign.v1.TokenService/ReassignToken" => (Requires(&Permission::TOKENS_WRITE), Changes),
        "/countersign.v1.TokenService/ReassignAccountTokens" => {
            (Requires(&Permission::TOKENS_WRITE), Changes)
        }
        "/countersign.v1.TokenService/ReportLeakedToken" => (Open, Stops),
        "/countersign.v1.TokenService/ExchangeToken" => (Open, Cached),
        // Of an assertion of another issuer it asks for another permission than of a token.
        "/countersign.v1.TokenService/ExplainToken" => (Authenticated, Cached),
        "/countersign.v1.TokenService/ImpersonateAccount" => {
            (Requires(&Permission::ACCOUNTS_IMPERSONATE), Changes)
        }
        // Held in the token's org, or `platform.verify`: the handler decides which.
        "/countersign.v1.TokenService/IntrospectToken" => (Authenticated, Cached),
        "/countersign.v1.TokenService/BatchIntrospectTokens" => (Authenticated, Cached),
        "/countersign.v1.TokenService/GetJsonWebKeySet" => (Open, Cached),
        "/countersign.v1.TokenService/ListSigningKeys" => (Requires(&Permission::PLATFORM_KEYS), Reads),
        "/countersign.v1.TokenService/RotateSigningKey" => (Requires(&Permission::PLATFORM_KEYS), Changes),
        "/countersign.v1.TokenService/RevokeSigningKey" => (Requires(&Permission::PLATFORM_KEYS), Stops),

        // Held in each of the orgs, or `platform.verify`: the handler decides which.
        "/countersign.v1.TokenService/WatchRevocations" => (Authenticated, Cached),
        // It changes nothing that is in the log of an org.
        "/countersign.v1.TokenService/AcknowledgeRevocations" => (Authenticated, Reads),
        "/countersign.v1.TokenService/ListVerifiers" => (Requires(&Permission::TOKENS_INTROSPECT), Reads),

        "/grpc.health.v1.Health/Check"
        | "/grpc.health.v1.Health/Watch"
        | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => (Open, Cached),
        _ => return None,
    })
}
