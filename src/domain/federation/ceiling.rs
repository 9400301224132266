//! Which issuers a deployment admits at all, whatever its orgs ask for.

use super::issuer_name::{IssuerName, is_host};
use crate::domain::values::names::Invalid;

/// The issuers that a deployment admits. None: federation is off.
///
/// It is checked when an issuer is made, and at each use: what was admitted once may not be any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    listed: Vec<CeilingEntry>,
    /// Whether every port of this machine is admitted: for `dev` alone.
    this_machine: bool,
}

/// One item of the list: an exact issuer, `https://*.example.com`, or `spiffe://name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeilingEntry(Entry);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Exact(IssuerName),
    /// Each host with one label before this name, whatever its path.
    Below(String),
}

impl CeilingEntry {
    /// Reads an item.
    ///
    /// # Errors
    /// The sentence that follows the setting's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Ok(Self(match text.strip_prefix("https://*.") {
            None => Entry::Exact(IssuerName::parse(text)?),
            Some(name) if is_host(name) && name.contains('.') => Entry::Below(name.to_owned()),
            Some(_) => {
                return Err(Invalid(
                    "must have a name of two labels or more after `https://*.`, and nothing behind it",
                ));
            }
        }))
    }
}

impl CeilingEntry {
    /// Whether it is an issuer of this machine.
    pub fn is_local(&self) -> bool {
        matches!(&self.0, Entry::Exact(name) if name.is_local())
    }
}

/// By what an issuer is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is in the list.
    Exactly,
    /// By a wildcard, as those of strangers are.
    ByWildcard,
    /// As one of this machine, for `dev`.
    Locally,
}

impl Ceiling {
    /// Admits none.
    pub const OFF: Self = Self { listed: Vec::new(), this_machine: false };
    /// Admits `https://localhost:*`.
    pub const THIS_MACHINE: Self = Self { listed: Vec::new(), this_machine: true };

    /// Admits these.
    pub fn new(listed: Vec<CeilingEntry>) -> Self {
        Self { listed, this_machine: false }
    }

    /// The same, with `https://localhost:*`.
    #[must_use]
    pub fn with_this_machine(self) -> Self {
        Self { this_machine: true, ..self }
    }

    /// Whether it admits none: federation is off.
    pub fn is_off(&self) -> bool {
        *self == Self::OFF
    }

    /// Whether issuers on this machine are admitted, as in `dev`.
    pub fn is_dev(&self) -> bool {
        self.this_machine
    }

    /// By what it admits the issuer; none if it does not.
    pub fn admits(&self, name: &IssuerName) -> Option<Admitted> {
        // Exactly, if also by a wildcard.
        let listed = |entry: &CeilingEntry| matches!(&entry.0, Entry::Exact(listed) if listed == name);
        // What is on this machine is nothing to fetch from, even where it is listed, but in `dev`.
        if self.listed.iter().any(listed) && (!name.is_local() || self.is_dev()) {
            return Some(Admitted::Exactly);
        }
        if name.is_spiffe() {
            return (name.is_local() && self.is_dev()).then_some(Admitted::Locally);
        }
        if name.is_local() {
            return self.is_dev().then_some(Admitted::Locally);
        }
        let parent = name.host().split_once('.').map(|(_, parent)| parent);
        let below =
            |entry: &CeilingEntry| matches!(&entry.0, Entry::Below(above) if Some(above.as_str()) == parent);
        self.listed.iter().any(below).then_some(Admitted::ByWildcard)
    }

    /// Whether it lists the issuer itself.
    pub fn lists_exactly(&self, name: &IssuerName) -> bool {
        self.admits(name) == Some(Admitted::Exactly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(entries: &[&str]) -> Ceiling {
        Ceiling::new(entries.iter().map(|entry| CeilingEntry::parse(entry).unwrap()).collect())
    }

    #[test]
    fn a_wildcard_is_one_whole_label() {
        let ceiling =
            ceiling(&["https://exact.example/path", "https://*.example.com", "spiffe://prod.example"]);
        let admits = |text: &str| ceiling.admits(&IssuerName::parse(text).unwrap());
        for (name, expected) in [
            ("https://exact.example/path", Some(Admitted::Exactly)),
            ("https://exact.example/path/", None),
            ("https://exact.example", None),
            ("https://a.example.com", Some(Admitted::ByWildcard)),
            ("https://a.example.com/any/path", Some(Admitted::ByWildcard)),
            ("https://a.b.example.com", None),
            ("https://example.com", None),
            ("https://aexample.com", None),
            ("https://a.example.com.evil.example", None),
            ("https://a.example.co", None),
            ("spiffe://prod.example", Some(Admitted::Exactly)),
            ("spiffe://a.example.com", None),
            ("https://localhost:8443", None),
            ("https://localhost", None),
        ] {
            assert_eq!(admits(name), expected, "{name}");
        }
        assert!(Ceiling::default().is_off() && !ceiling.is_off());
        for bad in [
            "",
            "*",
            "https://*",
            "https://*.com",
            "https://*.",
            "https://*.example.com/path",
            "https://*.*.example.com",
            "https://a*.example.com",
            "https://*.Example.com",
            "https://*.example.com:443",
            "https://localhost:*",
            "spiffe://*.example",
            "http://issuer.example",
        ] {
            assert!(CeilingEntry::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn this_machine_and_ports_are_for_dev_alone() {
        let name = IssuerName::parse("https://localhost:8443").unwrap();
        for text in
            ["https://localhost:8443", "https://localhost", "https://localhost/a", "spiffe://localhost"]
        {
            let (name, listed) = (IssuerName::parse(text).unwrap(), ceiling(&[text]));
            assert_eq!(listed.admits(&name), None, "{text}");
            assert_eq!(listed.with_this_machine().admits(&name), Some(Admitted::Exactly), "{text}");
        }
        let dev = Ceiling::default().with_this_machine();
        assert_eq!(dev.admits(&name), Some(Admitted::Locally));
        assert_eq!(dev.admits(&IssuerName::parse("spiffe://localhost").unwrap()), Some(Admitted::Locally));
        assert_eq!(dev.admits(&IssuerName::parse("https://a.example").unwrap()), None);
        assert!(dev.is_dev());
    }
}
