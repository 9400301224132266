//! PostgreSQL's data directory: created by initdb, checked, served.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use countersign_os::process::Process;
use nix::sys::signal::Signal;

use crate::binaries::programs::Binaries;
use crate::log::Log;
use crate::place::Place;

/// The role that owns everything.
pub(crate) const SUPERUSER: &str = "countersign";
/// Written into the data directory once initdb has finished; without it, initdb was interrupted.
const MARKER: &str = "countersign-initialised";
/// initdb takes about a second; a disk that is slow to synchronise may need much longer.
const INITDB_LIMIT: Duration = Duration::from_secs(600);

/// The major version that wrote the cluster; `None` if there is none yet, or an incomplete one.
pub(crate) fn major_version(place: &Place) -> Result<Option<u32>> {
    if !place.data().join(MARKER).exists() {
        return Ok(None);
    }
    let path = place.data().join("PG_VERSION");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    match text.trim().parse() {
        Ok(major) => Ok(Some(major)),
        Err(_) => bail!("{} holds no version: {:?}", path.display(), text.trim()),
    }
}

/// Creates a new cluster; what an interrupted attempt left is removed first.
///
/// No process of that attempt is running any more: otherwise `log` could not be locked.
pub(crate) fn create(place: &Place, binaries: &Binaries, durable: bool, log: &Log) -> Result<()> {
    let data = place.data();
    // A server has run on it: with or without the marker, it may hold data.
    if data.join("postmaster.opts").exists() {
        bail!(
            "{} holds a database, but not the mark of a finished one ({MARKER}): if it is whole, make that \
             file, owned by the same user; if not, move the directory away",
            data.display()
        );
    }
    if data.exists() {
        fs::remove_dir_all(&data)
            .with_context(|| format!("removing the unfinished database {}", data.display()))?;
    }
    place.make_private(&data)?;

    let mut initdb = binaries.command("initdb", &place.account);
    initdb.arg("-D").arg(&data).args(["-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--data-checksums"]);
    // Only the cluster's user and root can enter the socket's directory.
    initdb.args(["--auth-local=trust", "--auth-host=reject", "--no-instructions"]);
    if !durable {
        initdb.arg("--no-sync");
    }
    initdb.current_dir(&place.home).stdout(log.output()?).stderr(log.output()?);
    let process = Process::spawn(initdb, Signal::SIGKILL).context("starting initdb")?;
    match process.wait(INITDB_LIMIT) {
        Some(status) if status.success() => {}
        Some(status) => bail!("making the database failed: initdb ended with {status}; {}", log.tail()),
        None => {
            process.end(&[(Signal::SIGKILL, Duration::from_secs(5))]);
            bail!("making the database failed: initdb did not finish in time; {}", log.tail());
        }
    }
    mark(place, binaries, durable).with_context(|| format!("marking {} as finished", data.display()))
}

fn mark(place: &Place, binaries: &Binaries, durable: bool) -> Result<()> {
    let data = place.data();
    let mut marker = OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join(MARKER))?;
    if place.account.is_dropped() {
        fchown(&marker, Some(place.account.uid()), Some(place.account.gid()))?;
    }
    writeln!(marker, "{}", binaries.version())?;
    if durable {
        marker.sync_all()?;
        // initdb has synchronised the contents to disk; the directory entries above them are
        // synchronised here.
        for dir in [Some(data.as_path()), Some(&place.home), place.home.parent()].into_iter().flatten() {
            fs::File::open(dir)?.sync_all()?;
        }
    }
    Ok(())
}

/// Removes the files that a killed server left behind and that would block the next one: the
/// process ids in these files may belong to other processes by now, in a container above all.
///
/// Only for a caller that has the lock on the log: no server of this cluster is running.
pub(crate) fn clear_stale_files(place: &Place, socket_dir: &Path) {
    for stale in [
        place.data().join("postmaster.pid"),
        socket_dir.join(".s.PGSQL.5432"),
        socket_dir.join(".s.PGSQL.5432.lock"),
    ] {
        // Usually it does not exist; if it does and cannot be removed, the server's log will say
        // so.
        let _ = fs::remove_file(stale);
    }
}

/// The command that serves the cluster, with `further` settings after its own. All settings are arguments, so that they can change
/// between releases.
pub(crate) fn server(
    place: &Place,
    binaries: &Binaries,
    socket_dir: &Path,
    (durable, further): (bool, &[&str]),
    log: &Log,
) -> Result<Command> {
    let mut postgres = binaries.command("postgres", &place.account);
    postgres.arg("-D").arg(place.data());
    postgres.arg("-c").arg(socket_setting(socket_dir));
    let settings: &[&str] = if durable {
        &["max_connections=100", "shared_buffers=128MB"]
    } else {
        // These databases do not outlast the run: nothing may wait for a disk or work in the
        // background.
        &[
            "max_connections=300",
            "shared_buffers=128MB",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_wal_size=1GB",
            "checkpoint_timeout=1h",
            // Else a checkpoint begins to write to the disk even without fsync.
            "checkpoint_flush_after=0",
            "bgwriter_flush_after=0",
        ]
    };
    let common = [
        "listen_addresses=",
        "port=5432",
        "unix_socket_permissions=0700",
        "timezone=UTC",
        "log_timezone=UTC",
        "logging_collector=off",
        "log_destination=stderr",
    ];
    for setting in common.iter().chain(settings).chain(further) {
        postgres.args(["-c", setting]);
    }
    postgres.current_dir(&place.home).stdout(log.output()?).stderr(log.output()?);
    Ok(postgres)
}

/// The setting is a list: quotes protect a name with a comma or a blank.
fn socket_setting(socket_dir: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut setting = b"unix_socket_directories=\"".to_vec();
    for &byte in socket_dir.as_os_str().as_bytes() {
        setting.push(byte);
        if byte == b'"' {
            setting.push(byte);
        }
    }
    setting.push(b'"');
    OsString::from_vec(setting)
}
