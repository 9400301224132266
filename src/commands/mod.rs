//! The command line program: one module for each command. [`main()`] parses and dispatches.

pub mod bootstrap;
mod database;
pub mod dev;
pub mod keys;
mod mail;
mod migrate;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;
use countersign_os as os;

use crate::config::args::{Cli, Command};
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
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    telemetry::start(&cli.log.into())?;
    if matches!(cli.command, Command::Serve(_) | Command::Dev(_)) {
        os::descriptors::raise_limit();
    }
    // Built here and not in the binary, which would compile the whole server a second time.
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Dev(args) => dev::run(args).await,
            Command::Migrate(args) => migrate::run(args).await,
            Command::Bootstrap(args) => bootstrap::run(args).await,
            Command::Keys(command) => keys::run(command).await,
            Command::Mail(command) => mail::run(command).await,
        }
    })
}
