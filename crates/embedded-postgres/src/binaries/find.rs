//! Finds PostgreSQL's programs: configured, installed, or fetched.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use countersign_os::account::Account;

use super::path::matches;
use super::programs::{Binaries, OLDEST_MAJOR, Wanted};
use super::{fetch, install, pins};

/// Where packages put the programs; a `*` stands for any characters of one name.
const INSTALLED: [&str; 9] = [
    "/usr/lib/postgresql/*/bin", // Debian, Ubuntu
    "/usr/pgsql-*/bin",          // PostgreSQL's own RPMs
    "/usr/lib/postgresql*/bin",  // openSUSE
    "/usr/libexec/postgresql*",  // Alpine
    "/usr/local/pgsql/bin",      // built from source
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// Finds the programs in this order: `COUNTERSIGN_PG_BIN`; the newest installed ones, of the major
/// version that the database needs; a private copy, fetched if need be.
///
/// Fails if there are none, and names the command that installs them.
pub(crate) fn find(wanted: &Wanted<'_>) -> Result<Binaries> {
    if let Some(dir) = env::var_os("COUNTERSIGN_PG_BIN").filter(|dir| !dir.is_empty()) {
        return named(Path::new(&dir), wanted);
    }
    let installed = installed(wanted.account);
    let newest = installed.iter().filter(|found| found.suits(wanted)).max_by_key(|found| found.version());
    if let Some(newest) = newest {
        return Ok(newest.clone());
    }
    if wanted.major.is_some_and(|major| major != pins::MAJOR) {
        return Err(other_major(wanted, &installed));
    }
    fetch::private_copy(wanted).map_err(|why| {
        if wanted.major.is_some() {
            let other = other_major(wanted, &installed);
            return anyhow!("{other}.\n(A private copy could not be fetched: {why:#}.)");
        }
        anyhow!(
            "PostgreSQL {OLDEST_MAJOR} or newer is not installed. {}\n\
             If it is there, in an unusual place, set COUNTERSIGN_PG_BIN to the directory of `postgres` and \
             `initdb`.\n\
             (A private copy could not be fetched: {why:#}.)",
            install::advice()
        )
    })
}

fn named(dir: &Path, wanted: &Wanted<'_>) -> Result<Binaries> {
    // The programs are not run in this process's working directory.
    let absolute = std::path::absolute(dir)?;
    let found = Binaries::probe(&absolute, wanted.account).with_context(|| {
        format!(
            "COUNTERSIGN_PG_BIN is {}, which must be a directory with the programs `postgres` and `initdb`",
            dir.display()
        )
    })?;
    if found.version().major < OLDEST_MAJOR {
        bail!(
            "COUNTERSIGN_PG_BIN names PostgreSQL {}, and {OLDEST_MAJOR} is the oldest that will do",
            found.version()
        );
    }
    if !found.suits(wanted) {
        return Err(other_major(wanted, &[found]));
    }
    Ok(found)
}

fn other_major(wanted: &Wanted<'_>, found: &[Binaries]) -> anyhow::Error {
    let found: Vec<String> =
        found.iter().map(|found| format!("{} in {}", found.version(), found.dir().display())).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let major = wanted.major.unwrap_or_default();
    anyhow!(
        "the database in {} was written by PostgreSQL {major}, and no other major version can read it \
         (found: {found}). Install PostgreSQL {major}, or name the directory of its programs in \
         COUNTERSIGN_PG_BIN; or move {} away to begin with an empty database",
        wanted.data.display(),
        wanted.data.display()
    )
}

/// Every directory of an installed PostgreSQL that `account` can run, once each.
fn installed(account: &Account) -> Vec<Binaries> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).filter(|dir| dir.is_absolute());
    let mut dirs: Vec<PathBuf> = INSTALLED
        .iter()
        .flat_map(|pattern| matches(pattern))
        .chain(on_path)
        // A directory of links, such as /usr/bin, is replaced by the one they lead to.
        .filter_map(|dir| Some(dir.join("postgres").canonicalize().ok()?.parent()?.to_owned()))
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs.iter().filter_map(|dir| Binaries::probe(dir, account).ok()).collect()
}
