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

/// A page of rows, each with the key from which the next page continues after it.
///
/// How many of them an answer holds is decided where they become messages: rows may be large.
#[derive(Debug)]
pub struct Page<T> {
    rows: Vec<T>,
    keys: Vec<String>,
    /// Whether there are rows after these.
    more: bool,
    /// The total number of rows; none above 10 000.
    total: Option<i32>,
}

/// What an answer holds of a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed<M> {
    pub items: Vec<M>,
    /// The key of the last item; none on the last page.
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
        let keys = rows.iter().map(key).collect();
        let total = (counted <= COUNTED).then_some(counted as i32);
        Self { rows, keys, more, total }
    }

    /// The rows, as many as were asked for.
    pub fn rows(&self) -> &[T] {
        &self.rows
    }

    /// The total number of rows; none above 10 000.
    pub fn total(&self) -> Option<i32> {
        self.total
    }

    /// The items of the rows, as many as fit: a page whose rows are large is a shorter one, with at least
    /// one row.
    ///
    /// # Errors
    /// Those of `item`.
    pub fn fit<M, E>(
        self,
        most_bytes: usize,
        size: impl Fn(&M) -> usize,
        mut item: impl FnMut(T) -> Result<M, E>,
    ) -> Result<Listed<M>, E> {
        let (mut items, mut bytes, mut last, mut more) = (Vec::new(), 0, None, self.more);
        for (row, key) in self.rows.into_iter().zip(self.keys) {
            let item = item(row)?;
            bytes += size(&item);
            if bytes > most_bytes && !items.is_empty() {
                more = true;
                break;
            }
            items.push(item);
            last = Some(key);
        }
        Ok(Listed { items, next: last.filter(|_| more), total: self.total })
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
        let all = |page: Page<i32>| page.fit(usize::MAX, |_| 1, Ok::<_, ()>).unwrap();
        assert_eq!(all(Page::of(vec![1, 2, 3], 2, 3, key)).next.as_deref(), Some("2"));
        assert_eq!(all(Page::of(vec![1, 2], 2, 2, key)).next, None);
        assert_eq!(all(Page::of(vec![1], 2, COUNTED + 1, key)).total, None);
        assert_eq!(all(Page::of(vec![1], 2, COUNTED, key)).total, Some(10_000));
        assert_eq!(
            all(Page::of(Vec::new(), 2, 0, key)),
            Listed { items: vec![], next: None, total: Some(0) }
        );
    }

    #[test]
    fn a_page_of_large_rows_is_shorter() {
        let page = || Page::of(vec![4, 5, 6], 3, 3, i32::to_string);
        let fit = |most| page().fit(most, |n| *n as usize, Ok::<_, ()>).unwrap();
        assert_eq!(fit(15), Listed { items: vec![4, 5, 6], next: None, total: Some(3) });
        assert_eq!(fit(14), Listed { items: vec![4, 5], next: Some("5".into()), total: Some(3) });
        assert_eq!(fit(8), Listed { items: vec![4], next: Some("4".into()), total: Some(3) });
        assert_eq!(fit(1), Listed { items: vec![4], next: Some("4".into()), total: Some(3) });
    }
}
