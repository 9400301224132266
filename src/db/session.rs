//! What a session of the database begins with.

use std::time::Duration;

/// How the sessions of a pool behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionSettings {
    /// The time limit of a statement; none for commands, which a person watches.
    pub statement_timeout: Option<Duration>,
    /// Whether a pooler gives each transaction another session of the database: what is set for a
    /// session would be set for other clients.
    pub shared: bool,
}

impl SessionSettings {
    /// The same with a shorter time limit.
    pub fn at_most(self, limit: Duration) -> Self {
        Self { statement_timeout: Some(self.statement_timeout.map_or(limit, |own| own.min(limit))), ..self }
    }

    /// The statement that a new session begins with.
    pub(super) fn first_statement(self) -> Option<String> {
        // 0 is no limit, whatever the user of the database has by default.
        let millis = self.statement_timeout.unwrap_or_default().as_millis();
        (!self.shared).then(|| format!("set statement_timeout = {millis}"))
    }
}
