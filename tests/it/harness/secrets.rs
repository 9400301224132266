//! No secret that the suite creates may be in what the servers log, nor in their events.
//! Everything is logged, at the finest level, into memory, and searched when the process
//! exits; with it the logs of processes that a test starts, and the events of its database.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use aho_corasick::AhoCorasick;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::util::SubscriberInitExt as _;

/// All that was logged, gigabytes of it, in pieces that end with a line. One vector would be copied each time it
/// grows, which takes seconds in which no test can log: to all of them it looks as if the database stood still.
static LOG: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// The bytes of a piece, unless a single text is longer.
const PIECE: usize = 4 << 20;
static LINES: AtomicUsize = AtomicUsize::new(0);
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
    let needed = text.len() + 1;
    if log.last().is_none_or(|piece| piece.capacity() - piece.len() < needed) {
        log.push(Vec::with_capacity(PIECE.max(needed)));
    }
    let piece = log.last_mut().expect("there is room in the last one");
    piece.extend_from_slice(text);
    piece.push(b'\n');
    drop(log);
    let lines = 1 + text.iter().filter(|byte| **byte == b'\n').count();
    LINES.fetch_add(lines, Ordering::Relaxed);
}

fn begin() {
    WATCH.call_once(|| {
        Everything.init();
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

/// Writes every span and every event once, with all of their fields. `tracing_subscriber::fmt` repeats the
/// fields of spans on each line within them, which took a third of the suite's time and shows no more.
struct Everything;

impl Everything {
    fn write(fields: impl FnOnce(&mut Fields<'_>)) {
        thread_local! {
            static LINE: Cell<String> = const { Cell::new(String::new()) };
        }
        // Fields may themselves log while they are written: each has a line of its own then.
        let mut line = LINE.take();
        line.clear();
        fields(&mut Fields(&mut line));
        search_too(line.as_bytes());
        LINE.set(line);
    }
}

impl Subscriber for Everything {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Self::write(|fields| {
            fields.0.push_str(span.metadata().name());
            span.record(fields);
        });
        Id::from_u64(COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        Self::write(|fields| values.record(fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        Self::write(|fields| {
            fields.0.push_str(event.metadata().target());
            event.record(fields);
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.extend([" ", field.name(), "=", value]);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.extend([" ", field.name(), "="]);
        let _ = write!(self.0, "{value:?}");
    }
}

/// Ends the process as a failure when the log holds a secret.
extern "C" fn search() {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    // One pass for all of them: a search for each takes longer than the whole suite.
    let all = AhoCorasick::new(secrets.iter()).unwrap();
    for piece in log.iter() {
        let Some(found) = all.find(piece) else { continue };
        let from = piece[..found.start()].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = piece[from..].split(|b| *b == b'\n').next().unwrap_or_default();
        eprintln!("a secret stands in the log: {}", String::from_utf8_lossy(line));
        std::process::abort();
    }
    let lines = LINES.load(Ordering::Relaxed);
    eprintln!("searched {lines} log lines for {} secrets: none stands there", secrets.len());
}
