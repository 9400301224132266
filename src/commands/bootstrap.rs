//! `countersign bootstrap`: the operator of a deployment, and the recovery of a lost token.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sqlx::PgConnection;

use super::{database, issuer};
use crate::clock::{Clock, random};
use crate::config::CredentialLimits;
use crate::config::args::BootstrapArgs;
use crate::crypto::seal::MasterKeys;
use crate::db;
use crate::db::accounts::grants::Grant;
use crate::db::accounts::{Account, NewAccount};
use crate::db::events::{Author, Change, FieldChange};
use crate::db::tokens::secrets::NewProof;
use crate::db::tokens::{Labels, NewToken};
use crate::domain::access::rights::HeldGrant;
use crate::domain::accounts::Details;
use crate::domain::accounts::lifecycle::AccountLifecycle;
use crate::domain::tokens::policy::TokenPolicy;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, GrantId, SYSTEM_ORG, TokenId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::{AccountName, DisplayName, Email, Invalid, Slug};
use crate::domain::values::permissions::{Permission, PermissionSet, Right};
use crate::domain::values::resources::Node;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Error, Reason, Result};
use crate::flows::transaction::{Transaction, transact};
use crate::state::State;

/// The lifetime of the token of `countersign bootstrap`: long enough to create long-lived ones.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The name of the operator account, and the slug of its org.
const OPERATOR: &str = "operator";
const SYSTEM: &str = "system";

const HAS_OPERATOR: &str = "this deployment already has an operator: bootstrap runs once \
                            (if all its tokens are lost, use --recover)";

/// `countersign bootstrap`, and `--recover`.
pub(super) async fn run(args: BootstrapArgs) -> anyhow::Result<()> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let pools = database::open(&args.database, 2, 1).await?;
    let limits = CredentialLimits::OF_COMMANDS;
    let (issuer, algorithm) = (args.issuer.issuer()?, args.signing.signing_algorithm);
    let db = pools.main.clone();
    issuer::require(&db, &issuer).await?;
    let state = State::open(pools, master, algorithm, issuer, limits, Clock::default()).await?;
    let exists = find_operator(&state).await?.is_some();
    ensure!(args.recover || !exists, HAS_OPERATOR);
    ensure!(exists || !args.recover, "this deployment has no operator yet: run bootstrap without --recover");
    let mut output = Output::open(args.output)?;
    let (name, lifetime) = ("bootstrap", TOKEN_LIFETIME);
    let deliver = |token: &str| output.write(token).map_err(Error::internal);
    let outcome = if args.recover {
        recover(&state, name, lifetime, deliver).await
    } else {
        bootstrap(&state, name, lifetime, deliver).await
    };
    match outcome {
        Ok(operator) => {
            issuer::claim(&db, &state.issuer).await?;
            let done = if args.recover {
                "has a new token, and earlier tokens of bootstrap were revoked"
            } else {
                "was created"
            };
            eprintln!(
                "operator {operator} {done}; its token expires in 24 h: create long-lived ones with it"
            );
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

/// Where the token of the operator is written.
enum Output {
    Stdout,
    File(File, PathBuf),
}

impl Output {
    /// Opens a new file that only its owner may read, or the terminal if there is no path.
    ///
    /// `-` is standard output, whatever it is. Without a path that must be a terminal: what is written to
    /// a pipe or a log stays there.
    fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            let why = "the token is printed only to a terminal: use --output FILE, or --output - for a pipe";
            ensure!(stdout().is_terminal(), why);
            return Ok(Self::Stdout);
        };
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("--output {}: creating a new file", path.display()))?;
        Ok(Self::File(file, path))
    }

    fn write(&mut self, token: &str) -> std::io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = stdout().lock();
                writeln!(stdout, "{token}")?;
                stdout.flush()
            }
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

/// Finds the id of the operator account; none before the first bootstrap.
pub async fn find_operator(state: &State) -> Result<Option<AccountId>> {
    let found =
        db::accounts::find_by_name(&state.db, SYSTEM_ORG, &constant(AccountName::parse(OPERATOR))?).await?;
    Ok(found.map(|account| account.id()))
}

