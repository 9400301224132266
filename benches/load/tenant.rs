//! The org whose tokens are exchanged, and its tokens.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use countersign::clock::{Clock, random};
use countersign::crypto::peppers::Peppers;
use countersign::db;
use countersign::domain::values::ids::{AccountId, OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::common::{Client, Deployment, Served, progress};

/// The number of service accounts that the tokens belong to.
const ACCOUNTS: usize = 100;
/// The grants of each account.
pub const GRANTS: [(&str, &str); 3] =
    [("invoices.read", "*"), ("payments.read", "*"), ("invoices.write", "customers/acme")];
/// How many tokens one `COPY` inserts.
const BATCH: usize = 50_000;
/// The free disk space that so many tokens need, in bytes: 15 GB for ten million.
const SPACE: u64 = 1_500;

/// The org, and the credential that introspects its tokens.
pub struct Tenant {
    pub db: PgPool,
    /// The credential that introspects.
    pub verifier: String,
    pub accounts: Vec<Owner>,
    peppers: Peppers,
}

/// An account that owns tokens, with its org.
#[derive(Clone, Copy)]
pub struct Owner {
    org: Uuid,
    account: Uuid,
}

impl Owner {
    fn parse(org: &str, account: &str) -> Result<Self> {
        let org = OrgId::parse(org).map_err(|wrong| anyhow!("{wrong}"))?.uuid();
        Ok(Self { org, account: AccountId::parse(account).map_err(|wrong| anyhow!("{wrong}"))?.uuid() })
    }

    /// One in each of so many orgs, which are made through the API.
    pub async fn spread(operator: &Client, orgs: usize) -> Result<Vec<Self>> {
        progress(format_args!("making {orgs} orgs of one account"));
        let mut owners = Vec::with_capacity(orgs);
        for number in 0..orgs {
            let org = operator.make_org(&format!("spread-{number}"), "customers/acme").await?;
            owners.push(Self::parse(&org, &operator.make_account(&org, "worker", &GRANTS).await?)?);
        }
        Ok(owners)
    }
}

/// A token: its id and its token string.
pub type Token = (TokenId, String);

impl Tenant {
    /// Creates the org and its accounts through the API.
    pub async fn make(deployment: &Deployment, server: &Served) -> Result<Self> {
        progress(format_args!("making {ACCOUNTS} accounts"));
        let operator = server.client(&deployment.operator).await?;
        let org = operator.make_org("bench", "customers/acme").await?;
        let mut accounts = Vec::with_capacity(ACCOUNTS);
        for number in 0..ACCOUNTS {
            let id = operator.make_account(&org, &format!("worker-{number}"), &GRANTS).await?;
            accounts.push(Owner::parse(&org, &id)?);
        }
        let verifier = operator.make_account(&org, "verifier", &[("tokens.introspect", "*")]).await?;
        let (_, verifier) = operator.make_token(&org, &verifier).await?;
        let db = deployment.pool(2);
        let peppers = db::keys::find_peppers(&db, &deployment.master_keys()?).await?;
        Ok(Self { db, verifier, accounts, peppers })
    }

    /// Inserts so many tokens, for the owners in turn, and returns so many of them, spread over all.
    pub async fn add_tokens(&self, owners: &[Owner], count: usize, returned: usize) -> Result<Vec<Token>> {
        ensure!((1..=count).contains(&returned), "not more than are inserted");
        progress(format_args!("inserting {count} tokens"));
        let (clock, mut said) = (Clock::default(), Instant::now());
        let mut some = Vec::with_capacity(returned);
        for first in (0..count).step_by(BATCH) {
            let batch = first..(first + BATCH).min(count);
            let mut rows = Rows::new(clock.now())?;
            for number in batch {
                let id = clock.new_id::<TokenId>();
                let token = TokenString::new(TokenStringKind::SecretToken, id, random());
                rows.add(&token, owners[number % owners.len()], &self.peppers)?;
                if number * returned / count != (number + 1) * returned / count {
                    some.push((id, token.expose().to_owned()));
                }
            }
            rows.copy(&self.db).await?;
            if said.elapsed().as_secs() >= 5 {
                progress(format_args!("{} of {count}", (first + BATCH).min(count)));
                said = Instant::now();
            }
        }
        sqlx::query("vacuum analyze").execute(&self.db).await?;
        Ok(some)
    }
}

/// Refuses to insert so many tokens where the temporary directory has no room for them.
pub fn require_space(tokens: usize) -> Result<()> {
    let directory = std::env::temp_dir();
    let disk = nix::sys::statvfs::statvfs(&directory)?;
    let (free, needed) = (disk.blocks_available() * disk.fragment_size(), tokens as u64 * SPACE);
    ensure!(
        free >= needed,
        "{tokens} tokens need {} MB in {}, which has {} MB free: choose fewer with --scale",
        needed >> 20,
        directory.display(),
        free >> 20
    );
    Ok(())
}

/// The rows of some tokens, as `COPY` reads them.
struct Rows {
    now: String,
    end: String,
    credentials: Vec<u8>,
    tokens: Vec<u8>,
    secrets: Vec<u8>,
}

impl Rows {
    fn new(now: OffsetDateTime) -> Result<Self> {
        // Later than reminders of its end are due.
        let end = now + time::Duration::days(365);
        Ok(Self {
            now: now.format(&Rfc3339)?,
            end: end.format(&Rfc3339)?,
            credentials: Vec::new(),
            tokens: Vec::new(),
            secrets: Vec::new(),
        })
    }

    fn add(&mut self, token: &TokenString<'_>, owner: Owner, peppers: &Peppers) -> Result<()> {
        let Self { now, end, credentials, tokens, secrets } = self;
        let Owner { org, account } = owner;
        let (id, record) = (token.id().uuid(), peppers.record(token));
        writeln!(credentials, "{id}\t{org}\t{account}")?;
        writeln!(tokens, "{org}\t{id}\t{account}\tSECRET\t{{}}\t{{}}\t{{}}\tf\t1\t{now}\t{end}")?;
        write!(secrets, "{org}\t{id}\t1\t\\\\x")?;
        record.mac.iter().try_for_each(|byte| write!(secrets, "{byte:02x}"))?;
        writeln!(secrets, "\t{}\t{}\t{now}", record.pepper, token.hint())?;
        Ok(())
    }

    async fn copy(self, db: &PgPool) -> Result<()> {
        let mut db = db.acquire().await?;
        for (table, rows) in [
            ("credentials (credential_id, org_id, account_id)", self.credentials),
            (
                "tokens (org_id, token_id, account_id, kind, scopes, resources, allowed_audiences,
                         may_manage_tokens, revision, create_time, expire_time)",
                self.tokens,
            ),
            (
                "token_secrets (org_id, token_id, secret_number, mac, pepper_id, hint, create_time)",
                self.secrets,
            ),
        ] {
            let mut copy = db.copy_in_raw(&format!("copy {table} from stdin")).await?;
            copy.send(rows).await?;
            copy.finish().await.context("a batch of tokens was not inserted")?;
        }
        Ok(())
    }
}
