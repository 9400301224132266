//! How what several tasks change is locked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks the value, also after a panic under its lock: no code under these locks leaves it half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
