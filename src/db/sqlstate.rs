//! What an error of the database means for the caller, the transaction and the session: one table.
//!
//! Every error of the driver passes through [`classify`], by way of its conversion to [`Error`].

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::error::{Error, Reason};

/// What an error of the database means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Another transaction got in the way: the transaction is retried; `CONFLICT` in the end.
    Retry,
    /// The session cannot go on, though another one may: the connection is closed, and the
    /// transaction retried on another; `DATABASE_UNAVAILABLE` in the end.
    DropConnection,
    /// The database cannot do it now, on any connection: `DATABASE_UNAVAILABLE`.
    Unavailable,
    /// The statement reached its time limit: `DEADLINE_EXCEEDED`.
    TimedOut,
    /// A fault of this server or of its schema: `INTERNAL`.
    Internal,
}

impl Meaning {
    /// The reason that the caller is given.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Retry => Reason::Conflict,
            Self::DropConnection | Self::Unavailable => Reason::DatabaseUnavailable,
            Self::TimedOut => Reason::DeadlineExceeded,
            Self::Internal => Reason::Internal,
        }
    }
}

use Meaning::{DropConnection, Internal, Retry, TimedOut, Unavailable};

/// The classes of SQLSTATE, and the codes that mean something else than their class. The longest
/// entry that a code begins with counts; a code without one is `Internal`.
const TABLE: &[(&str, Meaning)] = &[
    ("00", Internal),
    ("01", Internal),
    ("02", Internal),
    ("03", Internal),
    // The connection failed, or what answered does not follow the protocol.
    ("08", DropConnection),
    ("09", Internal),
    // `0A000` also says that the plan of a prepared statement is outdated: see `classify`.
    ("0A", Internal),
    ("0B", Internal),
    ("0F", Internal),
    ("0L", Internal),
    ("0P", Internal),
    ("0Z", Internal),
    ("10", Internal),
    ("20", Internal),
    ("21", Internal),
    ("22", Internal),
    // A constraint: its name is translated where the query is called.
    ("23", Internal),
    ("24", Internal),
    // The transaction is read-only (a standby), idle for too long, or not in the state that this
    // server believes it to be in.
    ("25", DropConnection),
    // A prepared statement is gone: a pooler gave the session to another client.
    ("26", DropConnection),
    ("27", Internal),
    // The login was refused: the password was changed, or access was taken.
    ("28", Unavailable),
    ("2B", Internal),
    ("2D", DropConnection),
    ("2F", Internal),
    // A portal is gone.
    ("34", DropConnection),
    ("38", Internal),
    ("39", Internal),
    ("3B", Internal),
    // There is no such database, or no such schema: renamed, or being restored.
    ("3D", Unavailable),
    ("3F", Unavailable),
    ("40", Retry),
    // Whether the statement was carried out is unknown.
    ("40003", DropConnection),
    ("42", Internal),
    // A right was taken from the user of this server.
    ("42501", Unavailable),
    // Queries are checked against the schema when they are compiled, so that a table, column or
    // function is missing only where another schema is in its place, as while a dump is restored.
    ("42P01", Unavailable),
    ("42703", Unavailable),
    ("42883", Unavailable),
    // The name of a prepared statement is taken: another client has this session.
    ("42P05", DropConnection),
    ("44", Internal),
    // Out of disk, memory or connections.
    ("53", Unavailable),
    ("54", Internal),
    // The database accepts no connections, or is in use by what excludes others.
    ("55", Unavailable),
    // Another transaction holds a lock for longer than `lock_timeout`.
    ("55P03", Retry),
    // Shutting down, starting up, terminated by an administrator.
    ("57", DropConnection),
    // `statement_timeout`, or cancelled by an administrator.
    ("57014", TimedOut),
    // An error of the machine's disk or system.
    ("58", Unavailable),
    ("72", Retry),
    ("F0", Unavailable),
    ("HV", Internal),
    ("P0", Internal),
    // Internal errors of the database, and of the poolers that answer in its place.
    ("XX", DropConnection),
    // Damaged data or a damaged index: another session finds them as well.
    ("XX001", Internal),
    ("XX002", Internal),
];

