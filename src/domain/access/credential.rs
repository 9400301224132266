//! What is behind a token: everything that an exchange, an introspection and an
//! authenticated call need, as it was read together.

use std::net::IpAddr;
use std::ops::Deref;

use time::OffsetDateTime;

use super::checks::{Check, CheckInput};
use super::member::Member;
use super::rights::Rights;
use crate::domain::sign_in::sessions::idle_end;
use crate::domain::tokens::policy::Facts;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::tokens::secrets::Secret;
use crate::domain::values::ids::CredentialId;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::Purpose;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::Reason;

/// Where a credential is shown from, and what for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presentation<'a> {
    /// The address of whoever shows it; none where it is not known.
    pub address: Option<IpAddr>,
    /// The page that shows it; none outside a browser, or where it is no proper origin.
    pub origin: Option<&'a WebOrigin>,
    pub purpose: Option<&'a Purpose>,
}

/// A token or a session with its account, in the org that it acts in. What is known of
/// the account reads as the credential's own.
#[derive(Clone)]
pub struct Credential {
    pub credential_id: CredentialId,
    pub member: Member,
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

impl Deref for Credential {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

impl Credential {
    /// What the token can do now: the account's rights within the token's lists.
    /// The one answer for exchange, introspection and access alike.
    pub fn effective_rights(&self) -> Rights {
        let Restrictions { scopes, resources, .. } = &self.restrictions;
        if self.restrictions.narrow_rights() {
            self.account_rights().narrowed(scopes, resources)
        } else {
            self.account_rights()
        }
    }

    /// The same credential in another org, where its account is this member.
    pub fn within(&self, member: Member) -> Self {
        Self { member, ..self.clone() }
    }

    /// Whether the token works at all now. Asked only after its secret matched, or a
    /// JWT made from it verified, so that the true reason may be told.
    pub fn check(&self, now: OffsetDateTime) -> Result<(), Reason> {
        self.check_secret(None, now)
    }

    /// The same, when it was shown by the secret of this number.
    pub fn check_secret(&self, secret: Option<i32>, now: OffsetDateTime) -> Result<(), Reason> {
        let used = CheckInput { secret, ..CheckInput::at(now) };
        Check::OF_STATE.into_iter().try_for_each(|check| self.pass(check, &used))
    }

    /// Whether it seems not to have been used for longer than the policy allows, or a session may
    /// lie idle: the use that says otherwise may have been written since this was read.
    pub fn seems_idle(&self, now: OffsetDateTime) -> bool {
        match self.kind {
            TokenKind::Session => idle_end(self.last_use) <= now,
            TokenKind::Secret | TokenKind::Publishable => {
                self.rules.idle_before(now).is_some_and(|limit| self.last_use < limit)
            }
        }
    }

    /// What a policy looks at.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            kind: self.kind,
            owner: self.account_kind,
            create_time: self.create_time,
            expire_time: self.expire_time,
            last_use: self.last_use,
        }
    }

    /// Whether the token may be used from there, for that. Asked where [`check`](Self::check) is.
    ///
    /// # Errors
    /// `PURPOSE_MISMATCH` unless both sides name the same purpose or neither names one;
    /// `ADDRESS_NOT_ALLOWED`, also where the address is not known; `ORIGIN_NOT_ALLOWED`
    /// for a publishable token without one of its origins.
    pub fn admit(&self, shown: &Presentation<'_>) -> Result<(), Reason> {
        // None of these looks at the time.
        let used = CheckInput { shown: *shown, ..CheckInput::at(OffsetDateTime::UNIX_EPOCH) };
        Check::OF_USE.into_iter().try_for_each(|check| self.pass(check, &used))
    }

    /// The same for a JWT that was made from the token. From where the token was shown was
    /// looked at then, and whoever shows the JWT now is another hop: an address or an
    /// origin counts only where it is told.
    pub fn admit_access_token(&self, shown: &Presentation<'_>) -> Result<(), Reason> {
        if self.restrictions.purpose.as_ref() != shown.purpose {
            Err(Reason::PurposeMismatch)
        } else if shown.address.is_some_and(|address| !self.works_at(address)) {
            Err(Reason::AddressNotAllowed)
        } else if shown.origin.is_some_and(|origin| !self.works_from(origin)) {
            Err(Reason::OriginNotAllowed)
        } else {
            Ok(())
        }
    }

    pub(super) fn works_at(&self, address: IpAddr) -> bool {
        let networks = &self.restrictions.networks;
        networks.is_empty() || networks.iter().any(|network| network.contains(address))
    }

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
    use crate::domain::tokens::policy::{Ceilings, TokenPolicy};
    use crate::domain::values::ids::{AccountId, OrgId, TokenId};
    use crate::domain::values::kinds::AccountKind;
    use crate::domain::values::networks::Network;
    use crate::domain::values::permissions::Right;
    use crate::domain::values::resources::Node;

