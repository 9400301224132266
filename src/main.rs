//! The command line: serve | dev | migrate | bootstrap | keys | mail.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use countersign::clock::Clock;
use countersign::commands::{bootstrap, dev, keys, mail};
use countersign::config::{
    BootstrapArgs, Bounds, CeilingArgs, Cli, Command, DatabaseArgs, KeysArgs, KeysCommand, MailArgs,
    MailCommand, MailListArgs, MailRetryArgs, MigrateArgs, PasswordArgs, ServeArgs, WebUrl,
};
use countersign::crypto::seal::MasterKeys;
use countersign::db::events::feed;
use countersign::db::{pool, schema};
use countersign::error::{Error, Reason};
use countersign::mail::{PostOffice, Postman, Smtp, Transport};
use countersign::state::{Pools, State};
use countersign::{server, telemetry};
use countersign_os as os;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

fn main() -> ExitCode {
    os::forget_pg_environment();
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    telemetry::start(&cli.log)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve(args).await,
            Command::Dev(args) => dev::run(args).await,
            Command::Migrate(args) => migrate(args).await,
            Command::Bootstrap(args) => make_operator(args).await,
            Command::Keys(KeysCommand::List(args)) => list_keys(args).await,
            Command::Keys(KeysCommand::Reseal(args)) => reseal(args).await,
            Command::Keys(KeysCommand::NewPepper(args)) => new_pepper(args).await,
            Command::Mail(MailCommand::List(args)) => list_mails(args).await,
            Command::Mail(MailCommand::Retry(args)) => retry_mails(args).await,
        }
    })
}

async fn serve(args: ServeArgs) -> Result<()> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let postman = postman(&args.mail)?;
    let pools =
        database(&args.database, args.limits.database_connections, args.limits.database_load_connections)
            .await?;
    let listener = dev::listen(args.listen).await?;
    let (issuer, algorithm) = (args.issuer.issuer, args.signing.signing_algorithm);
    let state = State::open(pools, master, algorithm, issuer, args.limits.bounds(), Clock::default()).await?;
    let pages_url = args.pages.pages_url.unwrap_or_else(|| WebUrl::from(&state.issuer));
    let office = PostOffice { pages_url, postman };
    if office.postman.is_none() {
        tracing::warn!("no --smtp-url: mails wait in the database, for a server that has one");
    }
    let (address, issuer) = (listener.local_addr()?, &state.issuer);
    tracing::info!(%address, %issuer, version = env!("CARGO_PKG_VERSION"), "ready");
    server::run(listener, state.clone(), args.limits, office, server::asked_to_stop()).await
}

/// Who sends mails, where a mail server is given.
fn postman(args: &MailArgs) -> Result<Option<Postman>> {
    let (Some(url), Some(from)) = (&args.smtp_url, &args.mail_from) else { return Ok(None) };
    let smtp = Smtp::open(url, args.smtp_ca_file.as_deref(), from.email.domain())?;
    Ok(Some(Postman { from: from.clone(), transport: Transport::Smtp(smtp) }))
}

async fn migrate(args: MigrateArgs) -> Result<()> {
    let mut connection = connect(&options(&args.database)?).await?;
    schema::migrate(&mut connection).await?;
    println!("the schema is at migration {}", schema::newest());
    if args.after_restore {
        let epoch = feed::raise_epoch(&mut connection, None).await?;
        println!("the feed is in epoch {epoch}: servers drop their caches, and cursors from before expire");
    }
    connection.close().await?;
    Ok(())
}

async fn list_keys(args: KeysArgs) -> Result<()> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let db = database(&args.database, 1, 1).await?.main;
    println!("the current master key is {}", master.current());
    for entry in keys::list(&db.pool(), &master).await? {
        println!("{entry}");
    }
    Ok(())
}

async fn reseal(args: KeysArgs) -> Result<()> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let db = database(&args.database, 1, 1).await?.main;
    let current = master.current();
    let progress = |name: &str| println!("{name}: now sealed under master key {current}");
    let resealed = keys::reseal(&db.pool(), &master, &Clock::default(), progress).await?;
    let entries = keys::list(&db.pool(), &master).await?;
    let left: Vec<_> =
        entries.iter().filter(|entry| !entry.opens || entry.under.as_deref() != Some(current)).collect();
    println!("{resealed} of {} were sealed anew", entries.len());
    for entry in &left {
        eprintln!("{entry}");
    }
    ensure!(
        left.is_empty(),
        "{} of {} are not under master key {current}: keep the others in the file",
        left.len(),
        entries.len()
    );
    println!("nothing names another master key than {current}");
    Ok(())
}

