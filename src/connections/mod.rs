//! Connections: accepted here, counted, and closed when they wait too long or get too old.
//!
//! A socket costs a client nothing and this server a descriptor. So each must send a request soon,
//! and may be idle only for a time; and where there are as many as there may be, one that waits
//! gives way to the next. The framework's own server has no such limits.

mod activity;
mod calls;
mod clients;
mod connection;
mod handshake;
mod room;
mod settings;
mod socket;
mod stream;
mod table;
mod tracked_body;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use table::Table;

pub use activity::Closing;
pub use clients::{Client, Clients};
pub use connection::{Connection, Service};
pub use room::{GaveWay, Place, Room};
pub use settings::Settings;

/// The descriptors that are left for other things than connections of clients and to the database:
/// files, the mail server, look-ups of names, and connections that were accepted and not yet counted.
pub const OTHER_DESCRIPTORS: u64 = 64;
/// The most connections that are allowed where nothing is said and the system would allow more:
/// each takes memory, too.
const DEFAULT_MOST: u64 = 65_536;
/// The least that are allowed where nothing is said, however few descriptors there are.
const DEFAULT_LEAST: u64 = 16;
/// How long nothing is accepted after the system refused to open another descriptor.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);
/// How often it is logged that connections are refused or give way.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// The most connections where nothing is said: the process's descriptors without those for the
/// database and for [other things](OTHER_DESCRIPTORS).
pub fn default_max(descriptors: u64, database_connections: u64) -> usize {
    let left = descriptors.saturating_sub(database_connections).saturating_sub(OTHER_DESCRIPTORS);
    usize::try_from(left.clamp(DEFAULT_LEAST, DEFAULT_MOST)).unwrap_or(usize::MAX)
}

/// Serves until `stop` is true: then nothing is accepted any more, and each connection is closed
/// when its requests are done. Returns when all of them are; dropped, it closes all at once.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    settings: Settings,
    mut stop: watch::Receiver<bool>,
) {
    let table = Arc::new(Table::new(settings.max));
    let (metrics, read) = (settings.metrics.clone(), table.clone());
    let counted = &metrics.connections;
    counted.read_with(move || (read.len(), read.max()));
    let shared = Arc::new(connection::Shared { service, settings, handshakes: Default::default() });
    let mut connections = JoinSet::new();
    let mut last_logged = None::<Instant>;
    let mut say = |what: &str, error: Option<&io::Error>| {
        if last_logged.is_none_or(|last| last.elapsed() >= LOG_PERIOD) {
            last_logged = Some(Instant::now());
            let error = error.map(tracing::field::display);
            tracing::warn!(connections = table.len(), max_connections = table.max(), error, "{what}");
        }
    };
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let Some(entered) = table.enter(peer.ip()) else {
                    counted.refused.one();
                    say("connection refused: all others are in use", None);
                    continue;
                };
                counted.accepted.one();
                if entered.made_room {
                    counted.gave_way.one();
                    say("connection without a request closed to make room", None);
                }
                prepare(&socket);
                connections.spawn(connection::run(socket, peer, entered.place, shared.clone(), stop.clone()));
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // Descriptors or memory ran out, which the next attempt would find as well.
                table.make_room();
                counted.accept_failed.one();
                say("connection not accepted", Some(&error));
                sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Sets what is wanted of a socket. It also works without: a failure is of the connection, which its
/// next use shows.
fn prepare(socket: &TcpStream) {
    // With Nagle's algorithm the trailers of each answer wait for the client's acknowledgement.
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_leaves_descriptors_for_the_rest() {
        assert_eq!(default_max(1_024, 24), 936);
        assert_eq!(default_max(200, 24), 112);
        assert_eq!(default_max(64, 24), 16);
        assert_eq!(default_max(u64::MAX, 24), 65_536);
    }
}
