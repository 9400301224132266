//! The restrictions of a credential as they are cached.

use std::ops::Deref;
use std::sync::OnceLock;

use super::held::Held;
use crate::domain::tokens::restrictions::Restrictions;

/// The restrictions of a credential, and what it holds within them. Most credentials have none, and take no memory
/// for them.
#[derive(Default)]
pub struct Lists(Option<Box<Listed>>);

#[derive(Default)]
struct Listed {
    restrictions: Restrictions,
    /// What the credential holds, where they narrow what its account holds. Worked out when it is first needed.
    narrowed: OnceLock<Held>,
}

impl Lists {
    /// What a credential with these lists holds, whose account holds this, always the same.
    pub(super) fn narrowed<'a>(&'a self, held: &'a Held) -> &'a Held {
        match &self.0 {
            Some(listed) if listed.restrictions.narrow_rights() => {
                listed.narrowed.get_or_init(|| held.narrowed(&listed.restrictions))
            }
            _ => held,
        }
    }

    /// The bytes that they take, beside themselves.
    pub(super) fn weight(&self) -> usize {
        let Some(listed) = &self.0 else { return 0 };
        let narrowed = listed.narrowed.get().map_or(0, |held| held.weight() + held.sets_weight());
        size_of::<Listed>() + listed.restrictions.weight() + narrowed
    }
}

impl From<Restrictions> for Lists {
    fn from(restrictions: Restrictions) -> Self {
        let listed =
            (restrictions != Restrictions::NONE).then(|| Listed { restrictions, ..Listed::default() });
        Self(listed.map(Box::new))
    }
}

/// The lists alone: a copy may be another account's.
impl Clone for Lists {
    fn clone(&self) -> Self {
        Restrictions::clone(self).into()
    }
}

impl Deref for Lists {
    type Target = Restrictions;

    fn deref(&self) -> &Restrictions {
        static NONE: Restrictions = Restrictions::NONE;
        self.0.as_ref().map_or(&NONE, |listed| &listed.restrictions)
    }
}

#[cfg(test)]
impl std::ops::DerefMut for Lists {
    fn deref_mut(&mut self) -> &mut Restrictions {
        let listed = self.0.get_or_insert_default();
        listed.narrowed.take();
        &mut listed.restrictions
    }
}
