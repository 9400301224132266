//! The first operator of a deployment, and the way back when its tokens are lost.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sqlx::PgConnection;

use super::database;
use crate::clock::{Clock, random};
use crate::config::args::BootstrapArgs;
use crate::config::{CredentialLimits, PasswordHashing, TokenLimits};
use crate::crypto::seal::MasterKeys;
use crate::db;
use crate::db::accounts::grants::Grant;
use crate::db::accounts::{Account, NewAccount};
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::db::tokens::{Labels, NewToken};
use crate::domain::access::rights::HeldGrant;
use crate::domain::accounts::Details;
use crate::domain::accounts::lifecycle::AccountLifecycle;
use crate::domain::tokens::policy::TokenPolicy;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, GrantId, SYSTEM_ORG, TokenId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::{AccountName, DisplayName, Email, Invalid, Slug};
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::Node;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Error, Reason, Result};
use crate::flows::transaction::Transaction;
use crate::state::State;

/// How long the token of `countersign bootstrap` lives: long enough to make lasting ones.
pub const TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The name of the account, and of the slug of its org.
const OPERATOR: &str = "operator";
const SYSTEM: &str = "system";

const HAS_OPERATOR: &str =
    "this deployment has its operator already: bootstrap is done once (all its tokens are lost? --recover)";

/// `countersign bootstrap`, and `--recover`.
pub(super) async fn run(args: BootstrapArgs) -> anyhow::Result<()> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let pools = database::open(&args.database, 2, 1).await?;
    // Nothing is served: nothing is cached.
    let limits = CredentialLimits {
        cache_size: 1,
        cache_max_age: Duration::ZERO,
        outage_grace: Duration::ZERO,
        passwords: PasswordHashing::FLOOR,
        tokens: TokenLimits::WIDEST,
    };
    let (issuer, algorithm) = (args.issuer.issuer, args.signing.signing_algorithm);
    let state = State::open(pools, master, algorithm, issuer, limits, Clock::default()).await?;
    let there = find_operator(&state).await?.is_some();
    ensure!(args.recover || !there, HAS_OPERATOR);
    ensure!(there || !args.recover, "this deployment has no operator yet: run bootstrap without --recover");
    let mut output = Output::open(args.output)?;
    let (name, life) = ("bootstrap", TOKEN_LIFE);
    let deliver = |token: &str| output.write(token).map_err(Error::internal);
    let outcome = if args.recover {
        recover(&state, name, life, deliver).await
    } else {
        bootstrap(&state, name, life, deliver).await
    };
    match outcome {
        Ok(operator) => {
            let done = if args.recover {
                "has a new token, and earlier ones of bootstrap are revoked"
            } else {
                "made"
            };
            eprintln!("operator {operator} {done}; its token is good for 24 h: make lasting ones with it");
            Ok(())
        }
        Err(error) => {
            output.discard();
            if error.reason() == Reason::ResourceExists {
                bail!(HAS_OPERATOR);
            }
            Err(anyhow::Error::new(error))
        }
    }
}

/// Where the operator's token goes.
enum Output {
    Terminal,
    File(File, PathBuf),
}

impl Output {
    /// A new file that only its owner may read; or the terminal, and nothing that is a
    /// terminal's stand-in: what goes into a pipe or a log stays there.
    fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            ensure!(stdout().is_terminal(), "the token is shown on a terminal alone: give --output FILE");
            return Ok(Self::Terminal);
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("--output {}: making a new file", path.display()))?;
        Ok(Self::File(file, path))
    }

    fn write(&mut self, token: &str) -> std::io::Result<()> {
        match self {
            Self::Terminal => writeln!(stdout(), "{token}"),
            Self::File(file, _) => {
                file.write_all(token.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()
            }
        }
    }

    fn discard(&self) {
        if let Self::File(_, path) = self {
            remove(path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        eprintln!("countersign: {} could not be removed: {error}", path.display());
    }
}

/// The id of the operator account; none before the first bootstrap.
pub async fn find_operator(state: &State) -> Result<Option<AccountId>> {
    let found =
        db::accounts::find_by_name(&state.db, SYSTEM_ORG, &constant(AccountName::parse(OPERATOR))?).await?;
    Ok(found.map(|account| account.id()))
}

/// Creates the system org, its operator, who holds everything of the platform, and a
/// token, in one step. `deliver` is given the token before anything is lasting: what it
/// refuses was never made.
///
/// # Errors
/// `RESOURCE_EXISTS` when there is an operator.
pub async fn bootstrap(
    state: &State,
    token_name: &str,
    life: Duration,
    deliver: impl FnOnce(&str) -> Result<()>,
) -> Result<AccountId> {
    let now = state.clock.now();
    let mut tx = Transaction::begin(state).await?;
    let (operator, made) = create_operator(state, &mut tx).await?;
    let (text, issued) = issue(state, &mut tx, operator, token_name, life).await?;
    tx.record(&Actor::default(), &[made, issued], now).await?;
    deliver(text.expose())?;
    tx.commit().await?;
    Ok(operator)
}

/// Another token for the operator. Those of the same name that it had before are
/// revoked in the same step.
pub async fn reissue(
    state: &State,
    operator: AccountId,
    token_name: &str,
    life: Duration,
) -> Result<TokenString> {
    let now = state.clock.now();
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        let account = db::accounts::lock(&mut tx, SYSTEM_ORG, operator).await?;
        account.ok_or_else(|| Error::not_found("account", operator))?;
        let superseded = supersede(state, &mut tx, operator, token_name).await?;
        let (text, issued) = issue(state, &mut tx, operator, token_name, life).await?;
        let changes: Vec<_> = superseded.into_iter().chain([issued]).collect();
        tx.record(&Actor::default(), &changes, now).await?;
        tx.commit().await?;
        Ok(text)
    })
    .await
}

