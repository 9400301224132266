//! The log of a server that is a process of its own.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tonic::transport::Endpoint;

use super::{Client, Running, until};

/// The lines of a log in JSON with this message.
pub fn lines(log: &Path, message: &str) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    // The last line may be written just now.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["message"] == message).collect()
}

/// A server whose log is a file, and its address.
pub async fn logging(command: &mut Command, log: &Path) -> (Running, String) {
    command.args(["--log-format", "json"]).stderr(File::create(log).unwrap());
    let running = Running::new(command);
    until(async || !lines(log, "ready").is_empty()).await;
    let address = lines(log, "ready")[0]["address"].as_str().unwrap().to_owned();
    (running, format!("http://{address}"))
}

/// A client of a server at this address.
pub async fn connect(endpoint: &str, bearer: &str) -> Client {
    let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    Client { channel, bearer: Some(bearer.to_owned()) }
}