/// What a SQLSTATE means.
pub fn of_code(code: &str) -> Meaning {
    let rows = TABLE.iter().filter(|(prefix, _)| code.starts_with(prefix));
    rows.max_by_key(|(prefix, _)| prefix.len()).map_or(Internal, |(_, meaning)| *meaning)
}

/// What an error of the driver means.
pub fn classify(error: &sqlx::Error) -> Meaning {
    use sqlx::Error as E;
    match error {
        E::Database(refused) if has_outdated_plan(refused.as_ref()) => DropConnection,
        E::Database(refused) => refused.code().map_or(Internal, |code| of_code(&code)),
        // No connection was free in time, or none could be made.
        E::PoolTimedOut | E::PoolClosed => Unavailable,
        E::Io(_) | E::Tls(_) | E::Protocol(_) | E::WorkerCrashed | E::BeginFailed => DropConnection,
        _ => Internal,
    }
}

/// Whether a migration changed what a prepared statement returns. The code is that of features that
/// do not exist, and the message is translated: the routine that refuses tells them apart.
fn has_outdated_plan(error: &dyn DatabaseError) -> bool {
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery"))
}

/// Whether the transaction of this error is worth another attempt: it met another one, or its
/// session was refused by the database and another session may do it. An answer that was lost is
/// not among them, nor is one to a commit, which may have succeeded: see [`AtCommit`].
pub fn is_retried(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let refused = source.and_then(|source| source.downcast_ref::<Failed>());
    error.reason() == Reason::Conflict
        || refused.is_some_and(|Failed(error)| {
            matches!(error, sqlx::Error::Database(_)) && classify(error) == DropConnection
        })
}

/// Whether the error is that of a session that cannot go on, or of a connection that was lost.
pub fn is_lost_session(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let error = source.and_then(|source| source.downcast_ref::<Failed>());
    error.is_some_and(|Failed(error)| classify(error) == DropConnection)
}

/// The error of a commit. Unless the database says that it met another transaction, it may have
/// succeeded: it is not retried.
#[derive(Debug)]
pub struct AtCommit(sqlx::Error);

impl AtCommit {
    /// The error for the caller of a failed commit.
    pub fn error(error: sqlx::Error) -> Error {
        let reason = note(&error).reason();
        Error::new(reason).because(Self(error))
    }
}

impl std::fmt::Display for AtCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at the commit: {}", text(&self.0))
    }
}

impl std::error::Error for AtCommit {}

impl From<sqlx::Error> for Error {
    /// Translates an error that no query has translated.
    fn from(error: sqlx::Error) -> Self {
        let reason = note(&error).reason();
        Self::new(reason).because(Failed(error))
    }
}

/// An error of the driver, as it is logged.
#[derive(Debug)]
struct Failed(sqlx::Error);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&text(&self.0))
    }
}

impl std::error::Error for Failed {}

/// What an error of the driver says, for logs and commands.
///
/// The driver names the line of PostgreSQL's own source after the message, which reads as one of the
/// statement. The SQLSTATE says more.
pub fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refused) => {
            let code = refused.code().map(|code| format!(" (SQLSTATE {code})")).unwrap_or_default();
            format!("the database refused: {}{code}", refused.message())
        }
        other => other.to_string(),
    }
}

/// An error with all its causes on one line, for logs and commands.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let (said, next) = match error.downcast_ref::<sqlx::Error>() {
            // Its own cause is in its text.
            Some(error) => (text(error), None),
            None => (error.to_string(), error.source()),
        };
        // Some errors repeat their cause in their own text.
        if !parts.last().is_some_and(|before| before.ends_with(&said)) {
            parts.push(said);
        }
        cause = next;
    }
    parts.join(": ")
}

/// The meaning of an error. Where that is to drop the connection, all sessions opened until now are
/// suspect.
pub fn note(error: &sqlx::Error) -> Meaning {
    let meaning = classify(error);
    if meaning == DropConnection && !is_of_a_worker(error) {
        suspect_sessions();
    }
    meaning
}

