//! The kinds of accounts and of credentials, with the same names everywhere.

/// The kind of an account.
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

/// The kind of a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Kept secret by its holder; authenticates from anywhere.
    #[default]
    Secret,
    /// Public: authenticates only from its origins, and no call to Countersign's own API.
    Publishable,
    /// Made by a login: authenticates as its account, for a limited time.
    Session,
    /// Has a public key instead of a secret: its holder signs assertions, which authenticate by exchange alone.
    Key,
    /// A rule of federation: JWTs of another issuer authenticate as its account, by exchange alone.
    Federated,
}

impl TokenKind {
    pub const ALL: [TokenKind; 5] =
        [Self::Secret, Self::Publishable, Self::Session, Self::Key, Self::Federated];

    /// Its name in the database, in a JWT and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::Publishable => "PUBLISHABLE",
            Self::Session => "SESSION",
            Self::Key => "KEY",
            Self::Federated => "FEDERATED",
        }
    }

    /// The reverse of [`name`](Self::name), for the kinds that are tokens.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Secret, Self::Publishable, Self::Key].into_iter().find(|kind| kind.name() == name)
    }
}
