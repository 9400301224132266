//! The state of the model: an org, and the credentials that its caller has obtained.

use std::sync::Arc;

use time::OffsetDateTime;

use super::federation::{ModelIssuer, ModelRule};
use crate::domain::access::caller::{AuthenticatedBy, Caller};
use crate::domain::access::credential::tests::{credential as sample, now};
use crate::domain::access::credential::{Credential, TiedTo};
use crate::domain::access::held::Held;
use crate::domain::access::impersonation::Impersonation;
use crate::domain::access::member::Member;
use crate::domain::access::request_context::RequestContext;
use crate::domain::access::rights::{HeldGrant, HeldGrants, Rights};
use crate::domain::access::roles::{CustomRole, Roles};
use crate::domain::accounts::lifecycle::AccountLifecycle;
use crate::domain::tokens::policy::{Ceilings, Rules, TokenPolicy};
use crate::domain::tokens::renewal::Lifetime;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::tokens::secrets::{Secret, SecretRecord};
use crate::domain::values::client_certificate::{AllowedCertificate, ClientCertificate};
use crate::domain::values::ids::{AccountId, OrgId, RoleId, RuleId, SYSTEM_ORG, SessionId, TokenId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};

pub const APPLICATIONS: [&str; 2] = ["x.y", "x.z"];

/// An account of the model. Its id comes from its index.
#[derive(Clone, Debug)]
pub struct Account {
    pub kind: AccountKind,
    pub grants: Vec<(Right, Node)>,
    pub lifecycle: AccountLifecycle,
    /// Whether the caller knows its password, or reads the mailbox to which a new one is sent.
    pub signs_in: bool,
    /// The token with which that password ends.
    pub tied_to: Option<usize>,
}

/// A token of the model.
#[derive(Clone, Debug)]
pub struct Token {
    pub account: usize,
    pub lists: Restrictions,
    pub may_manage_tokens: bool,
    /// Whether the caller has its token string.
    pub known: bool,
    /// The number of its secret: a rotation ends the one before at once.
    pub secret: i32,
    pub lifetime: Lifetime,
    /// The limits of the credential that made, moved or rotated it, if that happened in the model.
    pub bound: Option<Bound>,
}

#[derive(Clone, Debug)]
pub struct Bound {
    pub limits: Rights,
    /// Whether it could give `may_manage_tokens`.
    pub gives_management: bool,
    /// When a token that it makes expires at the latest.
    pub until: Option<OffsetDateTime>,
    /// The client certificates that a token which it makes stays within; empty: any.
    pub certificates: Vec<AllowedCertificate>,
}

/// The client certificate of every connection of the model.
pub fn certificate() -> ClientCertificate {
    ClientCertificate { thumbprint: [1; 32].into(), public_key: [2; 32].into() }
}

/// An invitation to one of the caller's mailboxes.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub grants: Vec<(Right, Node)>,
    /// The account that sent it last; two accounts under impersonation.
    pub senders: Vec<usize>,
    pub open: bool,
}

/// The JWT of an impersonation.
#[derive(Clone, Debug)]
pub struct ModelImpersonation {
    pub by: ModelCredential,
    pub actor: usize,
    pub target: usize,
    pub carried: Rights,
}

/// A JWT that carries all rights of a token, and the secret that it was exchanged for.
#[derive(Clone, Copy, Debug)]
pub struct ModelJwt {
    pub token: usize,
    pub secret: i32,
}

/// A credential that the caller can act with, by its index.
#[derive(Clone, Copy, Debug)]
pub enum ModelCredential {
    Token(usize),
    /// A session of this account: a caller that knows the password can get one at any time.
    Session(usize),
    Impersonation(usize),
    /// A JWT that is left of an exchange.
    Jwt(usize),
    /// A JWT that a federation rule gave: it can be had again at any time.
    Rule(usize),
}

/// How a credential is presented. That of an impersonation is always a JWT.
#[derive(Clone, Debug)]
pub enum PresentedAs {
    TokenString,
    Jwt,
    /// A JWT that carries no more than these lists allow.
    NarrowJwt(Restrictions),
}

#[derive(Clone, Debug)]
pub struct World {
    pub org: OrgId,
    pub rules: Arc<Rules>,
    pub roles: Roles,
    pub accounts: Vec<Account>,
    pub tokens: Vec<Token>,
    pub invitations: Vec<Invitation>,
    pub impersonations: Vec<ModelImpersonation>,
    pub jwts: Vec<ModelJwt>,
    pub issuers: Vec<ModelIssuer>,
    pub federation: Vec<ModelRule>,
    /// How many roles were made: ids are never reused.
    pub made_roles: u128,
}

