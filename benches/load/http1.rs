//! Requests of plain HTTP/1.1 on kept connections, as many as the generator has streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::generator::{CONNECTIONS, Measured, STREAMS, measure};

/// Requests of one path, in turn, starting again after the last one.
pub struct Posts {
    pub address: String,
    requests: Vec<String>,
    next: AtomicUsize,
}

impl Posts {
    /// Requests with these further headers, each ending in a line break, and these bodies.
    pub fn new(address: &str, path: &str, headers: &str, bodies: &[String]) -> Arc<Self> {
        let request = |body: &String| {
            let head = format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}");
            format!("{head}content-length: {}\r\n\r\n{body}", body.len())
        };
        let requests = bodies.iter().map(request).collect();
        Arc::new(Self { address: address.to_owned(), requests, next: AtomicUsize::new(0) })
    }

    /// Sends them for this long after the ramp. An answer that is not 200 ends the bench.
    pub async fn load<M>(
        self: &Arc<Self>,
        ramp: Duration,
        lasts: Duration,
        meter: impl Fn() -> Result<M>,
    ) -> Result<Measured<M>> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS * STREAMS {
            let (posts, stop, done) = (self.clone(), stop.clone(), done.clone());
            connections.spawn(async move {
                let mut socket = TcpStream::connect(&posts.address).await?;
                socket.set_nodelay(true)?;
                let mut answer = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let next = posts.next.fetch_add(1, Ordering::Relaxed) % posts.requests.len();
                    socket.write_all(posts.requests[next].as_bytes()).await?;
                    read_answer(&mut socket, &mut answer).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        measure(connections, (&stop, &done), ramp, lasts, meter).await
    }
}

/// Reads one answer, which must be 200 with a length.
async fn read_answer(socket: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    answer.clear();
    loop {
        if socket.read_buf(answer).await? == 0 {
            bail!("a server closed a connection");
        }
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "a server answered {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("an answer without a length")?.parse()?;
        if answer.len() >= end + 4 + length {
            return Ok(());
        }
    }
}
