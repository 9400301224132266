//! The types of events, which are all that an org's log holds.

use crate::domain::values::names::Invalid;

/// Every type there is, sorted. `docs/reference/events.md` says when each is written, and with which fields.
pub const EVENT_TYPES: &[&str] = &[
    "access.granted",
    "access.revoked",
    "account.activated",
    "account.address_lost",
    "account.converted",
    "account.created",
    "account.deactivated",
    "account.deleted",
    "account.impersonated",
    "account.link_shown",
    "account.password_changed",
    "account.password_cleared",
    "account.password_code_requested",
    "account.password_code_revoked",
    "account.password_reset",
    "account.password_set",
    "account.purged",
    "account.undeleted",
    "account.updated",
    "federation_rule.created",
    "federation_rule.deleted",
    "federation_rule.revoked",
    "federation_rule.updated",
    "invitation.accepted",
    "invitation.created",
    "invitation.link_shown",
    "invitation.resent",
    "invitation.revoked",
    "issuer.changed",
    "issuer.created",
    "issuer.deleted",
    "issuer.keys_changed",
    "issuer.updated",
    "login.throttled",
    "master_key.resealed",
    "member.removed",
    "operator.created",
    "operator.restored",
    "org.created",
    "org.deleted",
    "org.resumed",
    "org.suspended",
    "org.token_policy_updated",
    "org.undeleted",
    "org.updated",
    "pepper.created",
    "pepper.dropped",
    "resource.created",
    "resource.deleted",
    "resource.updated",
    "role.created",
    "role.deleted",
    "role.updated",
    "session.created",
    "session.ended",
    "session.revoked",
    "signing_key.activated",
    "signing_key.created",
    "signing_key.retired",
    "signing_key.revoked",
    "token.created",
    "token.expiring",
    "token.leaked",
    "token.reassigned",
    "token.renewed",
    "token.revoked",
    "token.rotated",
    "token.rotation_cancelled",
    "token.rotation_finished",
    "token.updated",
];

/// Validates an event type of a filter.
///
/// # Errors
/// When no event has this type: a filter by it would match nothing, without a word.
pub fn parse(text: &str) -> Result<&'static str, Invalid> {
    let found = EVENT_TYPES.binary_search(&text);
    found.map(|place| EVENT_TYPES[place]).map_err(|_| Invalid("is not an event type, such as token.revoked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_and_found() {
        assert!(EVENT_TYPES.is_sorted());
        for kind in EVENT_TYPES {
            assert_eq!(parse(kind), Ok(*kind));
        }
        for unknown in ["", "token", "token.revoke", "Token.Revoked", "token.revoked ", "x.y"] {
            assert!(parse(unknown).is_err(), "{unknown:?}");
        }
    }
}
