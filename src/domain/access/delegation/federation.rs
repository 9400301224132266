//! Calls about issuers and federation rules, each guarded as its handler is.

use time::OffsetDateTime;

use super::calls::{By, Call};
use super::world::{Bound, World, refuse};
use crate::domain::access::credential::tests::now;
use crate::domain::tokens::narrowing::{RestrictionsAndExpiry, may_become};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::Result;

/// A federation rule of the model.
#[derive(Clone, Debug)]
pub struct ModelRule {
    pub issuer: usize,
    pub account: usize,
    pub lists: Restrictions,
    pub expire_time: OffsetDateTime,
    pub disabled: bool,
    /// Whether a workload of the caller's matches it.
    pub mine: bool,
    /// The limits of the credential that made or changed it or its issuer, if that happened in the model.
    pub bound: Option<Bound>,
}

/// An issuer of the model.
#[derive(Clone, Debug)]
pub struct ModelIssuer {
    /// Whether the caller has its keys, and with them the JWT of every workload.
    pub mine: bool,
}

impl World {
    /// Whether the caller can act by this rule.
    pub fn acts_by(&self, rule: &ModelRule) -> bool {
        !rule.disabled && (rule.mine || self.issuers[rule.issuer].mine)
    }

    fn rule(&self, n: usize) -> Result<usize> {
        n.checked_rem(self.federation.len()).map_or_else(refuse, Ok)
    }

    /// What the handlers of the calls ask for, and what the calls change.
    pub fn federate(&mut self, by: &By<'_>, call: &Call) -> Result<()> {
        let acting = &by.acting;
        if let Call::DisableRule { rule } = call {
            acting.require(&Permission::FEDERATION_WRITE, &Node::Org)?;
            let rule = self.rule(*rule)?;
            acting.may_stop(&self.held_by(self.federation[rule].account))?;
            self.federation[rule].disabled = true;
            return Ok(());
        }
        acting.require_federation()?;
        match call {
            Call::CreateIssuer => self.issuers.push(ModelIssuer { mine: true }),
            Call::UpdateIssuer { issuer } => {
                let issuer = issuer % self.issuers.len();
                for rule in self.federation.iter().filter(|rule| rule.issuer == issuer) {
                    let held = self.rights_of(rule.account);
                    acting.covers_rule(&held, &rule.lists, Some(rule.expire_time))?;
                }
                self.issuers[issuer].mine = true;
                for rule in self.federation.iter_mut().filter(|rule| rule.issuer == issuer) {
                    rule.bound = Some(by.bound());
                }
            }
            Call::CreateRule { issuer, account, lists } => {
                let account = self.account(*account)?;
                acting.may_make(lists, false)?;
                let (kind, held) = (self.accounts[account].kind, self.rights_of(account));
                acting.may_make_rule(kind, &held, lists, acting.token_ceiling())?;
                let end = acting.token_ceiling().unwrap_or(now() + time::Duration::days(365));
                self.federation.push(ModelRule {
                    issuer: issuer % self.issuers.len(),
                    account,
                    lists: lists.clone(),
                    expire_time: end,
                    disabled: false,
                    mine: true,
                    bound: Some(by.bound()),
                });
            }
            Call::UpdateRule { rule, lists } => {
                let rule = self.rule(*rule)?;
                let before = &self.federation[rule];
                let account = self.account(before.account)?;
                let mut after = before.lists.clone();
                if !lists.scopes.is_empty() {
                    after.scopes = lists.scopes.clone();
                }
                if !lists.resources.is_empty() {
                    after.resources = lists.resources.clone();
                }
                let (kind, held) = (self.accounts[account].kind, self.rights_of(account));
                acting.may_make_rule(kind, &held, &after, Some(before.expire_time))?;
                let limits = |lists: &Restrictions| RestrictionsAndExpiry {
                    restrictions: lists.clone(),
                    expire_time: Some(before.expire_time),
                };
                may_become(&limits(&before.lists), &limits(&after))?;
                // Enabled, for a workload of the caller's.
                let before = before.clone();
                self.federation[rule] = ModelRule {
                    lists: after,
                    disabled: false,
                    mine: true,
                    bound: Some(by.bound()),
                    ..before
                };
            }
            _ => return refuse(),
        }
        Ok(())
    }
}
