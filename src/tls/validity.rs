//! Between which times a certificate is valid, which no function of the TLS library tells.

use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT Version`, which certificates of version 1 lack.
const VERSION: u8 = 0xa0;

/// The times that a certificate names (RFC 5280, section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// Reads those of a certificate in DER. None where it is malformed.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = value(certificate, SEQUENCE)?;
        let (mut rest, _) = value(certificate, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            rest = element(rest)?.2;
        }
        // The serial number, the algorithm of the signature, the issuer.
        for _ in 0..3 {
            rest = element(rest)?.2;
        }
        let (validity, _) = value(rest, SEQUENCE)?;
        let (not_before, rest) = timestamp(validity)?;
        let (not_after, _) = timestamp(rest)?;
        Some(Self { not_before, not_after })
    }

    pub(super) fn contains(&self, now: OffsetDateTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// The tag and the content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

fn value(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(tag, ..)| *tag == expected).map(|(_, content, rest)| (content, rest))
}

fn timestamp(der: &[u8]) -> Option<(OffsetDateTime, &[u8])> {
    let (tag, content, rest) = element(der)?;
    let text = str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (number(year)?, text)
        }
        _ => return None,
    };
    if text.len() != 10 || !text.is_ascii() {
        return None;
    }
    let part = |nth: usize| number(&text[2 * nth..2 * nth + 2]).and_then(|part| u8::try_from(part).ok());
    let month = Month::try_from(part(0)?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, part(1)?).ok()?;
    let time = Time::from_hms(part(2)?, part(3)?, part(4)?).ok()?;
    Some((OffsetDateTime::new_in_offset(date, time, UtcOffset::UTC), rest))
}

fn number(digits: &str) -> Option<u16> {
    Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(not_before: (i32, u8, u8), not_after: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(["id.example.com".to_owned()]).unwrap();
        params.not_before = date_time_ymd(not_before.0, not_before.1, not_before.2);
        params.not_after = date_time_ymd(not_after.0, not_after.1, not_after.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        let found = Validity::of(&certificate((1999, 12, 31), (2049, 1, 2))).unwrap();
        assert_eq!(found.not_before, date_time_ymd(1999, 12, 31));
        assert_eq!(found.not_after, date_time_ymd(2049, 1, 2));
        assert!(found.contains(date_time_ymd(2020, 1, 1)) && found.contains(found.not_after));
        let found = Validity::of(&certificate((2051, 2, 3), (4096, 1, 1))).unwrap();
        assert_eq!(found.not_before, date_time_ymd(2051, 2, 3));
        assert_eq!(found.not_after, date_time_ymd(4096, 1, 1));
        assert!(!found.contains(date_time_ymd(2020, 1, 1)));
    }

    #[test]
    fn what_is_cut_short_or_changed_panics_nowhere() {
        let whole = certificate((2020, 1, 1), (2050, 1, 1));
        for length in 0..whole.len() {
            // Past the times the rest does not matter to the reader, but its length does.
            assert_eq!(Validity::of(&whole[..length]), None, "{length}");
        }
        for at in 0..200 {
            for byte in [0, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = Validity::of(&changed);
            }
        }
    }
}
