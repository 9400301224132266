//! One server for all the tests of a process, which leaves no files behind.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use countersign_os as os;
use nix::unistd::geteuid;

use crate::log::Log;
use crate::place;
use crate::place::Place;
use crate::server::{Options, Server};

static RUN: OnceLock<TestRun> = OnceLock::new();

struct TestRun {
    server: Server,
    dir: PathBuf,
}

/// The server of this test process, started by the first call and stopped when the process exits.
///
/// Its data is in the system's temporary directory and durability is off. It stops with the
/// process even when that is killed; then the next run removes the files.
///
/// # Panics
///
/// If no server can be started. The message says why and what to do.
pub fn for_tests() -> &'static Server {
    let run = RUN.get_or_init(|| match TestRun::begin() {
        Ok(run) => {
            // Without the handler, the parent-death signal and the next run clean up.
            let _ = os::at_exit(end_of_process);
            run
        }
        Err(error) => panic!("no PostgreSQL for the tests: {error:#}"),
    });
    &run.server
}

extern "C" fn end_of_process() {
    if let Some(run) = RUN.get() {
        run.server.stop_immediately();
        remove(&run.dir, &run.server.place);
    }
}

impl TestRun {
    fn begin() -> Result<TestRun> {
        let root = runs_dir()?;
        let (dir, lock) = {
            // A concurrent sweep must not remove a directory between its creation and its locking.
            let turn = place::open_private(&root.join("turn.lock"))?;
            turn.lock().context("waiting for another test run")?;
            sweep(&root);
            new_run(&root)?
        };
        let options = Options { data_dir: &dir, durable: false, settings: &[], progress: &tell };
        // Not in the run's own directory, so that the next run finds what was fetched once.
        let server = Server::start_locked(&options, &dir, lock, Some(&root.join("programs")))?;
        Ok(TestRun { server, dir })
    }
}

fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// `<temporary directory>/countersign-tests-<user id>`, which no other user may have created.
fn runs_dir() -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("countersign-tests-{}", geteuid()));
    // Root's substitute has to pass through.
    let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making the directory {}", dir.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&dir).with_context(|| format!("looking at {}", dir.display()))?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        bail!("{} belongs to another user: remove it", dir.display());
    }
    fs::set_permissions(&dir, Permissions::from_mode(mode))
        .and_then(|()| dir.canonicalize())
        .with_context(|| format!("opening {}", dir.display()))
}

fn new_run(root: &Path) -> Result<(PathBuf, File)> {
    for number in 1_u32.. {
        let dir = root.join(number.to_string());
        match fs::create_dir(&dir) {
            Ok(()) => {
                let lock = place::lock(&dir)?;
                return Ok((dir, lock));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("making the directory {}", dir.display()));
            }
        }
    }
    bail!("no free name is left in {}", root.display())
}

/// Removes the runs whose lock is free: their process was killed. Its server may still be shutting
/// down; if that takes too long, the next sweep removes the run.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for dir in entries.flatten().filter(is_run).map(|entry| entry.path()) {
        let Ok(file) = place::open_private(&dir.join("postgres.lock")) else {
            continue;
        };
        if file.try_lock().is_err() {
            continue;
        }
        if let Ok(place) = Place::choose(&dir, &|_| {})
            && let Ok(_alone) = Log::open_alone(&place, &|_| {})
        {
            remove(&dir, &place);
        }
    }
}

/// Runs have numbers for names.
fn is_run(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

fn remove(dir: &Path, place: &Place) {
    place.remove_socket_dir();
    // There is no caller to report to; what remains is found again by the next sweep.
    let _ = fs::remove_dir_all(&place.home);
    let _ = fs::remove_dir_all(dir);
}
