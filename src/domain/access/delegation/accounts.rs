//! Calls about accounts and invitations, each guarded as its handler is.

use super::calls::{By, Call};
use super::world::{Account, Invitation, ModelImpersonation, World, account_id, refuse};
use crate::domain::access::acting::Acting;
use crate::domain::access::credential::tests::now;
use crate::domain::access::grant_transfer::{Received, receive};
use crate::domain::access::impersonation_token;
use crate::domain::access::impersonation_token::MAX_LIFETIME;
use crate::domain::access::rights::{HeldGrant, Rights};
use crate::domain::access::roles::may_hold;
use crate::domain::accounts::lifecycle::{AccountLifecycle, AccountTransition};
use crate::domain::values::ids::{SYSTEM_ORG, TokenId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::Node;
use crate::error::Result;

/// The resources that exist in the model.
pub const PATHS: [&str; 3] = ["a", "a/b", "ab"];

pub fn deactivated(deactivated: bool) -> AccountLifecycle {
    AccountLifecycle { deactivate_time: deactivated.then(now), delete_time: None }
}

/// The token of the model with this id.
fn tied(token_id: Option<TokenId>) -> Option<usize> {
    token_id.map(|token_id| token_id.uuid().as_u128() as usize)
}

fn pairs(grants: Vec<HeldGrant>) -> Vec<(Right, Node)> {
    grants.into_iter().map(|grant| (grant.right, grant.node)).collect()
}

impl World {
    /// What `GrantAccess` and the creating calls check of each grant.
    fn may_give(&self, acting: &Acting<'_>, kind: AccountKind, grants: &[(Right, Node)]) -> Result<()> {
        acting.may_pass_on(&self.held(grants))?;
        if grants.iter().all(|(right, _)| may_hold(kind, right, &self.roles)) { Ok(()) } else { refuse() }
    }

    pub fn create(&mut self, by: &By<'_>, call: &Call) -> Result<()> {
        let acting = &by.acting;
        acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
        let account = match call {
            Call::CreateAccount { kind, grants, deactivated: is_deactivated, mine } => {
                let grants = self.picked(grants);
                self.may_give(acting, *kind, &grants)?;
                // The caller gives a password, or has an email sent to its mailbox.
                let tied_to = match kind {
                    AccountKind::ServiceAccount if *mine => tied(acting.may_give_password()?),
                    AccountKind::ServiceAccount => None,
                    AccountKind::User => acting.may_send_code().map(|()| None)?,
                };
                let lifecycle = deactivated(*is_deactivated);
                Account { kind: *kind, grants, lifecycle, signs_in: *mine, tied_to }
            }
            Call::CloneAccount { source, deactivated: is_deactivated, mine } => {
                acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
                let source = self.account(*source)?;
                if acting.is_self(account_id(source)) {
                    return refuse();
                }
                let held = self.grants_of(source).into_iter().map(|held| ((), held)).collect();
                let given = acting.divide(held, |()| false).given;
                let kind = self.accounts[source].kind;
                if kind == AccountKind::User {
                    acting.may_send_code()?;
                }
                Account {
                    tied_to: None,
                    kind,
                    grants: pairs(given.into_iter().map(|(_, held)| held).collect()),
                    lifecycle: deactivated(*is_deactivated),
                    // No password is copied; a new user gets an email.
                    signs_in: *mine && kind == AccountKind::User,
                }
            }
            _ => return refuse(),
        };
        self.accounts.push(account);
        Ok(())
    }

    pub fn change_grants(&mut self, by: &By<'_>, call: &Call) -> Result<()> {
        let acting = &by.acting;
        match call {
            Call::GrantAccess { account, right, node } => {
                acting.require(&Permission::ACCOUNTS_WRITE, node)?;
                let account = self.account(*account)?;
                let Some(right) = self.right(right) else { return refuse() };
                let grant = (right, node.clone());
                self.may_give(acting, self.accounts[account].kind, std::slice::from_ref(&grant))?;
                self.accounts[account].grants.push(grant);
            }
            Call::RevokeAccess { account, grant } => {
                let account = self.any_account(*account);
                let Some((_, node)) = self.accounts[account].grants.get(*grant) else { return refuse() };
                acting.require(&Permission::ACCOUNTS_WRITE, node)?;
                acting.may_stop(&self.held_by(account))?;
                self.accounts[account].grants.remove(*grant);
            }
            _ => return refuse(),
        }
        Ok(())
    }

    pub fn change_lifecycle(
        &mut self,
        by: &By<'_>,
        account: usize,
        transition: AccountTransition,
    ) -> Result<()> {
        by.acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
        let account = self.any_account(account);
        if by.acting.is_self(account_id(account)) {
            transition.refuse_self()?;
        }
        let Some(lifecycle) = transition.apply(self.accounts[account].lifecycle, now()) else {
            return refuse();
        };
        by.acting.may_take(transition, &self.held_by(account))?;
        if transition == AccountTransition::Delete && self.owns_tokens(account) {
            return refuse();
        }
        self.accounts[account].lifecycle = lifecycle;
        Ok(())
    }

    /// The calls that put the caller in the place of an account.
    pub fn take_over(&mut self, by: &By<'_>, call: &Call) -> Result<()> {
        let acting = &by.acting;
        match call {
            Call::SetPassword { account } => {
                acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
                let account = self.account(*account)?;
                acting.may_set_password(self.accounts[account].kind, &self.held_by(account))?;
                let tied_to = tied(acting.may_give_password()?);
                (self.accounts[account].signs_in, self.accounts[account].tied_to) = (true, tied_to);
            }
            Call::ConvertAccount { account, mine } => {
                acting.caller.require_platform(&Permission::PLATFORM_ACCOUNTS)?;
                let account = self.account(*account)?;
                let becomes = match self.accounts[account].kind {
                    AccountKind::ServiceAccount if self.owns_tokens(account) => return refuse(),
                    AccountKind::ServiceAccount => AccountKind::User,
                    AccountKind::User => AccountKind::ServiceAccount,
                };
                acting.may_take_over(&self.rights_of(account))?;
                if becomes == AccountKind::User {
                    acting.may_send_code()?;
                }
                let roles = &self.roles;
                let converted = &mut self.accounts[account];
                converted.grants.retain(|(right, _)| may_hold(becomes, right, roles));
                converted.kind = becomes;
                converted.signs_in = *mine && becomes == AccountKind::User;
                converted.tied_to = None;
            }
            Call::UpdateUsername { account, mine } => {
                acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
                let account = self.account(*account)?;
                if !acting.caller.is_operator() {
                    return refuse();
                }
                acting.may_take_over(&self.rights_of(account))?;
                if self.accounts[account].kind == AccountKind::User {
                    acting.may_send_code()?;
                }
                let renamed = &mut self.accounts[account];
                renamed.signs_in |= *mine && renamed.kind == AccountKind::User;
            }
            Call::Impersonate { account } => self.impersonate(by, *account)?,
            _ => return refuse(),
        }
        Ok(())
    }

    fn impersonate(&mut self, by: &By<'_>, account: usize) -> Result<()> {
        impersonation_token::authorise(&by.acting)?;
        let target = self.account(account)?;
        let issuer = "https://id.example";
        let member = self.member(target);
        let decision =
            impersonation_token::decide(&by.acting, &member, MAX_LIFETIME, &self.rules, issuer, now())?;
        let on_org = decision.scope.into_iter().map(|permission| (permission, Node::Org));
        let on_paths = decision.on_paths.into_iter().flat_map(|(path, permissions)| {
            permissions.into_iter().map(move |permission| (permission, Node::Path(path.clone())))
        });
        let carried = Rights::of_pairs(on_org.chain(on_paths));
        let actor = self.behind(by.credential)[0];
        self.impersonations.push(ModelImpersonation { by: by.credential, actor, target, carried });
        Ok(())
    }

    pub fn invite(&mut self, by: &By<'_>, call: &Call) -> Result<()> {
        let acting = &by.acting;
        let count = self.invitations.len().max(1);
        match call {
            Call::CreateInvitation { grants } => {
                acting.require(&Permission::INVITATIONS_WRITE, &Node::Org)?;
                acting.may_send_code()?;
                if self.org == SYSTEM_ORG {
                    return refuse();
                }
                let grants = self.picked(grants);
                self.may_give(acting, AccountKind::User, &grants)?;
                let senders = self.behind(by.credential);
                self.invitations.push(Invitation { grants, senders, open: true });
            }
            Call::ResendInvitation { invitation } => {
                acting.require(&Permission::INVITATIONS_WRITE, &Node::Org)?;
                acting.may_send_code()?;
                let Some(sent) = self.invitations.get(invitation % count) else { return refuse() };
                acting.may_pass_on(&self.held(&sent.grants))?;
                if !sent.open {
                    return refuse();
                }
                self.invitations[invitation % count].senders = self.behind(by.credential);
            }
            Call::AcceptInvitation { invitation } => self.accept(invitation % count)?,
            _ => return refuse(),
        }
        Ok(())
    }

    /// The grants are limited to what the senders hold now.
    fn accept(&mut self, invitation: usize) -> Result<()> {
        let Some(Invitation { grants, senders, open: true }) = self.invitations.get(invitation) else {
            return refuse();
        };
        let hold = |sender: &usize| match self.accounts[*sender].lifecycle == AccountLifecycle::default() {
            true => self.rights_of(*sender),
            false => Rights::default(),
        };
        let rights = senders.iter().map(hold).reduce(|all, sender| all.meet(&sender)).unwrap_or_default();
        let Received { given, .. } =
            receive(&rights, self.held(grants), &self.roles, &PATHS.map(str::to_owned));
        let (kind, lifecycle) = (AccountKind::User, AccountLifecycle::default());
        self.accounts.push(Account { kind, grants: pairs(given), lifecycle, signs_in: true, tied_to: None });
        self.invitations[invitation].open = false;
        Ok(())
    }
}
