//! Why a mail was not sent.

/// Why a mail was not sent.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is worth trying again.
    Passing(String),
    /// It is not: whoever reads the mail's error decides.
    Lasting(String),
}