    pub(crate) fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    /// A good token of a service account with these grants.
    pub(crate) fn credential(grants: &[(&str, &str)]) -> Credential {
        let grant = |(right, node): &(&str, &str)| HeldGrant {
            right: Right::parse(right).unwrap(),
            node: Node::parse(node).unwrap(),
            role_permissions: Vec::new(),
        };
        Credential {
            credential_id: TokenId::from_u128(3).into(),
            member: Member {
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
    fn a_token_works_until_something_stops_it() {
        let end = now() + time::Duration::days(1);
        type Case = (fn(&mut Credential), Result<(), Reason>);
        let blocking = |credential: &mut Credential| {
            let policy = TokenPolicy {
                max_secret_lifetime: Some(std::time::Duration::from_secs(60)),
                ..TokenPolicy::default()
            };
            credential.member.rules = Arc::new(policy.within(&Ceilings::default()));
        };
        let cases: [Case; 12] = [
            (|_| (), Ok(())),
            (|p| p.revoked = true, Err(Reason::TokenRevoked)),
            (|p| p.member.org_stopped = true, Err(Reason::OrgSuspended)),
            (|p| p.member.account_stopped = true, Err(Reason::AccountDeactivated)),
            (|p| p.expire_time = Some(now()), Err(Reason::TokenExpired)),
            (|p| p.expire_time = None, Err(Reason::TokenBlocked)),
            (|p| p.member.account_kind = AccountKind::User, Err(Reason::TokenBlocked)),
            (blocking, Err(Reason::TokenBlocked)),
            (
                |p| (p.member.account_kind, p.expire_time) = (AccountKind::User, Some(now())),
                Err(Reason::TokenExpired),
            ),
            // A session is no token: what the policy says of those does not stop it.
            (|p| (p.kind, p.member.account_kind) = (TokenKind::Session, AccountKind::User), Ok(())),
            (|p| (p.kind, p.last_use) = (TokenKind::Session, now() - 12 * time::Duration::HOUR), Ok(())),
            (
                |p| (p.kind, p.last_use) = (TokenKind::Session, now() - 13 * time::Duration::HOUR),
                Err(Reason::TokenExpired),
            ),
        ];
        for (change, expected) in cases {
            let mut credential = credential(&[]);
            change(&mut credential);
            assert_eq!(credential.check(now()), expected);
        }
        assert_eq!(credential(&[]).check(end), Err(Reason::TokenExpired));
    }

    #[test]
    fn a_token_works_from_where_and_for_what_it_is_meant() {
        let origin = WebOrigin::parse("https://app.example").unwrap();
        let other = WebOrigin::parse("https://other.example").unwrap();
        let (scim, etl) = (Purpose::parse("SCIM").unwrap(), Purpose::parse("ETL").unwrap());
        let from = |address: &str| Presentation { address: address.parse().ok(), ..Default::default() };
        let anywhere = credential(&[]);
        assert_eq!(anywhere.admit(&Presentation::default()), Ok(()));
        assert_eq!(anywhere.admit(&Presentation { origin: Some(&other), ..from("192.0.2.1") }), Ok(()));
        assert_eq!(
            anywhere.admit(&Presentation { purpose: Some(&scim), ..Default::default() }),
            Err(Reason::PurposeMismatch)
        );

        let mut held = credential(&[]);
        held.restrictions.networks =
            vec![Network::parse("192.0.2.0/24").unwrap(), Network::parse("2001:db8::/32").unwrap()];
        for (address, good) in [
            ("192.0.2.9", true),
            ("::ffff:192.0.2.9", true),
            ("2001:db8::9", true),
            ("192.0.3.9", false),
            ("2001:db9::9", false),
            ("", false),
        ] {
            let expected = if good { Ok(()) } else { Err(Reason::AddressNotAllowed) };
            assert_eq!(held.admit(&from(address)), expected, "{address}");
        }

        let mut held = credential(&[]);
        held.restrictions.purpose = Some(scim.clone());
        for (purpose, good) in [(Some(&scim), true), (Some(&etl), false), (None, false)] {
            let shown = Presentation { purpose, ..Default::default() };
            assert_eq!(held.admit(&shown).is_ok(), good, "{purpose:?}");
        }

        let mut held = credential(&[]);
        held.kind = TokenKind::Publishable;
        held.restrictions.origins = vec![origin.clone()];
        for (shown, good) in [(Some(&origin), true), (Some(&other), false), (None, false)] {
            let outcome = held.admit(&Presentation { origin: shown, ..Default::default() });
            assert_eq!(outcome, if good { Ok(()) } else { Err(Reason::OriginNotAllowed) });
        }

        held.restrictions.networks = vec![Network::parse("192.0.2.0/24").unwrap()];
        let at = |address: &str, origin| held.admit_access_token(&Presentation { origin, ..from(address) });
        assert_eq!(at("", None), Ok(()), "what is not told was looked at when it was exchanged");
        assert_eq!(at("192.0.2.9", Some(&origin)), Ok(()));
        assert_eq!(at("192.0.3.9", Some(&origin)), Err(Reason::AddressNotAllowed));
        assert_eq!(at("", Some(&other)), Err(Reason::OriginNotAllowed));
    }

    #[test]
    fn roles_are_those_on_the_whole_org() {
        let held = credential(&[("manager", "*"), ("owner", "a"), ("invoices.read", "*")]);
        assert_eq!(held.roles(), ["manager", "member"]);
    }
}
