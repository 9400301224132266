//! The command line program: one module for each command. [`main()`] parses and dispatches.

pub mod bootstrap;
mod database;
pub mod dev;
mod issuer;
pub mod keys;
mod mail;
mod migrate;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;
use countersign_os as os;

use crate::config::args::{Cli, Command};
use crate::config::{LogFormat, LogSettings};
use crate::db::sqlstate;
use crate::telemetry;

/// Runs the program. It must be called before the process starts a thread.
pub fn main() -> ExitCode {
    os::forget_pg_environment();
    // A variable that a deployment leaves empty (`COUNTERSIGN_SMTP_URL=`) counts as unset, even one that no
    // argument reads.
    let is_empty = |name: &std::ffi::OsStr, value: &std::ffi::OsStr| {
        value.is_empty() && name.as_encoded_bytes().starts_with(b"COUNTERSIGN_")
    };
    let empty = std::env::vars_os().filter(|(name, value)| is_empty(name, value)).map(|(name, _)| name);
    os::remove_from_environment(empty.collect::<Vec<_>>());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks_for_json() => {
            telemetry::print_failure_as_json(&error.render().to_string());
            return ExitCode::from(USAGE);
        }
        Err(error) => error.exit(),
    };
    let log = LogSettings::from(cli.log.clone());
    match run(cli, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = sqlstate::chain(error.as_ref());
            match log.format {
                LogFormat::Json => telemetry::print_failure_as_json(&said),
                LogFormat::Pretty => eprintln!("countersign: {said}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// The exit code for arguments that cannot be parsed: that of clap.
const USAGE: u8 = 2;

/// Whether the arguments, which cannot be parsed as a whole, ask for JSON.
fn asks_for_json() -> bool {
    let arguments: Vec<_> = std::env::args().collect();
    let by_flag = arguments.windows(2).any(|pair| pair == ["--log-format", "json"]);
    let joined = arguments.iter().any(|argument| argument == "--log-format=json");
    let by_variable = std::env::var("COUNTERSIGN_LOG_FORMAT").is_ok_and(|format| format == "json");
    by_flag || joined || by_variable
}

fn run(cli: Cli, log: &LogSettings) -> anyhow::Result<()> {
    let server = match &cli.command {
        Command::Serve(args) => Some(&args.server),
        Command::Dev(args) => Some(&args.server),
        _ => None,
    };
    let endpoint = server.and_then(|server| server.observed.otlp_endpoint.as_deref());
    let exporting = telemetry::start(log, endpoint.filter(|endpoint| !endpoint.is_empty()))?;
    if matches!(cli.command, Command::Serve(_) | Command::Dev(_)) {
        os::descriptors::raise_limit();
    }
    // Built here and not in the binary, which would compile the whole server a second time.
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let exporter = exporting.map(telemetry::Exporting::begin);
        let outcome = match cli.command {
            Command::Serve(args) => serve::run(*args).await,
            Command::Dev(args) => dev::run(*args).await,
            Command::Migrate(args) => migrate::run(args).await,
            Command::Bootstrap(args) => bootstrap::run(args).await,
            Command::Issuer(command) => issuer::run(command).await,
            Command::Keys(command) => keys::run(command).await,
            Command::Mail(command) => mail::run(command).await,
        };
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        outcome
    })
}
