//! A walk along a sorted map beside another sorted list: a look-up is the next step, and a search only when the keys do
//! not come in order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// How far the walk goes for one look-up: a key far ahead must not use it up.
const STEPS: usize = 8;

/// A place in a map.
pub struct Walk<'a, K, V> {
    map: &'a BTreeMap<K, V>,
    rest: Peekable<btree_map::Iter<'a, K, V>>,
}

impl<'a, K: Ord, V> Walk<'a, K, V> {
    /// A walk that starts at the first key.
    pub fn new(map: &'a BTreeMap<K, V>) -> Self {
        Self { map, rest: map.iter().peekable() }
    }

    /// What the map has under a key.
    pub fn find(&mut self, key: &K) -> Option<&'a V> {
        for _ in 0..STEPS {
            let Some((next, found)) = self.rest.peek() else { break };
            match (*next).cmp(key) {
                Ordering::Less => self.rest.next(),
                Ordering::Equal => return Some(found),
                Ordering::Greater => break,
            };
        }
        self.map.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_what_a_search_finds_in_any_order() {
        let map: BTreeMap<u32, u32> = (0..40).map(|key| (key * 2, key)).collect();
        for keys in [vec![0, 2, 2, 4, 78], vec![78, 0, 3, 80, 2], vec![40, 41, 39, 80, 78, 6]] {
            let mut walk = Walk::new(&map);
            for key in keys {
                assert_eq!(walk.find(&key), map.get(&key), "{key}");
            }
        }
    }
}
