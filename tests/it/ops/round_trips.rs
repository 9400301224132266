//! How often the database is asked: by a change, a read and a load, and by a node that follows the feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign::config::ServerLimits;
use countersign::crypto::seal::MasterKeys;
use countersign::db::pool;
use countersign::grpc::pb;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::harness::{Database, LIMITS, TestServer, until};

/// A way to the database that counts what is asked of it: the messages that it answers.
async fn counted(options: PgConnectOptions) -> (PgConnectOptions, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = match options.get_socket() {
        Some(_) => {
            let (user, database) = (options.get_username(), options.get_database().unwrap());
            pool::options(&format!("postgres://{user}@127.0.0.1/{database}")).unwrap()
        }
        None => options.clone().host("127.0.0.1"),
    };
    let own = own.port(port).ssl_mode(PgSslMode::Disable);
    let asked = Arc::new(AtomicU64::new(0));
    let counts = asked.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            match options.get_socket() {
                Some(folder) => {
                    let path = folder.join(format!(".s.PGSQL.{}", options.get_port()));
                    tokio::spawn(carry(client, UnixStream::connect(path).await.unwrap(), counts.clone()));
                }
                None => {
                    let server = TcpStream::connect((options.get_host(), options.get_port())).await;
                    tokio::spawn(carry(client, server.unwrap(), counts.clone()));
                }
            }
        }
    });
    (own, asked)
}

async fn carry(client: TcpStream, server: impl AsyncRead + AsyncWrite, asked: Arc<AtomicU64>) {
    let (asks, mut hears) = client.into_split();
    let (mut answers, to) = tokio::io::split(server);
    // Where one side closes, so does the other.
    tokio::select! {
        _ = count(asks, to, asked) => {}
        _ = tokio::io::copy(&mut answers, &mut hears) => {}
    }
}

/// Passes messages on until the connection ends, and counts those by which something is asked.
async fn count(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    asked: Arc<AtomicU64>,
) -> std::io::Result<()> {
    // The first message has no kind.
    let mut kind = None;
    loop {
        let length = from.read_u32().await?;
        let mut message: Vec<u8> = kind.into_iter().chain(length.to_be_bytes()).collect();
        let head = message.len();
        message.resize(head + length as usize - 4, 0);
        from.read_exact(&mut message[head..]).await?;
        if let Some(b'Q' | b'S') = kind {
            asked.fetch_add(1, Ordering::Relaxed);
        }
        to.write_all(&message).await?;
        kind = Some(from.read_u8().await?);
    }
}

#[tokio::test]
async fn a_change_takes_six_round_trips_and_a_read_or_a_load_one() {
    let database = Arc::new(Database::create().await);
    let (options, asked) = counted(database.options()).await;
    let master = MasterKeys::new_file().as_str().into();
    // A notification of each change would make the reader of the feed ask as well.
    let limits = ServerLimits { feed_listen: false, ..LIMITS };
    let server = TestServer::on(options, database, master, None, limits).await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let owner = org.owner;
    // What the server asks for itself meanwhile counts as well, and not each time.
    let mut fewest = [u64::MAX; 3];
    let mut n = 0;
    until(async || {
        n += 1;
        let mut asked_before = asked.load(Ordering::Relaxed);
        let mut count = |fewest: &mut u64| {
            let now = asked.load(Ordering::Relaxed);
            *fewest = (*fewest).min(now - asked_before);
            asked_before = now;
        };
        let org = pb::Org { display_name: format!("Name {n}"), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["display_name".into()] });
        owner.orgs().update_org(pb::UpdateOrgRequest { org: Some(org), update_mask }).await.unwrap();
        count(&mut fewest[0]);
        owner.orgs().get_org(pb::GetOrgRequest::default()).await.unwrap();
        count(&mut fewest[1]);
        server.state.principals.clear();
        bot.exchange().await.unwrap();
        count(&mut fewest[2]);
        // Its caller is cached again.
        owner.orgs().get_org(pb::GetOrgRequest::default()).await.unwrap();
        n >= 10 && fewest[0] <= 6 && fewest[1] <= 1 && fewest[2] <= 1
    })
    .await;
    assert_eq!(fewest, [6, 1, 1]);
}

/// Under a flood of changes a node reads the feed some times a second, and not once for each of them.
#[tokio::test]
async fn notifications_that_follow_each_other_are_read_together() {
    const READS: u64 = 200;
    let database = Arc::new(Database::create().await);
    let (options, asked) = counted(database.options()).await;
    let master = MasterKeys::new_file().as_str().into();
    let _server = TestServer::on(options, database.clone(), master, None, LIMITS).await;
    let other = database.pool();
    let (began, before) = (Instant::now(), asked.load(Ordering::Relaxed));
    until(async || {
        sqlx::query("notify countersign_feed").execute(&other).await.unwrap();
        asked.load(Ordering::Relaxed) >= before + READS
    })
    .await;
    // Ten of them at once, and then ten milliseconds for each; half may be what other jobs asked.
    assert!(began.elapsed() >= Duration::from_millis(10) * (READS / 2 - 10) as u32, "{:?}", began.elapsed());
}
