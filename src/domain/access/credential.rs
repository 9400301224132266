//! What is behind a token: everything that an exchange, an introspection and an
//! authenticated call need, as it was read together.

use std::net::IpAddr;

use time::OffsetDateTime;

use super::member::Member;
use super::rights::Rights;
use crate::domain::sign_in::sessions::idle_end;
use crate::domain::tokens::policy::Facts;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::tokens::secrets::Secret;
use crate::domain::values::ids::CredentialId;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::Audience;
use crate::domain::values::web_origin::WebOrigin;

/// A token or a session with its account, in the org that it acts in.
#[derive(Clone)]
pub struct Credential {
    pub credential_id: CredentialId,
    /// The account, as it is in the org that the credential acts in.
    pub account: Member,
    pub kind: TokenKind,
    pub secrets: Vec<Secret>,
    pub restrictions: Restrictions,
    pub may_manage_tokens: bool,
    pub create_time: OffsetDateTime,
    pub expire_time: Option<OffsetDateTime>,
    /// The last time that it was used, as far as was written when this was read, or that it or
    /// a secret of it was made.
    pub last_use: OffsetDateTime,
    pub revoked: bool,
}

impl Credential {
    /// What the token can do now: the account's rights within the token's lists.
    /// The one answer for exchange, introspection and access alike.
    pub(crate) fn effective_rights(&self) -> Rights {
        let Restrictions { scopes, resources, .. } = &self.restrictions;
        if self.restrictions.narrow_rights() {
            self.account.rights().narrowed(scopes, resources)
        } else {
            self.account.rights()
        }
    }

    /// The same credential in another org, where its account is this member.
    pub(crate) fn within(&self, account: Member) -> Self {
        Self { account, ..self.clone() }
    }

    /// Whether it seems not to have been used for longer than the policy allows, or a session may
    /// lie idle: the use that says otherwise may have been written since this was read.
    pub(crate) fn seems_idle(&self, now: OffsetDateTime) -> bool {
        match self.kind {
            TokenKind::Session => idle_end(self.last_use) <= now,
            TokenKind::Secret | TokenKind::Publishable => {
                self.account.rules.idle_before(now).is_some_and(|limit| self.last_use < limit)
            }
        }
    }

    /// What a policy looks at.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            kind: self.kind,
            owner: self.account.account_kind,
            create_time: self.create_time,
            expire_time: self.expire_time,
            last_use: self.last_use,
        }
    }

    /// Whether the token's own list and the org's policy let it be used for this audience; an
    /// empty list allows any.
    pub(crate) fn may_target(&self, audience: &Audience) -> bool {
        let allowed = &self.restrictions.audiences;
        (allowed.is_empty() || allowed.contains(audience)) && self.account.rules.allow_audience(audience)
    }

    /// The audiences that the token can be used for beside the issuer; empty: any. Where its list
    /// and the policy have none in common it is the issuer alone.
    pub(crate) fn targets(&self, issuer: &str) -> Vec<String> {
        let (own, policy) = (&self.restrictions.audiences, &self.account.rules.audiences);
        let listed = if own.is_empty() { policy } else { own };
        let allowed = listed.iter().filter(|audience| self.account.rules.allow_audience(audience));
        let allowed: Vec<String> = allowed.map(Audience::to_string).collect();
        if allowed.is_empty() && !listed.is_empty() { vec![issuer.to_owned()] } else { allowed }
    }

    /// Whether the secret of this number has ended: the token was rotated.
    pub(crate) fn was_replaced(&self, secret: Option<i32>, now: OffsetDateTime) -> bool {
        let shown = self.secrets.iter().find(|known| Some(known.number) == secret);
        shown.is_some_and(|secret| secret.has_ended(now))
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

    use std::sync::Arc;

    use super::*;
    use crate::domain::access::rights::HeldGrant;
    use crate::domain::tokens::policy::tests::default_rules;
    pub(crate) use crate::domain::tokens::policy::tests::now;
    use crate::domain::values::ids::{AccountId, OrgId, TokenId};
    use crate::domain::values::kinds::AccountKind;
    use crate::domain::values::permissions::Right;
    use crate::domain::values::resources::Node;

    /// A good token of a service account with these grants.
    pub(crate) fn credential(grants: &[(&str, &str)]) -> Credential {
        let grant = |(right, node): &(&str, &str)| HeldGrant {
            right: Right::parse(right).unwrap(),
            node: Node::parse(node).unwrap(),
            role_permissions: Vec::new(),
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
                grants: grants.iter().map(grant).collect(),
                named_by_org: BTreeSet::new(),
                rules: Arc::new(default_rules()),
            },
            kind: TokenKind::Secret,
            secrets: Vec::new(),
            restrictions: Restrictions::default(),
            may_manage_tokens: false,
            create_time: now(),
            expire_time: Some(now() + time::Duration::days(1)),
            last_use: now(),
            revoked: false,
        }
    }

    #[test]
    fn roles_are_those_on_the_whole_org() {
        let held = credential(&[("manager", "*"), ("owner", "a"), ("invoices.read", "*")]);
        assert_eq!(held.account.roles(), ["manager", "member"]);
    }
}