/// A right to grant: one that always exists, or some custom role.
#[derive(Clone, Debug)]
pub enum Pick {
    Fixed(&'static str),
    Role(usize),
}

pub fn refuse<T>() -> Result<T> {
    Err(Error::internal("it is not there, or not of the kind"))
}

pub fn account_id(account: usize) -> AccountId {
    AccountId::from_u128(account as u128 + 1)
}

impl World {
    /// An org with these roles and no accounts.
    pub fn new(is_system: bool, allow_user_tokens: bool, roles: Vec<CustomRole>) -> Self {
        let policy = TokenPolicy {
            allow_user_tokens,
            allow_self_renewal: true,
            allow_federation: true,
            ..TokenPolicy::default()
        };
        let number = |(n, role)| (RoleId::from_u128(n as u128 + 1), role);
        Self {
            org: if is_system { SYSTEM_ORG } else { OrgId::from_u128(1) },
            rules: Arc::new(policy.within(&Ceilings::default())),
            roles: roles.into_iter().enumerate().map(number).collect(),
            accounts: Vec::new(),
            tokens: Vec::new(),
            invitations: Vec::new(),
            impersonations: Vec::new(),
            jwts: Vec::new(),
            issuers: vec![ModelIssuer { mine: false }; 2],
            federation: Vec::new(),
            made_roles: 0,
        }
    }

    pub fn held(&self, grants: &[(Right, Node)]) -> Vec<HeldGrant> {
        let open = |(right, node): &(Right, Node)| {
            let role = if let Right::Custom(id) = right { self.roles.get(id) } else { None };
            let role_permissions = role.map(|role| role.permissions.clone()).unwrap_or_default();
            HeldGrant { right: right.clone(), node: node.clone(), role_permissions }
        };
        grants.iter().map(open).collect()
    }

    pub fn grants_of(&self, account: usize) -> Vec<HeldGrant> {
        self.held(&self.accounts[account].grants)
    }

    pub fn held_by(&self, account: usize) -> HeldGrants {
        HeldGrants::new(self.grants_of(account))
    }

    pub fn rights_of(&self, account: usize) -> Rights {
        self.held_by(account).rights().clone()
    }

    /// The account that a call means by the number `n`.
    pub fn any_account(&self, n: usize) -> usize {
        n % self.accounts.len()
    }

    /// The same, unless it is deleted: most calls do not find a deleted account.
    pub fn account(&self, n: usize) -> Result<usize> {
        let account = self.any_account(n);
        if self.accounts[account].lifecycle.delete_time.is_some() { refuse() } else { Ok(account) }
    }

    pub fn owns_tokens(&self, account: usize) -> bool {
        self.tokens.iter().any(|token| token.account == account)
            || self.federation.iter().any(|rule| rule.account == account && !rule.disabled)
    }

    pub fn right(&self, pick: &Pick) -> Option<Right> {
        match pick {
            Pick::Fixed(text) => Right::parse(text).ok(),
            Pick::Role(n) => self.role(*n).map(Right::Custom),
        }
    }

    pub fn role(&self, n: usize) -> Option<RoleId> {
        self.roles.keys().nth(n % self.roles.len().max(1)).copied()
    }

    /// The chosen grants whose rights exist.
    pub fn picked(&self, grants: &[(Pick, Node)]) -> Vec<(Right, Node)> {
        grants.iter().filter_map(|(pick, node)| Some((self.right(pick)?, node.clone()))).collect()
    }

    pub fn member(&self, account: usize) -> Member {
        let Account { kind, lifecycle, .. } = &self.accounts[account];
        Member {
            org_id: self.org,
            home_org_id: self.org,
            account_id: account_id(account),
            account_kind: *kind,
            account_stopped: *lifecycle != AccountLifecycle::default(),
            held: Held::new(
                self.grants_of(account),
                APPLICATIONS.iter().map(|text| Permission::parse(text).unwrap()).collect(),
            )
            .into(),
            rules: self.rules.clone(),
            ..sample(&[]).account
        }
    }

    /// The credential's data; under impersonation, that of the administrator's credential.
    pub fn credential_of(&self, credential: ModelCredential) -> Credential {
        match credential {
            ModelCredential::Token(n) => {
                let Token { account, lists, may_manage_tokens, secret, lifetime, .. } = &self.tokens[n];
                let record = SecretRecord { mac: [0; 32], pepper: 1 };
                Credential {
                    credential_id: TokenId::from_u128(n as u128).into(),
                    account: self.member(*account),
                    restrictions: lists.clone().into(),
                    may_manage_tokens: *may_manage_tokens,
                    secrets: [Secret { number: *secret, expire_time: None, proof: record.into() }].into(),
                    create_time: lifetime.create_time.to_utc(),
                    renew_time: lifetime.renew_time.map(|renewed| Box::new(renewed.to_utc())),
                    expire_time: lifetime.expire_time.map(OffsetDateTime::to_utc),
                    ..sample(&[])
                }
            }
            ModelCredential::Session(account) => Credential {
                credential_id: SessionId::from_u128(account as u128).into(),
                account: self.member(account),
                kind: TokenKind::Session,
                may_manage_tokens: true,
                tied_to: self.accounts[account].tied_to.map(|token| {
                    Box::new(TiedTo {
                        token_id: TokenId::from_u128(token as u128),
                        expire_time: self.tokens[token].lifetime.expire_time,
                    })
                }),
                ..sample(&[])
            },
            ModelCredential::Jwt(n) => self.credential_of(ModelCredential::Token(self.jwts[n].token)),
            ModelCredential::Rule(n) => {
                let ModelRule { account, lists, expire_time, .. } = &self.federation[n];
                Credential {
                    credential_id: RuleId::from_u128(n as u128).into(),
                    account: self.member(*account),
                    kind: TokenKind::Federated,
                    restrictions: lists.clone().into(),
                    may_manage_tokens: false,
                    secrets: [].into(),
                    expire_time: Some(expire_time.to_utc()),
                    ..sample(&[])
                }
            }
            ModelCredential::Impersonation(n) => self.credential_of(self.impersonations[n].by),
        }
    }