/// A token for the operator when all are lost, and what the operator needs for it to be
/// of use: an active account with everything of the platform, in an org whose policy does not
/// stop the token. Live tokens of the same
/// name are revoked; others stay as they are. `deliver` is given the token before
/// anything is lasting: what it refuses changes nothing.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` when there is no operator yet.
pub async fn recover(
    state: &State,
    token_name: &str,
    life: Duration,
    deliver: impl FnOnce(&str) -> Result<()>,
) -> Result<AccountId> {
    let now = state.clock.now();
    let mut tx = Transaction::begin(state).await?;
    // No change of grants or account states goes on meanwhile.
    let org = db::orgs::lock(&mut tx, SYSTEM_ORG).await?;
    let loosened = loosen(state, &mut tx, &org, life).await?;
    let name = constant(AccountName::parse(OPERATOR))?;
    let found = db::accounts::find_by_name(&mut *tx, SYSTEM_ORG, &name).await?;
    let operator = found.ok_or_else(|| Error::not_found("account", OPERATOR))?;
    let restored = restore(state, &mut tx, &operator).await?;
    let superseded = supersede(state, &mut tx, operator.id(), token_name).await?;
    let (text, issued) = issue(state, &mut tx, operator.id(), token_name, life).await?;
    let changes: Vec<_> = loosened.into_iter().chain(restored).chain(superseded).chain([issued]).collect();
    tx.record(&Actor::default(), &changes, now).await?;
    deliver(text.expose())?;
    tx.commit().await?;
    Ok(operator.id())
}

async fn create_operator(state: &State, tx: &mut PgConnection) -> Result<(AccountId, Change)> {
    let name = constant(AccountName::parse(OPERATOR))?;
    let slug = constant(Slug::parse(SYSTEM))?;
    let title = constant(DisplayName::parse("Countersign"))?;
    let username = constant(Email::parse(&format!("{OPERATOR}@{SYSTEM}.{}", state.issuer.host())))?;
    let now = state.clock.now();
    db::orgs::insert(&mut *tx, SYSTEM_ORG, &slug, &title, now).await?;
    let details = Details::new(Some(name), username);
    let account_id = state.clock.new_id();
    let new = NewAccount { account_id, org_id: SYSTEM_ORG, details: &details, deactivated: false };
    db::accounts::insert(&mut *tx, &new, now).await?;
    let grants = grant_platform(state, tx, new.account_id).await?;
    let change = Change {
        event_id: state.clock.new_id(),
        org_id: SYSTEM_ORG,
        kind: "operator.created",
        resource_ids: vec![new.account_id.to_string()],
        fields: grants.iter().map(|grant| FieldChange::set("grants", &grant.right_id)).collect(),
        subjects: vec![new.account_id.to_string()],
    };
    Ok((new.account_id, change))
}

/// Gives the operator everything of the platform. Returns what it did not hold before.
async fn grant_platform(state: &State, tx: &mut PgConnection, operator: AccountId) -> Result<Vec<Grant>> {
    let platform = Permission::OWN.iter().filter(|permission| permission.is_platform());
    let grant = |permission: &Permission| {
        let right = Right::Permission(permission.clone());
        (state.clock.new_id::<GrantId>(), HeldGrant { right, node: Node::Org, role_permissions: Vec::new() })
    };
    let grants: Vec<_> = platform.map(grant).collect();
    let numbered: Vec<_> = grants.iter().map(|(id, grant)| (*id, grant)).collect();
    db::accounts::grants::insert(tx, SYSTEM_ORG, operator, &numbered, state.clock.now()).await
}

