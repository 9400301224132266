//! No secret that the suite creates may be in what the servers log, nor in their events.
//! Everything is logged, at the finest level, into memory, and searched when the process
//! exits; with it the logs of processes that a test starts, and the events of its database.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

use aho_corasick::AhoCorasick;
use tracing_subscriber::fmt::MakeWriter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static WATCH: Once = Once::new();

/// The secret part of a credential.
pub fn secret_part(credential: &str) -> Option<&str> {
    if credential.starts_with("csign_") {
        return credential.split('_').nth(3).filter(|secret| secret.len() == 43);
    }
    // The signature of a JWT.
    let mut parts = credential.split('.');
    let signature = parts.nth(2)?;
    (signature.len() > 40 && parts.next().is_none()).then_some(signature)
}

/// Remembers a credential, and searches the log for it from now on.
pub fn watch(credential: &str) {
    begin();
    if let Some(secret) = secret_part(credential) {
        remember(secret);
    }
}

/// Remembers the keys of a master key file: a line each, `id:base64`.
pub fn watch_master_keys(file: &str) {
    begin();
    let keys = file.lines().filter_map(|line| line.split_once(':')).map(|(_, key)| key.trim());
    keys.filter(|key| key.len() == 44).for_each(remember);
}

/// Adds a string from elsewhere, to be searched with the rest.
pub fn search_too(text: &[u8]) {
    begin();
    // At once: concurrent log lines would cut a secret in two.
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.extend_from_slice(text);
    log.push(b'\n');
}

fn begin() {
    WATCH.call_once(|| {
        let format = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        format.with_writer(Log).init();
        countersign_os::at_exit(search).unwrap();
    });
}

fn remember(secret: &str) {
    SECRETS.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.to_owned());
}

/// Refuses a string with a secret that was created so far.
#[track_caller]
pub fn hides_secrets(text: &str) {
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(!secrets.iter().any(|secret| text.contains(secret.as_str())), "a secret is shown");
}

#[derive(Clone, Copy)]
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        Log
    }
}

/// Ends the process as a failure when the log holds a secret.
extern "C" fn search() {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    // One pass for all of them: a search for each takes longer than the whole suite.
    let all = AhoCorasick::new(secrets.iter()).unwrap();
    if let Some(found) = all.find(log.as_slice()) {
        let from = log[..found.start()].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = log[from..].split(|b| *b == b'\n').next().unwrap_or_default();
        eprintln!("a secret stands in the log: {}", String::from_utf8_lossy(line));
        std::process::abort();
    }
    let lines = log.iter().filter(|b| **b == b'\n').count();
    eprintln!("searched {lines} log lines for {} secrets: none stands there", secrets.len());
}
