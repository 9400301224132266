//! Amounts of memory as they are typed: `128MiB`, `1GiB`; a plain number is bytes.

use std::ops::RangeInclusive;

pub(super) const MIB: usize = 1 << 20;
pub(super) const TIB: usize = 1 << 40;

/// The units, each with its bytes, the largest first.
const UNITS: [(&str, usize); 4] = [("TiB", TIB), ("GiB", 1 << 30), ("MiB", MIB), ("KiB", 1 << 10)];

/// A parser of sizes in this range of bytes.
pub(super) fn size(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let between = format!("between {} and {}", format(*range.start()), format(*range.end()));
        let bytes = parse(text).ok_or_else(|| format!("must be a size such as 128MiB or 1GiB, {between}"))?;
        if range.contains(&bytes) { Ok(bytes) } else { Err(format!("must be {between}")) }
    }
}

/// The bytes of a size. None where the text is none, or is larger than any.
fn parse(text: &str) -> Option<usize> {
    let unit = UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((text, 1));
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<usize>().ok()?.checked_mul(bytes)
}

/// The shortest way to write a size.
fn format(bytes: usize) -> String {
    let unit = UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", MIB),
            ("64KiB", 1 << 16),
            ("128MiB", 128 * MIB),
            ("2GiB", 1 << 31),
            ("1TiB", TIB),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for bad in
            ["", "MiB", "-1", "+1", "1e6", "1.5GiB", "1 GiB", "1MB", "1mib", "1M", "1GiB1MiB", "99999999TiB"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (bytes, text) in
            [(0, "0"), (1_000, "1000"), (1 << 16, "64KiB"), (1536 * MIB, "1536MiB"), (TIB, "1TiB")]
        {
            assert_eq!(format(bytes), text);
            assert_eq!(parse(text), Some(bytes));
        }
    }

    #[test]
    fn errors_name_the_range() {
        let parse = size(MIB..=TIB);
        assert_eq!(parse("1MiB"), Ok(MIB));
        // A number of entries, as the option was before, is no size.
        for outside in ["0", "100000", "1023KiB", "2TiB"] {
            assert_eq!(parse(outside), Err("must be between 1MiB and 1TiB".to_owned()), "{outside}");
        }
        assert_eq!(
            parse("much"),
            Err("must be a size such as 128MiB or 1GiB, between 1MiB and 1TiB".to_owned())
        );
    }
}
