//! Pages of a list: their size, and where the next one begins.

/// The number of rows in a page when no size is requested.
const DEFAULT: i32 = 50;
/// The largest number of rows in a page; a larger request is reduced to it.
const MAX: i32 = 200;
/// The number up to which the length of a list is counted.
pub const COUNTED: i64 = 10_000;

/// The number of rows in a page: 0 means 50, more than 200 means 200 (AIP-158).
///
/// # Errors
/// The sentence that follows the field's name, for a negative number.
pub fn size(asked: i32) -> Result<i64, &'static str> {
    match asked {
        ..0 => Err("must not be negative"),
        0 => Ok(DEFAULT.into()),
        _ => Ok(asked.min(MAX).into()),
    }
}

/// A page of rows, with the key from which the next page continues, if there is one.
#[derive(Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
    /// The total number of rows; none above 10 000.
    pub total: Option<i32>,
}

impl<T> Page<T> {
    /// A page of at most `size` rows, from a query that asked for one more row than that.
    ///
    /// `counted` is a count that stopped at one more than [`COUNTED`].
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
