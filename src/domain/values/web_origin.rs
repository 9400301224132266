//! Web origins (RFC 6454), from which a publishable token works in a browser.

use std::fmt;

use url::Url;

use super::names::Invalid;

/// A scheme, a host and a port, as a browser writes them in `Origin`.
///
/// Lower case, IDN in its ASCII form, the scheme's default port omitted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebOrigin(Box<str>);

/// The longest input, in bytes. What a browser sends is shorter: a host has at most 253 characters.
const MAX_LEN: usize = 300;

impl WebOrigin {
    /// Parses an origin: `http` or `https`, one exact host, an optional port, and nothing else.
    ///
    /// Every subdomain is another origin, so wildcards are not accepted.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid =
            Invalid("must be https://host or http://host, perhaps with :port, and nothing after it");
        if text == "null" {
            return Err(Invalid("must not be null: that is what sandboxed and local pages all send"));
        }
        if text.contains('*') {
            return Err(Invalid("must hold no wildcard: name each origin, every subdomain too"));
        }
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let scheme = ["https://", "http://"].into_iter().find(|scheme| lower.starts_with(scheme));
        let rest = &text[scheme.ok_or(WRONG)?.len()..];
        // `Url` accepts all of these, and reads them as something other than they look like.
        let strange = |c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\' | '?' | '#' | '@' | '%' | ',')
        };
        if text.len() > MAX_LEN || rest.chars().any(strange) || rest.ends_with(':') {
            return Err(WRONG);
        }
        let url = Url::parse(text).map_err(|_| WRONG)?;
        let host = url.host_str().ok_or(WRONG)?;
        if host.split('.').any(str::is_empty) || host.len() > 253 {
            return Err(Invalid("must name a host of at most 253 characters, without a trailing dot"));
        }
        if url.port() == Some(0) {
            return Err(WRONG);
        }
        Ok(Self(url.origin().ascii_serialization().into()))
    }

    /// The checked string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_of_origins() {
        let good = [
            ("https://example.com", "https://example.com"),
            ("http://example.com", "http://example.com"),
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://EXAMPLE.COM", "https://example.com"),
            ("hTTp://Example.Com", "http://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("https://example.com:80", "https://example.com:80"),
            ("http://example.com:443", "http://example.com:443"),
            ("https://example.com:8443", "https://example.com:8443"),
            ("https://example.com:0443", "https://example.com"),
            ("http://localhost", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://例え.jp", "https://xn--r8jz45g.jp"),
            ("https://faß.example", "https://xn--fa-hia.example"),
            ("https://a-b.example", "https://a-b.example"),
            ("https://a_b.example", "https://a_b.example"),
            ("https://1.example", "https://1.example"),
            ("https://example.com:65535", "https://example.com:65535"),
        ];
        for (text, expected) in good {
            assert_eq!(WebOrigin::parse(text).as_ref().map(WebOrigin::as_str), Ok(expected), "{text}");
        }
        let bad = [
            "",
            "null",
            "*",
            "https://*",
            "https://*.example.com",
            "https://app.*.com",
            "https://example.com:*",
            "example.com",
            "//example.com",
            "example.com:443",
            "https:example.com",
            "https:/example.com",
            "https:///example.com",
            "https://",
            "https://:443",
            "https://example.com/",
            "https://example.com/path",
            "https://example.com?x",
            "https://example.com#x",
            "https://example.com\\",
            "https://user@example.com",
            "https://user:password@example.com",
            "https://example.com@evil.example",
            "https://example.com.",
            "https://example.com.:443",
            "https://.example.com",
            "https://example..com",
            "https://example.com:",
            "https://example.com:0",
            "https://example.com:65536",
            "https://example.com:-1",
            "https://example.com:4x3",
            "https://example.com:443:443",
            "https://exa mple.com",
            " https://example.com",
            "https://example.com ",
            "https://example.com\n",
            "https://exam\tple.com",
            "https://example.com\0",
            "https://example%2ecom",
            "https://example.com%00",
            "https://example.com,https://other.example",
            "https://example.com https://other.example",
            "ftp://example.com",
            "ws://example.com",
            "file://",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/html,x",
            "chrome-extension://abcdef",
            "https://[::1",
            "https://::1",
            "https://[::1%25eth0]",
            "https://256.256.256.256",
            "https://xn--a",
            "https://exa<mple.com",
            "https://exa|mple.com",
        ];
        for text in bad {
            assert!(WebOrigin::parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(good.len() + bad.len() >= 60);
        assert!(WebOrigin::parse(&format!("https://{}.example", "a".repeat(300))).is_err());
    }

    #[test]
    fn a_subdomain_is_another_origin() {
        let origin = |text| WebOrigin::parse(text).unwrap();
        let own = origin("https://example.com");
        for other in [
            "https://app.example.com",
            "http://example.com",
            "https://example.com:8443",
            "https://example.com.evil.example",
            "https://evilexample.com",
            "https://xn--exmple-cua.com",
        ] {
            assert_ne!(own, origin(other));
        }
    }

    proptest! {
        #[test]
        fn parsing_round_trips(text in "(https?://)?\\PC{0,40}") {
            if let Ok(origin) = WebOrigin::parse(&text) {
                prop_assert_eq!(WebOrigin::parse(origin.as_str()), Ok(origin.clone()));
                prop_assert!(origin.as_str().is_ascii() && !origin.as_str().contains('*'));
            }
        }
    }
}
