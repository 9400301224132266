//! What every update has: a mask that says which fields change, and an etag that says which
//! revision the caller saw (AIP-134, AIP-154).

use std::collections::BTreeSet;

use prost_types::FieldMask;

use crate::error::{Reason, Result, Violations};

/// The fields that an update changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Mask(BTreeSet<&'static str>);

impl Mask {
    /// Reads an `update_mask`. `known` are the paths that may be updated, one message deep; a
    /// message's own name stands for all of its fields. Without a mask, or with an empty one, the
    /// fields that `is_set` reports as set in the request change. An unknown path, `*`, a path that
    /// is named twice, or nothing to change at all becomes a violation of `update_mask`.
    pub fn read(
        violations: &mut Violations,
        mask: Option<&FieldMask>,
        known: &[&'static str],
        is_set: impl Fn(&str) -> bool,
    ) -> Self {
        let asked = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let mut paths = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for path in asked {
            if !seen.insert(path) {
                violations.add("update_mask", format!("{path:.100} is named twice"));
                continue;
            }
            let named = known.iter().copied().filter(|known| {
                *known == path || known.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'))
            });
            let named: Vec<_> = named.collect();
            if path == "*" {
                violations.add("update_mask", "`*` is not accepted: name the fields");
            } else if named.is_empty() {
                violations.add("update_mask", format!("{path:.100} is not a field that can be updated"));
            }
            paths.extend(named);
        }
        if asked.is_empty() {
            paths.extend(known.iter().copied().filter(|path| is_set(path)));
            if paths.is_empty() {
                violations.add("update_mask", "is required where no field is set: nothing would change");
            }
        }
        Self(paths)
    }

    /// Whether the field changes.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// The fields that change, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }
}

/// Refuses an update of a different revision than the caller saw; an empty etag checks nothing.
///
/// # Errors
/// `ETAG_MISMATCH`.
pub fn check_etag(etag: &str, revision: i64) -> Result<()> {
    if etag.is_empty() || etag == revision.to_string() { Ok(()) } else { Err(Reason::EtagMismatch.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["description", "profile.given_name", "profile.locale", "title"];

    fn read(paths: Option<&[&str]>, set: &[&str]) -> Result<Vec<&'static str>, usize> {
        let mut violations = Violations::default();
        let mask =
            paths.map(|paths| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        let mask = Mask::read(&mut violations, mask.as_ref(), &KNOWN, |path| set.contains(&path));
        match violations.finish() {
            Ok(()) => Ok(mask.paths().collect()),
            Err(error) => Err(error.into_parts().violations.len()),
        }
    }

    #[test]
    fn a_mask_names_what_changes() {
        assert_eq!(read(Some(&["title"]), &["description"]), Ok(vec!["title"]));
        assert_eq!(read(Some(&["profile"]), &[]), Ok(vec!["profile.given_name", "profile.locale"]));
        assert_eq!(
            read(Some(&["profile.locale", "profile"]), &[]),
            Ok(vec!["profile.given_name", "profile.locale"])
        );
    }

    #[test]
    fn without_a_mask_what_is_set_changes() {
        assert_eq!(read(None, &["title", "profile.locale"]), Ok(vec!["profile.locale", "title"]));
        assert_eq!(read(Some(&[]), &["title"]), Ok(vec!["title"]));
        assert_eq!(read(None, &[]), Err(1));
    }

    #[test]
    fn what_is_unknown_is_refused_all_at_once() {
        assert_eq!(
            read(Some(&["*", "nosuch", "profile.locale.x", "prof", "", "title."]), &["title"]),
            Err(6)
        );
        assert_eq!(read(Some(&["title", "x", "title", "x"]), &[]), Err(3));
    }

    #[test]
    fn an_etag_is_a_revision() {
        assert!(check_etag("", 3).is_ok() && check_etag("3", 3).is_ok());
        for wrong in ["2", "03", "3 ", "x"] {
            assert_eq!(check_etag(wrong, 3).unwrap_err().reason(), Reason::EtagMismatch);
        }
    }
}
