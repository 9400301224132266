//! Connections of clients, and their handshakes of TLS.

use std::sync::OnceLock;

use time::OffsetDateTime;

use super::counter::Counter;

/// Reads how many connections there are, and how many there may be.
type Read = Box<dyn Fn() -> (usize, usize) + Send + Sync>;

/// Reads from when on the expiry of the server's certificate is near, and when it expires.
type ReadCertificate = Box<dyn Fn() -> [OffsetDateTime; 2] + Send + Sync>;

/// Connections of clients.
#[derive(Default)]
pub struct Connections {
    read: OnceLock<Read>,
    read_certificate: OnceLock<ReadCertificate>,
    pub accepted: Counter,
    /// Closed without an answer, since all others answered requests.
    pub refused: Counter,
    /// Closed to make room for another one.
    pub gave_way: Counter,
    /// Not accepted, for want of descriptors or memory.
    pub accept_failed: Counter,
    handshakes: [Counter; Handshake::ALL.len()],
}

/// How a handshake of TLS ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The connection is ready for requests.
    Ok,
    /// The two did not agree: no TLS, another version, or a certificate that is not accepted.
    Refused,
    /// The client has closed the connection, as a check whether the port is open does.
    Left,
    /// The client took too long.
    TimedOut,
    /// The connection gave way to another one, or the server stops.
    Closed,
}

impl Handshake {
    pub const ALL: [Self; 5] = [Self::Ok, Self::Refused, Self::Left, Self::TimedOut, Self::Closed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Left => "left",
            Self::TimedOut => "timed_out",
            Self::Closed => "closed",
        }
    }
}

impl Connections {
    /// Says where it stands how many there are, and how many there may be.
    pub fn read_with(&self, read: impl Fn() -> (usize, usize) + Send + Sync + 'static) {
        let _ = self.read.set(Box::new(read));
    }

    /// How many there are, and how many there may be.
    pub fn count(&self) -> (usize, usize) {
        self.read.get().map_or((0, 0), |read| read())
    }

    /// Says where it stands from when on the expiry of the server's certificate is near, and when it expires.
    pub fn read_certificate_with(&self, read: impl Fn() -> [OffsetDateTime; 2] + Send + Sync + 'static) {
        let _ = self.read_certificate.set(Box::new(read));
    }

    /// From when on the expiry of the server's certificate is near, and when it expires; none without TLS.
    pub fn certificate_times(&self) -> Option<[OffsetDateTime; 2]> {
        self.read_certificate.get().map(|read| read())
    }

    /// A handshake has ended.
    pub fn shaken(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].one();
    }

    /// How many handshakes ended in each way.
    pub fn handshakes(&self) -> impl Iterator<Item = (Handshake, u64)> {
        Handshake::ALL.into_iter().zip(&self.handshakes).map(|(outcome, counter)| (outcome, counter.get()))
    }
}
