//! The CPU times of threads and processes, in microseconds.

use std::collections::HashMap;

use anyhow::Result;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The CPU time of this thread, in microseconds.
pub fn own_thread() -> Result<f64> {
    micros(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// The CPU time of one of many repetitions on this thread, in microseconds. They take 50 ms.
pub fn each(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let (began, mut times) = (own_thread()?, 0.0);
    while own_thread()? - began < 50_000.0 {
        for _ in 0..100 {
            work()?;
        }
        times += 100.0;
    }
    Ok((own_thread()? - began) / times)
}

/// The CPU time of a process, user and system, in microseconds.
pub fn used(pid: u32) -> Result<f64> {
    micros(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?)
}

fn micros(clock: ClockId) -> Result<f64> {
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

/// The CPU times of a process and of each of its children.
pub fn used_below(parent: u32) -> Result<HashMap<u32, f64>> {
    let mut all = HashMap::from([(parent, used(parent)?)]);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has exited meanwhile does not matter.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The state and the parent follow the name, which may contain any character.
        let parent_field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        if parent_field.and_then(|field| field.parse().ok()) == Some(parent)
            && let Ok(used) = used(pid)
        {
            all.insert(pid, used);
        }
    }
    Ok(all)
}
