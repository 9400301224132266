//! How many descriptors (files, sockets) this process may have open.
#![deny(unsafe_code)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as the system allows without a privilege, and returns it.
///
/// The limit that a process starts with is often 1 024, for the sake of programs that use `select`.
pub fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        // Some systems name a hard limit that they do not grant.
        Err(_) => soft,
    }
}

/// The limit, as it is now; 0 if the system does not say.
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_can_be() {
        let raised = raise_limit();
        assert_eq!(raised, limit());
        assert!(raised > 0);
        assert_eq!(raise_limit(), raised);
    }
}
