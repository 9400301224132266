//! Randomness: names of calls, and the jitter of waits.

use std::time::Duration;

fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    // It fails where the machine has no randomness at all, and then nothing else of TLS works either.
    aws_lc_rs::rand::fill(&mut bytes).expect("the machine has randomness");
    bytes
}

/// A random UUID (version 4).
pub(crate) fn uuid() -> String {
    let mut number = u128::from_be_bytes(bytes());
    number = (number & !(0xf << 76)) | (4 << 76);
    number = (number & !(0b11 << 62)) | (0b10 << 62);
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// At least 0, less than 1.
pub(crate) fn unit() -> f64 {
    let [a, b, c, d, ..] = bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

/// How long to wait before the next attempt, after so many failures: doubling with full jitter, and never sooner than
/// the server said.
pub(crate) fn backoff(
    failures: u32,
    first: Duration,
    most: Duration,
    at_least: Option<Duration>,
) -> Duration {
    let full = first.saturating_mul(1 << failures.min(16)).min(most);
    full.mul_f64(unit()).max(at_least.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one_of_version_4() {
        let uuid = uuid();
        assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'4'));
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_ne!(uuid, super::uuid());
    }

    #[test]
    fn waits_double_up_to_the_most_and_heed_the_server() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(30));
        for failures in [0, 1, 5, 40] {
            let full = first.saturating_mul(1 << failures.min(16)).min(most);
            for _ in 0..100 {
                assert!(backoff(failures, first, most, None) <= full);
            }
        }
        let said = Duration::from_secs(45);
        assert_eq!(backoff(0, first, most, Some(said)), said);
    }
}
