//! Addresses: the changes that make the kernel's addresses what the plan says.
//!
//! Lifetimes are compared with what this process last applied, not only with what the kernel shows: the kernel tells
//! whole seconds, up to one second later than true, and that is as coarse as the steps in which a fence moves.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::config::Config;
use vip_model::kernel::{Actual, Address, Change, Dad, Lifetime, Premise, SetAddress};
use vip_model::plan::{AddressWant, Completeness, PlannedAddress, Presence};
use vip_model::{Family, ScopedAddr};

use crate::shown::Shown;

/// The lifetimes that this process last put on addresses, as planned (before the kernel's rounding).
pub type Applied = BTreeMap<ScopedAddr, Lifetime>;

/// How much earlier than applied an address may seem to expire before somebody else must have shortened it: one second
/// of rounding when it was set, and one to spare.
const ROUNDING: Duration = Duration::from_secs(2);

/// The changes that make the kernel's addresses what the plan says. Additions and refreshes come first: a VIP that
/// moves between prefixes or links is never absent.
pub fn addresses(want: &AddressWant, actual: &Actual, applied: &Applied, tag: u8) -> Vec<Change> {
    let shown = Shown::new(actual);
    let mut changes: Vec<Change> =
        want.set.iter().filter_map(|(at, planned)| set(*at, planned, (&shown, applied), tag)).collect();
    if want.completeness == Completeness::Complete {
        let unwanted = actual.addresses.iter().filter(|address| {
            is_ours(want, address, tag)
                && !is_planned(want, address)
                && !want.undecided.contains(&address.addr())
        });
        changes.extend(unwanted.map(|address| Change::DelAddress { link: address.link, net: address.net }));
    }
    changes
}

/// Whether the kernel has an address by our hand that may not stay: one that goes, or one that is only kept until more is
/// known. The control plane's are kept for reasons of their own.
pub fn has_leaving(want: &AddressWant, actual: &Actual, (tag, config): (u8, &Config)) -> bool {
    let vips: Vec<_> = config.control_plane.iter().flat_map(|it| &it.vips).map(|vip| vip.addr()).collect();
    let stays = |address: &Address| {
        let at = ScopedAddr { addr: address.addr(), link: address.link };
        match want.set.get(&at).filter(|planned| planned.net.0 == address.net).map(|planned| planned.presence)
        {
            Some(Presence::Install { .. }) => true,
            Some(Presence::Keep { .. }) => vips.contains(&at.addr),
            None => vips.contains(&at.addr) && want.undecided.contains(&at.addr),
        }
    };
    actual.addresses.iter().any(|address| address.tag == tag && !stays(address))
}

fn is_ours(want: &AddressWant, address: &Address, tag: u8) -> bool {
    let at = ScopedAddr { addr: address.addr(), link: address.link };
    let is_known_untagged = || want.ours_untagged.contains(&at.addr) || want.ours_untagged_at.contains(&at);
    address.tag == tag || (address.tag == 0 && is_known_untagged())
}

fn is_planned(want: &AddressWant, address: &Address) -> bool {
    let at = ScopedAddr { addr: address.addr(), link: address.link };
    want.set.get(&at).is_some_and(|planned| planned.net.0 == address.net)
}

/// The step for one planned address, if one is due.
fn set(
    at: ScopedAddr,
    planned: &PlannedAddress,
    (shown, applied): (&Shown<'_>, &Applied),
    tag: u8,
) -> Option<Change> {
    let found = shown
        .at(at.addr)
        .iter()
        .map(|(_, address)| *address)
        .find(|address| address.link == at.link && address.net == planned.net.0);
    let change = |valid, not_after, premise| {
        Change::SetAddress(SetAddress {
            link: at.link,
            net: planned.net,
            scope: planned.scope,
            tag,
            valid,
            not_after,
            premise,
        })
    };
    match (planned.presence, found) {
        (Presence::Install { valid, not_after }, None) => Some(change(valid, not_after, Premise::None)),
        (Presence::Install { valid, not_after }, Some(found)) => {
            // The kernel derives the scope of an IPv6 address from the address itself and ignores what it is told.
            let is_misplaced = Family::of(at.addr) == Family::V4 && found.scope != planned.scope;
            if found.dad == Dad::Failed || is_misplaced {
                // The gateway re-creates the address: neither can be changed on an installed one.
                Some(change(valid, not_after, Premise::None))
            } else if found.tag != tag || !lasts(found.valid, applied.get(&at), valid) {
                Some(change(valid, not_after, Premise::None))
            } else {
                None
            }
        }
        (Presence::Keep { at_most: Lifetime::Until(end) }, Some(found))
            if found.valid > Lifetime::Until(end + ROUNDING) =>
        {
            Some(change(Lifetime::Until(end), end, Premise::Present))
        }
        (Presence::Keep { .. }, _) => None,
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
