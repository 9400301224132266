//! What the standard library cannot say about processes and threads, and nothing else.
#![allow(unsafe_code, reason = "the only crate that may; every block says why it is sound")]

pub mod account;
pub mod child;
pub mod process;

use std::ffi::OsStr;
use std::io;

use nix::libc;

/// Lets other threads go before the one that calls, from now on: it has the lowest priority at which
/// a busy machine still lets it do something.
///
/// Does nothing outside Linux, where a priority is the whole process's.
pub fn give_way() {
    // SAFETY: the call changes no memory of ours; 0 is the thread that calls, and everybody may be nice.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19)
    };
}

/// Has `run` called when the process ends by `exit` or by returning from `main`; not when it is killed.
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

/// Removes the `PG*` variables, which the driver would read by itself: all settings are flags and `COUNTERSIGN_*`.
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
        // SAFETY: no other thread is there yet that could read the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}
