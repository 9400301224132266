//! Values that many entries of the cache have in common.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

/// The bytes of the map for one value, and what the allocator adds to the parts of the value.
pub(super) const PLACE: usize = 120;

/// Each value once, with the entries that have it, and the bytes that all values take.
pub(super) struct Shared<T> {
    values: HashMap<Arc<T>, Uses>,
    weigh: fn(&T) -> usize,
    weight: usize,
}

struct Uses {
    /// No more than there are entries in the cache.
    entries: u32,
    /// What the value weighed when it was entered; 4 GiB if it was more.
    weight: u32,
}

impl<T: Eq + Hash> Shared<T> {
    pub(super) fn new(weigh: fn(&T) -> usize) -> Self {
        Self { values: HashMap::new(), weigh, weight: 0 }
    }

    /// The bytes that the values take.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Replaces a value by an equal one that an entry has.
    pub(super) fn share(&self, value: &mut Arc<T>) {
        if let Some((known, _)) = self.values.get_key_value(value) {
            *value = known.clone();
        }
    }

    /// Counts an entry with this value.
    ///
    /// Returns the bytes that the value takes for this entry alone: none, unless an equal one was entered
    /// since it was [shared](Self::share).
    pub(super) fn enter(&mut self, value: &Arc<T>) -> usize {
        match self.values.entry(value.clone()) {
            Entry::Occupied(known) if !Arc::ptr_eq(known.key(), value) => (self.weigh)(value) + PLACE,
            Entry::Occupied(mut known) => {
                known.get_mut().entries += 1;
                0
            }
            Entry::Vacant(place) => {
                let weight = u32::try_from((self.weigh)(value) + PLACE).unwrap_or(u32::MAX);
                place.insert(Uses { entries: 1, weight });
                self.weight += weight as usize;
                0
            }
        }
    }

    /// Counts an entry with this value less.
    pub(super) fn leave(&mut self, value: &Arc<T>) {
        let Entry::Occupied(mut known) = self.values.entry(value.clone()) else { return };
        if !Arc::ptr_eq(known.key(), value) {
            return;
        }
        known.get_mut().entries -= 1;
        if known.get().entries == 0 {
            self.weight -= known.remove().weight as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_its_bytes_once_for_as_long_as_an_entry_has_it() {
        let mut shared = Shared::new(String::len);
        let of = |text: &str| Arc::new(text.to_owned());
        let (one, mut equal, other) = (of("one"), of("one"), of("other"));
        assert_eq!(shared.enter(&one), 0);
        assert_eq!(shared.enter(&equal), 3 + PLACE, "it was not shared");
        shared.leave(&equal);
        shared.share(&mut equal);
        assert!(Arc::ptr_eq(&one, &equal));
        assert_eq!((shared.enter(&equal), shared.enter(&other)), (0, 0));
        assert_eq!(shared.weight(), 3 + 5 + 2 * PLACE);
        shared.leave(&one);
        shared.leave(&other);
        assert_eq!(shared.weight(), 3 + PLACE);
        shared.leave(&equal);
        assert_eq!((shared.weight(), shared.values.len()), (0, 0));
    }
}
