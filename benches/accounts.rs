//! Lists of accounts in an org of a million accounts, compared with a small org.
//!
//! Prints the plans of the statements, and how long a page takes. Fails when a page, or a selective
//! search, takes more than ten times as long in the large org as in the small one.

mod common;

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use common::{Client, Deployment, option, progress};
use countersign::clock::Clock;
use countersign::db::accounts;
use countersign::db::accounts::AccountFilter;
use countersign::db::pool::Db;
use countersign::db::session::SessionSettings;
use countersign::domain::accounts::AccountState;
use countersign::domain::accounts::search::{Needle, Searchable};
use countersign::domain::values::ids::{AccountId, OrgId};
use countersign::domain::values::kinds::AccountKind;
use countersign::domain::values::permissions::Right;
use countersign::grpc::pb;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

/// The number of accounts of the small org.
const SMALL: usize = 100;
/// How many accounts one statement inserts.
const BATCH: usize = 5_000;
/// The most that a page of the large org may take, as a multiple of the small one.
const MAX_RATIO: f64 = 10.0;

/// A list that is requested: its name, its filter, and whether it has a goal.
///
/// The others match a large part of the org, and are only printed.
type Case = (&'static str, pb::ListAccountsRequest, bool);

fn cases() -> Vec<Case> {
    let base = pb::ListAccountsRequest::default;
    let user = pb::AccountKind::User.into();
    let deactivated = pb::AccountState::Deactivated.into();
    let query = |query: &str| pb::ListAccountsRequest { query: query.into(), ..base() };
    let role = |role: &str| pb::ListAccountsRequest { role_id: role.into(), ..base() };
    vec![
        ("a page", base(), true),
        ("a page of 200", pb::ListAccountsRequest { page_size: 200, ..base() }, true),
        ("kind (1 in 10)", pb::ListAccountsRequest { kind: user, ..base() }, false),
        ("state (1 in 1 000)", pb::ListAccountsRequest { state: deactivated, ..base() }, true),
        ("role (5 holders)", role("manager"), true),
        ("role (1 in 50)", role("auditor"), false),
        ("text (5 accounts)", query("quixotic"), true),
        ("text (1 in 1 000)", query("svc-777"), true),
        ("text (1 in 100)", query("svc-77"), false),
        ("text (all accounts)", query("svc-"), false),
        ("one letter (all accounts)", query("s"), false),
        (
            "kind, state, role and text",
            pb::ListAccountsRequest {
                kind: user,
                state: deactivated,
                ..pb::ListAccountsRequest { query: "svc".into(), ..role("auditor") }
            },
            true,
        ),
    ]
}

fn main() -> Result<()> {
    common::only_options(&["--accounts", "--times"])?;
    let (accounts, times) = (option("--accounts", 1_000_000)?, option("--times", 50)?);
    // The plans are notices of the server, which the driver logs at its lowest level.
    let notices = Targets::new().with_target("sqlx::postgres::notice", LevelFilter::TRACE);
    let plain = tracing_subscriber::fmt::layer().without_time().with_target(false).with_level(false);
    tracing_subscriber::registry().with(plain.with_filter(notices)).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(accounts, times))
}

async fn run(count: usize, times: usize) -> Result<()> {
    let deployment = Deployment::make().await?;
    let served = deployment.serve(&[])?;
    let operator = served.client(&deployment.operator).await?;
    let pool = deployment.pool(2);
    let small = operator.make_org("small", "customers/acme").await?;
    let large = operator.make_org("large", "customers/acme").await?;
    fill(&pool, &small, SMALL).await?;
    let began = Instant::now();
    without_index(&pool, fill(&pool, &large, count)).await?;
    sqlx::raw_sql("vacuum analyze").execute(&pool).await?;
    progress(format_args!("filled in {:.0} s", began.elapsed().as_secs_f64()));
    plans(deployment.options(), &large).await?;
    let mut slow = Vec::new();
    println!("\n| list | small ms | large ms | ratio |\n|---|---|---|---|");
    for (name, request, is_goal) in cases() {
        let [in_small, in_large] = measure(&operator, [&small, &large], &request, times).await?;
        let ratio = in_large / in_small;
        println!("| {name} | {in_small:.2} | {in_large:.2} | {ratio:.1} |");
        if is_goal && ratio > MAX_RATIO {
            slow.push(name);
        }
    }
    ensure!(slow.is_empty(), "more than {MAX_RATIO} times as long in the large org: {}", slow.join(", "));
    Ok(())
}

/// The median of both orgs, in milliseconds, with calls to each in turn.
async fn measure(
    client: &Client,
    orgs: [&String; 2],
    request: &pb::ListAccountsRequest,
    times: usize,
) -> Result<[f64; 2]> {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..times {
        for (org, took) in orgs.iter().zip(&mut took) {
            let request = pb::ListAccountsRequest { org_id: (*org).clone(), ..request.clone() };
            let began = Instant::now();
            client.accounts().list_accounts(request).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(took.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }))
}

