//! Durations as they are typed: `30d`, `10m`, `15s`, `1h30m`; a plain number is seconds.

use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const MINUTE: u64 = 60;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// The units, each with its seconds, in the order in which they may be combined.
const UNITS: [(char, u64); 5] = [('w', 7 * DAY), ('d', DAY), ('h', HOUR), ('m', MINUTE), ('s', 1)];

/// A parser of durations in this range of seconds.
pub(super) fn duration(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let between = format!("between {} and {}", format(*range.start()), format(*range.end()));
        let seconds =
            parse(text).ok_or_else(|| format!("must be a duration such as 15s, 10m or 1h30m, {between}"))?;
        if !range.contains(&seconds) {
            return Err(format!("must be {between}"));
        }
        Ok(Duration::from_secs(seconds))
    }
}

/// The seconds of a duration. None where the text is none, or is longer than any.
fn parse(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (mut seconds, mut rest, mut units) = (0_u64, text, UNITS.iter());
    while !rest.is_empty() {
        let (number, unit_and_rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit = unit_and_rest.chars().next()?;
        // Each unit once, the largest first.
        let (_, size) = units.find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*size)?)?;
        rest = &unit_and_rest[unit.len_utf8()..];
    }
    Some(seconds)
}

/// The shortest way to write a duration, in days and smaller units.
fn format(mut seconds: u64) -> String {
    let mut text = String::new();
    for (unit, size) in &UNITS[1..] {
        if seconds >= *size {
            text.push_str(&format!("{}{unit}", seconds / size));
            seconds %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("15s", 15),
            ("10m", 600),
            ("1h", 3_600),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
            ("1h30m", 5_400),
            ("1w2d3h4m5s", 788_645),
            ("1d1s", 86_401),
            ("90m", 5_400),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
        for bad in [
            "",
            "s",
            "-1",
            "+1",
            "1e6",
            "1.5h",
            "1h30",
            "30m1h",
            "1m1m",
            "1 h",
            "1H",
            "1y",
            "1ms",
            "5ä",
            "18446744073709551616",
            "18446744073709551615w",
            "30500568904943w18446744073709551615s",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (seconds, text) in
            [(0, "0s"), (1, "1s"), (60, "1m"), (5_400, "1h30m"), (2_592_000, "30d"), (315_360_000, "3650d")]
        {
            assert_eq!(format(seconds), text);
            assert_eq!(parse(text), Some(seconds));
        }
    }

    #[test]
    fn errors_name_the_range_in_the_same_units() {
        let parse = duration(1..=HOUR);
        assert_eq!(parse("1"), Ok(Duration::from_secs(1)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3_600)));
        for outside in ["0", "0s", "61m", "3601", "2w"] {
            assert_eq!(parse(outside), Err("must be between 1s and 1h".to_owned()), "{outside}");
        }
        for nonsense in ["", "soon", "1.5h"] {
            let error = parse(nonsense).unwrap_err();
            assert_eq!(error, "must be a duration such as 15s, 10m or 1h30m, between 1s and 1h");
        }
    }
}
