//! What was presented to a rule, as it is recorded: the values that rules match, and never the JWT.

/// Whether an assertion passed all checks of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Passed,
    Refused,
}

impl Outcome {
    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Refused => "REFUSED",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Passed, Self::Refused].into_iter().find(|outcome| outcome.name() == name)
    }
}
