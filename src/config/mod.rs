//! Configuration: what the command line gives ([`args`]), and what the rest of the server takes of it.

mod appearance;
pub(crate) mod args;
pub(crate) mod secret_file;
mod settings;
mod urls;

pub use appearance::{Appearance, Colour, Image, LinkUrl};
pub use settings::{
    AccessLogLevel, ClientAuth, ConnectionLimits, CredentialLimits, DatabaseAnswers, FederationSettings,
    PasswordHashing, ServerLimits, SigningAlgorithm, TlsSettings, TokenLimits,
};
pub(crate) use settings::{ListenAddress, LogFormat, LogSettings};
pub(crate) use urls::DatabaseUrl;
pub use urls::{Issuer, SmtpUrl, WebUrl};
