//! The rules of delegation together: a small model of an org, in which one caller makes
//! whatever calls it likes with whatever credentials it has come by. Each call is guarded
//! by the functions that its handler calls. Nobody ever gets more than the caller had.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::caller::{Acting, Bearer, Caller, Origin};
use super::ids::{AccountId, RoleId};
use super::permissions::{Permission, Right};
use super::principal::tests::principal;
use super::principal::{AccountKind, Principal, Restrictions};
use super::resources::{Node, ResourcePath};
use super::rights::{HeldGrant, Rights};
use super::roles::{CustomRole, Roles, may_hold};
use crate::error::{Error, Result};

/// An account of the model. Its id is its index.
#[derive(Clone, Debug)]
struct Account {
    kind: AccountKind,
    grants: Vec<(Right, Node)>,
    stopped: bool,
}

/// A token of the model.
#[derive(Clone, Debug)]
struct Token {
    account: usize,
    lists: Restrictions,
    may_manage_tokens: bool,
    /// Whether the caller has its text.
    known: bool,
    /// The lists of the credential that made it, in the model.
    made_under: Option<Restrictions>,
}

#[derive(Clone, Debug, Default)]
struct World {
    roles: Roles,
    accounts: Vec<Account>,
    tokens: Vec<Token>,
    /// How many roles were made: ids are never reused.
    made_roles: u128,
}

/// What the caller tries, with the `by`-th of the credentials that it has.
#[derive(Clone, Debug)]
struct Step {
    by: usize,
    call: Call,
}

#[derive(Clone, Debug)]
enum Call {
    CreateAccount { kind: AccountKind, grants: Vec<(Pick, Node)>, stopped: bool },
    CloneAccount { source: usize },
    GrantAccess { account: usize, right: Pick, node: Node },
    RevokeAccess { account: usize, grant: usize },
    DeactivateAccount { account: usize },
    ActivateAccount { account: usize },
    CreateRole { terms: CustomRole },
    UpdateRole { role: usize, terms: CustomRole },
    DeleteRole { role: usize },
    CreateToken { account: usize, lists: Restrictions, may_manage_tokens: bool },
    ReassignToken { token: usize, account: usize },
}

/// A right to be given: one that is always there, or some custom role.
#[derive(Clone, Debug)]
enum Pick {
    Fixed(&'static str),
    Role(usize),
}

impl Call {
    fn name(&self) -> &'static str {
        match self {
            Call::CreateAccount { .. } => "create account",
            Call::CloneAccount { .. } => "clone account",
            Call::GrantAccess { .. } => "grant access",
            Call::RevokeAccess { .. } => "revoke access",
            Call::DeactivateAccount { .. } => "deactivate account",
            Call::ActivateAccount { .. } => "activate account",
            Call::CreateRole { .. } => "create role",
            Call::UpdateRole { .. } => "update role",
            Call::DeleteRole { .. } => "delete role",
            Call::CreateToken { .. } => "create token",
            Call::ReassignToken { .. } => "reassign token",
        }
    }
}

fn refuse<T>() -> Result<T> {
    Err(Error::internal("it is not there, or not of the kind"))
}

impl World {
    fn held(&self, grants: &[(Right, Node)]) -> Vec<HeldGrant> {
        let open = |(right, node): &(Right, Node)| {
            let role = if let Right::Custom(id) = right { self.roles.get(id) } else { None };
            let role_permissions = role.map(|role| role.permissions.clone()).unwrap_or_default();
            HeldGrant { right: right.clone(), node: node.clone(), role_permissions }
        };
        grants.iter().map(open).collect()
    }

    fn grants_of(&self, account: usize) -> Vec<HeldGrant> {
        self.held(&self.accounts[account].grants)
    }

    fn rights_of(&self, account: usize) -> Rights {
        Rights::of_grants(&self.grants_of(account))
    }

