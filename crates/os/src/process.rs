//! A child process that never outlasts this one, and that any thread may wait for and signal.
#![deny(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child;

/// A running or exited child in a process group of its own (Ctrl-C on the terminal does not reach
/// it).
pub struct Process {
    pid: Pid,
    fate: Arc<Fate>,
}

#[derive(Default)]
struct Fate {
    ended: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

impl Process {
    /// Starts `command`. On Linux the child receives `when_we_die` as soon as this process exits,
    /// killed or not.
    ///
    /// The command is dropped before this returns, and with it this process's copies of the files
    /// it was given.
    pub fn spawn(mut command: Command, when_we_die: Signal) -> io::Result<Process> {
        command.process_group(0);
        child::die_with_parent(&mut command, when_we_die);
        let fate = Arc::new(Fate::default());
        let (tell, told) = mpsc::channel();
        let watched = Arc::clone(&fate);
        // The parent-death signal belongs to the thread that forks. This thread runs exactly as
        // long as the child.
        thread::Builder::new().name("child process".to_owned()).spawn(move || {
            let spawned = command.spawn();
            drop(command);
            match spawned {
                Err(error) => drop(tell.send(Err(error))),
                Ok(child) => {
                    let pid = Pid::from_raw(child.id().cast_signed());
                    drop(tell.send(Ok(pid)));
                    watched.watch(child, pid);
                }
            }
        })?;
        let pid = told.recv().map_err(io::Error::other)??;
        Ok(Process { pid, fate })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// The exit status of the child; `None` while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.fate.lock()
    }

    /// Sends a signal; does nothing once the child has exited.
    pub fn signal(&self, signal: Signal) {
        let ended = self.fate.lock();
        // Reaping needs the same lock, so the id is still the child's. The only failure left is
        // that it has exited in this moment, which is what the caller wants.
        if ended.is_none() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for the exit for at most `limit`; `None` if the child still runs then.
    pub fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let mut ended = self.fate.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if ended.is_some() || left.is_zero() {
                return *ended;
            }
            ended = self.fate.changed.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends the signals in turn, each with the time it has to work, until the child has exited.
    pub fn end(&self, steps: &[(Signal, Duration)]) -> Option<ExitStatus> {
        for &(signal, limit) in steps {
            self.signal(signal);
            if let Some(status) = self.wait(limit) {
                return Some(status);
            }
        }
        None
    }
}

impl Fate {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, mut child: Child, pid: Pid) {
        let waited = child::wait_for_end(pid);
        let mut ended = self.lock();
        // Both fail only for a child that this process can no longer wait for, which has exited as
        // well.
        *ended = Some(waited.and_then(|()| child.wait()).unwrap_or_default());
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Process::spawn(command, Signal::SIGKILL).unwrap()
    }

    #[test]
    fn a_child_is_waited_for_and_its_status_kept() {
        let process = shell("exit 3");
        assert_eq!(process.wait(LONG).and_then(|status| status.code()), Some(3));
        assert_eq!(process.ended().and_then(|status| status.code()), Some(3));
        // Its id may belong to another process by now.
        process.signal(Signal::SIGKILL);
    }

    #[test]
    fn a_child_that_ignores_one_signal_gets_the_next() {
        // It ignores the signal once it has created the file.
        let ready = std::env::temp_dir().join(format!("countersign-os-{}", std::process::id()));
        let process = shell(&format!("trap '' TERM; : > {}; while :; do sleep 1; done", ready.display()));
        while !ready.exists() {
            assert!(process.ended().is_none());
            std::thread::yield_now();
        }
        std::fs::remove_file(&ready).unwrap();
        let steps = [(Signal::SIGTERM, Duration::ZERO), (Signal::SIGKILL, LONG)];
        assert_eq!(process.end(&steps).and_then(|status| status.signal()), Some(9));
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        let error = Process::spawn(Command::new("/no/such/program"), Signal::SIGKILL).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
