//! Runs the calls of one connection.
//!
//! The transport hands over each call as a future. Most are done when they are polled once, without
//! waiting: these run on the task of their connection, so that none needs a task of its own, and the
//! answers to all calls that arrived together leave in one write. A call that waits becomes a task, and so
//! does one that arrives together with many: they must not keep the thread from everything else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use hyper::rt::Executor;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many of the calls that arrived together are polled one after the other.
const AT_ONCE: usize = 32;

/// The calls that have arrived and were not polled yet. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Polls each call that has arrived once; those that wait go on as tasks.
    ///
    /// The transport wakes the task of `context` for what the calls have answered.
    pub(super) fn run(&self, context: &mut Context<'_>) {
        for (nth, mut call) in self.take().into_iter().enumerate() {
            if nth >= AT_ONCE {
                tokio::spawn(call);
                continue;
            }
            // A task that panics costs no other one; this one must cost its connection nothing.
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                Ok(polled) if polled.is_pending() => drop(tokio::spawn(call)),
                Ok(_) => {}
                Err(_) => tracing::error!("call ended by a panic"),
            }
        }
    }
}

/// Drops the calls that were not polled when its connection has ended. Each holds the list that it is in,
/// for the calls that it may make itself: none of them would ever be freed.
pub(super) struct Unpolled(pub(super) Calls);

impl Drop for Unpolled {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(call));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn calls_that_hold_their_list_are_dropped_with_their_connection() {
        let calls = Calls::default();
        let list = Arc::downgrade(&calls.0);
        let unpolled = Unpolled(calls.clone());
        let own = calls.clone();
        calls.execute(async move { drop(own) });
        drop((calls, unpolled));
        assert!(list.upgrade().is_none());
    }

    #[tokio::test]
    async fn of_many_that_arrive_together_some_become_tasks() {
        let (calls, done) = (Calls::default(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 * AT_ONCE {
            let done = done.clone();
            calls.execute(async move {
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        calls.run(&mut Context::from_waker(Waker::noop()));
        assert_eq!(done.load(Ordering::Relaxed), AT_ONCE);
        while done.load(Ordering::Relaxed) < 3 * AT_ONCE {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_call_that_waits_or_panics_holds_up_no_other() {
        let calls = Calls::default();
        let done = Arc::new(AtomicUsize::new(0));
        let finishes = |done: Arc<AtomicUsize>| async move {
            done.fetch_add(1, Ordering::Relaxed);
        };
        let (go_on, waits) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel::<()>();
        calls.execute(async move {
            waits.await.unwrap();
            ended.send(()).unwrap();
        });
        calls.execute(async { panic!("a fault of a handler") });
        calls.execute(finishes(done.clone()));
        calls.run(&mut Context::from_waker(Waker::noop()));
        assert_eq!(done.load(Ordering::Relaxed), 1);
        go_on.send(()).unwrap();
        end.await.expect("it went on as a task");
        // Each is polled here once only.
        calls.run(&mut Context::from_waker(Waker::noop()));
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }
}