    fn principal(&self, token: &Token) -> Principal {
        let mut principal = principal(&[]);
        principal.member.account_id = AccountId::from_u128(token.account as u128);
        principal.restrictions = token.lists.clone();
        principal.may_manage_tokens = token.may_manage_tokens;
        principal.member.grants = self.grants_of(token.account);
        principal
    }

    /// The credentials that the caller has and that work.
    fn usable(&self) -> Vec<&Token> {
        let works = |token: &&Token| token.known && !self.accounts[token.account].stopped;
        self.tokens.iter().filter(works).collect()
    }

    fn right(&self, pick: &Pick) -> Option<Right> {
        match pick {
            Pick::Fixed(text) => Right::parse(text).ok(),
            Pick::Role(n) => self.role(*n).map(Right::Custom),
        }
    }

    fn role(&self, n: usize) -> Option<RoleId> {
        self.roles.keys().nth(n % self.roles.len().max(1)).copied()
    }

    /// What `GrantAccess` and the creating calls check of each grant.
    fn may_give(&self, acting: &Acting<'_>, kind: AccountKind, grants: &[(Right, Node)]) -> Result<()> {
        acting.may_pass_on(&self.held(grants))?;
        if grants.iter().all(|(right, _)| may_hold(kind, right, &self.roles)) { Ok(()) } else { refuse() }
    }

    /// Carries the call out, if it is allowed.
    fn carry_out(&mut self, step: &Step) -> Result<()> {
        let usable = self.usable();
        let Some(credential) = usable.get(step.by % usable.len().max(1)).copied() else {
            return refuse();
        };
        let caller = Caller::new(Arc::new(self.principal(credential)), Bearer::Text, Origin::default())?;
        let acting = caller.acting_in(None)?;
        let (own, under) = (credential.account, credential.lists.clone());
        match &step.call {
            Call::CreateAccount { .. } | Call::CloneAccount { .. } => self.create(&acting, own, &step.call),
            Call::CreateRole { .. } | Call::UpdateRole { .. } | Call::DeleteRole { .. } => {
                self.change_roles(&acting, &step.call)
            }
            Call::CreateToken { .. } | Call::ReassignToken { .. } => {
                self.change_tokens(&acting, &under, &step.call)
            }
            _ => self.change_accounts(&acting, own, &step.call),
        }
    }

    fn create(&mut self, acting: &Acting<'_>, own: usize, call: &Call) -> Result<()> {
        acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
        let account = match call {
            Call::CreateAccount { kind, grants, stopped } => {
                let named = grants.iter().filter_map(|(pick, node)| Some((self.right(pick)?, node.clone())));
                let grants: Vec<_> = named.collect();
                self.may_give(acting, *kind, &grants)?;
                Account { kind: *kind, grants, stopped: *stopped }
            }
            Call::CloneAccount { source } => {
                acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
                let source = source % self.accounts.len();
                if source == own {
                    return refuse();
                }
                let mut account = self.accounts[source].clone();
                account
                    .grants
                    .retain(|grant| acting.may_pass_on(&self.held(std::slice::from_ref(grant))).is_ok());
                account
            }
            _ => return refuse(),
        };
        self.accounts.push(account);
        Ok(())
    }

    fn change_accounts(&mut self, acting: &Acting<'_>, own: usize, call: &Call) -> Result<()> {
        match call {
            Call::GrantAccess { account, right, node } => {
                let account = account % self.accounts.len();
                acting.require(&Permission::ACCOUNTS_WRITE, node)?;
                let Some(right) = self.right(right) else { return refuse() };
                let grant = (right, node.clone());
                self.may_give(acting, self.accounts[account].kind, std::slice::from_ref(&grant))?;
                self.accounts[account].grants.push(grant);
            }
            Call::RevokeAccess { account, grant } => {
                let account = account % self.accounts.len();
                let Some((_, node)) = self.accounts[account].grants.get(*grant) else { return refuse() };
                acting.require(&Permission::ACCOUNTS_WRITE, node)?;
                acting.may_stop(&self.grants_of(account))?;
                self.accounts[account].grants.remove(*grant);
            }
            Call::DeactivateAccount { account } => {
                let account = account % self.accounts.len();
                acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
                acting.may_stop(&self.grants_of(account))?;
                if account == own {
                    return refuse();
                }
                self.accounts[account].stopped = true;
            }
            Call::ActivateAccount { account } => {
                let account = account % self.accounts.len();
                acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
                acting.may_take_over(&self.rights_of(account))?;
                self.accounts[account].stopped = false;
            }
            _ => return refuse(),
        }
        Ok(())
    }

