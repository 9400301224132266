//! What text that people choose may hold, and how it is stored and compared.
//!
//! A name is shown to others: in lists, on pages, in emails. It must look like what it is. So it follows
//! the restricted profile of UTS 39 (no invisible, deprecated or compatibility characters, scripts mixed
//! only where a language mixes them), with the punctuation of names besides; and it holds nothing that an
//! email program turns into a link.
//!
//! Text is stored in NFC. It is compared and searched by NFKC with full case folding, so that what looks
//! the same matches.

use std::fmt;

use caseless::default_case_fold_str;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::{GeneralSecurityProfile as _, RestrictionLevel, RestrictionLevelDetection as _};

/// What is wrong with a string, as a sentence that follows the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(pub &'static str);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a name may hold beside the characters of UTS 39's profile, which is made for identifiers.
const PUNCTUATION: &str =
    " \u{2018}\u{2019}\u{201c}\u{201d}\u{201e}\u{ab}\u{bb}\u{2013}\u{2014}\u{20ac}\u{a3}\u{b0}";
/// The most combining marks on one letter: more draw over the lines around it.
const MAX_MARKS: usize = 3;
/// What begins a word that an email program turns into a link.
const LINKS: [&str; 7] = ["www.", "mailto:", "tel:", "sms:", "callto:", "xmpp:", "sip:"];

/// The form in which text is stored: NFC.
pub fn stored(text: &str) -> String {
    text.nfc().collect()
}

/// The form in which text is compared and searched: NFKC with full case folding.
pub fn folded(text: &str) -> String {
    // As the Unicode standard defines a caseless match of compatible forms (D146).
    let decomposed: String = text.nfd().collect();
    let compatible: String = default_case_fold_str(&decomposed).nfkd().collect();
    default_case_fold_str(&compatible).nfkc().collect()
}

/// Each of these values as it is written: in columns, messages and events.
pub fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// Whether it is a control character, or one that is invisible or changes the direction of the text
/// around it: such a character makes one text look like another.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether nothing of the text is visible.
pub fn is_blank(text: &str) -> bool {
    // The blank of Braille is the only visible character that is none.
    text.chars().all(|c| c.is_whitespace() || is_deceptive(c) || is_combining_mark(c) || c == '\u{2800}')
}

/// Checks a name that people read, and returns it as it is stored.
pub fn name(text: &str) -> Result<String, Invalid> {
    let text = stored(text);
    if is_blank(&text) || !text.chars().any(char::is_alphanumeric) {
        return Err(Invalid("must not be blank: at least one letter or digit is needed"));
    }
    let is_allowed = |c: char| c.identifier_allowed() || (' '..='~').contains(&c) || PUNCTUATION.contains(c);
    if !text.chars().all(is_allowed) {
        return Err(Invalid(
            "must hold only letters, digits, spaces and plain punctuation: no control, invisible or compatibility characters and no symbols",
        ));
    }
    if has_stacked_marks(&text) {
        return Err(Invalid("must not begin with a combining mark, nor hold more than 3 of them in a row"));
    }
    let letters: String = text.chars().filter(|c| c.identifier_allowed()).collect();
    if !letters.as_str().check_restriction_level(RestrictionLevel::ModeratelyRestrictive) {
        return Err(Invalid("must not mix scripts, such as Latin and Cyrillic letters"));
    }
    if is_linked(&text) || is_decoded(&text) {
        return Err(Invalid(
            "must hold nothing that an email program turns into a link: no `://`, no domain, address or path; put a space after a dot",
        ));
    }
    Ok(text)
}

fn has_stacked_marks(text: &str) -> bool {
    let mut marks = MAX_MARKS;
    text.chars().any(|c| {
        // At the beginning there is no letter that a mark could be on.
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        marks > MAX_MARKS
    })
}

/// Whether an email program would turn a part of it into a link.
fn is_linked(text: &str) -> bool {
    let text = folded(text);
    if text.contains("://") || text.contains("\\\\") {
        return true;
    }
    let is_inner = |c: char| c.is_alphanumeric() || is_combining_mark(c) || matches!(c, '-' | '_');
    let mut words = text.split(|c: char| !is_inner(c) && !".:@+".contains(c));
    words.any(|word| {
        LINKS.iter().any(|link| word.starts_with(link))
            || has_address(word)
            || has_domain(word)
            || is_ip(word)
    })
}