async fn new_pepper(args: KeysArgs) -> Result<()> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let db = database(&args.database, 1, 1).await?.main;
    let number = keys::new_pepper(&db.pool(), &master, &Clock::default()).await?;
    println!("pepper {number} is made; secrets are kept under it from now on, older ones at their next use");
    Ok(())
}

async fn list_mails(args: MailListArgs) -> Result<()> {
    let db = database(&args.database, 1, 1).await?.main;
    let mut count = 0_u64;
    mail::list(&db.pool(), args.waiting, |mail| {
        count += 1;
        println!("{mail}");
    })
    .await?;
    let which = if args.waiting { "wait or were given up" } else { "were given up" };
    eprintln!("{count} mails {which}");
    Ok(())
}

async fn retry_mails(args: MailRetryArgs) -> Result<()> {
    let db = database(&args.database, 1, 1).await?.main;
    let ids = (!args.all).then_some(args.ids.as_slice());
    let retried = mail::retry(&db.pool(), ids, &Clock::default()).await?;
    for id in &retried {
        println!("{id}: is tried again");
    }
    let left: Vec<_> = args.ids.iter().filter(|id| !retried.contains(id)).map(ToString::to_string).collect();
    ensure!(left.is_empty(), "not given up, or their links have ended: {}", left.join(" "));
    eprintln!("{} mails are tried again", retried.len());
    Ok(())
}

async fn make_operator(args: BootstrapArgs) -> Result<()> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let pools = database(&args.database, 2, 1).await?;
    // Nothing is served: nothing is kept.
    let bounds = Bounds {
        capacity: 1,
        max_age: Duration::ZERO,
        outage_grace: Duration::ZERO,
        passwords: PasswordArgs::FLOOR,
        ceilings: CeilingArgs::WIDEST,
    };
    let (issuer, algorithm) = (args.issuer.issuer, args.signing.signing_algorithm);
    let state = State::open(pools, master, algorithm, issuer, bounds, Clock::default()).await?;
    let there = bootstrap::find_operator(&state).await?.is_some();
    ensure!(args.recover || !there, HAS_OPERATOR);
    ensure!(there || !args.recover, "this deployment has no operator yet: run bootstrap without --recover");
    let mut output = Output::open(args.output)?;
    let (name, life) = ("bootstrap", bootstrap::TOKEN_LIFE);
    let deliver = |token: &str| output.write(token).map_err(Error::internal);
    let outcome = if args.recover {
        bootstrap::recover(&state, name, life, deliver).await
    } else {
        bootstrap::bootstrap(&state, name, life, deliver).await
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

const HAS_OPERATOR: &str =
    "this deployment has its operator already: bootstrap is done once (all its tokens are lost? --recover)";

/// Where the operator's token goes.
enum Output {
    Terminal,
    File(File, PathBuf),
}

impl Output {
    /// A new file that only its owner may read; or the terminal, and nothing that is a
    /// terminal's stand-in: what goes into a pipe or a log stays there.
    fn open(path: Option<PathBuf>) -> Result<Self> {
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

fn options(args: &DatabaseArgs) -> Result<PgConnectOptions> {
    pool::options(args.database_url.expose()).map_err(|wrong| anyhow::anyhow!("--database-url {wrong}"))
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    // Its `Display` names the cause already.
    let connection = PgConnection::connect_with(options).await;
    connection.map_err(|error| anyhow::anyhow!("the database cannot be reached: {error}"))
}

/// Pools of the database, after a look at whether it is there and has our schema.
async fn database(args: &DatabaseArgs, connections: u32, loads: u32) -> Result<Pools> {
    let options = options(args)?;
    // A connection of its own says why there is none; a pool says only that it waited.
    connect(&options).await?.close().await?;
    let pools = Pools::open(&options, connections, loads);
    schema::check(&pools.main.pool()).await?;
    Ok(pools)
}
