//! The nodes of an org's resource catalogue, and which of them are below which.

use std::fmt;
use std::iter;
use std::sync::Arc;

use super::names::Invalid;

/// The path of a resource: 1 to 8 segments of `[a-z0-9][a-z0-9_-]{0,62}`.
///
/// Copies share its string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourcePath(Arc<str>);

impl ResourcePath {
    /// Validates a path.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let segments = text.split('/');
        if segments.clone().count() > 8 || !segments.into_iter().all(is_segment) {
            return Err(Invalid("must be 1 to 8 segments of [a-z0-9][a-z0-9_-]{0,62}, joined by `/`"));
        }
        Ok(Self(text.into()))
    }

    /// The checked string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nodes above it from the top, and itself last.
    pub fn lineage(&self) -> Vec<ResourcePath> {
        self.prefixes().map(|path| Self(path.into())).collect()
    }

    fn prefixes(&self) -> impl Iterator<Item = &str> {
        let cuts = self.0.match_indices('/').map(|(i, _)| i).chain([self.0.len()]);
        cuts.map(|end| &self.0[..end])
    }

    /// Whether `other` is this node or is below it.
    pub fn covers(&self, other: &ResourcePath) -> bool {
        let rest = other.0.strip_prefix(&*self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn is_segment(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first
        && segment.len() <= 63
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a right holds: the whole org (`*`), or a path and everything below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    Org,
    Path(ResourcePath),
}

impl Node {
    /// Parses `*` or a path. An empty string is an error, never the whole org.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "*" => Ok(Self::Org),
            "" => Err(Invalid("is required: a path, or `*` for the whole org")),
            path => ResourcePath::parse(path).map(Self::Path),
        }
    }

    /// The path; none for the whole org.
    pub fn path(&self) -> Option<&ResourcePath> {
        match self {
            Self::Org => None,
            Self::Path(path) => Some(path),
        }
    }

    /// The nodes above it from the top, and itself last: none for the whole org, else a path.
    ///
    /// There are at most nine, however many nodes the org has.
    pub fn lineage(&self) -> impl Iterator<Item = Option<&str>> {
        let paths = self.path().into_iter().flat_map(ResourcePath::prefixes);
        iter::once(None).chain(paths.map(Some))
    }

    /// Whether `other` is this node or is below it.
    pub fn covers(&self, other: &Node) -> bool {
        match (self, other) {
            (Self::Org, _) => true,
            (Self::Path(_), Self::Org) => false,
            (Self::Path(a), Self::Path(b)) => a.covers(b),
        }
    }
}

impl From<Option<ResourcePath>> for Node {
    fn from(path: Option<ResourcePath>) -> Self {
        path.map_or(Self::Org, Self::Path)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Org => f.write_str("*"),
            Self::Path(path) => path.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "customers/acme", "a_b-c/0", "a/b/c/d/e/f/g/h", &longest] {
            assert_eq!(ResourcePath::parse(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "é",
            "a b",
            "-a",
            "_a",
            ".",
            "a.b",
            "a/b/c/d/e/f/g/h/i",
            "*",
            &too_long,
        ] {
            assert!(ResourcePath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Node::parse("").is_err());
        assert_eq!(Node::parse("*"), Ok(Node::Org));
    }

    #[test]
    fn a_node_covers_itself_and_what_is_below() {
        let covers = |a: &str, b: &str| Node::parse(a).unwrap().covers(&Node::parse(b).unwrap());
        assert!(covers("*", "*") && covers("*", "a") && covers("a", "a") && covers("a", "a/b/c"));
        assert!(
            !covers("a", "*") && !covers("a/b", "a") && !covers("subscriptions/yuno", "subscriptions/yuno2")
        );
    }

    #[test]
    fn a_lineage_ends_with_the_node() {
        let texts: Vec<_> =
            ResourcePath::parse("a/bc/d").unwrap().lineage().iter().map(|p| p.to_string()).collect();
        assert_eq!(texts, ["a", "a/bc", "a/bc/d"]);
        let node = Node::parse("a/bc/d").unwrap();
        let lineage: Vec<_> = node.lineage().collect();
        assert_eq!(lineage, [None, Some("a"), Some("a/bc"), Some("a/bc/d")]);
        assert_eq!(Node::Org.lineage().collect::<Vec<_>>(), [None]);
    }
}
