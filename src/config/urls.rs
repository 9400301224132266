//! The URLs that settings hold, parsed: of a database, of an SMTP server, of pages, of an issuer.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;

/// The URL of a database. It may hold a password, which `Debug` does not show.
#[derive(Clone)]
pub(crate) struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole URL, with its password.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for DatabaseUrl {
    /// Takes any text, which is checked where it is used.
    ///
    /// The error of a parser of the command line would print the password.
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl([redacted])")
    }
}

/// The URL of an SMTP server. It may hold a password, which `Debug` does not show.
#[derive(Clone)]
pub struct SmtpUrl(String);

impl SmtpUrl {
    /// The whole URL, with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SmtpUrl {
    /// Takes any text, as the URL of a database does.
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmtpUrl([redacted])")
    }
}

/// The URL that pages are below. The rules are those of an issuer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl(String);

impl WebUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Issuer>().map(|url| Self(url.url))
    }
}

impl From<&Issuer> for WebUrl {
    fn from(issuer: &Issuer) -> Self {
        Self(issuer.url.clone())
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of an issuer (RFC 8414, section 2).
///
/// It has the scheme http or https, a host, no query, no fragment, and no `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    url: String,
    host: String,
}

impl Issuer {
    /// Its host, in a form that may stand in an email address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether what verifiers load from it is protected: by TLS, or since it stays on this machine.
    pub(crate) fn is_secure(&self) -> bool {
        let Ok(uri) = self.url.parse::<Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let local = |host: &str| host == "localhost" || host.ends_with(".localhost");
        uri.scheme() == Some(&Scheme::HTTPS)
            || local(&host)
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Issuer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "must be a URL such as https://id.example.com, without query, fragment and final slash";
        let uri: Uri = text.parse().map_err(|_| WRONG)?;
        let scheme = uri.scheme().ok_or(WRONG)?;
        let authority = uri.authority().ok_or(WRONG)?;
        let web = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        if !web || text.contains(['?', '#', '@']) || text.ends_with('/') || !text.is_ascii() {
            return Err(WRONG);
        }
        let host: String = authority
            .host()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect();
        let host = host.trim_matches('-').to_ascii_lowercase();
        // So that the host fits into the 254 characters of a username, with name, `@`, slug and `.`.
        if host.is_empty() || host.len() > 149 {
            return Err("must have a host of 1 to 149 characters");
        }
        Ok(Self { url: text.to_owned(), host })
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers() {
        for (good, host) in [
            ("https://id.example.com", "id.example.com"),
            ("http://127.0.0.1:50051", "127.0.0.1"),
            ("http://[::1]:50051", "1"),
            ("https://ID.example/path", "id.example"),
        ] {
            let issuer: Issuer = good.parse().unwrap();
            assert_eq!((issuer.to_string().as_str(), issuer.host()), (good, host));
        }
        for bad in [
            "",
            "id.example.com",
            "ftp://x",
            "https://",
            "https://x/",
            "https://x?y",
            "https://x#y",
            "https://a@b",
        ] {
            assert!(bad.parse::<Issuer>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_issuer_is_secure_by_tls_or_on_this_machine() {
        for (issuer, secure) in [
            ("https://id.example.com", true),
            ("http://localhost:50051", true),
            ("http://id.localhost", true),
            ("HTTP://LocalHost", true),
            ("http://127.8.9.1:1", true),
            ("http://[::1]:50051", true),
            ("http://id.example.com", false),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0", false),
            ("http://[::2]", false),
            ("http://127.0.0.1.example.com", false),
        ] {
            assert_eq!(issuer.parse::<Issuer>().unwrap().is_secure(), secure, "{issuer}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let url = DatabaseUrl::from("postgres://u:hunter2@h/d".to_owned());
        assert!(!format!("{url:?}").contains("hunter2"));
        let url = SmtpUrl::from("smtp://u:hunter2@h".to_owned());
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
