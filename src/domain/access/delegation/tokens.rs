//! Calls about tokens, each guarded as its handler is.

use super::calls::{By, Call};
use super::world::{Bound, ModelCredential, Token, World, account_id, refuse};
use crate::domain::access::reassignment::Reassignment;
use crate::domain::tokens::narrowing::{RestrictionsAndExpiry, may_become};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::TokenId;
use crate::domain::values::kinds::AccountKind;
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
                self.tokens.push(Token {
                    account,
                    lists: lists.clone(),
                    may_manage_tokens: *may_manage_tokens,
                    known: true,
                    bound: Some(by.bound()),
                });
            }
            Call::UpdateToken { token, lists } => self.update_token(by, *token, lists)?,
            Call::RotateToken { token } => {
                let token = self.token(*token)?;
                acting.may_rotate(
                    TokenId::from_u128(token as u128),
                    &self.credential_of(ModelCredential::Token(token)),
                )?;
                let rotated = &mut self.tokens[token];
                rotated.known = true;
                // It does not matter what gave it `may_manage_tokens`: its holder makes tokens
                // already.
                rotated.bound = Some(Bound { gives_management: true, ..by.bound() });
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
                moved.bound = Some(Bound { gives_management: true, ..by.bound() });
            }
            _ => return refuse(),
        }
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
        by.acting.may_narrow(&self.rights_of(*account), lists, &after)?;
        let limits =
            |lists: &Restrictions| RestrictionsAndExpiry { restrictions: lists.clone(), expire_time: None };
        may_become(&limits(lists), &limits(&after))?;
        self.tokens[token].lists = after;
        Ok(())
    }
}
