//! Finding PostgreSQL's programs: named, installed, or fetched.

pub mod fetch;
pub mod install;
pub mod pins;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::os::account::Account;

const OLDEST_MAJOR: u32 = 15;
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

/// What is looked for, and for whom.
pub struct Wanted<'a> {
    /// The major version of the database that is there already; any from 15 on will do without one.
    pub major: Option<u32>,
    /// That database, for messages.
    pub data: &'a Path,
    /// Where a private copy is, or goes if nothing is installed.
    pub programs: &'a Path,
    /// Who will run them.
    pub account: &'a Account,
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// A directory with `postgres` and `initdb`, which were seen to run.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
    text: String,
}

/// Finds the programs in this order: `COUNTERSIGN_PG_BIN`; the newest installed ones, of the major version that
/// the database needs; a private copy, fetched if need be.
///
/// Fails if there are none, and names the command that installs them.
pub fn find(wanted: &Wanted<'_>) -> Result<Binaries> {
    if let Some(dir) = env::var_os("COUNTERSIGN_PG_BIN").filter(|dir| !dir.is_empty()) {
        return named(Path::new(&dir), wanted);
    }
    let installed = installed(wanted.account);
    let newest = installed.iter().filter(|found| found.suits(wanted)).max_by_key(|found| &found.version);
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

impl Binaries {
    pub fn version(&self) -> &str {
        &self.version.text
    }

    /// A command that runs one of the programs as `account`.
    pub fn command(&self, program: &str, account: &Account) -> Command {
        account.command(&self.dir.join(program))
    }

    /// Asks the programs of a directory for their version, as the user who will run them.
    fn probe(dir: &Path, account: &Account) -> Result<Binaries> {
        let initdb = dir.join("initdb");
        if !initdb.exists() {
            bail!("there is no {}", initdb.display());
        }
        let postgres = dir.join("postgres");
        let output =
            account.command(&postgres).arg("--version").current_dir("/").output().with_context(|| {
                format!("running {} as the user `{}`", postgres.display(), account.name())
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(version) = Version::parse(&text) else {
            bail!(
                "{} --version ended with {} and said {:?}",
                postgres.display(),
                output.status,
                format!("{text}{}", String::from_utf8_lossy(&output.stderr)).trim()
            );
        };
        Ok(Binaries { dir: dir.to_owned(), version })
    }

    fn suits(&self, wanted: &Wanted<'_>) -> bool {
        self.version.major >= OLDEST_MAJOR && wanted.major.is_none_or(|major| major == self.version.major)
    }
}

impl Version {
    /// Reads `postgres (PostgreSQL) 17.2 (Debian 17.2-1)`. A pre-release (`18beta1`) counts as minor version 0.
    fn parse(line: &str) -> Option<Version> {
        let text = line.trim().strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (major, rest) = text.split_at(digits);
        let minor = rest.strip_prefix('.').and_then(|minor| minor.parse().ok()).unwrap_or(0);
        Some(Version { major: major.parse().ok()?, minor, text: text.to_owned() })
    }
}

fn named(dir: &Path, wanted: &Wanted<'_>) -> Result<Binaries> {
    // The programs are not run in our working directory.
    let absolute = std::path::absolute(dir)?;
    let found = Binaries::probe(&absolute, wanted.account).with_context(|| {
        format!(
            "COUNTERSIGN_PG_BIN is {}, which must be a directory with the programs `postgres` and `initdb`",
            dir.display()
        )
    })?;
    if found.version.major < OLDEST_MAJOR {
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
        found.iter().map(|found| format!("{} in {}", found.version(), found.dir.display())).collect();
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
        // A directory of links, such as /usr/bin, stands for the one they lead to.
        .filter_map(|dir| Some(dir.join("postgres").canonicalize().ok()?.parent()?.to_owned()))
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs.iter().filter_map(|dir| Binaries::probe(dir, account).ok()).collect()
}

/// The directories that a pattern with at most one `*` names.
fn matches(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let (suffix, rest) = after.split_once('/').unwrap_or((after, ""));
    let Ok(entries) = fs::read_dir(format!("{parent}/")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            name.starts_with(prefix.as_bytes()) && name.ends_with(suffix.as_bytes())
        })
        .map(|entry| if rest.is_empty() { entry.path() } else { entry.path().join(rest) })
        .collect()
}

/// The first of these programs that PATH leads to.
fn on_path<'a>(names: &[&'a str]) -> Option<&'a str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    names.iter().copied().find(|name| dirs.iter().any(|dir| dir.join(OsStr::new(name)).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_server_prints_them() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some((15, 18, "15.18"))),
            ("postgres (PostgreSQL) 17.2\n", Some((17, 2, "17.2"))),
            ("postgres (PostgreSQL) 18beta1", Some((18, 0, "18beta1"))),
            ("postgres (PostgreSQL) 19devel", Some((19, 0, "19devel"))),
            ("postgres (PostgreSQL) 9.6.24", Some((9, 0, "9.6.24"))),
            ("postgres (EnterpriseDB) 15.1", None),
            ("postgres (PostgreSQL) x", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let version = Version::parse(line);
            let version = version.as_ref().map(|found| (found.major, found.minor, found.text.as_str()));
            assert_eq!(version, expected, "{line:?}");
        }
    }

    #[test]
    fn newer_versions_are_greater() {
        let version = |text: &str| Version::parse(&format!("postgres (PostgreSQL) {text}")).unwrap();
        assert!(version("15.18") < version("16.0"));
        assert!(version("15.9") < version("15.18"));
        assert!(version("18beta1") < version("18.1"));
    }

    #[test]
    fn a_star_stands_for_part_of_one_name() {
        let root = env::temp_dir().join(format!("countersign-matches-{}", std::process::id()));
        for dir in ["pgsql-15/bin", "pgsql-17/bin", "other/bin"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let mut found = matches(&format!("{}/pgsql-*/bin", root.display()));
        found.sort();
        assert_eq!(found, [root.join("pgsql-15/bin"), root.join("pgsql-17/bin")]);
        assert_eq!(matches(&format!("{}/oth*", root.display())), [root.join("other")]);
        assert!(matches("/no-such-directory/*/bin").is_empty());
        fs::remove_dir_all(root).unwrap();
    }
}
