//! What rights consist of: alternatives, each of parts that limit each other.

use std::slice;
use std::sync::Arc;

use super::holdings::Holdings;
use super::sets::Sets;

/// Alternatives, each with its parts. Those of an account's grants are mostly one, of one part.
///
/// Copies share their parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Alternatives {
    /// One of one part.
    One(Holdings),
    /// Any others.
    Several(Arc<[Box<[Holdings]>]>),
}

impl Alternatives {
    /// The parts of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[Holdings]> {
        let (one, several) = match self {
            Self::One(holdings) => (Some(slice::from_ref(holdings)), &[][..]),
            Self::Several(several) => (None, &**several),
        };
        one.into_iter().chain(several.iter().map(|parts| &**parts))
    }

    /// The parts of all.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Holdings> {
        self.iter().flatten()
    }

    /// The sets of permissions of a single part, which others may share.
    pub(super) fn sets(&self) -> Option<&Arc<Sets>> {
        match self {
            Self::One(holdings) => Some(holdings.sets()),
            Self::Several(_) => None,
        }
    }

    /// The same, to be replaced by equal ones.
    pub(super) fn sets_mut(&mut self) -> Option<&mut Arc<Sets>> {
        match self {
            Self::One(holdings) => Some(holdings.sets_mut()),
            Self::Several(_) => None,
        }
    }

    /// The bytes that they take, without the [sets](Self::sets) of a single part.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::One(holdings) => holdings.weight(),
            Self::Several(several) => {
                let parts = self.parts().map(|part| part.weight() + part.sets().weight());
                size_of::<Self>() + size_of_val(&**several) + parts.sum::<usize>()
            }
        }
    }
}

impl Default for Alternatives {
    /// None, which holds nothing.
    fn default() -> Self {
        Self::Several(Arc::default())
    }
}

impl From<Holdings> for Alternatives {
    fn from(holdings: Holdings) -> Self {
        Self::One(holdings)
    }
}

impl FromIterator<Box<[Holdings]>> for Alternatives {
    fn from_iter<I: IntoIterator<Item = Box<[Holdings]>>>(alternatives: I) -> Self {
        let alternatives: Vec<_> = alternatives.into_iter().collect();
        match alternatives.as_slice() {
            [one] if one.len() == 1 => Self::One(one[0].clone()),
            _ => Self::Several(alternatives.into()),
        }
    }
}
