//! Sending to an SMTP server (RFC 5321): TLS from the start or by STARTTLS.
//!
//! It also tells transient from permanent failures.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use url::{Host, Url};

use super::failure::Failure;
use crate::config::SmtpUrl;

/// The longest that connecting and authentication may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that sending an email may take.
///
/// A server that is slow to answer may have accepted it, so this is longer than a user would wait.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that closing the connection may take, when the email is sent.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that all of this together may take.
pub(super) const LONGEST: Duration = Duration::from_secs(152);

/// An SMTP server, with the security of the connection and the credentials.
#[derive(Clone)]
pub struct Smtp {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    hello: ClientId,
}

#[derive(Clone)]
enum Security {
    /// TLS from the first byte.
    Tls(TlsParameters),
    /// STARTTLS, before the credentials and the email; without it neither is sent.
    StartTls(TlsParameters),
    /// No TLS, only if the URL says so.
    None,
}

impl Smtp {
    /// Reads `--smtp-url` and `--smtp-ca-file`. `password` is that of `--smtp-password-file`; `hello` is the domain of our EHLO.
    ///
    /// # Errors
    /// A message that does not contain the URL, which may hold a password.
    pub fn open(
        url: &SmtpUrl,
        password: Option<&str>,
        ca_file: Option<&Path>,
        hello: &str,
    ) -> anyhow::Result<Self> {
        let url = SmtpParts::parse(url.expose(), password)
            .map_err(|wrong| anyhow::anyhow!("--smtp-url {wrong}"))?;
        let security = match url.security {
            SmtpSecurity::None => Security::None,
            SmtpSecurity::Tls => Security::Tls(tls(&url.host, ca_file)?),
            SmtpSecurity::StartTls => Security::StartTls(tls(&url.host, ca_file)?),
        };
        Ok(Self {
            host: url.host,
            port: url.port,
            security,
            credentials: url.credentials,
            hello: ClientId::Domain(hello.to_owned()),
        })
    }

