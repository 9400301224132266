//! Runs the calls of one connection.
//!
//! The transport hands over each call as a future. Most are done when they are polled once, without
//! waiting: these run on the task of their connection, so that none needs a task of its own, and the
//! answers to all calls that arrived together leave in one write. A call that waits becomes a task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use hyper::rt::Executor;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls that have arrived and were not polled yet. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// Polls each call that has arrived once; those that wait go on as tasks.
    ///
    /// The transport wakes the task of `context` for what the calls have answered.
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let arrived = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for mut call in arrived {
            // A task that panics costs no other one; this one must cost its connection nothing.
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                Ok(polled) if polled.is_pending() => drop(tokio::spawn(call)),
                Ok(_) => {}
                Err(_) => tracing::error!("call ended by a panic"),
            }
        }
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
