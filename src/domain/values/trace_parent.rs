//! `traceparent`: which trace a call belongs to (W3C Trace Context).

use std::fmt;

/// The trace of a call, and the span of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Not zero.
    pub trace_id: u128,
    /// Not zero.
    pub span_id: u64,
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the header. None for what is not valid, which the specification has ignored.
    ///
    /// Of a later version than 00 only what 00 has is read (section 3.2.4).
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |from: usize, to: usize| {
            let digits = text.get(from..to)?;
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            digits.bytes().all(lower).then_some(digits)
        };
        let version = hex(0, 2)?;
        let dashes = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let ends = match text.as_bytes().get(55) {
            None => true,
            Some(next) => version != "00" && *next == b'-',
        };
        if version == "ff" || !dashes || !ends {
            return None;
        }
        let trace_id = u128::from_str_radix(hex(3, 35)?, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(hex(36, 52)?, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(hex(53, 55)?, 16).ok()?;
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

/// As the header has it, in version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, sampled } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = TraceParent::parse(good).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.sampled), (good, true));
        let other =
            TraceParent::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02-more").unwrap();
        assert_eq!((other.trace_id, other.sampled), (parsed.trace_id, false));
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031\u{e9}-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
