//! What a connection is doing, and until when it may do that.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Version;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::ConnectionLimits;

/// How long a connection that is being closed stays open without a request: its client acknowledges
/// the end within a round trip.
const LINGER: Duration = Duration::from_secs(1);
/// For each of so many bytes of a response, the client has another second to read it.
const BYTES_A_SECOND: usize = 64 << 10;

/// Tells the streams of a connection that it is being closed.
#[derive(Clone)]
pub struct Closing(watch::Receiver<bool>);

impl Closing {
    /// There is no connection any more.
    pub(super) fn begun_already() -> Self {
        Self(watch::channel(true).1)
    }

    /// Done when the connection is being closed.
    pub async fn begun(mut self) {
        // The sender is dropped with its connection.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It answers requests.
    Busy = 0,
    /// For another request.
    Idle = 1,
    /// For its first request.
    Silent = 2,
}

/// What happens to a connection when its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It takes no more requests, and is closed when those in progress are done.
    Close(&'static str),
    Drop(&'static str),
}

/// What a connection is doing, noted by its socket, its requests and its responses.
pub(super) struct Activity {
    /// The clock, which tests replace.
    now: fn() -> Instant,
    phase: AtomicU8,
    is_http1: AtomicBool,
    doing: Mutex<Doing>,
    gave_way: Notify,
    closing: watch::Sender<bool>,
}

struct Doing {
    accepted: Instant,
    in_progress: usize,
    had_requests: bool,
    idle_since: Instant,
    /// Since when a request of HTTP/1 is being received.
    header_since: Option<Instant>,
    closing_since: Option<Instant>,
    /// When the client last read something of a response.
    read_at: Instant,
    /// Whether it has read something since `read_at` was last set.
    has_read: bool,
    next_id: u64,
    /// The responses that the client has to read on.
    unread: Vec<Unread>,
}

/// A response, or what was handed over of it last, that the client has to read.
struct Unread {
    id: u64,
    bytes: usize,
    /// Until when; none until [`Doing::settle`] sets it, which is before the connection waits.
    until: Option<Instant>,
}

impl Doing {
    /// Gives all that happened since the last time this time. The clock is not asked for each frame of a response.
    fn settle(&mut self, now: Instant, limits: &ConnectionLimits) {
        for unread in &mut self.unread {
            let more = Duration::from_secs((unread.bytes / BYTES_A_SECOND) as u64);
            unread.until.get_or_insert_with(|| now + limits.write_timeout + more);
        }
        if std::mem::take(&mut self.has_read) {
            self.read_at = now;
        }
    }
}

impl Activity {
    pub(super) fn new(clock: fn() -> Instant) -> Self {
        let now = clock();
        Self {
            now: clock,
            phase: AtomicU8::new(Phase::Silent as u8),
            is_http1: AtomicBool::new(false),
            doing: Mutex::new(Doing {
                accepted: now,
                in_progress: 0,
                had_requests: false,
                idle_since: now,
                header_since: None,
                closing_since: None,
                read_at: now,
                has_read: false,
                next_id: 0,
                unread: Vec::new(),
            }),
            gave_way: Notify::new(),
            closing: watch::Sender::new(false),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Busy,
            1 => Phase::Idle,
            _ => Phase::Silent,
        }
    }

    /// Notes the header of a request.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Exchange {
        self.is_http1.store(version < Version::HTTP_2, Ordering::Relaxed);
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        let mut doing = self.doing();
        doing.in_progress += 1;
        doing.had_requests = true;
        doing.header_since = None;
        let id = doing.next_id;
        doing.next_id += 1;
        drop(doing);
        Exchange { activity: self.clone(), id }
    }

    /// Notes that something was received. With HTTP/1, outside of a request that is the beginning of
    /// one; with HTTP/2 it may be a ping, which is no request.
    pub(super) fn received(&self) {
        if !self.is_http1.load(Ordering::Relaxed) {
            return;
        }
        let mut doing = self.doing();
        if doing.in_progress == 0 && doing.header_since.is_none() {
            doing.header_since = Some((self.now)());
        }
    }

    /// Notes that the connection is being closed, and ends its streams.
    pub(super) fn close(&self) {
        self.doing().closing_since.get_or_insert_with(self.now);
        self.closing.send_replace(true);
    }

    pub(super) fn closing(&self) -> Closing {
        Closing(self.closing.subscribe())
    }

    /// Makes the connection give way to another one.
    pub(super) fn give_way(&self) {
        self.gave_way.notify_one();
    }

    pub(super) async fn gave_way(&self) {
        self.gave_way.notified().await;
    }

    /// What happens next if the connection does nothing else, and when. It is asked whenever the connection has done
    /// something, and before that waits.
    pub(super) fn due(
        &self,
        now: Instant,
        limits: &ConnectionLimits,
        max_age: Duration,
        drain: Duration,
    ) -> (Instant, Ending) {
        let mut doing = self.doing();
        doing.settle(now, limits);
        let mut due = match doing.closing_since {
            None => (doing.accepted + max_age, Ending::Close("connection has reached its age")),
            Some(since) => (since + drain, Ending::Drop("requests took longer than the drain timeout")),
        };
        let mut sooner = |at: Instant, ending| {
            if at < due.0 {
                due = (at, ending);
            }
        };
        let unread = || doing.unread.iter().filter_map(|unread| unread.until);
        if let (Some(first), Some(last)) = (unread().min(), unread().max()) {
            if doing.unread.len() == doing.in_progress {
                let at = last.max(doing.read_at + limits.write_timeout);
                sooner(at, Ending::Drop("client does not read"));
            }
            // A proxy may read for its other clients: their requests go on.
            if doing.closing_since.is_none() {
                sooner(first, Ending::Close("client does not read a response"));
            }
        }
        if doing.in_progress == 0 {
            if !doing.had_requests {
                let at = doing.accepted + limits.first_request_timeout;
                sooner(at, Ending::Drop("client sent no request"));
            } else if let Some(since) = doing.header_since {
                sooner(since + limits.first_request_timeout, Ending::Drop("client did not finish a request"));
            }
            match doing.closing_since {
                None if doing.had_requests => {
                    sooner(doing.idle_since + limits.idle_timeout, Ending::Close("connection was idle"));
                }
                None => {}
                Some(since) => {
                    sooner(since.max(doing.idle_since) + LINGER, Ending::Drop("client does not close"));
                }
            }
        }
        due
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request and its response. Dropped when the response was handed over to the transport, or the
/// client has given up.
pub(super) struct Exchange {
    activity: Arc<Activity>,
    id: u64,
}

impl Exchange {
    /// Notes that so many bytes of the response were handed over, which the client has to read
    /// before more is asked for.
    pub(super) fn handed_over(&self, bytes: usize) {
        let mut doing = self.activity.doing();
        let handed_over = Unread { id: self.id, bytes, until: None };
        match doing.unread.iter_mut().find(|unread| unread.id == self.id) {
            Some(unread) => {
                *unread = handed_over;
                doing.has_read = true;
            }
            None => doing.unread.push(handed_over),
        }
    }

    /// Notes that the client has read all that there was.
    pub(super) fn was_read(&self) {
        let mut doing = self.activity.doing();
        doing.unread.retain(|unread| unread.id != self.id);
        doing.has_read = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut doing = self.activity.doing();
        doing.unread.retain(|unread| unread.id != self.id);
        doing.in_progress -= 1;
        if doing.in_progress == 0 {
            doing.idle_since = (self.activity.now)();
            self.activity.phase.store(Phase::Idle as u8, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::LazyLock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: ConnectionLimits = ConnectionLimits {
        max: None,
        first_request_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(900),
        max_age: Duration::from_secs(3_600),
        write_timeout: Duration::from_secs(30),
    };

    thread_local! {
        /// How much time has passed in this test.
        static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    fn now() -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + PASSED.get()
    }

    fn pass(time: Duration) {
        PASSED.set(PASSED.get() + time);
    }

    fn due(activity: &Activity) -> (Duration, Ending) {
        let (at, ending) = activity.due(now(), &LIMITS, LIMITS.max_age, Duration::from_secs(20));
        (at - now(), ending)
    }

    #[test]
    fn what_is_due_follows_from_what_it_does() {
        let activity = Arc::new(Activity::new(now));
        assert_eq!(due(&activity), (10 * SECOND, Ending::Drop("client sent no request")));
        // A ping is no request.
        pass(4 * SECOND);
        activity.received();
        assert_eq!(due(&activity).0, 6 * SECOND);
        let first = activity.begin(Version::HTTP_2);
        let second = activity.begin(Version::HTTP_2);
        assert_eq!(activity.phase(), Phase::Busy);
        assert_eq!(due(&activity), (3_596 * SECOND, Ending::Close("connection has reached its age")));
        first.handed_over(0);
        second.handed_over(1 << 20);
        let close = Ending::Close("client does not read a response");
        assert_eq!(due(&activity), (30 * SECOND, close));
        first.was_read();
        assert_eq!(due(&activity), (46 * SECOND, close));
        drop((first, second));
        assert_eq!(activity.phase(), Phase::Idle);
        pass(SECOND);
        activity.received();
        assert_eq!(due(&activity), (899 * SECOND, Ending::Close("connection was idle")));
        activity.close();
        assert_eq!(due(&activity), (SECOND, Ending::Drop("client does not close")));
        let last = activity.begin(Version::HTTP_2);
        let late = Ending::Drop("requests took longer than the drain timeout");
        assert_eq!(due(&activity), (20 * SECOND, late));
        drop(last);
        assert_eq!(due(&activity), (SECOND, Ending::Drop("client does not close")));
    }

    #[test]
    fn a_response_that_is_not_read_ends_no_other() {
        const DROP: Ending = Ending::Drop("client does not read");
        let activity = Arc::new(Activity::new(now));
        let stuck = activity.begin(Version::HTTP_2);
        stuck.handed_over(0);
        assert_eq!(due(&activity), (30 * SECOND, DROP));
        // Another one has no response yet.
        let other = activity.begin(Version::HTTP_2);
        assert_eq!(due(&activity), (30 * SECOND, Ending::Close("client does not read a response")));
        pass(20 * SECOND);
        other.handed_over(0);
        assert_eq!(due(&activity).0, 10 * SECOND);
        pass(SECOND);
        other.handed_over(1);
        drop(other);
        // It was read, so that the client may be sending more.
        assert_eq!(due(&activity), (9 * SECOND, Ending::Close("client does not read a response")));
        activity.close();
        assert_eq!(
            due(&activity),
            (20 * SECOND, Ending::Drop("requests took longer than the drain timeout"))
        );
        pass(15 * SECOND);
        let third = activity.begin(Version::HTTP_2);
        third.handed_over(0);
        assert_eq!(due(&activity).0, 5 * SECOND);
        drop((stuck, third));
    }

    #[test]
    fn a_request_of_http1_that_has_begun_must_arrive() {
        let activity = Arc::new(Activity::new(now));
        let request = activity.begin(Version::HTTP_11);
        activity.received();
        drop(request);
        assert_eq!(due(&activity).1, Ending::Close("connection was idle"));
        activity.received();
        pass(9 * SECOND);
        // Another byte of the same request.
        activity.received();
        assert_eq!(due(&activity), (SECOND, Ending::Drop("client did not finish a request")));
        drop(activity.begin(Version::HTTP_11));
        assert_eq!(due(&activity).1, Ending::Close("connection was idle"));
    }
}
