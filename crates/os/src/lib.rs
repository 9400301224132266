//! Process and thread calls that the standard library lacks, and nothing else.
#![allow(unsafe_code, reason = "the only crate that may; every block says why it is sound")]

pub mod account;
pub mod child;
pub mod descriptors;
pub mod process;

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use nix::libc;

/// The user that this process acts as.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// How far a thread that computes for long gives way to others where a machine is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveWay {
    /// It keeps its share of the time, and gives way sooner to a thread that wakes.
    Sooner,
    /// It gets about a seventieth: the lowest priority at which a busy machine still runs it.
    Most,
}

/// Gives other threads priority over the calling one, from now on.
///
/// Does nothing outside Linux, where a priority applies to the whole process, and nothing where a sandbox
/// forbids it.
pub fn give_way(how: GiveWay) {
    // The longest slice that Linux has: a thread that wakes with a shorter one does not wait until it is over.
    const SLICE: Duration = Duration::from_millis(100);
    #[cfg(target_os = "linux")]
    {
        // Each step is about a factor of 1.25 (`sched(7)`). A process that is nice stays so.
        let niceness = match how {
            GiveWay::Sooner => 0,
            GiveWay::Most => 19,
        };
        // SAFETY: the call changes no memory; 0 is the calling thread.
        let niceness = niceness.max(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) });
        if !schedule(libc::SCHED_OTHER, niceness, 0, SLICE) {
            // SAFETY: the same. It has no slice then.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (how, SLICE);
}

/// Lets the calling thread run as soon as it wakes, from now on: for one that measures how long something takes, and
/// itself takes little. Before all others as root, and else before those that have the usual slice.
///
/// As [`give_way`], where that does nothing.
pub fn go_first() {
    // The shortest one that Linux has.
    const SLICE: Duration = Duration::from_micros(100);
    #[cfg(target_os = "linux")]
    if !schedule(libc::SCHED_FIFO, 0, 1, Duration::ZERO) {
        schedule(libc::SCHED_OTHER, 0, 0, SLICE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = SLICE;
}

/// Sets how the calling thread is scheduled, with its slice, which Linux has from 6.12 on and ignores before. Returns
/// whether that was allowed.
#[cfg(target_os = "linux")]
fn schedule(policy: libc::c_int, niceness: libc::c_int, priority: u32, slice: Duration) -> bool {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: 0,
        sched_nice: niceness,
        sched_priority: priority,
        sched_runtime: slice.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the call reads the structure, which has the size that it states, and changes no memory of this process;
    // 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
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