    /// The accounts behind the credential: the one that it acts as, and the administrator.
    pub fn behind(&self, credential: ModelCredential) -> Vec<usize> {
        match credential {
            ModelCredential::Token(n) => vec![self.tokens[n].account],
            ModelCredential::Jwt(n) => vec![self.tokens[self.jwts[n].token].account],
            ModelCredential::Rule(n) => vec![self.federation[n].account],
            ModelCredential::Session(account) => vec![account],
            ModelCredential::Impersonation(n) => {
                vec![self.impersonations[n].target, self.impersonations[n].actor]
            }
        }
    }

    /// The caller that presents the credential, if it is valid.
    pub fn caller(&self, credential: ModelCredential, presented_as: &PresentedAs) -> Result<Caller> {
        let found = self.credential_of(credential);
        found.check(now())?;
        let secret = match credential {
            ModelCredential::Token(n) => Some(self.tokens[n].secret),
            ModelCredential::Jwt(n) => Some(self.jwts[n].secret),
            ModelCredential::Session(_) | ModelCredential::Impersonation(_) | ModelCredential::Rule(_) => {
                None
            }
        };
        if !found.vouches_for(secret, now()) {
            return Err(Reason::AccessTokenStale.into());
        }
        // That of a token with certificates is bound to the one that the token was shown with.
        let bound_to = (!found.restrictions.certificates.is_empty()).then_some(certificate().thumbprint);
        let jwt = |narrowed_to, impersonation| AuthenticatedBy::AccessToken {
            secret,
            narrowed_to,
            impersonation,
            expires_at: now().unix_timestamp() + 60,
            bound_to,
        };
        let bearer = match (credential, presented_as) {
            (ModelCredential::Impersonation(n), _) => {
                let ModelImpersonation { actor, target, carried, .. } = &self.impersonations[n];
                let may_be = actor != target && found.account.account_id == account_id(*actor);
                if !may_be || self.accounts[*target].kind != AccountKind::ServiceAccount {
                    return Err(Reason::AccessTokenInvalid.into());
                }
                let impersonation = Impersonation::new(&found, Arc::new(self.member(*target)))?;
                impersonation.target.check_active()?;
                jwt(Some(carried.clone()), Some(impersonation))
            }
            (ModelCredential::Jwt(_) | ModelCredential::Rule(_), _) if found.restrictions.narrow_rights() => {
                jwt(Some(found.effective_rights().clone()), None)
            }
            (ModelCredential::Jwt(_) | ModelCredential::Rule(_), _) => jwt(None, None),
            (_, PresentedAs::TokenString) => AuthenticatedBy::TokenString { secret },
            (_, PresentedAs::Jwt) if found.restrictions.narrow_rights() => {
                jwt(Some(found.effective_rights().clone()), None)
            }
            (_, PresentedAs::Jwt) => jwt(None, None),
            (_, PresentedAs::NarrowJwt(lists)) => {
                jwt(Some(Rights::within(&lists.scopes, &lists.resources)), None)
            }
        };
        let context = RequestContext { certificate: Some(Arc::new(certificate())), ..Default::default() };
        let context = Arc::new(context);
        Caller::new(Arc::new(found), bearer, context)
    }

    /// The valid credentials that the caller has, each with the caller that presents it.
    pub fn usable(&self) -> Vec<(ModelCredential, Caller)> {
        let known = |n: &usize| self.tokens[*n].known;
        let tokens = (0..self.tokens.len()).filter(known).map(ModelCredential::Token);
        let signs_in = |account: &usize| self.accounts[*account].signs_in;
        let sessions = (0..self.accounts.len()).filter(signs_in).map(ModelCredential::Session);
        let impersonations = (0..self.impersonations.len()).map(ModelCredential::Impersonation);
        let jwts = (0..self.jwts.len()).map(ModelCredential::Jwt);
        let acts = |n: &usize| self.acts_by(&self.federation[*n]);
        let rules = (0..self.federation.len()).filter(acts).map(ModelCredential::Rule);
        let all = tokens.chain(sessions).chain(impersonations).chain(jwts).chain(rules);
        all.filter_map(|credential| {
            Some((credential, self.caller(credential, &PresentedAs::TokenString).ok()?))
        })
        .collect()
    }
}
