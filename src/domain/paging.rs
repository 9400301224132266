//! Pages of a list: how large, and from where.

/// The rows of a page when nothing is asked for.
const DEFAULT: i32 = 50;
/// The most rows of a page; more is cut to it.
const MAX: i32 = 200;
/// The number up to which a list's length is counted.
pub const COUNTED: i64 = 10_000;

/// The rows of a page: 0 means 50, more than 200 means 200 (AIP-158).
pub fn size(asked: i32) -> Result<i64, &'static str> {
    match asked {
        ..0 => Err("must not be negative"),
        0 => Ok(DEFAULT.into()),
        _ => Ok(asked.min(MAX).into()),
    }
}

/// A page of rows, with the key to go on from when there are more.
#[derive(Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
    /// How many there are in all; none above 10 000.
    pub total: Option<i32>,
}

impl<T> Page<T> {
    /// A page of at most `size` rows, of a read of one more than that; `counted` is
    /// a count that stopped one past [`COUNTED`].
    pub fn of(mut rows: Vec<T>, size: i64, counted: i64, key: impl Fn(&T) -> String) -> Self {
        let more = rows.len() as i64 > size;
        rows.truncate(size as usize);
        let next = if more { rows.last().map(key) } else { None };
        let total = (counted <= COUNTED).then_some(counted as i32);
        Self { rows, next, total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size(0), Ok(50));
        assert_eq!(size(1), Ok(1));
        assert_eq!(size(200), Ok(200));
        assert_eq!(size(i32::MAX), Ok(200));
        assert!(size(-1).is_err());
    }

    #[test]
    fn the_last_page_has_no_next() {
        let key = |n: &i32| n.to_string();
        assert_eq!(Page::of(vec![1, 2, 3], 2, 3, key).next.as_deref(), Some("2"));
        assert_eq!(Page::of(vec![1, 2], 2, 2, key).next, None);
        assert_eq!(Page::of(vec![1], 2, COUNTED + 1, key).total, None);
        assert_eq!(Page::of(vec![1], 2, COUNTED, key).total, Some(10_000));
    }
}
