//! Addresses: the changes that make the kernel's addresses what the plan says.
//!
//! Lifetimes are compared with what this process last applied, not only with what the kernel shows: the kernel tells
//! whole seconds, up to one second later than true, and that is as coarse as the steps in which a fence moves.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::kernel::{Actual, Address, Change, Dad, Lifetime, SetAddress};
use vip_model::plan::{AddressWant, Completeness, PlannedAddress, Presence};
use vip_model::{Family, ScopedAddr};

/// The lifetimes that this process last put on addresses, as planned (before the kernel's rounding).
pub type Applied = BTreeMap<ScopedAddr, Lifetime>;

/// How much earlier than applied an address may seem to expire before somebody else must have shortened it: one second
/// of rounding when it was set, and one to spare.
const ROUNDING: Duration = Duration::from_secs(2);

/// The changes that make the kernel's addresses what the plan says. Additions and refreshes come first: a VIP that
/// moves between prefixes or links is never absent.
pub fn addresses(want: &AddressWant, actual: &Actual, applied: &Applied, tag: u8) -> Vec<Change> {
    let mut changes: Vec<Change> =
        want.set.iter().flat_map(|(at, planned)| set(*at, planned, (actual, applied), tag)).collect();
    if want.completeness == Completeness::Complete {
        let is_ours = |address: &&Address| {
            address.tag == tag || (address.tag == 0 && want.ours_untagged.contains(&address.addr()))
        };
        let unwanted = actual.addresses.iter().filter(is_ours).filter(|address| !is_planned(want, address));
        changes.extend(unwanted.map(|address| Change::DelAddress { link: address.link, net: address.net }));
    }
    changes
}

fn is_planned(want: &AddressWant, address: &Address) -> bool {
    let at = ScopedAddr { addr: address.addr(), link: address.link };
    want.set.get(&at).is_some_and(|planned| planned.net.0 == address.net)
}

/// The steps for one planned address.
fn set(
    at: ScopedAddr,
    planned: &PlannedAddress,
    (actual, applied): (&Actual, &Applied),
    tag: u8,
) -> Vec<Change> {
    let found =
        actual.addresses.iter().find(|address| address.link == at.link && address.net == planned.net.0);
    let change = |valid, not_after| {
        Change::SetAddress(SetAddress {
            link: at.link,
            net: planned.net,
            scope: planned.scope,
            tag,
            valid,
            not_after,
        })
    };
    match (planned.presence, found) {
        (Presence::Install { valid, not_after }, None) => vec![change(valid, not_after)],
        (Presence::Install { valid, not_after }, Some(found)) => {
            // The kernel derives the scope of an IPv6 address from the address itself and ignores what it is told.
            let is_misplaced = Family::of(at.addr) == Family::V4 && found.scope != planned.scope;
            if found.dad == Dad::Failed || is_misplaced {
                // The gateway re-creates the address: neither can be changed on an installed one.
                vec![change(valid, not_after)]
            } else if found.tag != tag || !lasts(found.valid, applied.get(&at), valid) {
                vec![change(valid, not_after)]
            } else {
                Vec::new()
            }
        }
        (Presence::Keep { at_most: Lifetime::Until(end) }, Some(found))
            if found.valid > Lifetime::Until(end + ROUNDING) =>
        {
            vec![change(Lifetime::Until(end), end)]
        }
        (Presence::Keep { .. }, _) => Vec::new(),
    }
}

/// Whether an installed address already has the planned lifetime.
fn lasts(found: Lifetime, applied: Option<&Lifetime>, planned: Lifetime) -> bool {
    match (found, planned) {
        (Lifetime::Forever, Lifetime::Forever) => true,
        (Lifetime::Until(found), Lifetime::Until(planned)) => {
            applied == Some(&Lifetime::Until(planned))
                && found + ROUNDING >= planned
                && found <= planned + ROUNDING
        }
        (Lifetime::Forever, Lifetime::Until(_)) | (Lifetime::Until(_), Lifetime::Forever) => false,
    }
}
