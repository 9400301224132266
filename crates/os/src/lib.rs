//! Process and thread calls that the standard library lacks, and nothing else.
#![allow(unsafe_code, reason = "the only crate that may; every block says why it is sound")]

pub mod account;
pub mod child;
pub mod descriptors;
pub mod process;

use std::ffi::OsStr;
use std::io;

use nix::libc;

/// The user that this process acts as.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// How far a thread gives way to those of the usual priority where a machine is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveWay {
    /// It gets about a tenth of the time of another.
    Much,
    /// It gets about a seventieth: the lowest priority at which a busy machine still runs it.
    Most,
}

impl GiveWay {
    /// The niceness, of which each step is about a factor of 1.25 (`setpriority(2)`, `sched(7)`).
    #[cfg(target_os = "linux")]
    const fn niceness(self) -> libc::c_int {
        match self {
            Self::Much => 10,
            Self::Most => 19,
        }
    }
}

/// Gives other threads priority over the calling one, from now on.
///
/// Does nothing outside Linux, where a priority applies to the whole process.
pub fn give_way(how: GiveWay) {
    // SAFETY: the call changes no memory of this process; 0 is the calling thread, and any thread
    // may lower its priority.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, how.niceness())
    };
    #[cfg(not(target_os = "linux"))]
    let _ = how;
}

/// Registers `run` to be called when the process exits by `exit` or by returning from `main`; not
/// when it is killed.
///
/// `run` must not panic and must not call `exit`.
pub fn at_exit(run: extern "C" fn()) -> io::Result<()> {
    // SAFETY: `run` is a plain function with static lifetime and the signature atexit asks for; an `extern "C"`
    // function aborts instead of unwinding into the C library.
    match unsafe { libc::atexit(run) } {
        0 => Ok(()),
        _ => Err(io::Error::other("the C library refused another exit handler")),
    }
}

/// Removes the `PG*` variables, which the driver would read by itself: all settings are flags and
/// `COUNTERSIGN_*`.
///
/// To be called before the first thread is started.
pub fn forget_pg_environment() {
    const NAMES: [&str; 13] = [
        "PGHOST",
        "PGHOSTADDR",
        "PGPORT",
        "PGUSER",
        "PGDATABASE",
        "PGDATA",
        "PGOPTIONS",
        "PGPASSWORD",
        "PGAPPNAME",
        "PGSSLMODE",
        "PGSSLROOTCERT",
        "PGSSLCERT",
        "PGSSLKEY",
    ];
    remove_from_environment(NAMES);
}

/// Removes variables from the environment of this process.
///
/// To be called before the first thread is started.
pub fn remove_from_environment(names: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    for name in names {
        // SAFETY: no other thread exists yet that could read the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}
