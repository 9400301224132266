//! The load generator: a closed loop on 8 connections with 16 streams each.
//!
//! It sends plain HTTP/2 with messages that were encoded before, so that every call costs the generator
//! the same, whatever it calls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Method, Version, header};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval_at;

pub const CONNECTIONS: usize = 8;
pub const STREAMS: usize = 16;

/// How long the load runs before the measurement starts.
pub const RAMP: Duration = Duration::from_millis(150);

/// Calls of one method, with the messages in turn, starting again after the last one.
pub struct Calls {
    request: http::Request<()>,
    /// Whether an answer ends with trailers that say how the call ended; else its status does.
    is_grpc: bool,
    messages: Vec<Bytes>,
    next: AtomicUsize,
}

impl Calls {
    pub fn new(address: &str, path: &str, bearer: Option<&str>, messages: Vec<Bytes>) -> Result<Self> {
        let mut request = http::Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{address}{path}"))
            .header("te", "trailers")
            .header(header::CONTENT_TYPE, "application/grpc");
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        Ok(Self { request: request.body(())?, is_grpc: true, messages, next: AtomicUsize::new(0) })
    }

    /// Requests of plain HTTP with bodies of this content type.
    pub fn plain(address: &str, path: &str, content_type: &str, bodies: Vec<Bytes>) -> Result<Self> {
        let request = http::Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{address}{path}"))
            .header(header::CONTENT_TYPE, content_type)
            .body(())?;
        Ok(Self { request, is_grpc: false, messages: bodies, next: AtomicUsize::new(0) })
    }

    /// The head of a call.
    pub fn request(&self) -> http::Request<()> {
        self.request.clone()
    }

    /// The next message.
    pub fn message(&self) -> Bytes {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.messages[next % self.messages.len()].clone()
    }
}

/// A message with the gRPC prefix: not compressed, and its length.
pub fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(body.len() + 5);
    frame.put_u8(0);
    frame.put_u32(body.len() as u32);
    frame.put(body.as_slice());
    frame.freeze()
}

/// The result of a measurement, with the values of `meter` at its begin and end.
pub struct Slice<M> {
    pub requests: f64,
    pub seconds: f64,
    pub before: M,
    pub after: M,
    /// The latencies in microseconds.
    pub latencies: Vec<f64>,
}

/// Makes this many calls on one connection, one on each of its streams at once, without measuring.
pub async fn pass(address: &str, calls: &Arc<Calls>, count: usize) -> Result<()> {
    let send = connect(address).await?;
    let left = Arc::new(AtomicUsize::new(count));
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let (mut send, calls, left) = (send.clone(), calls.clone(), left.clone());
        streams.spawn(async move {
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                call(&mut send, &calls).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(stream) = streams.join_next().await {
        stream??;
    }
    Ok(())
}

/// Runs and measures the load for this long: at this rate, in calls a second, or as fast as they are answered. A call that
/// fails ends the bench.
pub async fn load<M>(
    address: &str,
    calls: &Arc<Calls>,
    rate: Option<f64>,
    lasts: Duration,
    meter: impl Fn() -> Result<M>,
) -> Result<Slice<M>> {
    // The calls of the streams are spread over the time between two of one stream.
    let every = rate.map(|rate| Duration::from_secs_f64((CONNECTIONS * STREAMS) as f64 / rate));
    let started = tokio::time::Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let mut streams = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let send = connect(address).await?;
        for stream in 0..STREAMS {
            let (mut send, calls) = (send.clone(), calls.clone());
            let mut clock = every.map(|every| {
                let place = (stream * CONNECTIONS + connection) as u32;
                interval_at(started + every * place / (CONNECTIONS * STREAMS) as u32, every)
            });
            let (stop, done, latencies) = (stop.clone(), done.clone(), latencies.clone());
            streams.spawn(async move {
                let mut mine = Vec::with_capacity(1 << 12);
                while !stop.load(Ordering::Relaxed) {
                    if let Some(clock) = &mut clock {
                        clock.tick().await;
                    }
                    let began = Instant::now();
                    call(&mut send, &calls).await?;
                    mine.push((began, began.elapsed()));
                    done.fetch_add(1, Ordering::Relaxed);
                }
                latencies.lock().unwrap_or_else(PoisonError::into_inner).extend(mine);
                anyhow::Ok(())
            });
        }
    }
    let Measured { count, began, took, before, after } =
        measure(streams, (&stop, &done), RAMP, lasts, meter).await?;
    let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let counted = latencies.iter().filter(|(at, _)| *at >= began && *at < began + took);
    Ok(Slice {
        requests: count,
        seconds: took.as_secs_f64(),
        before,
        after,
        latencies: counted.map(|(_, latency)| latency.as_secs_f64() * 1e6).collect(),
    })
}

/// What tasks did in a time, with the values of a meter at its begin and end.
pub struct Measured<M> {
    pub count: f64,
    pub began: Instant,
    pub took: Duration,
    pub before: M,
    pub after: M,
}

/// Lets tasks run that count what is `done` until they are to `stop`, and measures them for this long after
/// the ramp. A task that fails ends the bench.
pub async fn measure<M>(
    mut tasks: JoinSet<Result<()>>,
    (stop, done): (&AtomicBool, &AtomicUsize),
    ramp: Duration,
    lasts: Duration,
    meter: impl Fn() -> Result<M>,
) -> Result<Measured<M>> {
    tokio::time::sleep(ramp).await;
    let (first, began, before) = (done.load(Ordering::Relaxed), Instant::now(), meter()?);
    tokio::time::sleep(lasts).await;
    let (last, took, after) = (done.load(Ordering::Relaxed), began.elapsed(), meter()?);
    stop.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    ensure!(last > first, "no call was answered");
    Ok(Measured { count: (last - first) as f64, began, took, before, after })
}

async fn connect(address: &str) -> Result<SendRequest<Bytes>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut builder = client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
    let (send, connection) = builder.handshake(socket).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("connection of the generator failed: {error}");
        }
    });
    Ok(send)
}

async fn call(send: &mut SendRequest<Bytes>, calls: &Calls) -> Result<()> {
    std::future::poll_fn(|context| send.poll_ready(context)).await?;
    let (answer, mut stream) = send.send_request(calls.request(), false)?;
    stream.send_data(calls.message(), true)?;
    let answer = answer.await?;
    ensure!(answer.status() == 200, "a request was answered {}", answer.status());
    succeeded(answer.headers(), false)?;
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
    }
    if !calls.is_grpc {
        return Ok(());
    }
    let trailers = body.trailers().await?.context("an answer without trailers")?;
    succeeded(&trailers, true)
}

fn succeeded(headers: &HeaderMap, last: bool) -> Result<()> {
    match headers.get("grpc-status") {
        None if !last => Ok(()),
        Some(code) if code == "0" => Ok(()),
        code => bail!("a call failed: {code:?} {:?}", headers.get("grpc-message")),
    }
}
