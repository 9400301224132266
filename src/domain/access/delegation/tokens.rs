//! Calls about tokens, each guarded as its handler is.

use super::calls::{By, Call};
use super::world::{Bound, ModelCredential, ModelJwt, PresentedAs, Token, World, account_id, refuse};
use crate::domain::access::credential::tests::now;
use crate::domain::access::reassignment::Reassignment;
use crate::domain::tokens::narrowing::{RestrictionsAndExpiry, may_become};
use crate::domain::tokens::renewal::{Lifetime, RenewedBy};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::TokenId;
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::Result;

impl World {
    /// The token that a call means by the number `n`.
    fn token(&self, n: usize) -> Result<usize> {
        n.checked_rem(self.tokens.len()).map_or_else(refuse, Ok)
    }

    pub fn change_tokens(&mut self, by: &By<'_>, call: &Call) -> Result<()> {
        let acting = &by.acting;
        acting.require_token_management()?;
        match call {
            Call::CreateToken { account, lists, may_manage_tokens } => {
                let account = self.account(*account)?;
                acting.require_token_creation(account_id(account))?;
                acting.may_make(lists, *may_manage_tokens)?;
                let kind = self.accounts[account].kind;
                acting.may_make_for(&self.rules, kind, &self.rights_of(account), lists)?;
                let until = acting.token_ceiling();
                self.tokens.push(Token {
                    secret: 1,
                    lifetime: Lifetime {
                        kind: TokenKind::Secret,
                        create_time: now(),
                        renew_time: None,
                        expire_time: Some(until.unwrap_or(now() + time::Duration::days(365))),
                        maker_expire_time: until,
                    },
                    account,
                    lists: lists.clone(),
                    may_manage_tokens: *may_manage_tokens,
                    known: true,
                    bound: Some(by.bound()),
                });
            }
            Call::UpdateToken { token, lists } => self.update_token(by, *token, lists)?,
            Call::RotateToken { token, ttl } => {
                let token = self.token(*token)?;
                let (token_id, credential) =
                    (TokenId::from_u128(token as u128), self.credential_of(ModelCredential::Token(token)));
                acting.may_rotate(token_id, &credential)?;
                // What is handed to services does not take the token away from its owner.
                let by_jwt = match by.credential {
                    ModelCredential::Jwt(n) => self.jwts[n].token == token,
                    ModelCredential::Token(n) => {
                        n == token && !matches!(by.presented_as, PresentedAs::TokenString)
                    }
                    ModelCredential::Session(_)
                    | ModelCredential::Impersonation(_)
                    | ModelCredential::Rule(_) => false,
                };
                assert!(!by_jwt, "a JWT rotated the token that it was made from");
                let mut lifetime = self.tokens[token].lifetime;
                if let Some(days) = ttl {
                    let renewed_by = acting.may_renew(token_id, &credential)?;
                    let ttl = std::time::Duration::from_secs(u64::from(*days) * 86_400);
                    let end = lifetime.renewed(ttl, renewed_by, &self.rules, now()).or_else(|_| refuse())?;
                    if let RenewedBy::Another(Some(ceiling)) = renewed_by {
                        assert!(end <= ceiling, "a token outlives the credential that renewed it");
                    }
                    (lifetime.renew_time, lifetime.expire_time) = (Some(now()), Some(end));
                }
                let rotated = &mut self.tokens[token];
                rotated.lifetime = lifetime;
                rotated.secret += 1;
                rotated.known = true;
                // It does not matter what gave it `may_manage_tokens`: its holder makes tokens
                // already.
                let until = rotated.lifetime.maker_expire_time;
                rotated.bound = Some(Bound { gives_management: true, until, ..by.bound() });
            }
            Call::ReassignToken { token, account, allow_narrowing } => {
                acting.require(&Permission::TOKENS_WRITE, &Node::Org)?;
                let (token, account) = (self.token(*token)?, self.account(*account)?);
                let Token { account: from, lists, .. } = &self.tokens[token];
                if self.accounts[account].kind != AccountKind::ServiceAccount || *from == account {
                    return refuse();
                }
                let moved = Reassignment { before: self.held_by(*from), after: self.held_by(account) };
                let lost = moved.lost_rights(acting, std::slice::from_ref(lists), *allow_narrowing)?;
                let moved = &mut self.tokens[token];
                moved.account = account;
                moved.lists.scopes.retain(|scope| !lost.scopes.contains(scope));
                let until = moved.lifetime.maker_expire_time;
                // No secret is told, and the token stays where it works.
                let certificates = moved.bound.take().map(|bound| bound.certificates).unwrap_or_default();
                moved.bound = Some(Bound { gives_management: true, until, certificates, ..by.bound() });
            }
            _ => return refuse(),
        }
        Ok(())
    }

    /// The holder of a token string gets a JWT, which names the secret.
    pub fn exchange(&mut self, by: &By<'_>) -> Result<()> {
        let (ModelCredential::Token(token), PresentedAs::TokenString) = (by.credential, by.presented_as)
        else {
            return refuse();
        };
        self.jwts.push(ModelJwt { token, secret: self.tokens[token].secret });
        Ok(())
    }

    /// Replaces each list that is given.
    fn update_token(&mut self, by: &By<'_>, token: usize, given: &Restrictions) -> Result<()> {
        by.acting.require(&Permission::TOKENS_WRITE, &Node::Org)?;
        let token = self.token(token)?;
        let Token { account, lists, .. } = &self.tokens[token];
        let mut after = lists.clone();
        if !given.scopes.is_empty() {
            after.scopes = given.scopes.clone();
        }
        if !given.resources.is_empty() {
            after.resources = given.resources.clone();
        }
        if !given.certificates.is_empty() {
            after.certificates = given.certificates.clone();
        }
        by.acting.may_narrow(&self.rights_of(*account), lists, &after)?;
        let limits =
            |lists: &Restrictions| RestrictionsAndExpiry { restrictions: lists.clone(), expire_time: None };
        may_become(&limits(lists), &limits(&after))?;
        let changed = &mut self.tokens[token];
        // Certificates may be replaced, by a caller that may make a token with them.
        if changed.lists.certificates != after.certificates
            && let Some(bound) = &mut changed.bound
        {
            bound.certificates = by.bound().certificates;
        }
        changed.lists = after;
        Ok(())
    }
}
