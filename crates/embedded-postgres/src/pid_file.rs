//! The file in which a server writes its process id and whether it is ready.

use std::fs;

use nix::sys::signal::Signal;

use crate::place::Place;

/// Whether the server with this process id accepts connections. The last line of its pid file says
/// so, which is cheaper to read than opening a connection, and the first line is its process id.
pub(crate) fn is_ready(place: &Place, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(place.data().join("postmaster.pid")) else {
        return false;
    };
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.next_back() == Some("ready")
}

/// Shuts down a server of this cluster that outlasted the process which started it. On Linux the
/// kernel has signalled it already.
///
/// Only while the lock on the log is taken: a server is running, and its pid file names it.
pub(crate) fn interrupt_orphan(place: &Place) {
    if cfg!(target_os = "linux") {
        return;
    }
    let pid = fs::read_to_string(place.data().join("postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next()?.trim().parse::<i32>().ok());
    // Neither negative numbers nor zero: those name groups of processes.
    if let Some(pid) = pid.filter(|pid| *pid > 1) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGINT);
    }
}
