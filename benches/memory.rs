//! What a cached token takes, with a million of them put in through the cache's own insert.
//!
//! `benches/README.md` says what the rows mean.
#![allow(unreachable_pub, reason = "nothing imports a bench")]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use common::{option, own_path, progress};
use countersign::clock::Clock;
use countersign::domain::access::credential::Credential;
use countersign::domain::access::held::Held;
use countersign::domain::access::lists::Lists;
use countersign::domain::access::member::Member;
use countersign::domain::access::rights::HeldGrant;
use countersign::domain::tokens::policy::{Ceilings, Rules, TokenPolicy};
use countersign::domain::tokens::secrets::{Secret, SecretRecord};
use countersign::domain::values::ids::{AccountId, OrgId, TokenId};
use countersign::domain::values::kinds::{AccountKind, TokenKind};
use countersign::domain::values::permissions::{PermissionSet, Right};
use countersign::domain::values::resources::Node;
use countersign::state::principals::cache::Cache;
use countersign::state::principals::entry::{Key, Known};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of accounts of an org. Each has one token.
const ACCOUNTS: usize = 1_000;
/// The most bytes that a token may take.
const GOAL: usize = 1_000;

fn main() -> Result<()> {
    common::only_options(&["--tokens", "--same"])?;
    let tokens: usize = option("--tokens", 1_000_000)?;
    ensure!(tokens > 0, "at least one token");
    // One of the rows, in a process of its own: what another has freed would be used again.
    let same: usize = option("--same", 0)?;
    if same > 0 {
        let (taken, counted) = measure(tokens, same)?;
        let verdict = if taken <= GOAL { "pass" } else { "short" };
        println!("| {same} | {taken} | {counted} | {verdict} |");
        return Ok(());
    }
    println!(
        "{tokens} tokens of three grants, each of an account of its own, {ACCOUNTS} accounts in an org\n"
    );
    println!(
        "| accounts with the same grants | bytes for each | counted by the cache | |\n|---|---|---|---|"
    );
    for same in ["100", "10", "1"] {
        let row =
            Command::new(own_path()?).args(["--tokens", &tokens.to_string(), "--same", same]).status()?;
        ensure!(row.success(), "a row was not measured");
    }
    Ok(())
}

/// The bytes that a token takes, and those that the cache counts for it, where so many accounts of an org
/// have the same grants.
fn measure(tokens: usize, same: usize) -> Result<(usize, usize)> {
    let clock = Clock::default();
    let cache = Cache::new(usize::MAX);
    let mut rules = Arc::new(TokenPolicy::default().within(&Ceilings::default()));
    let before = resident()?;
    let (mut first, mut said) = (None, Instant::now());
    for number in 0..tokens {
        let org_id = OrgId::from_u128((number / ACCOUNTS) as u128 + 1);
        // As loaded: everything is new, until it is shared.
        rules = Arc::new(Rules::clone(&rules));
        let mut credential = token(&clock, org_id, number / same, rules.clone())?;
        cache.share(&mut credential.account);
        credential.prepare();
        let key = Key::from(credential.credential_id);
        let flight = cache.join(key);
        flight.start();
        let known = Known::Credential(Arc::new(credential));
        ensure!(cache.keep(key, &flight, Some(known), Instant::now()), "a token was not kept");
        cache.leave(key, flight);
        first = first.or(Some(key));
        if said.elapsed().as_secs() >= 5 {
            progress(format_args!("{} of {tokens}", number + 1));
            said = Instant::now();
        }
    }
    ensure!(first.is_some_and(|first| cache.get(first).is_some()), "a token was evicted");
    Ok((resident()?.saturating_sub(before) / tokens, cache.weight() / tokens))
}

/// A token with its account, whose third grant is on a resource of this number.
fn token(clock: &Clock, org_id: OrgId, number: usize, rules: Arc<Rules>) -> Result<Credential> {
    let customer = format!("customers/customer-{number}");
    let grants = [("invoices.read", "*"), ("payments.read", "*"), ("invoices.write", customer.as_str())];
    let grant = |(right, node): (&str, &str)| -> Result<HeldGrant> {
        Ok(HeldGrant {
            right: Right::parse(right).map_err(|wrong| anyhow!("{wrong}"))?,
            node: Node::parse(node).map_err(|wrong| anyhow!("{wrong}"))?,
            role_permissions: PermissionSet::default(),
        })
    };
    let grants = grants.into_iter().map(grant).collect::<Result<Vec<_>>>()?;
    let (now, account_id) = (clock.now(), clock.new_id::<AccountId>());
    Ok(Credential {
        credential_id: clock.new_id::<TokenId>().into(),
        account: Member {
            org_id,
            account_id,
            home_org_id: org_id,
            account_kind: AccountKind::ServiceAccount,
            username: format!("worker-{number}@org.example").into(),
            account_stopped: false,
            org_stopped: false,
            org_version: 1,
            account_version: 1,
            held: Held::new(grants, Default::default()).into(),
            rules,
        },
        kind: TokenKind::Secret,
        secrets: [Secret {
            number: 1,
            expire_time: None,
            proof: SecretRecord { mac: [7; 32], pepper: 1 }.into(),
        }]
        .into(),
        restrictions: Lists::default(),
        may_manage_tokens: false,
        create_time: now.to_utc(),
        renew_time: None,
        expire_time: Some(now.to_utc()),
        last_use: now.to_utc(),
        revoked: false,
        tied_to: None,
        federated: None,
    })
}

/// The resident memory of this process, in bytes.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<usize>()? * 1024)
}