/// Creates the system org, its operator with all permissions of the platform, and a token.
///
/// All in one transaction. `deliver` gets the token before the commit: if it fails, nothing is created.
///
/// # Errors
/// `RESOURCE_EXISTS` when there is an operator.
pub async fn bootstrap(
    state: &State,
    token_name: &str,
    lifetime: Duration,
    deliver: impl FnOnce(&str) -> Result<()>,
) -> Result<AccountId> {
    let mut tx = Transaction::begin(state, Author::server(SYSTEM_ORG)).await?;
    let (operator, created) = create_operator(state, &mut tx).await?;
    let (token, issued) = issue(state, &mut tx, operator, token_name, lifetime).await?;
    tx.record_all(&[created, issued]).await?;
    deliver(token.expose())?;
    tx.commit().await?;
    Ok(operator)
}

/// Issues another token to the operator, and revokes its earlier ones of the same name.
///
/// Both in one transaction.
pub async fn reissue(
    state: &State,
    operator: AccountId,
    token_name: &str,
    lifetime: Duration,
) -> Result<TokenString<'static>> {
    transact!(state, Author::server(SYSTEM_ORG), |mut tx| {
        let account = db::accounts::lock(&mut tx, SYSTEM_ORG, operator).await?;
        account.ok_or_else(|| Error::not_found("account", operator))?;
        let superseded = supersede(state, &mut tx, operator, token_name).await?;
        let (token, issued) = issue(state, &mut tx, operator, token_name, lifetime).await?;
        let changes: Vec<_> = superseded.into_iter().chain([issued]).collect();
        tx.record_all(&changes).await?;
        tx.commit().await?;
        Ok(token)
    })
}

/// Issues a token to the operator when all are lost, and restores what the token needs to work.
///
/// That is an active account with all permissions of the platform, in an org whose policy does not block
/// the token. Tokens of the same name that are neither revoked nor expired are revoked; others stay as
/// they are. `deliver` gets the token before the commit: if it fails, nothing is changed.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` when there is no operator yet.
pub async fn recover(
    state: &State,
    token_name: &str,
    lifetime: Duration,
    deliver: impl FnOnce(&str) -> Result<()>,
) -> Result<AccountId> {
    let mut tx = Transaction::begin(state, Author::server(SYSTEM_ORG)).await?;
    // No grant and no account state is changed meanwhile.
    let org = db::orgs::lock(&mut tx, SYSTEM_ORG).await?;
    let relaxed = relax_policy(state, &mut tx, &org, lifetime).await?;
    let name = constant(AccountName::parse(OPERATOR))?;
    let found = db::accounts::find_by_name(&mut *tx, SYSTEM_ORG, &name).await?;
    let operator = found.ok_or_else(|| Error::not_found("account", OPERATOR))?;
    let restored = restore(state, &mut tx, &operator).await?;
    let superseded = supersede(state, &mut tx, operator.id(), token_name).await?;
    let (token, issued) = issue(state, &mut tx, operator.id(), token_name, lifetime).await?;
    let changes: Vec<_> = relaxed.into_iter().chain(restored).chain(superseded).chain([issued]).collect();
    tx.record_all(&changes).await?;
    deliver(token.expose())?;
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
    let new = NewAccount {
        account_id,
        org_id: SYSTEM_ORG,
        details: &details,
        deactivated: false,
        preview: false,
        made_by: None,
    };
    db::accounts::insert(&mut *tx, &new, now).await?;
    let grants = grant_platform(state, tx, new.account_id).await?;
    let change = Change::of("operator.created", [new.account_id])
        .fields(grants.iter().map(|grant| FieldChange::set("grants", &grant.right_id)))
        .subjects([new.account_id]);
    Ok((new.account_id, change))
}

/// Grants the operator all permissions of the platform. Returns those that it did not hold before.
async fn grant_platform(state: &State, tx: &mut PgConnection, operator: AccountId) -> Result<Vec<Grant>> {
    let platform = Permission::OWN.iter().filter(|permission| permission.is_platform());
    let grant = |permission: &Permission| {
        let right = Right::Permission(permission.clone());
        (
            state.clock.new_id::<GrantId>(),
            HeldGrant { right, node: Node::Org, role_permissions: PermissionSet::default() },
        )
    };
    let grants: Vec<_> = platform.map(grant).collect();
    let numbered: Vec<_> = grants.iter().map(|(id, grant)| (*id, grant)).collect();
    db::accounts::grants::insert(tx, SYSTEM_ORG, operator, &numbered, state.clock.now()).await
}

