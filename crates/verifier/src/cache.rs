//! A bounded memory of what was verified, by digest. It forgets everything when it is full. Only what verified is kept, and
//! a stranger can still fill it, with one genuine quote whose unsigned text has other white space each time: that makes
//! later verifications as slow as the first, and nothing else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use casemate_canon::Sha256;

/// Verified facts by the digest of all bytes that they were verified from.
#[derive(Debug, Clone)]
pub(crate) struct Cache<T> {
    entries: BTreeMap<[u8; 32], T>,
    entries_max: usize,
}

impl<T> Cache<T> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries: BTreeMap::new(), entries_max }
    }

    pub(crate) fn get(&self, key: &Sha256) -> Option<&T> {
        self.entries.get(&key.0)
    }

    /// Remembers `facts`, and gives them back.
    pub(crate) fn insert(&mut self, key: Sha256, facts: T) -> &T {
        if self.entries.len() >= self.entries_max && !self.entries.contains_key(&key.0) {
            self.entries.clear();
        }
        match self.entries.entry(key.0) {
            Entry::Occupied(mut place) => {
                place.insert(facts);
                place.into_mut()
            }
            Entry::Vacant(place) => place.insert(facts),
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_holds_more_than_its_bound_and_keeps_the_newest() {
        let mut cache = Cache::new(3);
        for number in 0..100_u8 {
            let key = Sha256::of(&[number]);
            assert_eq!(*cache.insert(key, number), number);
            assert_eq!(cache.get(&key), Some(&number));
            assert!(cache.len() <= 3);
        }
        assert_eq!(cache.get(&Sha256::of(&[0])), None);
        let key = Sha256::of(&[99]);
        cache.insert(key, 7);
        assert_eq!(cache.get(&key), Some(&7));
    }
}
