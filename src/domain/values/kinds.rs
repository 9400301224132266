//! The kinds of accounts and of credentials, with the names that they have everywhere.

/// What an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    User,
    ServiceAccount,
}

impl AccountKind {
    pub const ALL: [AccountKind; 2] = [Self::User, Self::ServiceAccount];

    /// Its name in the database, in a JWT and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::ServiceAccount => "SERVICE_ACCOUNT",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Kept secret by its holder; authenticates from anywhere.
    #[default]
    Secret,
    /// Public: authenticates from its origins alone, and nothing of Countersign's own.
    Publishable,
    /// What a login gave: authenticates as its account, for a while.
    Session,
}

impl TokenKind {
    /// Its name in the database, in a JWT and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::Publishable => "PUBLISHABLE",
            Self::Session => "SESSION",
        }
    }

    /// The reverse of [`name`](Self::name), of what is a token.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Secret, Self::Publishable].into_iter().find(|kind| kind.name() == name)
    }
}