/// Prints the plans of the statements of a page, a filtered page and a search.
async fn plans(options: PgConnectOptions, org: &str) -> Result<()> {
    let org_id = OrgId::parse(org).map_err(|wrong| anyhow::anyhow!("{wrong}"))?;
    let query = |text: &str| Needle::parse(org_id, text).map_err(|wrong| anyhow::anyhow!("{wrong}"));
    let mut db = Db::lazy(options, 1, SessionSettings::default()).acquire().await?;
    let explain = "load 'auto_explain'; set auto_explain.log_min_duration = 0;
                   set auto_explain.log_analyze = on; set auto_explain.log_buffers = on;
                   set client_min_messages = log";
    sqlx::raw_sql(explain).execute(&mut *db).await?;
    let role = |name| Right::parse_role(name).map_err(|wrong| anyhow::anyhow!("{wrong}"));
    for (name, filter) in [
        ("a page", AccountFilter::default()),
        ("state", AccountFilter { state: Some(AccountState::Deactivated), ..AccountFilter::default() }),
        ("role (5 holders)", AccountFilter { role: Some(role("manager")?), ..AccountFilter::default() }),
        ("text (5 accounts)", AccountFilter { query: Some(query("quixotic")?), ..AccountFilter::default() }),
        ("text (1 in 1 000)", AccountFilter { query: Some(query("svc-777")?), ..AccountFilter::default() }),
        ("text (all accounts)", AccountFilter { query: Some(query("svc-")?), ..AccountFilter::default() }),
        (
            "kind, state, role and text",
            AccountFilter {
                kind: Some(AccountKind::User),
                state: Some(AccountState::Deactivated),
                role: Some(role("auditor")?),
                query: Some(query("svc")?),
                ..AccountFilter::default()
            },
        ),
    ] {
        println!("\n== {name}");
        accounts::page(&mut db, org_id, &filter, None, 50).await.context("listing")?;
    }
    Ok(())
}

/// Fills the org without the search index, and creates the index again afterwards.
///
/// A million single index entries would take long, and are not what is measured.
async fn without_index(pool: &PgPool, fill: impl Future<Output = Result<()>>) -> Result<()> {
    let definition: String =
        sqlx::query_scalar("select pg_get_indexdef('accounts_search'::regclass)").fetch_one(pool).await?;
    sqlx::raw_sql("drop index accounts_search").execute(pool).await?;
    fill.await?;
    progress("building the index of the search");
    sqlx::raw_sql(AssertSqlSafe(definition)).execute(pool).await?;
    Ok(())
}

/// Inserts accounts as the application does.
///
/// 1 in 10 is a user, 1 in 1 000 is deactivated, 1 in 50 is an auditor; five are managers, and five are
/// found by a rare word.
async fn fill(pool: &PgPool, org: &str, count: usize) -> Result<()> {
    let org_id = OrgId::parse(org).map_err(|wrong| anyhow::anyhow!("{wrong}"))?;
    let clock = Clock::default();
    let mut first = 0;
    while first < count {
        let last = count.min(first + BATCH);
        let mut rows = Rows::default();
        for n in first..last {
            rows.push(org_id, clock.new_id(), n, count);
        }
        rows.write(pool, org_id, &clock).await?;
        if last / 100_000 > first / 100_000 {
            progress(format_args!("{last} accounts"));
        }
        first = last;
    }
    Ok(())
}

/// A batch of rows, by column.
///
/// The pieces of all accounts are in one list, with the first and last index of each account.
#[derive(Default)]
struct Rows {
    ids: Vec<Uuid>,
    names: Vec<Option<String>>,
    usernames: Vec<String>,
    display_names: Vec<String>,
    texts: Vec<String>,
    pieces: Vec<i64>,
    begins: Vec<i32>,
    ends: Vec<i32>,
    deactivated: Vec<bool>,
    grants: Vec<Option<&'static str>>,
}

impl Rows {
    fn push(&mut self, org_id: OrgId, account_id: AccountId, n: usize, count: usize) {
        let name = format!("svc-{n}");
        let username = format!("{name}@{org_id}.example");
        let rare = n % (count / 5) == count / 10;
        let display_name = if rare { format!("Quixotic {n}") } else { format!("Machine {n}") };
        let name = (!n.is_multiple_of(10)).then_some(name);
        let searchable = Searchable::of(org_id, name.as_deref(), &username, Some(&display_name));
        self.begins.push(self.pieces.len() as i32 + 1);
        self.pieces.extend(searchable.pieces);
        self.ends.push(self.pieces.len() as i32);
        self.ids.push(account_id.uuid());
        self.names.push(name);
        self.usernames.push(username);
        self.display_names.push(display_name);
        self.texts.push(searchable.text);
        self.deactivated.push(n % 1_000 == 500 || n == 50);
        self.grants.push(if rare { Some("manager") } else { n.is_multiple_of(50).then_some("auditor") });
    }

    async fn write(self, pool: &PgPool, org_id: OrgId, clock: &Clock) -> Result<()> {
        let now = clock.now();
        let mut tx = pool.begin().await?;
        sqlx::query(
            "insert into accounts (org_id, account_id, kind, name, name_key, username, display_name, search_text,
                                   search_pieces, revision, deactivate_time, create_time, update_time)
             select $1, id, case when name is null then 'USER' else 'SERVICE_ACCOUNT' end, name, name, username,
                    display_name, found_by, ($7::bigint[])[first:last], 1, case when stopped then $11 end, $11, $11
             from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $8::integer[], $9::integer[],
                         $10::boolean[])
                  as new (id, name, username, display_name, found_by, first, last, stopped)",
        )
        .bind(org_id.uuid())
        .bind(&self.ids)
        .bind(&self.names)
        .bind(&self.usernames)
        .bind(&self.display_names)
        .bind(&self.texts)
        .bind(&self.pieces)
        .bind(&self.begins)
        .bind(&self.ends)
        .bind(&self.deactivated)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert into memberships (org_id, account_id, home_org_id, title, version, create_time)
             select $1, id, $1, 'bench', 1, $3 from unnest($2::uuid[]) id",
        )
        .bind(org_id.uuid())
        .bind(&self.ids)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert into grants (org_id, grant_id, account_id, right_id, create_time)
             select $1, id, id, right_id, $4 from unnest($2::uuid[], $3::text[]) new (id, right_id)
             where right_id is not null",
        )
        .bind(org_id.uuid())
        .bind(&self.ids)
        .bind(&self.grants)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}
