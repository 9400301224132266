//! The access token of an impersonation: who may request it, and what it says.
//!
//! It carries the rights that both accounts have, and expires no later than the administrator's
//! credential.

use std::time::Duration;

use time::OffsetDateTime;

use super::acting::Acting;
use super::carried::Carried;
use super::exchange::{Audiences, Decision, SpeaksFor};
use super::member::Member;
use crate::domain::tokens::policy::Rules;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};

/// The longest lifetime of the access token, and the default when none is requested.
///
/// A person works with it, and it stops working anyway as soon as the right to impersonate is lost.
pub const MAX_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Validates the requested lifetime: more than 0 and at most 15 minutes.
///
/// # Errors
/// The sentence that follows the field's name.
pub(crate) fn lifetime(asked: Option<time::Duration>) -> Result<Duration, &'static str> {
    let Some(asked) = asked else { return Ok(MAX_LIFETIME) };
    match Duration::try_from(asked) {
        Ok(ttl) if !ttl.is_zero() && ttl <= MAX_LIFETIME => Ok(ttl),
        _ => Err("must be more than 0 and at most 15 minutes"),
    }
}

/// Refuses a caller that may impersonate no account of the org.
///
/// That is a caller without the permission, or one that is itself an impersonation.
///
/// # Errors
/// `PERMISSION_MISSING`.
pub(crate) fn authorise(acting: &Acting<'_>) -> Result<()> {
    acting.require(&Permission::ACCOUNTS_IMPERSONATE, &Node::Org)?;
    if acting.caller.actor_id().is_some() {
        let message = "an impersonation cannot impersonate further";
        return Err(Error::with_message(Reason::PermissionMissing, message));
    }
    acting.caller.refuse_rule("impersonates no account")
}

