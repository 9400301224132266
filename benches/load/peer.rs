//! A peer in the same run: `oidc-provider`, which issues a JWT for a client's secret over HTTP/1.1.
//!
//! It is installed by npm into a temporary directory. Where that cannot be done, it is not measured.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_os as os;
use nix::sys::signal::Signal;

use crate::common::progress;
use crate::cpu::used;
use crate::http1::Posts;

const PACKAGES: [&str; 2] = ["oidc-provider@9", "jose"];
const SERVER: &str = include_str!("peer.mjs");
const BODY: &str = "grant_type=client_credentials&scope=invoices.read+payments.read";
/// How long it runs before it is measured: its code is compiled while it runs.
const RAMP: Duration = Duration::from_secs(2);

/// What a peer issued: tokens a second, and its CPU time for each in microseconds.
pub struct Issued {
    pub rate: f64,
    pub cpu: f64,
}

/// The peer in its own process, which ends when this is dropped.
pub struct Peer {
    child: Child,
    directory: PathBuf,
    address: String,
}

impl Peer {
    /// Installs and starts it; none where npm or its registry is not there.
    pub fn start() -> Result<Option<Self>> {
        let directory = std::env::temp_dir().join(format!("countersign-bench-peer-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        progress(format_args!("installing {}", PACKAGES.join(" ")));
        let install = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&directory)
            .args(PACKAGES)
            .status();
        if !install.is_ok_and(|status| status.success()) {
            let _ = std::fs::remove_dir_all(&directory);
            return Ok(None);
        }
        std::fs::write(directory.join("peer.mjs"), SERVER)?;
        let mut command = Command::new("node");
        command.arg("peer.mjs").current_dir(&directory).env("NODE_ENV", "production");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        os::child::die_with_parent(&mut command, Signal::SIGKILL);
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let mut peer = Self { child, directory, address: String::new() };
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port)?;
        ensure!(!port.trim().is_empty(), "the peer ended before it was ready");
        peer.address = format!("127.0.0.1:{}", port.trim());
        Ok(Some(peer))
    }

    /// Requests tokens for this long, on as many connections as the generator has streams.
    pub async fn measure(&self, lasts: Duration) -> Result<Issued> {
        let headers = "authorization: Basic YmVuY2g6YmVuY2gtc2VjcmV0\r\n\
                       content-type: application/x-www-form-urlencoded\r\n";
        let posts = Posts::new(&self.address, "/token", headers, &[BODY.to_owned()]);
        let issued = posts.load(RAMP, lasts, || used(self.child.id())).await?;
        let (tokens, cpu) = (issued.count, issued.after - issued.before);
        Ok(Issued { rate: tokens / issued.took.as_secs_f64(), cpu: cpu / tokens })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
