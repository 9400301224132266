//! Cursors of streams: sealed, bound to the RPC, the org and what is watched. They contain a position and no rights.

use aws_lc_rs::digest;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use time::{Duration, OffsetDateTime};

use crate::crypto::seal::SealPurpose;
use crate::db::events::feed::Position;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Reason, Result};
use crate::state::State;

/// How long a cursor is good: as long as the feed is stored.
const LIFE: Duration = Duration::hours(24);
/// The longest cursor that is read.
const MAX_LEN: usize = 512;
/// How much of the hash of a selection a cursor holds, in bytes.
const SELECTION: usize = 16;

/// Where a stream can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) struct Cursor {
    pub position: Position,
    /// Scheduled ends up to this time were told.
    pub ends: OffsetDateTime,
    /// When the checkpoint was made.
    pub time: OffsetDateTime,
}

/// What the cursors of a stream are bound to.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Binding {
    rpc: &'static str,
    org_id: OrgId,
    selection: [u8; SELECTION],
}

impl Binding {
    /// Of an RPC, for an org, and for what is watched there.
    pub(in crate::grpc) fn new<T: AsRef<str>>(
        rpc: &'static str,
        org_id: OrgId,
        watched: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut names = Vec::new();
        for name in watched {
            names.extend_from_slice(name.as_ref().as_bytes());
            names.push(0);
        }
        let hash = digest::digest(&digest::SHA256, &names);
        let mut selection = [0; SELECTION];
        selection.copy_from_slice(&hash.as_ref()[..SELECTION]);
        Self { rpc, org_id, selection }
    }

    /// The text of a cursor.
    pub(in crate::grpc) fn seal(&self, state: &State, cursor: &Cursor) -> String {
        let mut plain = self.selection.to_vec();
        for time in [cursor.time, cursor.ends] {
            plain.extend(micros(time).to_be_bytes());
        }
        plain.extend(cursor.position.to_bytes());
        let sealed = state.keyring.master.seal(SealPurpose::Cursor, &bound_to(self.rpc, self.org_id), &plain);
        BASE64URL.encode(sealed)
    }

    /// Reads a cursor; none where there is none.
    ///
    /// # Errors
    /// `INVALID_FIELD` for one that is too long; `CURSOR_EXPIRED` for one that was cut, made up, is too old, or
    /// was given for something else.
    pub(in crate::grpc) fn open(&self, state: &State, text: &str) -> Result<Option<Cursor>> {
        if text.is_empty() {
            return Ok(None);
        }
        let (selection, cursor) = open(state, self.rpc, self.org_id, text)?;
        if selection == self.selection { Ok(Some(cursor)) } else { Err(Reason::CursorExpired.into()) }
    }
}

/// Reads a cursor of this RPC that was given to this org, whatever was watched.
///
/// # Errors
/// As of [`Binding::open`].
pub(in crate::grpc) fn open_any(
    state: &State,
    rpc: &'static str,
    org_id: OrgId,
    text: &str,
) -> Result<Cursor> {
    open(state, rpc, org_id, text).map(|(_, cursor)| cursor)
}

fn open(state: &State, rpc: &str, org_id: OrgId, text: &str) -> Result<([u8; SELECTION], Cursor)> {
    if text.len() > MAX_LEN {
        return Err(Error::invalid("cursor", format!("must be at most {MAX_LEN} characters")));
    }
    let expired = || Error::from(Reason::CursorExpired);
    let sealed = BASE64URL.decode(text).map_err(|_| expired())?;
    let plain = state.keyring.master.open(SealPurpose::Cursor, &bound_to(rpc, org_id), &sealed);
    let plain = plain.map_err(|_| expired())?;
    let (selection, cursor) = parse(&plain).ok_or_else(expired)?;
    if cursor.time + LIFE <= state.clock.now() {
        return Err(expired());
    }
    Ok((selection, cursor))
}

fn parse(plain: &[u8]) -> Option<([u8; SELECTION], Cursor)> {
    let (selection, rest) = plain.split_first_chunk()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (ends, rest) = rest.split_first_chunk()?;
    let read = |bytes: &[u8; 8]| {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(i64::from_be_bytes(*bytes)) * 1_000).ok()
    };
    let cursor = Cursor { position: Position::from_bytes(rest)?, ends: read(ends)?, time: read(time)? };
    Some((*selection, cursor))
}

fn micros(time: OffsetDateTime) -> i64 {
    (time.unix_timestamp_nanos() / 1_000) as i64
}

fn bound_to(rpc: &str, org_id: OrgId) -> String {
    format!("{rpc}/{org_id}")
}