/// Whether it has an `@` between letters, as an address has.
fn has_address(word: &str) -> bool {
    word.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

/// Whether two of its letters follow a dot that follows a letter or digit, as the end of a domain does.
fn has_domain(word: &str) -> bool {
    let characters: Vec<char> = word.chars().filter(|c| !is_combining_mark(*c)).collect();
    characters.windows(4).any(|part| {
        part[1] == '.' && part[0].is_alphanumeric() && part[2].is_alphabetic() && part[3].is_alphabetic()
    })
}

/// Whether it is four numbers, as an IPv4 address is.
fn is_ip(word: &str) -> bool {
    let numbers = word.split(['.', ':']).take_while(|part| part.parse::<u8>().is_ok());
    word.matches('.').count() >= 3 && numbers.count() >= 4
}

/// Whether a mail reader would decode a part of it: an encoded word (RFC 2047) or a character reference of
/// HTML. What is refused in plain would pass in such a form.
fn is_decoded(text: &str) -> bool {
    let reference = |(at, _): (usize, &str)| {
        let name = text[at + 1..].split_once(';').map(|(name, _)| name.trim_start_matches('#'));
        name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    text.contains("=?") || text.match_indices('&').any(reference)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_people_and_things_pass() {
        for good in [
            "x",
            "Ann",
            "Zoë Ñúñez",
            "O'Brien-O’Neil",
            "J.R.R. Tolkien Jr.",
            "Müller & Söhne GmbH",
            "Acme, Inc. (EMEA)",
            "R&D #3 / nightly [v1.2.3] 100%",
            "Иван Петров",
            "Γιώργος",
            "名前",
            "株式会社 東京タワー",
            "Sony ソニー",
            "김철수",
            "Bezeq בזק",
            "محمد",
            "नरेंद्र",
            "ไทย",
            "Nguyễn Thị Ánh",
            "build 20261129120000",
            "e.V.",
            "“Team” «A» – B",
        ] {
            assert_eq!(name(good).as_deref(), Ok(good), "{good:?}");
        }
        // Stored in NFC.
        assert_eq!(name("Zoe\u{308}").as_deref(), Ok("Zoë"));
    }

    #[test]
    fn what_looks_like_something_else_is_refused() {
        for bad in [
            "",
            " ",
            "...",
            // Invisible, or blank to the eye.
            "\u{2800}",
            "\u{3164}",
            "\u{115f}",
            "\u{a0}",
            "\u{200b}\u{200b}",
            "\u{301}",
            "Ad\u{200d}min",
            "Ad\u{200c}min",
            "Ad\u{ad}min",
            "Ad\u{2060}min",
            "Ad\u{feff}min",
            "Ad\u{e0061}min",
            "Ad\u{fe0f}min",
            "Ad\u{34f}min",
            "A\u{202e}nimda",
            "A\u{200f}b",
            "two\nlines",
            "two\u{2028}lines",
            "tab\tbed",
            // Other forms of letters.
            "Ａdmin",
            "𝐀dmin",
            "ﬁn",
            "🚀",
            // Mixed scripts.
            "Аdmin",
            "Adm\u{456}n",
            "Admin Иван",
            "Pαypal",
            // Marks over the lines around it.
            "a\u{300}\u{301}\u{302}\u{303}\u{304}x",
            "\u{20e3}a",
            // Links.
            "http://x",
            "evil.example/login",
            "evil.example",
            "You won: Evil.Example now",
            "(evil.example)",
            "evil.рф",
            "evil.xn--p1ai",
            "www.x",
            "mailto:ann",
            "ann@localhost",
            "ann@evil.example",
            "192.168.0.1/login",
            "192.168.0.1:80",
            "\\\\evil\\share",
            // Decoded by a mail reader.
            "=?utf-8?q?evil=2Eexample?=",
            "=?utf-8?B?ZXZpbC5leGFtcGxl?=",
            "evil&#46;example",
            "evil&period;example",
            "evil&#x2e;example",
            // Other dots.
            "evil\u{ff0e}example",
            "evil\u{3002}example",
            "evil\u{ff61}example",
            "evil\u{2024}example",
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_is_blank_when_nothing_of_it_is_visible() {
        for blank in ["", " \t\n", "\u{2800}\u{3164}", "\u{a0}\u{200b}", "\u{301}"] {
            assert!(is_blank(blank), "{blank:?}");
        }
        assert!(!is_blank(".") && !is_blank("é"));
    }

    #[test]
    fn what_differs_in_case_or_form_alone_is_equal() {
        for (one, other) in [
            ("Straße", "STRASSE"),
            ("ﬁn", "FIN"),
            ("Ａnn", "ann"),
            ("e\u{301}", "É"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("①", "1"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        assert_ne!(folded("é"), folded("e"));
    }

    proptest! {
        /// A name that is accepted is accepted again, and changes no more.
        #[test]
        fn stored_names_are_names(text in "\\PC{1,20}") {
            if let Ok(first) = name(&text) {
                prop_assert_eq!(name(&first), Ok(first.clone()));
                prop_assert!(!first.chars().any(is_deceptive));
            }
        }

        #[test]
        fn folding_is_done_once(text in "\\PC{0,20}") {
            prop_assert_eq!(folded(&folded(&text)), folded(&text));
        }
    }
}
