//! The data behind a token or session, loaded together.
//!
//! It is everything that an exchange, an introspection and an authenticated call need.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use time::OffsetDateTime;

use super::carried::Carried;
use super::member::Member;
use super::rights::Rights;
use crate::domain::sign_in::sessions::idle_expiry;
use crate::domain::tokens::policy::Facts;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::tokens::secrets::Secret;
use crate::domain::values::ids::{CredentialId, TokenId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::Audience;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::Reason;

/// A token or a session with its account, in the org that it acts in.
#[derive(Clone)]
pub struct Credential {
    pub credential_id: CredentialId,
    /// The account, as it is in the org in which the credential acts.
    pub account: Member,
    pub kind: TokenKind,
    pub secrets: Vec<Secret>,
    pub restrictions: Restrictions,
    pub may_manage_tokens: bool,
    pub create_time: OffsetDateTime,
    /// When a token was last renewed.
    pub renew_time: Option<OffsetDateTime>,
    pub expire_time: Option<OffsetDateTime>,
    /// The last time that it was used, or that it or a secret of it was made.
    ///
    /// A use counts as far as it was written when this was loaded.
    pub last_use: OffsetDateTime,
    pub revoked: bool,
    /// The token with which a session ends, because it gave the password that the session began with.
    pub tied_to: Option<TiedTo>,
    /// What follows from the rest.
    pub(crate) derived: Derived,
}

/// The token that gave the password of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TiedTo {
    pub token_id: TokenId,
    /// None: it never expires.
    pub expire_time: Option<OffsetDateTime>,
}

/// What is computed when it is first needed. A copy, which may be changed, has nothing yet.
#[derive(Default)]
pub(crate) struct Derived {
    /// The credential's own rights, where its lists narrow those of the account.
    narrowed: OnceLock<Arc<Rights>>,
    /// What its access tokens carry where nothing less is asked for.
    carried: OnceLock<Result<Arc<Carried>, Reason>>,
}

impl Clone for Derived {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Credential {
    /// The rights of the token now: the account's rights within the token's lists.
    ///
    /// Exchange, introspection and access control all use this one answer. It is computed once,
    /// before the credential is cached.
    pub(crate) fn effective_rights(&self) -> &Arc<Rights> {
        if !self.restrictions.narrow_rights() {
            return self.account.grants.rights();
        }
        let Restrictions { scopes, resources, .. } = &self.restrictions;
        self.derived.narrowed.get_or_init(|| self.account.grants.rights().narrowed(scopes, resources).into())
    }

    /// The claims of its access tokens where nothing less is asked for.
    ///
    /// # Errors
    /// `SCOPE_TOO_WIDE`.
    pub(crate) fn carried(&self) -> Result<Arc<Carried>, Reason> {
        let carried = self.derived.carried.get_or_init(|| {
            // A token with roles may do all that its account may.
            let roles = (!self.restrictions.narrow_rights()).then(|| self.account.roles());
            Carried::new((self.credential_id, self.kind), &self.account, self.effective_rights(), roles)
                .map(Arc::new)
        });
        carried.clone()
    }

    /// The secret that its access tokens are bound to where this one was presented: none of a session.
    pub(super) fn bound_to(&self, secret: Option<i32>) -> Option<i32> {
        secret.filter(|_| matches!(self.credential_id, CredentialId::Token(_)))
    }

    /// The bytes that it takes in a cache.
    pub(crate) fn weight(&self) -> usize {
        let Restrictions { scopes, resources, audiences, networks, certificates, origins, purpose } =
            &self.restrictions;
        let texts = scopes.iter().map(|scope| scope.as_str().len());
        let texts = texts.chain(resources.iter().map(|path| path.as_str().len()));
        let texts = texts.chain(audiences.iter().map(|audience| audience.as_str().len()));
        let texts = texts.chain(origins.iter().map(|origin| origin.as_str().len()));
        let texts = texts.chain(purpose.iter().map(|purpose| purpose.as_str().len()));
        let lists = size_of_val(&**scopes)
            + size_of_val(&**resources)
            + size_of_val(&**audiences)
            + size_of_val(&**networks)
            + size_of_val(&**certificates)
            + size_of_val(&**origins);
        let secrets = self.secrets.iter().map(|secret| size_of_val(secret) + secret.record.mac.len());
        let narrowed = self.derived.narrowed.get().map_or(0, |rights| rights.weight());
        let carried = self.derived.carried.get().and_then(|carried| carried.as_ref().ok());
        size_of::<Self>() - size_of::<Member>()
            + self.account.weight()
            + lists
            + texts.sum::<usize>()
            + secrets.sum::<usize>()
            + narrowed
            + carried.map_or(0, |carried| carried.weight())
    }

    /// The same credential in another org, where its account is this member.
    pub(crate) fn within(&self, account: Member) -> Self {
        Self { account, ..self.clone() }
    }

    /// Whether it seems to have been idle for longer than the policy, or a session's limit, allows.
    ///
    /// A use that says otherwise may have been written since this was loaded.
    pub(crate) fn seems_idle(&self, now: OffsetDateTime) -> bool {
        match self.kind {
            TokenKind::Session => idle_expiry(self.last_use) <= now,
            TokenKind::Secret | TokenKind::Publishable => {
                self.account.rules.idle_before(now).is_some_and(|limit| self.last_use < limit)
            }
        }
    }

