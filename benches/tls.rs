//! What TLS costs the server: a full handshake and a resumed one, without and with a client certificate,
//! beside a connection without TLS and an Ed25519 signature of the same core.
//!
//! `benches/README.md` says what the rows mean.
#![allow(unreachable_pub, reason = "nothing imports a bench")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use common::{Cores, Deployment, Served, Sorted, option, pin, progress};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The request of each connection, which is the last on it.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// A certificate with its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

/// The files of a server, removed at the end.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A way to connect.
struct Row {
    name: &'static str,
    /// None: without TLS.
    config: Option<Arc<ClientConfig>>,
    expected: Option<HandshakeKind>,
}

fn main() -> Result<()> {
    common::only_options(&["--rounds", "--connections"])?;
    let (rounds, connections): (usize, usize) = (option("--rounds", 7)?, option("--connections", 500)?);
    ensure!(rounds > 0 && connections > 0, "at least one round, of some connections");
    let cores = Cores::find();
    pin(cores.map(|cores| cores.others))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(rounds, connections, cores))
}

async fn run(rounds: usize, connections: usize, cores: Option<Cores>) -> Result<()> {
    let files = Files(std::env::temp_dir().join(format!("countersign-bench-{}", std::process::id())));
    fs::create_dir_all(&files.0)?;
    let (authority, server, client) = certificates()?;
    let path = |name: &str| files.0.join(name).display().to_string();
    for (name, text) in [("ca.pem", &authority), ("tls.pem", &server.certificate), ("tls.key", &server.key)] {
        fs::write(path(name), text)?;
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600))?;
    }
    let deployment = Deployment::make().await?;
    let [ca, certificate, key] = ["ca.pem", "tls.pem", "tls.key"].map(path);
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
    pin(cores.map(|cores| cores.server))?;
    let plain = deployment.serve(&[])?;
    let tls = deployment.serve(&[&flags[..], &["--tls-client-auth", "optional"]].concat())?;
    pin(cores.map(|cores| cores.others))?;

    let config = |version, pair: Option<&Pair>, resumes| client_config(&authority, version, pair, resumes);
    let (tls13, tls12) = (&rustls::version::TLS13, &rustls::version::TLS12);
    let (full, resumed) = (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed));
    let row = |name, config, expected| Row { name, config: Some(config), expected };
    let rows = [
        Row { name: "without TLS", config: None, expected: None },
        row("TLS 1.3, full", config(tls13, None, false)?, full),
        row("TLS 1.3, resumed", config(tls13, None, true)?, resumed),
        row("TLS 1.3, full, client certificate", config(tls13, Some(&client), false)?, full),
        row("TLS 1.3, resumed, client certificate", config(tls13, Some(&client), true)?, resumed),
        row("TLS 1.2, full", config(tls12, None, false)?, full),
        row("TLS 1.2, resumed", config(tls12, None, true)?, resumed),
    ];
    let mut all: Vec<Vec<f64>> = rows.iter().map(|_| Vec::new()).collect();
    for number in 1..=rounds {
        for (row, measured) in rows.iter().zip(&mut all) {
            let served = if row.config.is_some() { &tls } else { &plain };
            // The first one gives the tickets.
            connect(served, row).await?;
            let before = used(served.pid())?;
            for _ in 0..connections {
                let kind = connect(served, row).await?;
                let as_expected = row.expected.is_none() || kind == row.expected
                    // Without post-quantum groups a server may ask for another key share.
                    || (row.expected == full && kind == Some(HandshakeKind::FullWithHelloRetryRequest));
                ensure!(as_expected, "{}: {kind:?}", row.name);
            }
            measured.push((used(served.pid())? - before) / connections as f64);
        }
        progress(format_args!("round {number} of {rounds}"));
    }
    let sorted: Vec<Sorted> = all.into_iter().map(|row| row.into_iter().collect()).collect();
    let bare = sorted[0].median();
    println!("\nCPU of the server for a connection with one request, in microseconds (median, range)");
    for (row, measured) in rows.iter().zip(&sorted) {
        let more = measured.median() - bare;
        println!("{:<38} {:<28} {more:+8.0} for TLS", row.name, measured.show(0));
    }
    let saved = 1.0 - (sorted[2].median() - bare) / (sorted[1].median() - bare);
    println!("a resumed session of TLS 1.3 saves {:.0} % of a handshake", 100.0 * saved);
    Ok(())
}

/// Opens a connection, makes one request, and reads the response to its end.
async fn connect(served: &Served, row: &Row) -> Result<Option<HandshakeKind>> {
    let socket = TcpStream::connect(&served.address).await?;
    socket.set_nodelay(true)?;
    let Some(config) = &row.config else {
        request(socket).await?;
        return Ok(None);
    };
    let name = ServerName::try_from("localhost")?;
    let mut stream = TlsConnector::from(config.clone()).connect(name, socket).await?;
    request(&mut stream).await?;
    Ok(stream.get_ref().1.handshake_kind())
}

async fn request(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "no answer");
    Ok(())
}

/// An authority, and the certificates of a server and a client that it signed.
fn certificates() -> Result<(String, Pair, Pair)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let sign = || {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &issuer)?.pem();
        anyhow::Ok(Pair { certificate, key: key.serialize_pem() })
    };
    Ok((authority, sign()?, sign()?))
}

fn client_config(
    authority: &str,
    version: &'static SupportedProtocolVersion,
    pair: Option<&Pair>,
    resumes: bool,
) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots);
    let mut config = match pair {
        None => config.with_no_client_auth(),
        Some(Pair { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
    };
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// The CPU time of a process, in microseconds.
fn used(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).context("the clock of the server")?;
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}