    fn change_roles(&mut self, acting: &Acting<'_>, call: &Call) -> Result<()> {
        acting.require(&Permission::ROLES_WRITE, &Node::Org)?;
        let holders = |id: RoleId| {
            let holds = move |account: &&Account| account.grants.iter().any(|(r, _)| *r == Right::Custom(id));
            self.accounts.iter().filter(holds)
        };
        match call {
            Call::CreateRole { terms } => {
                acting.may_define(terms)?;
                self.made_roles += 1;
                self.roles.insert(RoleId::from_u128(100 + self.made_roles), terms.clone());
            }
            Call::UpdateRole { role, terms } => {
                let Some(id) = self.role(*role) else { return refuse() };
                let before = &self.roles[&id];
                acting.may_redefine(before, terms)?;
                let lost = before.kinds_beyond(terms);
                if holders(id).any(|account| lost.contains(&account.kind)) {
                    return refuse();
                }
                self.roles.insert(id, terms.clone());
            }
            Call::DeleteRole { role } => {
                let Some(id) = self.role(*role) else { return refuse() };
                if holders(id).next().is_some() {
                    return refuse();
                }
                self.roles.remove(&id);
            }
            _ => return refuse(),
        }
        Ok(())
    }

    fn change_tokens(&mut self, acting: &Acting<'_>, under: &Restrictions, call: &Call) -> Result<()> {
        acting.require(&Permission::TOKENS_WRITE, &Node::Org)?;
        acting.require_token_management()?;
        let may_have = |account: usize, lists: &Restrictions| {
            if self.accounts[account].kind != AccountKind::ServiceAccount {
                return refuse();
            }
            acting.may_take_over(&self.rights_of(account).narrowed(&lists.scopes, &lists.resources))
        };
        match call {
            Call::CreateToken { account, lists, may_manage_tokens } => {
                let account = account % self.accounts.len();
                acting.may_make(lists, *may_manage_tokens)?;
                may_have(account, lists)?;
                self.tokens.push(Token {
                    account,
                    lists: lists.clone(),
                    may_manage_tokens: *may_manage_tokens,
                    known: true,
                    made_under: Some(under.clone()),
                });
            }
            Call::ReassignToken { token, account } => {
                let (token, account) = (token % self.tokens.len(), account % self.accounts.len());
                let moved = &self.tokens[token];
                may_have(moved.account, &moved.lists)?;
                may_have(account, &moved.lists)?;
                self.tokens[token].account = account;
            }
            _ => return refuse(),
        }
        Ok(())
    }
}

const PERMISSIONS: [&str; 7] =
    ["accounts.read", "accounts.write", "roles.write", "tokens.write", "orgs.write", "x.y", "x.z"];

fn permissions(max: usize) -> impl Strategy<Value = Vec<Permission>> {
    let one = prop::sample::select(&PERMISSIONS[..]).prop_map(|text| Permission::parse(text).unwrap());
    prop::collection::vec(one, 0..=max)
}

fn node() -> impl Strategy<Value = Node> {
    let below = prop::sample::select(&["a", "a/b", "ab"][..]).prop_map(|text| Node::parse(text).unwrap());
    prop_oneof![2 => Just(Node::Org), 1 => below]
}

fn kind() -> impl Strategy<Value = AccountKind> {
    prop_oneof![3 => Just(AccountKind::ServiceAccount), 1 => Just(AccountKind::User)]
}

