//! A connection to PostgreSQL that can be cut silently, and can lead to another server.

use std::net::SocketAddr;
use std::path::PathBuf;

use countersign::db::pool;
use countersign_embedded_postgres as postgres;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Closes with its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    user: String,
    way: watch::Sender<Way>,
    _connections: JoinSet<()>,
}

#[derive(Clone, PartialEq, Eq)]
struct Way {
    to: PathBuf,
    /// Nothing gets through, nothing is refused, nothing is closed.
    cut: bool,
}

impl Proxy {
    /// Leads to this server.
    pub async fn to(server: &postgres::Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way { to: socket(server), cut: false });
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                open.spawn(carry(client, ways.clone()));
            }
        });
        Self { address, user: server.user().to_owned(), way, _connections: connections }
    }

    /// From now on nothing gets through, in either direction. Connections that are open meanwhile
    /// are dead afterwards, without a notification.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.cut = true);
    }

    /// New connections get through again.
    pub fn mend(&self) {
        self.way.send_modify(|way| way.cut = false);
    }

    /// Closes all connections; new ones lead to this server.
    pub fn lead_to(&self, server: &postgres::Server) {
        self.way.send_modify(|way| way.to = socket(server));
    }

    /// The `--database-url` of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{}@{}/{database}?sslmode=disable", self.user, self.address)
    }

    pub fn options(&self, database: &str) -> PgConnectOptions {
        pool::options(&self.url(database)).unwrap()
    }
}

fn socket(server: &postgres::Server) -> PathBuf {
    server.socket_dir().join(".s.PGSQL.5432")
}

async fn carry(mut client: TcpStream, mut ways: watch::Receiver<Way>) {
    let way = ways.borrow_and_update().clone();
    if !way.cut {
        let Ok(mut server) = UnixStream::connect(&way.to).await else { return };
        tokio::select! {
            biased;
            () = changed(&mut ways, &way) => {}
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        }
        if !ways.borrow().cut {
            // Elsewhere: both ends are closed.
            let _ = client.shutdown().await;
            return;
        }
        swallow(&mut client).await;
        // The server's side stays open until here, as it would behind a dead wire.
        drop(server);
    } else {
        swallow(&mut client).await;
    }
}

/// Until the route changes from this one.
async fn changed(ways: &mut watch::Receiver<Way>, than: &Way) {
    if ways.wait_for(|way| way != than).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn swallow(client: &mut TcpStream) {
    let mut bytes = [0; 4_096];
    while client.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}
