//! The reasons why an email could not be sent.

/// Why an email was not sent.
#[derive(Debug)]
pub(super) enum Failure {
    /// A transient failure: the email is retried.
    Passing(String),
    /// A permanent failure: the operator, who sees the error of the email, decides whether to retry it.
    Lasting(String),
}