    /// The facts that a policy checks.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            kind: self.kind,
            owner: self.account.account_kind,
            create_time: self.renew_time.unwrap_or(self.create_time),
            expire_time: self.expire_time,
            last_use: self.last_use,
        }
    }

    /// Whether the token's own list and the org's policy allow this audience.
    ///
    /// An empty list allows any.
    pub(crate) fn may_target(&self, audience: &Audience) -> bool {
        let allowed = &self.restrictions.audiences;
        (allowed.is_empty() || allowed.contains(audience)) && self.account.rules.allow_audience(audience)
    }

    /// Whether it may be used for this issuer's own API: its list of audiences names the issuer, or is empty.
    pub(crate) fn is_for(&self, issuer: &str) -> bool {
        let allowed = &self.restrictions.audiences;
        allowed.is_empty() || allowed.iter().any(|audience| audience.as_str() == issuer)
    }

    /// The audiences beside the issuer that the token can be used for; empty means any.
    ///
    /// If its list and the policy have none in common, it is only the issuer.
    pub(crate) fn targets(&self, issuer: &str) -> Vec<String> {
        let (own, policy) = (&self.restrictions.audiences, &self.account.rules.audiences);
        let listed = if own.is_empty() { policy } else { own };
        let allowed = listed.iter().filter(|audience| self.account.rules.allow_audience(audience));
        let allowed: Vec<String> = allowed.map(Audience::to_string).collect();
        if allowed.is_empty() && !listed.is_empty() { vec![issuer.to_owned()] } else { allowed }
    }

    /// When it ends for a client that has the secret with this number: with the token, or before it
    /// where another secret replaces this one.
    pub(crate) fn end(&self, secret: Option<i32>) -> Option<OffsetDateTime> {
        let shown = self.secrets.iter().find(|known| Some(known.number) == secret);
        [self.expire_time, shown.and_then(|secret| secret.expire_time)].into_iter().flatten().min()
    }

    /// Whether a JWT that names this secret is still good: it ends with the secret. That of a
    /// session names none.
    pub(crate) fn vouches_for(&self, secret: Option<i32>, now: OffsetDateTime) -> bool {
        let is_active =
            |number| self.secrets.iter().any(|known| known.number == number && !known.is_expired(now));
        secret.is_none_or(is_active)
    }

    /// Whether the secret with this number has expired, because the token was rotated.
    pub(crate) fn was_replaced(&self, secret: Option<i32>, now: OffsetDateTime) -> bool {
        let presented = self.secrets.iter().find(|known| Some(known.number) == secret);
        presented.is_some_and(|secret| secret.is_expired(now))
    }

    /// Whether it may be used from this address.
    pub(super) fn works_at(&self, address: IpAddr) -> bool {
        let networks = &self.restrictions.networks;
        networks.is_empty() || networks.iter().any(|network| network.contains(address))
    }

    /// Whether it may be used by pages of this origin.
    pub(super) fn works_from(&self, origin: &WebOrigin) -> bool {
        self.kind != TokenKind::Publishable || self.restrictions.origins.contains(origin)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::access::rights::{HeldGrant, HeldGrants};
    use crate::domain::tokens::policy::tests::default_rules;
    pub(crate) use crate::domain::tokens::policy::tests::now;
    use crate::domain::values::ids::{AccountId, OrgId};
    use crate::domain::values::kinds::AccountKind;
    use crate::domain::values::permissions::{PermissionSet, Right};
    use crate::domain::values::resources::Node;

    /// A valid token of a service account with these grants.
    pub(crate) fn credential(grants: &[(&str, &str)]) -> Credential {
        let grant = |(right, node): &(&str, &str)| HeldGrant {
            right: Right::parse(right).unwrap(),
            node: Node::parse(node).unwrap(),
            role_permissions: PermissionSet::default(),
        };
        Credential {
            credential_id: TokenId::from_u128(3).into(),
            account: Member {
                org_id: OrgId::from_u128(1),
                account_id: AccountId::from_u128(2),
                home_org_id: OrgId::from_u128(1),
                account_kind: AccountKind::ServiceAccount,
                username: "bot@demo.localhost".into(),
                account_stopped: false,
                org_stopped: false,
                org_version: 1,
                account_version: 4,
                grants: HeldGrants::new(grants.iter().map(grant).collect()),
                named_by_org: BTreeSet::new(),
                rules: Arc::new(default_rules()),
            },
            kind: TokenKind::Secret,
            secrets: Vec::new(),
            restrictions: Restrictions::default(),
            may_manage_tokens: false,
            create_time: now(),
            renew_time: None,
            expire_time: Some(now() + time::Duration::days(1)),
            last_use: now(),
            revoked: false,
            tied_to: None,
            derived: Derived::default(),
        }
    }

    #[test]
    fn roles_are_those_on_the_whole_org() {
        let held = credential(&[("manager", "*"), ("owner", "a"), ("invoices.read", "*")]);
        assert_eq!(held.account.roles(), ["manager", "member"]);
    }
}