/// Makes the operator what bootstrap made it, where somebody took that away. Returns
/// the change to record, if any. The org is locked.
async fn restore(state: &State, tx: &mut PgConnection, operator: &Account) -> Result<Option<Change>> {
    let stopped = [("deactivate_time", operator.deactivate_time), ("delete_time", operator.delete_time)];
    let mut fields: Vec<_> =
        stopped.into_iter().filter_map(|(field, time)| Some(FieldChange::cleared(field, time?))).collect();
    if !fields.is_empty() {
        db::accounts::set_life(
            &mut *tx,
            SYSTEM_ORG,
            operator.id(),
            AccountLifecycle::default(),
            state.clock.now(),
        )
        .await?;
    }
    let grants = grant_platform(state, tx, operator.id()).await?;
    fields.extend(grants.iter().map(|grant| FieldChange::set("grants", &grant.right_id)));
    if fields.is_empty() {
        return Ok(None);
    }
    Ok(Some(Change {
        event_id: state.clock.new_id(),
        org_id: SYSTEM_ORG,
        kind: "operator.restored",
        resource_ids: vec![operator.id().to_string()],
        fields,
        subjects: vec![operator.id().to_string()],
    }))
}

/// Forgets the longest life that the policy of the system org allows, where a token of this
/// life would exceed it. Returns the change to record, if any. The org is locked.
async fn loosen(
    state: &State,
    tx: &mut PgConnection,
    org: &db::orgs::Org,
    life: Duration,
) -> Result<Option<Change>> {
    let now = state.clock.now();
    let policy = org.policy()?;
    let Some(longest) = policy.max_secret_lifetime.filter(|longest| *longest < life) else {
        return Ok(None);
    };
    let loosened = TokenPolicy { max_secret_lifetime: None, ..policy };
    db::orgs::policies::set(tx, SYSTEM_ORG, &loosened, false, now).await?;
    Ok(Some(Change {
        event_id: state.clock.new_id(),
        org_id: SYSTEM_ORG,
        kind: "org.token_policy_updated",
        resource_ids: vec![SYSTEM_ORG.to_string()],
        fields: vec![FieldChange::cleared("max_secret_lifetime", format!("{}s", longest.as_secs()))],
        subjects: vec![SYSTEM_ORG.to_string()],
    }))
}

/// A token without scopes and with `may_manage_tokens`: the first lasting credentials
/// of a deployment are made with it.
async fn issue(
    state: &State,
    tx: &mut PgConnection,
    operator: AccountId,
    name: &str,
    life: Duration,
) -> Result<(TokenString, Change)> {
    let display_name = constant(DisplayName::parse(name))?;
    let now = state.clock.now();
    // A token that is stopped at once would be of no use.
    let rules = db::orgs::policies::find_rules(&mut *tx, SYSTEM_ORG, &state.ceilings).await?;
    let life = life.min(rules.max_lifetime(TokenKind::Secret));
    let text = TokenString::new(TokenStringKind::SecretToken, state.clock.new_id::<TokenId>(), random());
    let row = NewToken {
        token_id: text.id(),
        org_id: SYSTEM_ORG,
        account_id: operator,
        kind: TokenKind::Secret,
        labels: &Labels::new(),
        display_name: Some(&display_name),
        restrictions: &Restrictions::default(),
        may_manage_tokens: true,
        expire_time: Some(now + life),
        made_by: None,
        secret: &state.keyring.peppers.load().record(&text),
        hint: text.hint(),
    };
    db::tokens::insert(tx, &row, now).await?;
    let change = row.created(state.clock.new_id());
    Ok((text, change))
}

/// Revokes the operator's live tokens of this name. Returns the change to record, if any.
async fn supersede(
    state: &State,
    tx: &mut PgConnection,
    operator: AccountId,
    name: &str,
) -> Result<Option<Change>> {
    let now = state.clock.now();
    let live = db::tokens::find_live_named(&mut *tx, SYSTEM_ORG, operator, name, now).await?;
    db::tokens::revoke(tx, SYSTEM_ORG, &live, "SUPERSEDED", now).await?;
    if live.is_empty() {
        return Ok(None);
    }
    let ids: Vec<String> = live.iter().map(TokenId::to_string).collect();
    Ok(Some(Change {
        event_id: state.clock.new_id(),
        org_id: SYSTEM_ORG,
        kind: "token.revoked",
        resource_ids: ids.clone(),
        fields: vec![FieldChange::set("revoke_reason", "SUPERSEDED")],
        subjects: ids,
    }))
}

/// A name that stands in this file is one.
fn constant<T>(parsed: Result<T, Invalid>) -> Result<T> {
    parsed.map_err(|invalid| Error::internal(format!("a built-in name {invalid}")))
}
