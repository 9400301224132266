//! The system user that runs PostgreSQL, which refuses to run as root.
#![deny(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::unistd::{Uid, User, geteuid};

/// The user of the system that a child process runs as.
#[derive(Debug, Clone)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// This process is root and the child runs as another user.
    dropped: bool,
}

impl Account {
    /// The current user, or, for root, the owner of `data` where that exists already, else
    /// `postgres`, else `nobody`.
    ///
    /// Fails when the user has no entry in the system's user list: initdb needs its name.
    pub fn to_run(data: &Path) -> Result<Account> {
        if !geteuid().is_root() {
            let user = User::from_uid(geteuid()).context("reading the system's user list")?.ok_or_else(|| {
                anyhow!(
                    "the user id {} has no name on this system, and PostgreSQL does not start without one: \
                     add an entry for it to /etc/passwd, or run as a user that has one",
                    geteuid()
                )
            })?;
            return Ok(Account::new(user, false));
        }
        // Only the owner of a cluster can run it, whichever user would be chosen for a new one.
        if let Ok(existing) = fs::symlink_metadata(data)
            && existing.uid() != 0
        {
            let name = User::from_uid(Uid::from_raw(existing.uid())).ok().flatten().map(|user| user.name);
            let name = name.unwrap_or_else(|| existing.uid().to_string());
            return Ok(Account { name, uid: existing.uid(), gid: existing.gid(), dropped: true });
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("reading the system's user list")? {
                return Ok(Account::new(user, true));
            }
        }
        bail!(
            "PostgreSQL does not run as root, and this system has neither a user `postgres` nor `nobody`: \
             run as an ordinary user, or add a system user named `postgres`"
        )
    }

    fn new(user: User, dropped: bool) -> Account {
        Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), dropped }
    }

    /// The name; where it has none, its number.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The id of its first group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether the child runs as another user, so that files it needs must be handed to it.
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// A command that will run as this user, with an empty environment and without the terminal's
    /// input.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // This process's HOME and PG* would misconfigure PostgreSQL, and a locale that this system
        // lacks would make it fail.
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        if self.dropped {
            // The standard library sets the group first and clears the others, then the user.
            command.gid(self.gid).uid(self.uid);
        }
        command
    }

    /// Whether this user may pass through all of `dir`, asked of the kernel and not guessed from
    /// mode bits.
    pub fn reaches(&self, dir: &Path) -> Result<bool> {
        let mut probe = self.command(Path::new("/bin/sh"));
        probe.args(["-c", ":"]).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
        match probe.status() {
            Ok(_) => Ok(true),
            Err(error) if is(&error, Errno::EACCES) => Ok(false),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "PostgreSQL does not run as root, and changing to the user `{}` failed: \
                     run as an ordinary user instead",
                    self.name
                )
            }),
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