/// Decides what the access token of an impersonation says.
///
/// The caller is already [authorised](authorise) in the target's org, and `rules` are those of that
/// org.
///
/// # Errors
/// - `INVALID_FIELD` for the caller's own account.
/// - `TARGET_NOT_SERVICE_ACCOUNT`.
/// - `RESOURCE_NOT_FOUND` for an account that is not active.
/// - `TARGET_EXCEEDS_CALLER` with what the target can do and the caller cannot.
/// - `TOKEN_EXPIRED` in the last second of the caller's credential.
/// - `SCOPE_TOO_WIDE`.
pub(crate) fn decide<'a>(
    acting: &Acting<'_>,
    target: &Member,
    lifetime: Duration,
    rules: &Rules,
    issuer: &'a str,
    now: OffsetDateTime,
) -> Result<Decision<'a>> {
    if acting.is_self(target.account_id) {
        return Err(Error::invalid("account_id", "must be another account than the caller's own"));
    }
    if target.account_kind != AccountKind::ServiceAccount {
        return Err(Reason::TargetNotServiceAccount.into());
    }
    if target.check_active().is_err() {
        return Err(Error::not_found("active account", target.account_id));
    }
    // The access token is later bounded by the whole credential, so it must not come from a
    // narrower JWT.
    acting.caller.require_whole_credential()?;
    let held = target.rights();
    acting.may_take_over(held)?;
    let given = held.meet(acting.rights());
    let issued_at = now.unix_timestamp();
    let lifetime = rules.access_token_lifetime(Some(lifetime));
    let asked = (now + lifetime).unix_timestamp().max(issued_at + 1);
    let expires_at = acting.caller.expires_at().map_or(asked, |end| asked.min(end));
    if expires_at <= issued_at {
        return Err(Reason::TokenExpired.into());
    }
    let credential = acting.caller.credential();
    let carried = Carried::new(&given, None)?.into();
    // What it is made from ends with this secret, and so does it.
    let secret = credential.bound_to(acting.caller.secret());
    let bound_to = acting.caller.binds_to();
    let (speaks_for, audiences) = (SpeaksFor::new(target, credential), Audiences::Issuer(issuer));
    let rule_version = None;
    Ok(Decision { speaks_for, audiences, carried, secret, rule_version, bound_to, issued_at, expires_at })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::access::caller::{AuthenticatedBy, Caller};
    use crate::domain::access::credential::Credential;
    use crate::domain::access::credential::tests::{credential, now};
    use crate::domain::access::impersonation::Impersonation;
    use crate::domain::tokens::policy::tests::default_rules;
    use crate::domain::values::ids::{AccountId, OrgId, SYSTEM_ORG};

    const ISSUER: &str = "https://id.example";

    /// An administrator's credential with these grants and scopes, in the org of the targets.
    fn admin(grants: &[(&str, &str)], scopes: &[&str]) -> Credential {
        let mut admin = credential(grants);
        admin.account.account_id = AccountId::from_u128(9);
        admin.restrictions.scopes = scopes.iter().map(|scope| Permission::parse(scope).unwrap()).collect();
        admin
    }

    fn target(grants: &[(&str, &str)]) -> Member {
        credential(grants).account
    }

    fn decided(by: Credential, bearer: AuthenticatedBy, target: &Member) -> Result<Decision<'static>> {
        let caller = Caller::new(Arc::new(by), bearer, Arc::default())?;
        decide(&caller.acting_in(Some(target.org_id))?, target, MAX_LIFETIME, &default_rules(), ISSUER, now())
    }

    #[test]
    fn a_target_is_an_active_service_account_that_the_caller_covers() {
        type Change = fn(&mut Member);
        let cases: [(Change, Option<Reason>); 7] = [
            (|_| (), None),
            (|m| m.account_id = AccountId::from_u128(9), Some(Reason::InvalidField)),
            (|m| m.account_kind = AccountKind::User, Some(Reason::TargetNotServiceAccount)),
            (|m| m.account_stopped = true, Some(Reason::ResourceNotFound)),
            (|m| m.org_stopped = true, Some(Reason::ResourceNotFound)),
            (|m| m.held = target(&[("owner", "a")]).held, Some(Reason::TargetExceedsCaller)),
            (|m| m.held = target(&[("x.y", "a")]).held, None),
        ];
        for (change, expected) in cases {
            let mut target = target(&[("x.y", "*")]);
            change(&mut target);
            let admin = admin(&[("accounts.impersonate", "*"), ("x.y", "*")], &[]);
            let outcome = decided(admin, AuthenticatedBy::TokenString { secret: None }, &target);
            assert_eq!(outcome.err().map(|error| error.reason()), expected);
        }
    }

    #[test]
    fn it_expires_with_whatever_expires_first() {
        let lasts = |credential: Option<i64>, jwt: Option<i64>| {
            let mut admin = admin(&[("owner", "*")], &[]);
            admin.expire_time = credential.map(|left| (now() + time::Duration::seconds(left)).to_utc());
            let string = AuthenticatedBy::TokenString { secret: None };
            let bearer = jwt.map_or(string, |left| AuthenticatedBy::AccessToken {
                secret: None,
                narrowed_to: None,
                impersonation: None,
                expires_at: now().unix_timestamp() + left,
                bound_to: None,
            });
            let target = target(&[]);
            let decision = decided(admin, bearer, &target);
            decision.map(|d| d.expires_at - d.issued_at).map_err(|error| error.reason())
        };
        assert_eq!(lasts(None, None), Ok(900));
        assert_eq!(lasts(Some(3_600), Some(901)), Ok(900));
        assert_eq!(lasts(Some(3_600), Some(300)), Ok(300));
        assert_eq!(lasts(Some(60), Some(300)), Ok(60));
        assert_eq!(lasts(Some(0), None), Err(Reason::TokenExpired));
    }

    #[test]
    fn a_lifetime_is_bounded() {
        let asked = |seconds, nanos| lifetime(Some(time::Duration::new(seconds, nanos)));
        assert_eq!(lifetime(None), Ok(MAX_LIFETIME));
        assert_eq!(asked(900, 0), Ok(MAX_LIFETIME));
        assert_eq!(asked(0, 1), Ok(Duration::from_nanos(1)));
        for (seconds, nanos) in [(0, 0), (-1, 0), (0, -1), (900, 1), (i64::MAX, 0)] {
            assert!(asked(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn only_a_caller_with_the_permission_there_may_impersonate() {
        let there = |org| {
            let mut target = target(&[("x.y", "*")]);
            target.org_id = org;
            Arc::new(target)
        };
        let own = OrgId::from_u128(1);
        let may = |by: &Credential, org| Impersonation::new(by, there(org)).map(|_| ());
        let stale = Err(Reason::AccessTokenStale);
        assert_eq!(may(&admin(&[("owner", "*")], &[]), own), Ok(()));
        assert_eq!(may(&admin(&[("owner", "*")], &["accounts.impersonate"]), own), Ok(()));
        assert_eq!(may(&admin(&[("owner", "*")], &["accounts.write"]), own), stale);
        assert_eq!(may(&admin(&[("manager", "*")], &[]), own), stale);
        assert_eq!(may(&admin(&[("accounts.impersonate", "a")], &[]), own), stale);
        assert_eq!(may(&admin(&[("owner", "*")], &[]), OrgId::from_u128(2)), stale);
        // An operator impersonates anywhere, with an owner's rights; a former operator nowhere else
        // than at home.
        let mut operator = admin(&[("platform.accounts", "*")], &[]);
        operator.account.org_id = SYSTEM_ORG;
        assert_eq!(may(&operator, own), Ok(()));
        operator.account.held = target(&[("owner", "*"), ("platform.orgs", "*")]).held;
        assert_eq!(may(&operator, own), stale);
    }

    fn any_grants() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let right = prop::sample::select(vec![
            "owner",
            "manager",
            "auditor",
            "x.y",
            "x.z",
            "tokens.write",
            "accounts.write",
        ]);
        let on = prop::sample::select(vec!["*", "a", "a/b", "c"]);
        prop::collection::vec((right, on), 0..5)
    }

    proptest! {
        /// For any three: no more than the target, than the administrator within its lists, and
        /// than the JWT; and everything that the three have in common.
        #[test]
        fn the_rights_are_those_that_both_hold(
            target_holds in any_grants(),
            mut admin_holds in any_grants(),
            carried in any_grants(),
            narrow in any::<bool>(),
        ) {
            admin_holds.push(("accounts.impersonate", "*"));
            let scopes: &[&str] = if narrow { &["accounts.impersonate", "x.y", "tokens.write"] } else { &[] };
            let (admin, target) = (admin(&admin_holds, scopes), target(&target_holds));
            let carried = self::target(&carried).rights().clone();
            let impersonation = Impersonation::new(&admin, Arc::new(target.clone())).unwrap();
            let held = impersonation.rights(&carried);
            let (theirs, ours) = (target.rights(), admin.effective_rights().clone());
            for bound in [theirs, &ours, &carried] {
                prop_assert!(held.beyond(bound).is_empty());
            }
            prop_assert!(theirs.meet(&ours).meet(&carried).beyond(&held).is_empty());
            // The decision carries no more, and is made only for a caller that covers the target.
            match decided(admin, AuthenticatedBy::TokenString { secret: None }, &target) {
                Ok(decision) => {
                    prop_assert!(theirs.beyond(&ours).is_empty());
                    prop_assert!(decision.carried.rights().beyond(theirs).is_empty());
                }
                Err(error) => {
                    prop_assert_eq!(error.reason(), Reason::TargetExceedsCaller);
                    prop_assert!(!theirs.beyond(&ours).is_empty());
                }
            }
        }
    }
}
