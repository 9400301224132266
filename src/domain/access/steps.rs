//! The steps that look-ups take, counted in tests.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts so many steps more.
#[cfg_attr(not(test), expect(unused_variables, reason = "counted in tests alone"))]
pub(super) fn count(steps: usize) {
    #[cfg(test)]
    STEPS.with(|all| all.set(all.get() + steps));
}

/// The steps that the work takes on this thread.
#[cfg(test)]
pub(super) fn of<T>(work: impl FnOnce() -> T) -> usize {
    STEPS.set(0);
    work();
    STEPS.get()
}
