//! Passwords, as people and administrators choose them.

use std::cmp::Ordering;
use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::domain::values::names::Invalid;

/// The length of a password, in characters after normalisation.
///
/// NIST SP 800-63B, section 3.1.1.2, requires a minimum of at least 8, and to allow at least 64.
const CHARACTERS: std::ops::RangeInclusive<usize> = 12..=128;
/// The longest input, in bytes: 128 characters fit, each written with many combining marks.
const MAX_BYTES: usize = 4 << 10;
/// The most common passwords of 12 characters or more, in lower case and sorted.
///
/// They are those of the first 500 000 lines of SecLists'
/// `10-million-password-list-top-1000000.txt`, which is Mark Burnett's list of 2015. SecLists is
/// under the MIT licence, the list itself in the public domain.
const COMMON: &str = include_str!("common_passwords.txt");

/// A password that may be set.
///
/// It has 12 to 128 characters after NFKC (RFC 8265 says why strings that look the same must be the
/// same), no control characters, and is not one of the most common passwords.
#[derive(Clone)]
pub struct Password(TypedPassword);

/// A password as typed to sign in: normalised, and not validated in any other way.
#[derive(Clone)]
pub struct TypedPassword(Zeroizing<String>);

impl Password {
    /// Validates a new password.
    ///
    /// # Errors
    /// The sentence that follows the field's name; it does not contain the password.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const LENGTH: Invalid = Invalid("must be 12 to 128 characters");
        if text.len() > MAX_BYTES {
            return Err(LENGTH);
        }
        let typed = TypedPassword::new(text);
        if !CHARACTERS.contains(&typed.0.chars().count()) {
            return Err(LENGTH);
        }
        if typed.0.chars().any(char::is_control) {
            return Err(Invalid("must hold no control characters"));
        }
        if is_common(&typed.0) {
            return Err(Invalid("is one of the most common passwords"));
        }
        Ok(Self(typed))
    }

    /// As [`parse`](Self::parse), for a password that must not be empty.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub fn required(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() { Err(Invalid("is required")) } else { Self::parse(text) }
    }

    /// The same password, as it is typed to sign in.
    pub fn typed(&self) -> &TypedPassword {
        &self.0
    }
}

impl TypedPassword {
    /// Normalises a string. One that is too long for a password becomes empty, which matches none.
    pub fn new(text: &str) -> Self {
        if text.len() > MAX_BYTES {
            return Self(Zeroizing::default());
        }
        // NFKC turns one character into at most 18. With enough capacity nothing is reallocated,
        // which would leave a copy in memory.
        let mut normalised = Zeroizing::new(String::with_capacity(text.len() * 11));
        normalised.extend(text.nfkc());
        Self(normalised)
    }

    /// The whole password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn is_common(text: &str) -> bool {
    let mut folded = Zeroizing::new(String::with_capacity(text.len() * 3));
    folded.extend(text.chars().flat_map(char::to_lowercase));
    let (mut begin, mut end) = (0, COMMON.len());
    // Reading line by line took hundreds of microseconds of the thread that answers calls.
    while begin < end {
        let middle = begin + (end - begin) / 2;
        let line = COMMON[begin..middle].rfind('\n').map_or(begin, |before| begin + before + 1);
        let after = COMMON[line..end].find('\n').map_or(end, |length| line + length);
        match COMMON[line..after].cmp(&folded) {
            Ordering::Less => begin = after + 1,
            Ordering::Equal => return true,
            Ordering::Greater => end = line,
        }
    }
    false
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

impl fmt::Debug for TypedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedPassword([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn password_rules() {
        let long = "ab".repeat(64);
        for good in [
            "correct horse battery",
            "            x",
            "Zwölf Zeichen",
            "пароль-пароль-7",
            "🔑🔑🔑🔑🔑🔑🔑🔑🔑🔑🔑🔑",
            &long,
            // Twelve once they are composed.
            "a\u{301}e\u{301}i\u{301}o\u{301}u\u{301}y\u{301}n\u{303}c\u{327}a\u{300}e\u{300}i\u{300}o\u{300}",
        ] {
            assert!(Password::parse(good).is_ok(), "{good:?}");
        }
        for (bad, why) in [
            ("", "must be 12 to 128 characters"),
            ("elevenchars", "must be 12 to 128 characters"),
            // Eleven once they are composed.
            ("e\u{301}levenchars", "must be 12 to 128 characters"),
            (&format!("{long}c"), "must be 12 to 128 characters"),
            // Few characters that NFKC turns into many.
            (&"\u{fdfa}".repeat(8), "must be 12 to 128 characters"),
            (&"x".repeat(1 << 20), "must be 12 to 128 characters"),
            ("a line\nand another", "must hold no control characters"),
            ("with a NUL \0 in it", "must hold no control characters"),
            ("c1 control \u{85} here", "must hold no control characters"),
            ("password1234", "is one of the most common passwords"),
            ("PassWordPassWord", "is one of the most common passwords"),
            ("123456789012", "is one of the most common passwords"),
            // Full-width letters and digits are the same.
            ("ｐａｓｓｗｏｒｄ１２３４", "is one of the most common passwords"),
        ] {
            assert_eq!(Password::parse(bad).unwrap_err(), Invalid(why), "{bad:?}");
        }
    }

    #[test]
    fn texts_that_look_the_same_are_the_same() {
        for (one, other) in [("caf\u{e9}", "cafe\u{301}"), ("ﬁne", "fine"), ("\u{2460}", "1")] {
            assert_eq!(TypedPassword::new(one).expose(), TypedPassword::new(other).expose());
        }
        assert_eq!(TypedPassword::new(&"x".repeat(1 << 20)).expose(), "");
    }

    #[test]
    fn the_list_can_match() {
        for line in COMMON.lines() {
            assert!((12..=128).contains(&line.chars().count()), "{line:?}");
            assert!(is_common(line) && TypedPassword::new(line).expose() == line, "{line:?}");
            for other in [format!("{line} "), format!("{line}\n{line}"), line[1..].to_owned()] {
                assert_eq!(is_common(&other), COMMON.lines().any(|line| line == other), "{other:?}");
            }
        }
        // It is cut at any byte to be searched.
        assert!(COMMON.is_ascii() && COMMON.lines().is_sorted() && COMMON.lines().count() > 5_000);
        assert!(!is_common("") && !is_common("~"));
    }

    #[test]
    fn debug_does_not_show_it() {
        let password = Password::parse("correct horse battery").unwrap();
        assert!(!format!("{password:?} {:?}", password.typed()).contains("horse"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_valid_passwords_stay_valid(text in ".{0,200}") {
            if let Ok(password) = Password::parse(&text) {
                let typed = password.typed().expose();
                prop_assert!(Password::parse(typed).is_ok());
                let again = TypedPassword::new(typed);
                prop_assert_eq!(again.expose(), typed);
                prop_assert!(typed.len() <= text.len() * 11);
            }
        }
    }
}
