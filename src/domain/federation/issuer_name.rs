//! The names of issuers: an exact `iss`, or the trust domain of SPIFFE.

use std::fmt;

use crate::domain::values::names::Invalid;

/// The longest name, in bytes.
const MAX_LEN: usize = 255;
/// The host under which `dev` has issuers of this machine, with a port.
const LOCALHOST: &str = "localhost";
const SPIFFE: &str = "spiffe://";
const HTTPS: &str = "https://";

/// The name of an issuer, in the one way in which it is written.
///
/// It is compared byte by byte: nothing here is normalized, and what could be written in two ways is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerName {
    text: String,
    /// Where the host, or the trust domain, is in the text.
    host: (usize, usize),
    port: Option<u16>,
}

impl IssuerName {
    /// Reads an `iss`: an `https` URL with a host in lower case, and no user, query or fragment. A port is for
    /// `localhost` alone, which only `dev` allows.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub fn parse_url(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid = Invalid(
            "must be an https URL in ASCII, with a lower-case host and without user, port, query, fragment or \
             percent-encoding",
        );
        let rest = text.strip_prefix(HTTPS).ok_or(WRONG)?;
        if text.len() > MAX_LEN {
            return Err(Invalid("must be at most 255 characters"));
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.split_once(':') {
            None => (authority, None),
            Some((LOCALHOST, port)) => (LOCALHOST, Some(read_port(port).ok_or(WRONG)?)),
            Some(_) => return Err(WRONG),
        };
        if !is_host(host) || !is_path(path) {
            return Err(WRONG);
        }
        Ok(Self { text: text.to_owned(), host: (HTTPS.len(), HTTPS.len() + host.len()), port })
    }

    /// Reads a trust domain: `spiffe://` and a name of `a-z 0-9 . _ -`, with nothing behind it.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub fn parse_spiffe(text: &str) -> Result<Self, Invalid> {
        let name = text.strip_prefix(SPIFFE).unwrap_or_default();
        let good = (1..=MAX_LEN - SPIFFE.len()).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if !good {
            return Err(Invalid(
                "must be spiffe:// and the name of a trust domain, of a-z 0-9 . _ -, with nothing behind it",
            ));
        }
        Ok(Self { text: text.to_owned(), host: (SPIFFE.len(), text.len()), port: None })
    }

    /// Reads either.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.starts_with(SPIFFE) { Self::parse_spiffe(text) } else { Self::parse_url(text) }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host of the URL, or the name of the trust domain.
    pub fn host(&self) -> &str {
        &self.text[self.host.0..self.host.1]
    }

    /// The port of an issuer of this machine.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path of the URL, with the slash that it begins with; empty without one.
    pub fn path(&self) -> &str {
        let port = self.port.map_or(0, |port| 1 + port.to_string().len());
        &self.text[self.host.1 + port..]
    }

    /// Whether it is a trust domain of SPIFFE.
    pub fn is_spiffe(&self) -> bool {
        self.text.starts_with(SPIFFE)
    }

    /// Whether it is on this machine, which only `dev` allows.
    pub fn is_local(&self) -> bool {
        self.host() == LOCALHOST
    }

    /// Whether it is the issuer with this URL, which is our own, in whatever spelling.
    pub fn is_own(&self, own: &str) -> bool {
        let ((host, path), (own_host, own_path)) = (bare(&self.text), bare(own));
        !self.is_spiffe() && host.eq_ignore_ascii_case(own_host) && path.eq_ignore_ascii_case(own_path)
    }

    /// Whether the text is the id of a workload in this trust domain: `spiffe://`, the trust domain, and a path
    /// of at least one segment of `A-Z a-z 0-9 . _ -`.
    pub fn is_trust_domain_of(&self, id: &str) -> bool {
        self.path_of(id).is_some_and(|path| {
            id.len() <= 2_048
                && path.split('/').all(|segment| {
                    !matches!(segment, "" | "." | "..")
                        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                })
        })
    }

    /// What follows the trust domain and a slash in the text.
    pub(super) fn path_of<'a>(&self, id: &'a str) -> Option<&'a str> {
        if self.is_spiffe() { id.strip_prefix(&self.text)?.strip_prefix('/') } else { None }
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The authority and the path of a URL, without what says nothing of them.
fn bare(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = authority.trim_end_matches('.');
    let authority = authority.strip_suffix(":443").unwrap_or(authority);
    (authority.trim_end_matches('.'), path.trim_matches('/'))
}

fn read_port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    // Neither `0443` nor `+443`.
    (port != 0 && port.to_string() == text).then_some(port)
}

