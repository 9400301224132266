//! What the kernel does for the parent of a child process.

use std::io;
use std::mem::MaybeUninit;
use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Makes the kernel send `signal` to the child when the *thread* that spawns it exits, however it
/// exits.
///
/// Does nothing outside Linux, where the kernel offers no such thing. The standard library changes
/// the user before it runs what is added here; that order is needed, because a change of user
/// clears the setting.
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
                // A parent that exited before the prctl sends no signal any more.
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

/// Blocks until the child has exited, and leaves it to be reaped: until then its id cannot be
/// given to another process, so a signal sent to the id can reach no process but the child.
pub fn wait_for_end(child: Pid) -> io::Result<()> {
    let id = libc::id_t::try_from(child.as_raw()).map_err(io::Error::other)?;
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is a valid, writable siginfo_t for the length of the call, and it is not
        // read after it.
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