/// Whether the database itself says that a connection failed: that of the coordinator of a cluster to a worker.
/// The session that says so goes on, and so do the others.
fn is_of_a_worker(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code.starts_with("08"))
}

/// Microseconds after `began()` at which a session was last found unable to go on.
static SUSPECTED: AtomicU64 = AtomicU64::new(0);

fn began() -> Instant {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BEGAN
}

/// Marks all sessions of this process opened until now as suspect: no pool hands them out again.
///
/// An error does not say which connection it came from, and what happened to that one, a failover
/// for example, has mostly happened to the others as well.
pub fn suspect_sessions() {
    SUSPECTED.fetch_max(began().elapsed().as_micros() as u64 + 1, Ordering::Relaxed);
}

/// Whether a session of this age is suspect.
pub fn is_suspect(age: Duration) -> bool {
    let suspected = SUSPECTED.load(Ordering::Relaxed);
    // In whole microseconds, so that the session that was just opened because of it is none.
    let opened = began().elapsed().saturating_sub(age).as_micros() as u64;
    suspected > 0 && opened < suspected
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All classes of the manual's appendix A.
    const CLASSES: [&str; 46] = [
        "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23",
        "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44",
        "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX", "40003", "XX001",
    ];

    #[test]
    fn each_class_has_one_row() {
        for class in CLASSES {
            assert_eq!(TABLE.iter().filter(|(prefix, _)| *prefix == class).count(), 1, "{class}");
        }
        for (prefix, _) in TABLE {
            assert!(CLASSES.iter().any(|class| prefix.starts_with(class)), "{prefix}");
            assert_eq!(TABLE.iter().filter(|(other, _)| other == prefix).count(), 1, "{prefix}");
        }
    }

    #[test]
    fn what_the_codes_mean() {
        let means = |meaning: Meaning, codes: &[&str]| {
            codes.iter().for_each(|code| assert_eq!(of_code(code), meaning, "{code}"));
        };
        means(Retry, &["40001", "40P01", "55P03", "72000"]);
        means(DropConnection, &["08000", "08003", "08006", "08P01", "25006", "25P02", "25P03", "26000"]);
        means(DropConnection, &["57P01", "57P02", "57P03", "57P05", "42P05", "XX000", "40003"]);
        means(Unavailable, &["28000", "28P01", "3D000", "3F000", "42501", "42P01", "53100", "53200"]);
        means(Unavailable, &["53300", "55000", "55006", "58030", "F0000"]);
        means(TimedOut, &["57014"]);
        means(Internal, &["22001", "22P02", "23505", "23503", "42601", "0A000", "54001", "P0001", "XX001"]);
        means(Internal, &["", "99999", "ZZ"]);
    }

    #[test]
    fn errors_without_a_code() {
        use sqlx::Error as E;
        let broken = std::io::Error::other("broken pipe");
        for (error, meaning) in [
            (E::PoolTimedOut, Unavailable),
            (E::PoolClosed, Unavailable),
            (E::Io(broken), DropConnection),
            (E::Protocol("another message was expected".into()), DropConnection),
            (E::RowNotFound, Internal),
            (E::ColumnNotFound("x".into()), Internal),
        ] {
            assert_eq!(classify(&error), meaning, "{error:?}");
        }
    }

    #[test]
    fn a_lost_answer_is_not_retried() {
        let broken = || sqlx::Error::Io(std::io::Error::other("broken pipe"));
        for error in
            [Error::from(broken()), AtCommit::error(broken()), Error::from(sqlx::Error::PoolTimedOut)]
        {
            assert_eq!(error.reason(), Reason::DatabaseUnavailable);
            assert!(!is_retried(&error), "{error:?}");
        }
        assert!(is_retried(&Error::new(Reason::Conflict)));
    }

    #[test]
    fn what_was_opened_before_is_suspect() {
        let opened = Instant::now();
        std::hint::black_box(began());
        suspect_sessions();
        assert!(is_suspect(opened.elapsed() + Duration::from_millis(1)));
        // What is opened after it is not: its age is less than the time since.
        while began().elapsed().as_micros() as u64 <= SUSPECTED.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        assert!(!is_suspect(Duration::ZERO));
    }
}