    /// Sends a message. When it returns `Ok`, the server has accepted it.
    pub(super) async fn send(&self, message: &Message) -> Result<(), Failure> {
        let transient = |error: SmtpError| Failure::Passing(one_line(&error));
        let late = |what| move |_| Failure::Passing(format!("the SMTP server did not {what} in time"));
        let connected =
            timeout(CONNECT_TIMEOUT, self.connect()).await.map_err(late("accept the connection"))?;
        // Also a permanent refusal, because its cause is the server or our password, and not the email.
        let mut connection = connected.map_err(transient)?;
        let bytes = message.formatted();
        let sent = timeout(SEND_TIMEOUT, connection.send(message.envelope(), &bytes)).await;
        let sent = sent.map_err(late("accept the email"))?;
        let failed = sent.err().map(|error| match error.status() {
            Some(code) if error.is_permanent() && !is_about_us(code.into()) => {
                Failure::Lasting(one_line(&error))
            }
            _ => transient(error),
        });
        if timeout(QUIT_TIMEOUT, connection.abort()).await.is_err() {
            tracing::debug!("mail server did not answer QUIT");
        }
        failed.map_or(Ok(()), Err)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let wrapped = match &self.security {
            Security::Tls(parameters) => Some(parameters.clone()),
            Security::StartTls(_) | Security::None => None,
        };
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &self.hello, wrapped, None)
                .await?;
        if let Security::StartTls(parameters) = &self.security {
            connection.starttls(parameters.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

/// Whether a permanent refusal is about our connection, not about the email.
///
/// We are not authenticated, or the server requires TLS (RFC 4954, RFC 3207).
fn is_about_us(code: u16) -> bool {
    matches!(code, 530 | 534 | 535 | 538)
}

/// An error as it is displayed: one line of limited length.
fn one_line(error: &SmtpError) -> String {
    let line = error.to_string();
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

fn tls(host: &str, ca_file: Option<&Path>) -> anyhow::Result<TlsParameters> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let named = |what: &dyn fmt::Display| anyhow::anyhow!("--smtp-ca-file {}: {what}", path.display());
        let pem = std::fs::read(path).map_err(|error| named(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| named(&error))?;
        anyhow::ensure!(
            pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----"),
            named(&"holds no certificate in PEM form")
        );
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    Ok(builder.build()?)
}

/// The parts of an SMTP URL.
struct SmtpParts {
    host: String,
    port: u16,
    security: SmtpSecurity,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SmtpSecurity {
    Tls,
    StartTls,
    None,
}

impl SmtpParts {
    fn parse(text: &str, password: Option<&str>) -> Result<Self, &'static str> {
        const WRONG: &str = "must be smtp://user:password@host:587 or smtps://user:password@host:465";
        let url = Url::parse(text).map_err(|_| WRONG)?;
        let security = match (url.scheme(), url.query()) {
            ("smtps", None) => SmtpSecurity::Tls,
            ("smtp", None) => SmtpSecurity::StartTls,
            ("smtp", Some("tls=none")) => SmtpSecurity::None,
            ("smtp", Some(_)) => return Err("may only have the query ?tls=none"),
            _ => return Err(WRONG),
        };
        // `host_str` writes IPv6 addresses in brackets, with which no connection can be made.
        let host = match url.host().ok_or(WRONG)? {
            Host::Domain(name) if !name.is_empty() => name.to_owned(),
            Host::Domain(_) => return Err(WRONG),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(WRONG);
        }
        let decoded =
            |text| percent_decode_str(text).decode_utf8().map_err(|_| "holds bytes that are not UTF-8");
        let credentials = match (url.username(), url.password(), password) {
            ("", None, None) => None,
            (user, Some(password), None) if !user.is_empty() => {
                Some(Credentials::new(decoded(user)?.into_owned(), decoded(password)?.into_owned()))
            }
            // As it stands in the file: nothing is encoded there.
            (user, None, Some(password)) if !user.is_empty() => {
                Some(Credentials::new(decoded(user)?.into_owned(), password.to_owned()))
            }
            (_, _, None) => return Err("must have both a user and a password, or neither"),
            _ => return Err("must have a user and no password beside --smtp-password-file"),
        };
        let loopback = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if security == SmtpSecurity::None && credentials.is_some() && !loopback {
            return Err("must not send a password without TLS to another machine");
        }
        let default = if security == SmtpSecurity::Tls { 465 } else { 587 };
        Ok(Self { host, port: url.port().unwrap_or(default), security, credentials })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smtp_urls() {
        for (text, host, port, security, credentials) in [
            ("smtp://mail.example", "mail.example", 587, SmtpSecurity::StartTls, false),
            ("smtp://u:p%40+@mail.example:2525", "mail.example", 2525, SmtpSecurity::StartTls, true),
            ("smtps://u:p@mail.example", "mail.example", 465, SmtpSecurity::Tls, true),
            ("smtp://127.0.0.1:1025?tls=none", "127.0.0.1", 1025, SmtpSecurity::None, false),
            ("smtp://mailpit:1025?tls=none", "mailpit", 1025, SmtpSecurity::None, false),
            ("smtp://u:p@[::1]:1025?tls=none", "::1", 1025, SmtpSecurity::None, true),
        ] {
            let parts = SmtpParts::parse(text, None).unwrap();
            let parsed = (parts.host.as_str(), parts.port, parts.security, parts.credentials.is_some());
            assert_eq!(parsed, (host, port, security, credentials), "{text}");
        }
        let credentials = SmtpParts::parse("smtp://a%40b:p%40+@mail.example", None).unwrap().credentials;
        assert_eq!(credentials, Some(Credentials::new("a@b".to_owned(), "p@+".to_owned())));
        for bad in [
            "",
            "mail.example",
            "http://mail.example",
            "smtp://",
            "smtp://u@mail.example",
            "smtp://:p@mail.example",
            "smtp://mail.example/path",
            "smtp://mail.example?tls=maybe",
            "smtps://mail.example?tls=none",
            "smtp://mail.example#x",
            "smtp://u:p@mail.example?tls=none",
            "smtp://%ff:%ff@mail.example",
        ] {
            assert!(SmtpParts::parse(bad, None).is_err(), "{bad:?}");
        }
        let from_file = |url| SmtpParts::parse(url, Some("p%40+"));
        let credentials = from_file("smtp://a%40b@mail.example").unwrap().credentials;
        assert_eq!(credentials, Some(Credentials::new("a@b".to_owned(), "p%40+".to_owned())));
        // Both, no user, and a password that would be readable on the way.
        for bad in ["smtp://u:p@mail.example", "smtp://mail.example", "smtp://u@mail.example?tls=none"] {
            assert!(from_file(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_time_is_the_sum_of_its_parts() {
        assert_eq!(LONGEST, CONNECT_TIMEOUT + SEND_TIMEOUT + QUIT_TIMEOUT);
    }
}
