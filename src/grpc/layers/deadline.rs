//! The deadline that a client sets for a call.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What `grpc-timeout` (gRPC over HTTP/2) gives a call: at most 8 digits and a unit. `None` if it is absent or
/// anything else.
pub(in crate::grpc) fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// What `connect-timeout-ms` (Connect protocol) gives a call: at most 10 digits. `None` if it is absent or
/// anything else.
pub(in crate::grpc) fn connect_deadline(headers: &HeaderMap) -> Option<Duration> {
    let digits = headers.get("connect-timeout-ms")?.to_str().ok()?;
    let is_number = (1..=10).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok().map(Duration::from_millis) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let parse = |text: &str| {
            deadline(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]))
        };
        assert_eq!(parse("10m"), Some(Duration::from_millis(10)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "m", "10", "-1S", "123456789S", "1.5S", "10x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
    #[test]
    fn deadlines_of_the_connect_protocol() {
        let parse = |text: &str| {
            let header = ("connect-timeout-ms".parse().unwrap(), text.parse().unwrap());
            connect_deadline(&HeaderMap::from_iter([header]))
        };
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse("9999999999"), Some(Duration::from_millis(9_999_999_999)));
        for bad in ["", "10000000000", "-1", "+1", "1.5", "1s", " 1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
