//! Generators: any org, any caller in it, any call.

use proptest::prelude::*;

use super::accounts::{PATHS, deactivated};
use super::calls::{Attempt, Call};
use super::federation::ModelRule;
use super::world::{APPLICATIONS, Account, Invitation, Pick, PresentedAs, Token, World, certificate};
use crate::domain::access::credential::tests::now;
use crate::domain::access::roles::{CustomRole, may_hold};
use crate::domain::accounts::lifecycle::{AccountLifecycle, AccountTransition};
use crate::domain::tokens::renewal::Lifetime;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::{Node, ResourcePath};

const OWN: [&str; 8] = [
    "federation.write",
    "accounts.read",
    "accounts.write",
    "accounts.impersonate",
    "invitations.write",
    "roles.write",
    "tokens.write",
    "orgs.write",
];
const PLATFORM: [&str; 2] = ["platform.accounts", "platform.keys"];

fn permission() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => prop::sample::select(&OWN[..]),
        3 => prop::sample::select(&APPLICATIONS[..]),
        3 => prop::sample::select(&PLATFORM[..])
    ]
}

fn permissions(max: usize) -> impl Strategy<Value = Vec<Permission>> {
    prop::collection::vec(permission().prop_map(|text| Permission::parse(text).unwrap()), 0..=max)
}

fn node() -> impl Strategy<Value = Node> {
    let below = prop::sample::select(&PATHS[..]).prop_map(|text| Node::parse(text).unwrap());
    prop_oneof![2 => Just(Node::Org), 1 => below]
}

fn kind() -> impl Strategy<Value = AccountKind> {
    prop_oneof![2 => Just(AccountKind::ServiceAccount), 1 => Just(AccountKind::User)]
}

fn lifecycle() -> impl Strategy<Value = AccountLifecycle> {
    let deleted =
        |deactivated: AccountLifecycle| AccountLifecycle { delete_time: Some(now()), ..deactivated };
    prop_oneof![
        4 => Just(AccountLifecycle::default()),
        2 => Just(deactivated(true)),
        1 => any::<bool>().prop_map(move |is_deactivated| deleted(deactivated(is_deactivated)))
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        2 => prop::sample::select(&["owner", "manager", "auditor"][..]).prop_map(Pick::Fixed),
        3 => permission().prop_map(Pick::Fixed),
        3 => (0..8usize).prop_map(Pick::Role)
    ]
}

fn grants(max: usize) -> impl Strategy<Value = Vec<(Pick, Node)>> {
    prop::collection::vec((pick(), node()), 0..=max)
}

fn terms() -> impl Strategy<Value = CustomRole> {
    let kinds = prop_oneof![2 => Just(Vec::new()), 1 => kind().prop_map(|kind| vec![kind])];
    (permissions(4), kinds)
        .prop_map(|(permissions, kinds)| CustomRole::new(permissions.into_iter().collect(), kinds))
}

fn lists() -> impl Strategy<Value = Restrictions> {
    let path = prop::sample::select(&["a", "a/b"][..]).prop_map(|text| ResourcePath::parse(text).unwrap());
    let resources = prop_oneof![3 => Just(Vec::new()), 1 => path.prop_map(|path| vec![path])];
    let scopes = prop_oneof![2 => Just(Vec::new()), 1 => permissions(6)];
    let by_thumbprint = AllowedCertificate::Thumbprint(certificate().thumbprint);
    let by_key = AllowedCertificate::PublicKey(certificate().public_key);
    let certificates = prop_oneof![
        6 => Just(Vec::new()),
        1 => Just(vec![by_thumbprint]),
        1 => Just(vec![by_key]),
        1 => Just(vec![by_thumbprint, by_key])
    ];
    (scopes, resources, certificates).prop_map(|(scopes, resources, certificates)| Restrictions {
        scopes,
        resources,
        certificates,
        ..Restrictions::default()
    })
}

/// Lists that leave some calls allowed.
fn narrow_and_useful() -> impl Strategy<Value = Restrictions> {
    lists().prop_map(|mut lists| {
        if !lists.scopes.is_empty() {
            lists.scopes.extend([
                Permission::ACCOUNTS_WRITE,
                Permission::INVITATIONS_WRITE,
                Permission::TOKENS_WRITE,
                Permission::FEDERATION_WRITE,
                Permission::PLATFORM_ACCOUNTS,
            ]);
        }
        lists
    })
}

