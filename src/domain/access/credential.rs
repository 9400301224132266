//! The data behind a token or session, loaded together.
//!
//! It is everything that an exchange, an introspection and an authenticated call need.

use std::net::IpAddr;
use std::sync::Arc;

use time::{OffsetDateTime, UtcDateTime};

use super::carried::Carried;
use super::held::Held;
use super::lists::Lists;
use super::member::Member;
use super::rights::Rights;
use crate::domain::federation::federated::Federated;
use crate::domain::sign_in::sessions::idle_expiry;
use crate::domain::tokens::policy::Facts;
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
    pub secrets: Box<[Secret]>,
    pub restrictions: Lists,
    pub may_manage_tokens: bool,
    pub create_time: UtcDateTime,
    /// When a token was last renewed, which few are.
    pub renew_time: Option<Box<UtcDateTime>>,
    pub expire_time: Option<UtcDateTime>,
    /// The last time that it was used, or that it or a secret of it was made.
    ///
    /// A use counts as far as it was written when this was loaded.
    pub last_use: UtcDateTime,
    pub revoked: bool,
    /// The token with which a session ends, because it gave the password that the session began with.
    pub tied_to: Option<Box<TiedTo>>,
    /// What a rule of federation has beside.
    pub federated: Option<Box<Federated>>,
}

/// The token that gave the password of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TiedTo {
    pub token_id: TokenId,
    /// None: it never expires.
    pub expire_time: Option<OffsetDateTime>,
}

impl Credential {
    /// What it holds now: what the account holds, within the token's lists.
    fn held(&self) -> &Held {
        self.restrictions.narrowed(&self.account.held)
    }

    /// The rights of the token now: the account's rights within the token's lists.
    ///
    /// Exchange, introspection and access control all use this one answer. It is computed once,
    /// before the credential is cached.
    pub(crate) fn effective_rights(&self) -> &Rights {
        self.held().rights()
    }

    /// Works out what it holds and the claims of its access tokens, before it is cached.
    pub fn prepare(&self) {
        self.held().prepare();
        // Others share it, whose tokens are not narrowed.
        self.account.held.prepare();
    }

    /// The claims of its access tokens where nothing less is asked for.
    ///
    /// # Errors
    /// `SCOPE_TOO_WIDE`.
    pub(crate) fn carried(&self) -> Result<Arc<Carried>, Reason> {
        self.held().carried().cloned()
    }

    /// The claims of its access tokens, where these list its rights as an introspection does.
    ///
    /// None where the list depends on what is asked for: an owner holds more permissions than the org
    /// names. None, too, of more than an access token has room for.
    pub(crate) fn listed(&self) -> Option<Arc<Carried>> {
        if self.account.held.owns_something() { None } else { self.carried().ok() }
    }

    /// The secret that its access tokens are bound to where this one was presented: none of a session.
    pub(super) fn bound_to(&self, secret: Option<i32>) -> Option<i32> {
        secret.filter(|_| matches!(self.credential_id, CredentialId::Token(_)))
    }

    /// The bytes that it takes in a cache, without what it shares.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() - size_of::<Member>()
            + self.account.weight()
            + self.restrictions.weight()
            + size_of_val(&*self.secrets)
            + self.secrets.iter().map(Secret::weight).sum::<usize>()
            + self.renew_time.as_ref().map_or(0, |_| size_of::<UtcDateTime>())
            + self.tied_to.as_ref().map_or(0, |tied_to| size_of_val(&**tied_to))
            + self.federated.as_ref().map_or(0, |federated| federated.weight())
    }

    /// When it expires; none: never.
    pub(crate) fn expire_time(&self) -> Option<OffsetDateTime> {
        self.expire_time.map(OffsetDateTime::from)
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
            TokenKind::Session => idle_expiry(self.last_use.into()) <= now,
            TokenKind::Secret | TokenKind::Publishable | TokenKind::Key | TokenKind::Federated => {
                self.account.rules.idle_before(now).is_some_and(|limit| self.last_use < limit)
            }
        }
    }

    /// The facts that a policy checks.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            kind: self.kind,
            owner: self.account.account_kind,
            create_time: self.renew_time.as_deref().map_or(self.create_time, |renewed| *renewed).into(),
            expire_time: self.expire_time(),
            last_use: self.last_use.into(),
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
        [self.expire_time(), shown.and_then(|secret| secret.expire_time)].into_iter().flatten().min()
    }

    /// Whether a JWT that names this secret is still good: it ends with the secret. That of a
    /// session names none.
    pub(crate) fn vouches_for(&self, secret: Option<i32>, now: OffsetDateTime) -> bool {
        let is_active =
            |number| self.secrets.iter().any(|known| known.number == number && known.vouches(now));
        secret.is_none_or(is_active)
    }

    /// Whether a JWT with this `rule_ver` is still good: that of a rule is until the rule or its issuer changes. Others
    /// have none.
    pub(crate) fn vouches_for_rule(&self, rule_ver: Option<i64>) -> bool {
        self.federated.as_ref().is_none_or(|federated| federated.vouches_for(rule_ver))
    }

    /// The version of the rule that its JWTs name.
    pub(crate) fn rule_version(&self) -> Option<i64> {
        self.federated.as_ref().map(|federated| federated.version)
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
    use crate::domain::access::rights::HeldGrant;
    use crate::domain::tokens::policy::tests::default_rules;
    pub(crate) use crate::domain::tokens::policy::tests::now;
    use crate::domain::values::ids::{AccountId, OrgId};
    use crate::domain::values::kinds::AccountKind;
    use crate::domain::values::permissions::{PermissionSet, Right};
    use crate::domain::values::resources::Node;

    /// What an account with these grants holds.
    pub(crate) fn held(grants: &[(&str, &str)]) -> Held {
        let grant = |(right, node): &(&str, &str)| HeldGrant {
            right: Right::parse(right).unwrap(),
            node: Node::parse(node).unwrap(),
            role_permissions: PermissionSet::default(),
        };
        Held::new(grants.iter().map(grant).collect(), BTreeSet::new())
    }

    /// A valid token of a service account with these grants.
    pub(crate) fn credential(grants: &[(&str, &str)]) -> Credential {
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
                held: held(grants).into(),
                rules: Arc::new(default_rules()),
            },
            kind: TokenKind::Secret,
            secrets: Box::default(),
            restrictions: Lists::default(),
            may_manage_tokens: false,
            create_time: now().to_utc(),
            renew_time: None,
            expire_time: Some((now() + time::Duration::days(1)).to_utc()),
            last_use: now().to_utc(),
            revoked: false,
            tied_to: None,
            federated: None,
        }
    }
}
