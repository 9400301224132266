//! PostgreSQL's programs in a directory, and their version.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use countersign_os::account::Account;

pub(crate) const OLDEST_MAJOR: u32 = 15;

/// What to search for, and the account that will run it.
pub(crate) struct Wanted<'a> {
    /// The major version of the existing database; without one, any version from 15 on will do.
    pub(crate) major: Option<u32>,
    /// The data directory of that database, for messages.
    pub(crate) data: &'a Path,
    /// Where a private copy is, or is unpacked if nothing is installed.
    pub(crate) programs: &'a Path,
    /// The account that will run them.
    pub(crate) account: &'a Account,
    pub(crate) progress: &'a (dyn Fn(&str) + Sync),
}

/// A directory with `postgres` and `initdb`, which were run successfully.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    dir: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    minor: u32,
    text: String,
}

impl Binaries {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// A command that runs one of the programs as `account`.
    pub(crate) fn command(&self, program: &str, account: &Account) -> Command {
        account.command(&self.dir.join(program))
    }

    /// Runs the programs of a directory for their version, as the user who will run them later.
    pub(crate) fn probe(dir: &Path, account: &Account) -> Result<Binaries> {
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

    pub(crate) fn suits(&self, wanted: &Wanted<'_>) -> bool {
        self.version.major >= OLDEST_MAJOR && wanted.major.is_none_or(|major| major == self.version.major)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Version {
    /// Reads `postgres (PostgreSQL) 17.2 (Debian 17.2-1)`. A pre-release (`18beta1`) counts as
    /// minor version 0.
    fn parse(line: &str) -> Option<Version> {
        let text = line.trim().strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (major, rest) = text.split_at(digits);
        let minor = rest.strip_prefix('.').and_then(|minor| minor.parse().ok()).unwrap_or(0);
        Some(Version { major: major.parse().ok()?, minor, text: text.to_owned() })
    }
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
}
