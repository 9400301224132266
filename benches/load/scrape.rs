//! Reads the metrics of a server once a second, as Prometheus does.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use countersign::domain::values::kinds::TokenKind;
use countersign::metrics::{Counter, Credentials, Meter, Rpcs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::each;

const PERIOD: Duration = Duration::from_secs(1);

/// An address that nothing listens on.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Scrapes this address while it is told to.
pub struct Scraper {
    pub on: Arc<AtomicBool>,
    pub scrapes: Arc<AtomicU64>,
    _task: JoinHandle<()>,
}

impl Scraper {
    pub fn start(address: SocketAddr) -> Self {
        let (on, scrapes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, counted) = (on.clone(), scrapes.clone());
        let task = tokio::spawn(async move {
            let mut ticks = interval(PERIOD);
            loop {
                ticks.tick().await;
                if told.load(Ordering::Relaxed) && scrape(address).await.is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { on, scrapes, _task: task }
    }
}

async fn scrape(address: SocketAddr) -> Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n").await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    ensure!(text.ends_with("# EOF\n"), "no metrics");
    Ok(())
}

/// The CPU time of all that a warm exchange counts, in microseconds.
pub fn counting() -> Result<f64> {
    let (rpcs, credentials, hits) = (Rpcs::default(), Credentials::default(), Counter::default());
    let rows = rpcs.rows(["/countersign.v1.TokenService/ExchangeToken"]);
    each(|| {
        let began = Instant::now();
        let mut meter = Meter::new(std::hint::black_box(&rows[1]), began);
        std::hint::black_box(&hits).one();
        std::hint::black_box(&credentials).exchanged(TokenKind::Secret, false);
        std::hint::black_box(meter.end(None));
        Ok(())
    })
}