/// What the first account holds: enough to make some calls.
fn first(is_system: bool) -> BoxedStrategy<Vec<(&'static str, &'static str)>> {
    let all = |rights: &[&'static str]| rights.iter().map(|right| (*right, "*")).collect::<Vec<_>>();
    let own = prop_oneof![
        Just(vec![("manager", "*"), ("x.z", "a"), ("federation.write", "*")]),
        Just(vec![
            ("manager", "*"),
            ("x.y", "*"),
            ("federation.write", "*"),
            ("accounts.impersonate", "*"),
            ("orgs.write", "a/b")
        ]),
        Just(all(&[
            "accounts.write",
            "roles.write",
            "tokens.write",
            "invitations.write",
            "federation.write",
            "x.y"
        ])),
        Just(all(&["owner"]))
    ];
    let operators = prop_oneof![
        2 => Just(all(&["platform.accounts", "accounts.write", "x.y"])),
        1 => Just(all(&["platform.accounts", "platform.keys"]))
    ];
    if is_system { prop_oneof![1 => own, 3 => operators].boxed() } else { own.boxed() }
}

/// An org with roles and accounts, and the credentials and invitations that the caller has.
///
/// The caller has one valid credential. It also has the token string or the password of some
/// credentials whose accounts are deactivated or deleted; others it does not have. There are also
/// invitations to its mailbox that no longer give anything.
pub fn world() -> impl Strategy<Value = World> {
    any::<bool>().prop_flat_map(world_of)
}

fn world_of(is_system: bool) -> impl Strategy<Value = World> {
    let roles = prop::collection::vec(terms(), 0..4);
    let accounts = prop::collection::vec((kind(), grants(3), lifecycle()), 2..6);
    // Some are in the last quarter of their lifetime.
    let hours = || prop_oneof![Just(6_i64), 1..2_000_i64];
    let tokens = prop::collection::vec((0..8usize, lists(), any::<bool>(), hours()), 0..5);
    let invited = prop::collection::vec(grants(2), 0..3);
    let own = (first(is_system), kind(), any::<bool>(), narrow_and_useful(), hours());
    let rules = prop::collection::vec((0..2usize, 0..8usize, lists(), any::<bool>(), hours()), 0..4);
    (any::<bool>(), roles, accounts, tokens, invited, own, rules).prop_map(
        move |(user_tokens, mut roles, accounts, tokens, invited, own, rules)| {
            // No account outside the system org holds a permission of the platform.
            let exists = |permission: &Permission| is_system || !permission.is_platform();
            roles.iter_mut().for_each(|role| {
                role.permissions = role.permissions.iter().filter(|p| exists(p)).cloned().collect()
            });
            let mut world = World::new(is_system, user_tokens, roles);
            let (first, kind, has_session, lists, hours) = own;
            let parse = |(right, node)| (Right::parse(right).unwrap(), Node::parse(node).unwrap());
            world.accounts.push(Account {
                kind: if has_session { kind } else { AccountKind::ServiceAccount },
                grants: first.into_iter().map(parse).collect(),
                lifecycle: AccountLifecycle::default(),
                signs_in: has_session,
                tied_to: None,
            });
            let token = |account, lists, may_manage_tokens, known, hours: i64| Token {
                secret: 1,
                lifetime: Lifetime {
                    kind: TokenKind::Secret,
                    create_time: now() - time::Duration::DAY,
                    renew_time: None,
                    expire_time: Some(now() + time::Duration::hours(hours)),
                    maker_expire_time: None,
                },
                account,
                lists,
                may_manage_tokens,
                known,
                bound: None,
            };
            world.tokens.push(token(0, lists, true, !has_session, hours));
            for (kind, picks, lifecycle) in accounts {
                let mut grants = world.picked(&picks);
                grants.retain(|(right, _)| {
                    may_hold(kind, right, &world.roles)
                        && !matches!(right, Right::Permission(p) if !exists(p))
                });
                // Of an active account the caller knows only its own secrets.
                world.accounts.push(Account {
                    kind,
                    grants,
                    lifecycle,
                    signs_in: lifecycle != AccountLifecycle::default(),
                    tied_to: None,
                });
            }
            for (account, lists, may_manage_tokens, hours) in tokens {
                let account = world.any_account(account);
                let known = world.accounts[account].lifecycle != AccountLifecycle::default();
                world.tokens.push(token(account, lists, may_manage_tokens, known, hours));
            }
            for (issuer, account, mut lists, disabled, hours) in rules {
                let account = world.any_account(account);
                // A rule has none.
                lists.certificates.clear();
                // Those of active accounts are for workloads of others, or disabled.
                let mine = world.accounts[account].lifecycle != AccountLifecycle::default();
                if world.accounts[account].kind == AccountKind::ServiceAccount {
                    let expire_time = now() + time::Duration::hours(hours);
                    let mine = mine || disabled;
                    let rule = ModelRule { issuer, account, lists, expire_time, disabled, mine, bound: None };
                    world.federation.push(rule);
                }
            }
            // Sent by an account that was deactivated or deleted since: as they are, they give
            // nothing.
            let sender =
                world.accounts.iter().position(|account| account.lifecycle != AccountLifecycle::default());
            for picks in invited.iter().filter(|_| !is_system) {
                let (grants, senders) = (world.picked(picks), sender.into_iter().collect());
                world.invitations.extend(sender.map(|_| Invitation { grants, senders, open: true }));
            }
            world
        },
    )
}

fn about_accounts() -> impl Strategy<Value = Call> {
    let n = || 0..12usize;
    let mostly = || prop::bool::weighted(0.8);
    let transition = prop_oneof![
        Just(AccountTransition::Activate),
        Just(AccountTransition::Deactivate),
        Just(AccountTransition::Delete),
        Just(AccountTransition::Undelete)
    ];
    prop_oneof![
        2 => (kind(), grants(2), any::<bool>(), any::<bool>()).prop_map(|(kind, grants, deactivated, mine)| {
            Call::CreateAccount { kind, grants, deactivated, mine }
        }),
        2 => (n(), any::<bool>(), any::<bool>())
            .prop_map(|(source, deactivated, mine)| Call::CloneAccount { source, deactivated, mine }),
        2 => (n(), pick(), node()).prop_map(|(account, right, node)| Call::GrantAccess { account, right, node }),
        1 => (n(), 0..3usize).prop_map(|(account, grant)| Call::RevokeAccess { account, grant }),
        4 => (n(), transition).prop_map(|(account, transition)| Call::ChangeLifecycle { account, transition }),
        2 => n().prop_map(|account| Call::SetPassword { account }),
        3 => (n(), mostly()).prop_map(|(account, mine)| Call::ConvertAccount { account, mine }),
        5 => (n(), mostly()).prop_map(|(account, mine)| Call::UpdateUsername { account, mine }),
        2 => n().prop_map(|account| Call::Impersonate { account }),
    ]
}

fn about_others() -> impl Strategy<Value = Call> {
    let n = || 0..12usize;
    prop_oneof![
        2 => grants(2).prop_map(|grants| Call::CreateInvitation { grants }),
        2 => n().prop_map(|invitation| Call::ResendInvitation { invitation }),
        2 => n().prop_map(|invitation| Call::AcceptInvitation { invitation }),
        2 => terms().prop_map(|terms| Call::CreateRole { terms }),
        2 => (n(), terms()).prop_map(|(role, terms)| Call::UpdateRole { role, terms }),
        1 => n().prop_map(|role| Call::DeleteRole { role }),
        2 => (n(), lists(), any::<bool>()).prop_map(|(account, lists, may_manage_tokens)| {
            Call::CreateToken { account, lists, may_manage_tokens }
        }),
        2 => (n(), lists()).prop_map(|(token, lists)| Call::UpdateToken { token, lists }),
        2 => n().prop_map(|token| Call::RotateToken { token, ttl: None }),
        3 => (n(), 1..400_u32).prop_map(|(token, days)| Call::RotateToken { token, ttl: Some(days) }),
        2 => Just(Call::Exchange),
        3 => (n(), n(), any::<bool>()).prop_map(|(token, account, allow_narrowing)| {
            Call::ReassignToken { token, account, allow_narrowing }
        }),
    ]
}

fn about_federation() -> impl Strategy<Value = Call> {
    let n = || 0..12usize;
    prop_oneof![
        1 => Just(Call::CreateIssuer),
        2 => n().prop_map(|issuer| Call::UpdateIssuer { issuer }),
        3 => (n(), n(), rule_lists())
            .prop_map(|(issuer, account, lists)| Call::CreateRule { issuer, account, lists }),
        3 => (n(), rule_lists()).prop_map(|(rule, lists)| Call::UpdateRule { rule, lists }),
        1 => n().prop_map(|rule| Call::DisableRule { rule }),
    ]
}

/// The lists of a rule, which has no certificates.
fn rule_lists() -> impl Strategy<Value = Restrictions> {
    lists().prop_map(|lists| Restrictions { certificates: Vec::new(), ..lists })
}

pub fn attempt() -> impl Strategy<Value = Attempt> {
    let presented_as = prop_oneof![
        4 => Just(PresentedAs::TokenString),
        1 => Just(PresentedAs::Jwt),
        1 => lists().prop_map(PresentedAs::NarrowJwt)
    ];
    let call = prop_oneof![2 => about_accounts(), 2 => about_others(), 1 => about_federation()];
    (0..24usize, presented_as, call).prop_map(|(by, presented_as, call)| Attempt { by, presented_as, call })
}
