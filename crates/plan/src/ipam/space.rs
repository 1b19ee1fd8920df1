//! The addresses of one family that a pool can give: a sorted set of spans, never enumerated. `pool` makes it from the
//! ConfigMap; the allocator asks it for the first address that is not in use.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vip_model::Family;

/// From which end addresses are given (`search-order`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// The lowest first.
    #[default]
    Ascending,
    /// The highest first (`desc`).
    Descending,
}

/// An address as a number of its family. An IPv4 address inside an IPv6 one is the IPv4 address.
pub(super) fn number(addr: IpAddr) -> (Family, u128) {
    match addr.to_canonical() {
        IpAddr::V4(v4) => (Family::V4, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => (Family::V6, u128::from(v6)),
    }
}

/// The address that a number of a family stands for.
pub(super) fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).expect("IPv4 numbers have 32 bits")).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

/// A set of addresses of one family.
#[derive(Clone, Debug)]
pub(super) struct Space {
    family: Family,
    /// First and last of each span: sorted, disjoint, apart.
    spans: Vec<(u128, u128)>,
}

impl Space {
    /// From spans (first and last) in any order, overlapping or not.
    pub(super) fn new(family: Family, mut spans: Vec<(u128, u128)>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(spans.len());
        for (first, last) in spans {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self { family, spans: merged }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether it can give this address.
    pub(super) fn contains(&self, number: u128) -> bool {
        let at = self.spans.partition_point(|(_, last)| *last < number);
        let is_inside = self.spans.get(at).is_some_and(|(first, _)| *first <= number);
        is_inside && !self.is_skipped(number)
    }

    /// How many addresses it can give.
    pub(super) fn size(&self) -> u64 {
        let count = |(first, last): &(u128, u128)| {
            let all = (last - first).saturating_add(1);
            all - (self.skipped_below(last.saturating_add(1)) - self.skipped_below(*first))
        };
        let size = self.spans.iter().map(count).fold(0, u128::saturating_add);
        u64::try_from(size).unwrap_or(u64::MAX)
    }

    /// The addresses that it could give but that are in `taken`, from the end where `order` begins.
    pub(super) fn taken_in<'a, T>(
        &'a self,
        order: Order,
        taken: &'a BTreeMap<u128, T>,
    ) -> impl Iterator<Item = (u128, &'a T)> {
        self.ordered(order)
            .flat_map(move |(first, last)| {
                let range = taken.range(first..=last).map(|(number, value)| (*number, value));
                order.of(range)
            })
            .filter(|(number, _)| !self.is_skipped(*number))
    }

    /// The first address that is not in `taken`, not before `from`. It costs one step per address in `taken`, not per
    /// address of the space.
    pub(super) fn first_free<T>(
        &self,
        order: Order,
        from: Option<u128>,
        taken: &BTreeMap<u128, T>,
    ) -> Option<u128> {
        self.ordered(order).find_map(|span| self.first_free_of(span, (order, from), taken))
    }

    fn first_free_of<T>(
        &self,
        (first, last): (u128, u128),
        (order, from): (Order, Option<u128>),
        taken: &BTreeMap<u128, T>,
    ) -> Option<u128> {
        let (first, last) = match (order, from) {
            (Order::Ascending, Some(from)) => (first.max(from), last),
            (Order::Descending, Some(from)) => (first, last.min(from)),
            (_, None) => (first, last),
        };
        if first > last {
            return None;
        }
        let (mut at, end) = match order {
            Order::Ascending => (first, last),
            Order::Descending => (last, first),
        };
        let mut blocked = order.of(taken.range(first..=last).map(|(number, _)| *number)).peekable();
        loop {
            while blocked.next_if(|number| order.compare(*number, at) == Ordering::Less).is_some() {}
            if blocked.peek() != Some(&at) && !self.is_skipped(at) {
                return Some(at);
            }
            if at == end {
                return None;
            }
            at = match order {
                Order::Ascending => at + 1,
                Order::Descending => at - 1,
            };
        }
    }

    fn ordered(&self, order: Order) -> impl Iterator<Item = (u128, u128)> + '_ {
        order.of(self.spans.iter().copied())
    }

