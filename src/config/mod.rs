//! Configuration: what the command line gives ([`args`]), and what the rest of the server takes of it.

mod appearance;
pub(crate) mod args;
pub(crate) mod secret_file;
mod settings;

pub use appearance::{Appearance, Colour, Image, LinkUrl};
pub use settings::{
    AccessLogLevel, ClientAuth, ConnectionLimits, CredentialLimits, Issuer, PasswordHashing, ServerLimits,
    SigningAlgorithm, SmtpUrl, TlsSettings, TokenLimits, WebUrl,
};
pub(crate) use settings::{DatabaseUrl, ListenAddress, LogFormat, LogSettings};
