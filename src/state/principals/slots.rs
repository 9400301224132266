//! The entries of the cache by number, and which of them is evicted next.

use super::entry::{Key, Known};

/// The entries by number. The numbers of those that were removed are used again.
///
/// They stand in a circle, and a hand goes round it: what was not used since the hand last passed is
/// evicted (the CLOCK algorithm). It takes no order of its own, and nothing is moved in it.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Option<Known>>,
    free: Vec<u32>,
    /// The slot that the hand comes to next.
    hand: usize,
}

impl Slots {
    /// Puts an entry in a free slot. None if there is no number left for it.
    pub(super) fn add(&mut self, known: Known) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(known);
            return Some(slot);
        }
        let slot = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Some(known));
        Some(slot)
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        if self.slots[slot as usize].take().is_some() {
            // The one that was freed last is used first: where it was evicted, it is just behind the hand.
            self.free.push(slot);
        }
    }

    /// The entry in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Known> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// Whether the hand comes to this slot after it came to all others.
    pub(super) fn is_last(&self, slot: u32) -> bool {
        self.after(slot as usize) == self.hand
    }

    /// The entry that the hand comes to next. None if there is none.
    pub(super) fn advance(&mut self) -> Option<Key> {
        for _ in 0..self.slots.len() {
            let slot = self.hand;
            self.hand = self.after(slot);
            if let Some(known) = &self.slots[slot] {
                return Some(known.key());
            }
        }
        None
    }

    fn after(&self, slot: usize) -> usize {
        if slot + 1 < self.slots.len() { slot + 1 } else { 0 }
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many slots there are, with those that are free.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.slots.len()
    }
}