    /// `.0` and `.255` are never given, whatever the mask: they are a network's name and broadcast address to many, and
    /// the cloud-provider skips them.
    fn is_skipped(&self, number: u128) -> bool {
        self.family == Family::V4 && matches!(number & 0xff, 0 | 0xff)
    }

    /// How many numbers below this one are skipped.
    fn skipped_below(&self, number: u128) -> u128 {
        match self.family {
            Family::V4 => number.div_ceil(256) + (number / 256),
            Family::V6 => 0,
        }
    }
}

impl Order {
    /// The items, from the end where this order begins.
    fn of<'a, T>(self, items: impl DoubleEndedIterator<Item = T> + 'a) -> Box<dyn Iterator<Item = T> + 'a>
    where
        T: 'a,
    {
        match self {
            Self::Ascending => Box::new(items),
            Self::Descending => Box::new(items.rev()),
        }
    }

    /// Which of two comes first.
    pub(super) fn compare(self, one: u128, other: u128) -> Ordering {
        match self {
            Self::Ascending => one.cmp(&other),
            Self::Descending => other.cmp(&one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(spans: &[(&str, &str)]) -> Space {
        let of = |text: &str| number(text.parse().unwrap()).1;
        Space::new(Family::V4, spans.iter().map(|(first, last)| (of(first), of(last))).collect())
    }

    fn taken(texts: &[&str]) -> BTreeMap<u128, u8> {
        texts.iter().map(|text| (number(text.parse().unwrap()).1, 1)).collect()
    }

    fn free(space: &Space, order: Order, used: &[&str]) -> Option<String> {
        space.first_free(order, None, &taken(used)).map(|number| address(space.family, number).to_string())
    }

    #[test]
    fn the_first_gap_is_found_from_either_end_and_ends_of_octets_are_skipped() {
        let space = v4(&[("10.0.0.254", "10.0.1.2"), ("10.0.0.9", "10.0.0.10")]);
        assert_eq!(space.size(), 2 + 1 + 2);
        for (used, lowest, highest) in [
            (&[][..], "10.0.0.9", "10.0.1.2"),
            (&["10.0.0.9", "10.0.1.2"], "10.0.0.10", "10.0.1.1"),
            (&["10.0.0.9", "10.0.0.10", "10.0.1.2", "10.0.1.1"], "10.0.0.254", "10.0.0.254"),
            (&["10.0.0.9", "10.0.0.10", "10.0.0.254"], "10.0.1.1", "10.0.1.2"),
        ] {
            assert_eq!(free(&space, Order::Ascending, used).as_deref(), Some(lowest));
            assert_eq!(free(&space, Order::Descending, used).as_deref(), Some(highest));
        }
        let all = ["10.0.0.9", "10.0.0.10", "10.0.0.254", "10.0.1.1", "10.0.1.2"];
        assert_eq!(free(&space, Order::Ascending, &all), None);
        assert_eq!(free(&space, Order::Descending, &all), None);
    }

    #[test]
    fn overlapping_spans_are_one_and_membership_knows_what_is_skipped() {
        let space = v4(&[("10.0.0.10", "10.0.0.13"), ("10.0.0.10", "10.0.0.11"), ("10.0.0.14", "10.0.1.0")]);
        assert_eq!(space.spans.len(), 1);
        let has = |text: &str| space.contains(number(text.parse().unwrap()).1);
        assert!(has("10.0.0.10") && has("10.0.0.254"));
        assert!(!has("10.0.0.9") && !has("10.0.0.255") && !has("10.0.1.0") && !has("10.0.1.1"));
    }

    #[test]
    fn the_size_is_what_counting_one_by_one_gives() {
        for (first, last) in [(0_u128, 0), (0, 255), (1, 254), (255, 256), (5, 1000), (256, 511), (254, 770)]
        {
            let space = Space::new(Family::V4, vec![(first, last)]);
            let counted = (first..=last).filter(|number| !space.is_skipped(*number)).count();
            assert_eq!(space.size(), u64::try_from(counted).unwrap(), "{first}..={last}");
        }
        assert_eq!(Space::new(Family::V6, vec![(0, u128::MAX)]).size(), u64::MAX);
    }
}