fn pick() -> impl Strategy<Value = Pick> {
    let fixed = ["owner", "manager", "auditor"].into_iter().chain(PERMISSIONS).collect::<Vec<_>>();
    prop_oneof![
        2 => prop::sample::select(fixed).prop_map(Pick::Fixed),
        1 => (0..8usize).prop_map(Pick::Role)
    ]
}

fn terms() -> impl Strategy<Value = CustomRole> {
    let kinds = prop_oneof![2 => Just(Vec::new()), 1 => kind().prop_map(|kind| vec![kind])];
    (permissions(4), kinds).prop_map(|(permissions, kinds)| CustomRole::new(permissions, kinds))
}

fn lists() -> impl Strategy<Value = Restrictions> {
    let path = prop::sample::select(&["a", "a/b"][..]).prop_map(|text| ResourcePath::parse(text).unwrap());
    let resources = prop_oneof![3 => Just(Vec::new()), 1 => path.prop_map(|path| vec![path])];
    let scopes = prop_oneof![2 => Just(Vec::new()), 1 => permissions(5)];
    (scopes, resources).prop_map(|(scopes, resources)| Restrictions {
        scopes,
        resources,
        ..Restrictions::default()
    })
}

/// An org: roles, accounts, one good credential of the caller's, and some of which it has
/// kept the text though their accounts are stopped, or which others have.
fn world() -> impl Strategy<Value = World> {
    let roles = prop::collection::vec(terms(), 0..4);
    let grants = || prop::collection::vec((pick(), node()), 0..4);
    let accounts = prop::collection::vec((kind(), grants(), any::<bool>()), 2..6);
    let tokens = prop::collection::vec((0..8usize, lists(), any::<bool>()), 0..5);
    // Somebody who can call something: an org's manager, or less.
    let all = |rights: &[&'static str]| rights.iter().map(|right| (*right, "*")).collect::<Vec<_>>();
    let first = prop_oneof![
        Just(vec![("manager", "*"), ("x.z", "a")]),
        Just(vec![("manager", "*"), ("x.y", "*"), ("orgs.write", "a/b")]),
        Just(all(&["accounts.write", "roles.write", "tokens.write", "x.y"])),
        Just(all(&["owner"]))
    ];
    (roles, accounts, tokens, first, lists()).prop_map(|(roles, accounts, tokens, first, lists)| {
        let number = |(n, role)| (RoleId::from_u128(n as u128 + 1), role);
        let mut world =
            World { roles: roles.into_iter().enumerate().map(number).collect(), ..World::default() };
        let parse = |(right, node)| (Right::parse(right).unwrap(), Node::parse(node).unwrap());
        let first = first.into_iter().map(parse).collect();
        let kind = AccountKind::ServiceAccount;
        world.accounts.push(Account { kind, grants: first, stopped: false });
        let token = Token { account: 0, lists, may_manage_tokens: true, known: true, made_under: None };
        world.tokens.push(token);
        for (kind, picks, stopped) in accounts {
            let named = picks.iter().filter_map(|(pick, node)| Some((world.right(pick)?, node.clone())));
            let grants = named.filter(|(right, _)| may_hold(kind, right, &world.roles)).collect();
            world.accounts.push(Account { kind, grants, stopped });
        }
        for (account, lists, may_manage_tokens) in tokens {
            let account = account % world.accounts.len();
            // Of a working account the caller knows its own token alone.
            let known = world.accounts[account].stopped;
            world.tokens.push(Token { account, lists, may_manage_tokens, known, made_under: None });
        }
        world
    })
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..12usize;
    let grants = prop::collection::vec((pick(), node()), 0..3);
    let call = prop_oneof![
        (kind(), grants, any::<bool>()).prop_map(|(kind, grants, stopped)| Call::CreateAccount {
            kind,
            grants,
            stopped
        }),
        n().prop_map(|source| Call::CloneAccount { source }),
        (n(), pick(), node()).prop_map(|(account, right, node)| Call::GrantAccess { account, right, node }),
        (n(), 0..3usize).prop_map(|(account, grant)| Call::RevokeAccess { account, grant }),
        n().prop_map(|account| Call::DeactivateAccount { account }),
        n().prop_map(|account| Call::ActivateAccount { account }),
        terms().prop_map(|terms| Call::CreateRole { terms }),
        (n(), terms()).prop_map(|(role, terms)| Call::UpdateRole { role, terms }),
        n().prop_map(|role| Call::DeleteRole { role }),
        (n(), lists(), any::<bool>()).prop_map(|(account, lists, may_manage_tokens)| {
            Call::CreateToken { account, lists, may_manage_tokens }
        }),
        (n(), n()).prop_map(|(token, account)| Call::ReassignToken { token, account }),
    ];
    (n(), call).prop_map(|(by, call)| Step { by, call })
}

/// What the rules promise of the world as it was and as it is.
fn holds(before: &World, now: &World, closure: &Rights) -> Result<(), TestCaseError> {
    for token in now.usable() {
        let rights = now.principal(token).effective_rights();
        prop_assert!(rights.beyond(closure).is_empty(), "{token:?} can do {:?}", rights.beyond(closure));
    }
    // What others give to an account later is out of reach for a credential that was narrower.
    for token in &now.tokens {
        let Some(maker) = &token.made_under else { continue };
        let lists = Rights::within(&token.lists.scopes, &token.lists.resources);
        let beyond = lists.beyond(&Rights::within(&maker.scopes, &maker.resources));
        prop_assert!(beyond.is_empty() && !token.may_manage_tokens, "{token:?} exceeds its maker");
    }
    // A role that exceeds its maker lies in wait for whoever may grant it.
    let everywhere = |role: &CustomRole| {
        Rights::of_pairs(role.permissions.iter().map(|permission| (permission.clone(), Node::Org)))
    };
    for (id, role) in &now.roles {
        let had = before.roles.get(id).map(everywhere).unwrap_or_default();
        let gained = everywhere(role).beyond(&had.join(closure.clone()));
        prop_assert!(gained.is_empty(), "{id} has gained {gained:?}");
    }
    for (n, account) in now.accounts.iter().enumerate() {
        let had = if n < before.accounts.len() { before.rights_of(n) } else { Rights::default() };
        let gained = now.rights_of(n).beyond(&had.join(closure.clone()));
        prop_assert!(gained.is_empty(), "account {n} has gained {gained:?}");
        // The kinds of a role are looked at where it is given, and nowhere else.
        prop_assert!(account.grants.iter().all(|(right, _)| may_hold(account.kind, right, &now.roles)));
    }
    Ok(())
}

#[test]
fn no_sequence_of_calls_yields_more_than_the_caller_had() {
    let seen: RefCell<BTreeMap<(&str, bool), u32>> = RefCell::default();
    let config = Config { cases: 250, failure_persistence: None, ..Config::default() };
    let sequences = (world(), prop::collection::vec(step(), 1..30));
    let outcome = TestRunner::new(config).run(&sequences, |(before, steps)| {
        let had = before.usable().into_iter().map(|token| before.principal(token).effective_rights());
        let closure = had.fold(Rights::default(), Rights::join);
        let mut now = before.clone();
        for step in &steps {
            let allowed = now.carry_out(step).is_ok();
            *seen.borrow_mut().entry((step.call.name(), allowed)).or_default() += 1;
            holds(&before, &now, &closure)?;
        }
        Ok(())
    });
    outcome.unwrap();
    // Each call was allowed and refused often enough for this to mean something.
    let seen = seen.into_inner();
    let rare: Vec<_> = seen.iter().filter(|(_, times)| **times < 10).collect();
    assert!(seen.len() == 22 && rare.is_empty(), "{seen:?}");
}