/// Whether it is the name of a host in lower case, without a dot at its end, and no number.
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    // Programs read a name that ends in a number as an address.
    let is_number = host.rsplit('.').next().is_some_and(|last| {
        last.bytes().all(|b| b.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    host.len() <= 253 && host.split('.').all(label) && !is_number
}

/// Whether it is a path that is written in one way only: without percent-encoding, `.`, `..` and empty
/// segments, but for the last one.
fn is_path(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return path.is_empty() };
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let good = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b));
        if !good || matches!(segment, "." | "..") || (segment.is_empty() && !is_last) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_written_in_one_way() {
        for good in [
            "https://issuer.example",
            "https://issuer.example/",
            "https://token.actions.githubusercontent.com/octo-org",
            "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
            "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
            "https://localhost:8443",
            "https://localhost:8443/realms/a",
        ] {
            let name = IssuerName::parse_url(good).unwrap();
            assert_eq!(name.as_str(), good);
            let port = name.port().map_or(String::new(), |port| format!(":{port}"));
            assert_eq!(format!("https://{}{port}{}", name.host(), name.path()), good);
        }
        for bad in [
            "",
            "issuer.example.com",
            "http://issuer.example",
            "HTTPS://issuer.example",
            "https://",
            "https:///",
            "https://Issuer.example",
            "https://issuer.example.",
            "https://issuer.example:443",
            "https://issuer.example:8443",
            "https://user@issuer.example",
            "https://user:pw@issuer.example",
            "https://issuer.example?a=b",
            "https://issuer.example#a",
            "https://issuer.example/a?b",
            "https://issuer.example/%61",
            "https://issuer.ex%61mple",
            "https://issuer.example//a",
            "https://issuer.example/a/../b",
            "https://issuer.example/.",
            "https://issuer.example\\a",
            "https://issuer.example/a b",
            "https://issuer.example/\u{e9}",
            "https://iss\u{fc}er.example",
            "https://-issuer.example",
            "https://issuer..example",
            "https://10.0.0.1",
            "https://2130706433",
            "https://a.0x7f",
            "https://[::1]",
            "https://localhost:0",
            "https://localhost:08443",
            "https://localhost:+443",
            "https://localhost:65536",
            "https://localhost:",
            "spiffe://example.org",
        ] {
            assert!(IssuerName::parse_url(bad).is_err(), "{bad}");
        }
        let long = format!("https://issuer.example/{}", "a".repeat(MAX_LEN - 23));
        assert_eq!(long.len(), MAX_LEN);
        assert!(IssuerName::parse_url(&long).is_ok());
        assert!(IssuerName::parse_url(&format!("{long}a")).is_err());
    }

    #[test]
    fn a_trust_domain_has_ids() {
        let domain = IssuerName::parse("spiffe://example.org").unwrap();
        assert_eq!((domain.host(), domain.path(), domain.is_spiffe()), ("example.org", "", true));
        for bad in [
            "spiffe://",
            "spiffe://Example.org",
            "spiffe://a/b",
            "spiffe://a:1",
            "spiffe://a%62",
            "SPIFFE://a",
        ] {
            assert!(IssuerName::parse_spiffe(bad).is_err(), "{bad}");
        }
        for good in ["spiffe://example.org/a", "spiffe://example.org/ns/Prod/sa/web-1_x.y"] {
            assert!(domain.is_trust_domain_of(good), "{good}");
        }
        for bad in [
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/a/../b",
            "spiffe://example.org/a%62",
            "spiffe://example.org/\u{e9}",
            "spiffe://example.org.evil/a",
            "spiffe://example.or/a",
            "https://example.org/a",
        ] {
            assert!(!domain.is_trust_domain_of(bad), "{bad}");
        }
        let url = IssuerName::parse("https://example.org").unwrap();
        assert!(!url.is_trust_domain_of("https://example.org/a"));
    }

    #[test]
    fn our_own_issuer_is_found_in_every_spelling() {
        let is_own = |text: &str, own: &str| IssuerName::parse(text).unwrap().is_own(own);
        for own in
            ["https://id.example", "https://ID.example/", "https://id.example:443", "https://id.example./"]
        {
            assert!(is_own("https://id.example", own), "{own}");
            assert!(is_own("https://id.example/", own), "{own}");
            assert!(!is_own("https://id.example/a", own), "{own}");
            assert!(!is_own("https://id.example2", own), "{own}");
        }
        assert!(is_own("https://id.example/a/", "https://id.example/a"));
        assert!(is_own("https://localhost:50051", "http://localhost:50051"));
        assert!(!is_own("spiffe://id.example", "https://id.example"));
    }
}
