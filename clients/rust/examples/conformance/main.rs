//! The driver of the conformance suite: see `clients/conformance/README.md`.
//!
//! Reads requests as lines of JSON, and writes their answers as lines of JSON. Requests run concurrently.

mod ops;
mod serve;
mod wire;

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use ops::Driver;

#[tokio::main]
async fn main() {
    let (lines, mut read) = mpsc::channel::<String>(1_000);
    // Standard input blocks, and has a thread of its own.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let driver = Arc::new(Driver::default());
    let mut running = tokio::task::JoinSet::new();
    while let Some(line) = read.recv().await {
        let driver = Arc::clone(&driver);
        running.spawn(async move {
            let answer = match serde_json::from_str::<Value>(&line) {
                Ok(request) => driver.answer(request).await,
                Err(error) => json!({ "error": { "reason": "DRIVER_FAULT", "message": error.to_string() } }),
            };
            let mut out = std::io::stdout().lock();
            // The runner may be gone.
            let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
        });
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}
