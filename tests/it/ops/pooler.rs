//! A pooler in transaction mode before the database: a server that cannot work with it says so when
//! it starts. The pooler here is one of the test's own, which does what PgBouncer before 1.21 does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use countersign::db::pooler::{PoolerError, probe};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::harness::{Database, Scratch, countersign, fails};

/// Gives each transaction the session that was given back last, and passes statements on as they
/// are. Closes with its connections when it is dropped.
struct Pooler {
    address: SocketAddr,
    options: PgConnectOptions,
    _connections: JoinSet<()>,
}

/// What a client and a server say first.
#[derive(Clone)]
struct Server {
    socket: PathBuf,
    startup: Vec<u8>,
    idle: Arc<Mutex<Vec<UnixStream>>>,
    /// Whether it refuses a parameter of the startup message, as PgBouncer does by default.
    is_strict: bool,
}

impl Pooler {
    async fn before(database: &Database, is_strict: bool) -> Self {
        let options = database.options();
        let directory = options.get_socket().expect("the tests' own server").display().to_string();
        let mut startup = 196_608_i32.to_be_bytes().to_vec();
        for text in ["user", options.get_username(), "database", options.get_database().unwrap(), ""] {
            startup.extend(text.as_bytes());
            startup.push(0);
        }
        let length = (startup.len() as i32 + 4).to_be_bytes();
        let server = Server {
            socket: format!("{directory}/.s.PGSQL.{}", options.get_port()).into(),
            startup: [&length[..], &startup].concat(),
            idle: Arc::default(),
            is_strict,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(address.port())
            .username(options.get_username())
            .database(options.get_database().unwrap())
            .ssl_mode(PgSslMode::Disable);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = server.clone();
                open.spawn(async move {
                    // It ends with an error when the client has gone.
                    let _ = carry(client, &server).await;
                });
            }
        });
        Self { address, options, _connections: connections }
    }

    fn url(&self) -> String {
        let (user, database) = (self.options.get_username(), self.options.get_database().unwrap());
        format!("postgres://{user}@{}/{database}?sslmode=disable", self.address)
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as i32 + 4).to_be_bytes(), body].concat()
}

/// A whole message with its kind.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let kind = stream.read_u8().await?;
    let length = stream.read_i32().await?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await?;
    Ok(message(kind, &body))
}

async fn carry(mut client: TcpStream, server: &Server) -> std::io::Result<()> {
    let length = client.read_i32().await?;
    client.read_exact(&mut vec![0; length as usize - 4]).await?;
    if server.is_strict {
        let error = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: extra_float_digits\0\0";
        return client.write_all(&message(b'E', error)).await;
    }
    let hello = [
        message(b'R', &0_i32.to_be_bytes()),
        message(b'S', b"server_version\x0015.0\0"),
        message(b'K', &[0; 8]),
        message(b'Z', b"I"),
    ];
    client.write_all(&hello.concat()).await?;
    let mut held: Option<UnixStream> = None;
    loop {
        let mut batch = Vec::new();
        loop {
            let next = read(&mut client).await?;
            let kind = next[0];
            batch.extend(next);
            match kind {
                b'X' => return Ok(()),
                // Sync, and a simple query.
                b'S' | b'Q' => break,
                _ => {}
            }
        }
        let mut session = match held.take() {
            Some(session) => session,
            None => server.session().await?,
        };
        session.write_all(&batch).await?;
        let status = loop {
            let answer = read(&mut session).await?;
            client.write_all(&answer).await?;
            if answer[0] == b'Z' {
                break answer[5];
            }
        };
        if status == b'I' {
            server.idle.lock().unwrap().push(session);
        } else {
            held = Some(session);
        }
    }
}

impl Server {
    async fn session(&self) -> std::io::Result<UnixStream> {
        let idle = self.idle.lock().unwrap().pop();
        if let Some(session) = idle {
            return Ok(session);
        }
        let mut session = UnixStream::connect(&self.socket).await?;
        session.write_all(&self.startup).await?;
        while read(&mut session).await?[0] != b'Z' {}
        Ok(session)
    }
}

#[tokio::test]
async fn a_pooler_that_loses_statements_is_found_at_the_start() {
    let database = Database::create().await;
    assert!(!probe(&database.options()).await.unwrap(), "no pooler at all");
    let pooler = Pooler::before(&database, false).await;
    assert!(matches!(probe(&pooler.options).await, Err(PoolerError::LosesStatements)));
    let strict = Pooler::before(&database, true).await;
    assert!(matches!(probe(&strict.options).await, Err(PoolerError::RefusesParameters)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_what_the_pooler_needs() {
    let database = Database::create().await;
    let (pooler, strict) = (Pooler::before(&database, false).await, Pooler::before(&database, true).await);
    let scratch = Scratch::new("pooler");
    let key = scratch.master_key();
    let (url, strict) = (pooler.url(), strict.url());
    tokio::task::spawn_blocking(move || {
        let serve = |url: &str| {
            let mut command = countersign();
            command.args(["serve", "--listen", "127.0.0.1:0", "--issuer", "http://127.0.0.1"]);
            command.args(["--database-url", url, "--master-key-file", key.to_str().unwrap()]);
            command
        };
        fails(&mut serve(&url), "use PgBouncer 1.21 or newer with `max_prepared_statements` above 0");
        fails(&mut serve(&strict), "ignore_startup_parameters = extra_float_digits");
        let mut migrate = countersign();
        fails(migrate.args(["migrate", "--database-url", &url]), "in transaction mode");
    })
    .await
    .unwrap();
}