/// Restores the state and the grants of the operator where they were taken away.
///
/// Returns the change to record, if any. The org is locked.
async fn restore(state: &State, tx: &mut PgConnection, operator: &Account) -> Result<Option<Change>> {
    let inactive = [("deactivate_time", operator.deactivate_time), ("delete_time", operator.delete_time)];
    let mut fields: Vec<_> =
        inactive.into_iter().filter_map(|(field, time)| Some(FieldChange::cleared(field, time?))).collect();
    if !fields.is_empty() {
        db::accounts::set_lifecycle(
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
    Ok(Some(Change::of("operator.restored", [operator.id()]).fields(fields).subjects([operator.id()])))
}

/// Removes the longest lifetime from the policy of the system org, if this lifetime exceeds it.
///
/// Returns the change to record, if any. The org is locked.
async fn relax_policy(
    state: &State,
    tx: &mut PgConnection,
    org: &db::orgs::Org,
    lifetime: Duration,
) -> Result<Option<Change>> {
    let now = state.clock.now();
    let policy = org.policy()?;
    let Some(longest) = policy.max_secret_lifetime.filter(|longest| *longest < lifetime) else {
        return Ok(None);
    };
    let relaxed = TokenPolicy { max_secret_lifetime: None, ..policy };
    db::orgs::policies::set(tx, SYSTEM_ORG, &relaxed, false, now).await?;
    Ok(Some(
        Change::of("org.token_policy_updated", [SYSTEM_ORG])
            .fields([FieldChange::cleared("max_secret_lifetime", format!("{}s", longest.as_secs()))])
            .subjects([SYSTEM_ORG]),
    ))
}

/// Issues a token without scopes and with `may_manage_tokens`.
///
/// With it the operator creates the first long-lived credentials of the deployment.
async fn issue(
    state: &State,
    tx: &mut PgConnection,
    operator: AccountId,
    name: &str,
    lifetime: Duration,
) -> Result<(TokenString<'static>, Change)> {
    let display_name = constant(DisplayName::parse(name))?;
    let now = state.clock.now();
    // A token that exceeds the policy would be blocked at once.
    let rules = db::orgs::policies::find_rules(&mut *tx, SYSTEM_ORG, &state.ceilings).await?;
    let lifetime = lifetime.min(rules.max_lifetime(TokenKind::Secret));
    let token = TokenString::new(TokenStringKind::SecretToken, state.clock.new_id::<TokenId>(), random());
    let row = NewToken {
        token_id: token.id(),
        org_id: SYSTEM_ORG,
        account_id: operator,
        kind: TokenKind::Secret,
        labels: &Labels::new(),
        display_name: Some(&display_name),
        restrictions: &Restrictions::default(),
        may_manage_tokens: true,
        expire_time: Some(now + lifetime),
        made_by: None,
        maker_expire_time: None,
        proof: &NewProof::Secret(state.keyring.peppers.load().record(&token), token.hint().to_owned()),
    };
    db::tokens::insert(tx, &row, now).await?;
    let change = row.created();
    Ok((token, change))
}

/// Revokes the operator's tokens of this name. Returns the change to record, if any.
///
/// Those that were revoked or had expired before are left out.
async fn supersede(
    state: &State,
    tx: &mut PgConnection,
    operator: AccountId,
    name: &str,
) -> Result<Option<Change>> {
    let now = state.clock.now();
    let active = db::tokens::find_active_named(&mut *tx, SYSTEM_ORG, operator, name, now).await?;
    db::tokens::revoke(tx, SYSTEM_ORG, &active, "SUPERSEDED", now).await?;
    if active.is_empty() {
        return Ok(None);
    }
    Ok(Some(
        Change::of("token.revoked", &active)
            .fields([FieldChange::set("revoke_reason", "REVOKE_REASON_SUPERSEDED")])
            .subjects(active),
    ))
}

/// A name that is a constant of this file, and therefore valid.
fn constant<T>(parsed: Result<T, Invalid>) -> Result<T> {
    parsed.map_err(|invalid| Error::internal(format!("a built-in name {invalid}")))
}
