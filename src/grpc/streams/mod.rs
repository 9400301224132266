//! What the RPCs of ours that answer with a stream share: the frames, the caller that is authorised again and again,
//! and the cursors.

pub(in crate::grpc) mod cursor;
pub(in crate::grpc) mod frames;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use self::frames::Frames;
use super::layers::auth::Call;
use super::service::encode;
use crate::db::events::feed::FeedRow;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Reason, Result};
use crate::flows::reading::Reading;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::streams::{LostPlace, Reader, StreamPlace};

/// How often a checkpoint comes: at least every 5 s is promised.
const CHECKPOINTS: Duration = Duration::from_secs(4);
/// How long a client may leave a stream unread that has something to send.
const UNREAD: Duration = Duration::from_secs(30);
/// How many pieces of a stream wait for its client.
const WAITING: usize = 16;
/// From this size on what is to be sent is a piece.
const PIECE: usize = 16 << 10;

/// Why a stream is over.
pub(in crate::grpc) enum Over {
    /// Its client has gone, or its connection ends.
    Gone,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Over {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a stream does until it is over.
pub(in crate::grpc) type Sending = Pin<Box<dyn Future<Output = Over> + Send>>;

/// Begins a stream: its frames, and the task that sends them.
pub(in crate::grpc) fn begin(
    state: &Arc<State>,
    call: &Call,
    reader: Reader,
    run: impl FnOnce(Session) -> Sending,
) -> Result<Frames> {
    let caller = call.caller()?;
    let place = state.streams.enter(caller.credential_id(), caller.home())?;
    let touched_by = [
        caller.credential_id().to_string(),
        Subject::from(caller.account_id()).to_string(),
        Subject::from(caller.home()).to_string(),
        Subject::Owners(caller.home()).to_string(),
        Subject::Keys.to_string(),
    ];
    let (sender, frames) = mpsc::channel(WAITING);
    let (end, ended) = oneshot::channel();
    let session = Session {
        state: state.clone(),
        call: call.clone(),
        reader,
        touched_by: touched_by.into_iter().chain(caller.actor_id().map(|id| id.to_string())).collect(),
        sender,
        piece: Vec::new(),
        next_checkpoint: Instant::now() + CHECKPOINTS,
        _place: place,
    };
    let running = run(session);
    tokio::spawn(async move {
        if let Over::Failed(error) = running.await {
            let _ = end.send(error);
        }
    });
    Ok(Frames::new(frames, ended))
}

/// A stream under way.
pub(in crate::grpc) struct Session {
    pub(in crate::grpc) state: Arc<State>,
    /// With the caller as it was authenticated last.
    pub(in crate::grpc) call: Call,
    pub(in crate::grpc) reader: Reader,
    /// The subjects of changes after which the caller may be another one.
    touched_by: Vec<String>,
    sender: mpsc::Sender<Bytes>,
    /// What is collected to be sent together.
    piece: Vec<u8>,
    next_checkpoint: Instant,
    _place: StreamPlace,
}

impl Session {
    /// Adds a message. It is sent when there are enough, or with the next [`flush`](Self::flush).
    pub(in crate::grpc) async fn send(&mut self, message: &impl Message) -> Result<(), Over> {
        self.piece.extend_from_slice(&encode(message));
        if self.piece.len() < PIECE { Ok(()) } else { self.flush().await }
    }

    /// Sends what was added.
    ///
    /// # Errors
    /// `OVERLOADED` where the client does not read.
    pub(in crate::grpc) async fn flush(&mut self) -> Result<(), Over> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece).into();
        match timeout(UNREAD, self.sender.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Over::Gone),
            Err(_) => Err(LostPlace::TooSlow.into()),
        }
    }

    /// Whether a change touches the caller: it is then authenticated again at once.
    pub(in crate::grpc) fn is_touched_by(&self, row: &FeedRow) -> bool {
        row.subjects.iter().any(|subject| {
            // A secret of its token, too.
            let subject = subject
                .split_once('/')
                .map_or(&**subject, |(id, _)| if id == "owners" { subject } else { id });
            self.touched_by.iter().any(|own| own == subject)
        })
    }

    /// Authenticates the caller again. Without the database it stays what it was: nothing is sent of which it
    /// would hear.
    pub(in crate::grpc) async fn authenticate_again(&mut self) -> Result<()> {
        match self.call.again(&self.state).await {
            Ok(call) => self.call = call,
            Err(error) if error.reason() == Reason::DatabaseUnavailable => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether it is time for a checkpoint.
    pub(in crate::grpc) fn is_checkpoint_due(&self) -> bool {
        Instant::now() >= self.next_checkpoint
    }

    /// The message of a checkpoint with this cursor.
    pub(in crate::grpc) fn checkpoint(&mut self, cursor: String) -> pb::Checkpoint {
        self.next_checkpoint = Instant::now() + CHECKPOINTS;
        let now = self.state.clock.now();
        let lag = self.state.feed.staleness().max(self.state.streams.ends_lag(now));
        pb::Checkpoint {
            cursor,
            time: Some(convert::timestamp(now)),
            lag: Some(convert::proto_duration(lag)),
        }
    }

    /// Waits until there is something to read, or a checkpoint is due.
    pub(in crate::grpc) async fn wait(&mut self) -> Result<(), Over> {
        tokio::select! {
            () = self.reader.changed() => Ok(()),
            () = sleep_until(self.next_checkpoint) => Ok(()),
            () = self.sender.closed() => Err(Over::Gone),
        }
    }

    /// A connection to read over, with a place in the share of its org.
    pub(in crate::grpc) async fn read(&self) -> Result<Reading> {
        self.call.read(&self.state).await
    }
}
