//! The server's log, which also shows whether any process of the cluster is still running.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::pid_file::interrupt_orphan;
use crate::place::{Place, open_private};

/// A log longer than this is truncated when the next server starts.
const LENGTH_LIMIT: u64 = 4 << 20;
/// How many of its last lines go into an error.
const TAIL_LINES: usize = 15;
const TAIL_BYTES: u64 = 8 << 10;
/// A fast shutdown writes all of the server's memory to the disk.
const OLD_SERVER_LIMIT: Duration = Duration::from_secs(60);

/// The log is the output of initdb and of the server, so that every process of the cluster has it
/// open, and a lock on an open file lasts as long as any process has it open. So a process that
/// gets the lock knows that no process of this cluster is left. A process id in a file could
/// belong to another process by now.
pub(crate) struct Log {
    file: File,
    path: PathBuf,
    start: u64,
}

impl Log {
    /// Opens the log, and waits until an earlier server has exited: killing its parent begins its
    /// shutdown, which takes time. Fails if that takes longer than a minute.
    pub(crate) fn open_alone(place: &Place, progress: &(dyn Fn(&str) + Sync)) -> Result<Log> {
        let path = place.home.join("server.log");
        let file = open_private(&path)?;
        let began = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("locking {}", path.display()));
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if began.elapsed() > OLD_SERVER_LIMIT {
                bail!(
                    "a PostgreSQL server of an earlier run still uses {} and does not stop: end it (its process \
                     id is the first line of {}) and try again",
                    place.home.display(),
                    place.data().join("postmaster.pid").display()
                );
            }
            if !told && began.elapsed() > Duration::from_millis(200) {
                progress("waiting for the PostgreSQL server of the last run to stop");
                interrupt_orphan(place);
                told = true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let mut log = Log { file, path, start: 0 };
        log.begin().with_context(|| format!("preparing {}", log.path.display()))?;
        Ok(log)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.start = self.file.metadata()?.len();
        if self.start > LENGTH_LIMIT {
            self.file.set_len(0)?;
            self.start = 0;
        }
        Ok(())
    }

    /// The log as the output of a child.
    pub(crate) fn output(&self) -> Result<Stdio> {
        Ok(Stdio::from(self.file.try_clone().context("handing the log to PostgreSQL")?))
    }

    /// The end of what was written since this log was opened, for an error message.
    pub(crate) fn tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = &self.file;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.start.max(end.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let text = read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.len().saturating_sub(TAIL_LINES);
        match lines.get(last..) {
            Some(lines) if !lines.is_empty() => {
                format!("the log, {}, ends with\n  {}", self.path.display(), lines.join("\n  "))
            }
            _ => format!("the log, {}, says nothing", self.path.display()),
        }
    }
}
