//! What the standard library cannot say about processes and threads, and nothing else.
#![allow(unsafe_code)] // the only module that may; every block says why it is sound

pub mod account;
pub mod process;

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Makes the kernel send `signal` to the child when the *thread* that spawns it ends, however it ends.
///
/// Does nothing outside Linux, where the kernel offers no such thing. The standard library changes the user
/// before it runs what is added here; that order is needed, because a change of user clears the setting.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;

        let parent = libc::pid_t::try_from(std::process::id()).unwrap_or_default();
        let signal = signal as libc::c_int;
        // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are allowed. It makes
        // three (signal, prctl, getppid), takes no lock, allocates nothing and touches no memory but its two
        // captured integers; an `io::Error` from a raw code does not allocate.
        unsafe {
            command.pre_exec(move || {
                // Until exec, the child still has the parent's handlers: one of them could swallow the signal.
                // SIGKILL can have none, and the call fails for it.
                libc::signal(signal, libc::SIG_DFL);
                if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // A parent that ended before the prctl sends nothing any more.
                if libc::getppid() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (command, signal);
}

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

/// Blocks until the child has ended, and leaves it to be reaped: until then its id cannot be given to another
/// process, so that a signal sent to the id reaches the child or nobody.
pub fn wait_for_end(child: Pid) -> io::Result<()> {
    let id = libc::id_t::try_from(child.as_raw()).map_err(io::Error::other)?;
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is a live, writable siginfo_t for the length of the call, and it is not read after it.
        let result =
            unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
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
