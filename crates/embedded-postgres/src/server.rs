//! Starting and stopping the server.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use countersign_os::process::Process;
use nix::sys::signal::Signal;

use crate::binaries::find::find;
use crate::binaries::programs::Wanted;
use crate::log::Log;
use crate::place::Place;
use crate::{cluster, pid_file, place};

/// How long a server may repair itself after a crash before the start fails.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// Closes all sessions and writes everything to disk; then without writing; then by force.
const STOP: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(20)),
    (Signal::SIGQUIT, Duration::from_secs(10)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// How a server is started.
pub struct Options<'a> {
    /// Created if need be. The cluster is at `<data_dir>/postgres`, or below
    /// `/var/lib/countersign` where this process is root and the user who runs PostgreSQL cannot
    /// reach that.
    pub data_dir: &'a Path,
    /// Whether committed data survives a power failure. Tests do not need that.
    pub durable: bool,
    /// Further settings, `name=value`, which override the server's own.
    pub settings: &'a [&'a str],
    /// Called with one readable line at a time.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// A running server. Dropping it stops it.
pub struct Server {
    process: Process,
    pub(crate) place: Place,
    log: Log,
    socket_dir: PathBuf,
    version: String,
    first_start: bool,
    /// Held until the server has stopped, so that no other process starts one on the same files.
    _lock: File,
}

impl Server {
    /// Starts the server of a data directory and returns when it accepts connections: about 0.1 s,
    /// or a second the first time, or longer when PostgreSQL has to be fetched or to repair itself
    /// after a crash.
    ///
    /// Fails with a message for the operator at the terminal: no PostgreSQL, a data directory that
    /// is in use, of another major version or of another owner, or the end of the server's log.
    pub fn start(options: &Options<'_>) -> Result<Server> {
        let data_dir = place::open_data_dir(options.data_dir)?;
        let lock = place::lock(&data_dir)?;
        Server::start_locked(options, &data_dir, lock, None)
    }

    /// `programs` is where a private copy of PostgreSQL is stored, if not in the cluster's own
    /// place.
    pub(crate) fn start_locked(
        options: &Options<'_>,
        data_dir: &Path,
        lock: File,
        programs: Option<&Path>,
    ) -> Result<Server> {
        let &Options { durable, settings, progress, .. } = options;
        let place = Place::choose(data_dir, progress)?;
        let log = Log::open_alone(&place, progress)?;
        let written_by = cluster::major_version(&place)?;
        // Outside the data directory, the user who runs PostgreSQL might not reach it.
        let programs = programs.filter(|_| place.is_in(data_dir)).map_or(place.programs(), Path::to_owned);
        let binaries = find(&Wanted {
            major: written_by,
            data: &place.data(),
            programs: &programs,
            account: &place.account,
            progress,
        })?;
        if written_by.is_none() {
            progress(&format!("making a new PostgreSQL {} database", binaries.version()));
            cluster::create(&place, &binaries, durable, &log)?;
        }
        let socket_dir = place.make_socket_dir()?;
        cluster::clear_stale_files(&place, &socket_dir);
        let command = cluster::server(&place, &binaries, &socket_dir, (durable, settings), &log)?;
        // A server killed with this process must not lose a commit; only the tests need not write
        // everything to disk.
        let when_we_die = if durable { Signal::SIGINT } else { Signal::SIGQUIT };
        let process = Process::spawn(command, when_we_die).context("starting PostgreSQL")?;
        let server = Server {
            process,
            place,
            log,
            socket_dir,
            version: binaries.version().to_string(),
            first_start: written_by.is_none(),
            _lock: lock,
        };
        server.wait_until_ready(progress)?;
        Ok(server)
    }

    fn wait_until_ready(&self, progress: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let began = Instant::now();
        let mut tell_at = Duration::from_secs(5);
        while !pid_file::is_ready(&self.place, self.pid()) {
            if let Some(status) = self.process.ended() {
                bail!("PostgreSQL ended while it was starting ({status}); {}", self.log.tail());
            }
            if began.elapsed() > READY_LIMIT {
                bail!("PostgreSQL does not become ready; {}", self.log.tail());
            }
            if began.elapsed() > tell_at {
                progress("PostgreSQL is still starting; after a crash it first repairs its files");
                tell_at += Duration::from_secs(10);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The directory of the socket, which has the name of port 5432.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// PostgreSQL's own data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.place.data()
    }

    /// The role to connect as: a superuser, without a password.
    pub fn user(&self) -> &str {
        cluster::SUPERUSER
    }

    /// The server's version, such as `17.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether this start created the cluster. A process that is killed before it has filled the
    /// new cluster gets `false` at the next start: what must happen once needs a record of its own
    /// in the database.
    pub fn first_start(&self) -> bool {
        self.first_start
    }

    /// The id of its first process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Closes all sessions, writes everything to disk and waits for the exit, 35 s at most.
    ///
    /// Fails if the server had exited by itself before, or did not exit cleanly. No committed data
    /// is lost by that.
    pub fn stop(self) -> Result<()> {
        if let Some(status) = self.process.ended() {
            bail!("PostgreSQL had ended by itself ({status}); {}", self.log.tail());
        }
        match self.process.end(&STOP) {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("PostgreSQL did not stop in good order ({status}); {}", self.log.tail()),
            None => bail!("PostgreSQL (process {}) does not stop; {}", self.pid(), self.log.tail()),
        }
    }

    /// Stops the server without writing anything to disk, and waits for that; the next start
    /// repairs the files.
    ///
    /// Neither panics nor allocates much: an exit handler may call it.
    pub fn stop_immediately(&self) {
        self.process.end(&STOP[1..]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.end(&STOP);
        }
        self.place.remove_socket_dir();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> TempDir {
            let dir = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            TempDir(dir)
        }

        fn start(&self) -> Result<Server> {
            Server::start(&Options { data_dir: &self.0, durable: false, settings: &[], progress: &|_| {} })
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_data_directory_serves_one_instance_at_a_time_and_is_made_once() {
        let dir = TempDir::new("postgres");
        // An interrupted initdb leaves no database.
        let data = dir.0.join("postgres/data");
        fs::create_dir_all(data.join("base")).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();

        let first = dir.start().unwrap();
        assert!(first.first_start());
        assert!(first.socket_dir().join(".s.PGSQL.5432").exists());
        let refused = dir.start().err().unwrap().to_string();
        assert!(refused.contains(&format!("another instance (process {})", std::process::id())), "{refused}");
        first.stop().unwrap();

        // After a clean exit, and after one that leaves repairs to the next start.
        for _ in 0..2 {
            let again = dir.start().unwrap();
            assert!(!again.first_start());
            again.stop_immediately();
        }
    }

    #[test]
    fn a_database_of_another_major_version_is_named_in_words() {
        let dir = TempDir::new("other-major");
        let data = dir.0.join("postgres/data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "9\n").unwrap();
        fs::write(data.join("countersign-initialised"), "9.6\n").unwrap();
        let refused = dir.start().err().unwrap().to_string();
        assert!(refused.contains("was written by PostgreSQL 9, and no other major version"), "{refused}");
        assert!(data.exists());
    }
}
