//! What a session of the database begins with.

use std::time::Duration;

use crate::config::{DatabaseAnswers, ServerLimits};

/// How the sessions of a pool begin and behave.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// How long a call waits for one, and how long one may take to be opened.
    pub connect_timeout: Duration,
    /// The time limit of a statement; none for commands, which a person watches.
    pub statement_timeout: Option<Duration>,
    /// Whether a pooler gives each transaction another session of the database: what is set for a
    /// session would be set for other clients.
    pub shared: bool,
}

impl Default for SessionSettings {
    /// Those of a command.
    fn default() -> Self {
        Self { connect_timeout: DatabaseAnswers::SOON.connection, statement_timeout: None, shared: false }
    }
}

impl From<&ServerLimits> for SessionSettings {
    fn from(limits: &ServerLimits) -> Self {
        Self {
            connect_timeout: limits.database_answers.connection,
            statement_timeout: Some(limits.statement_timeout()),
            shared: false,
        }
    }
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
