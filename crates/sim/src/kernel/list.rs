//! The addresses of a kernel in the order in which it lists them: IPv4 before IPv6, link by link. The fake kernel puts
//! addresses in and takes them out here; who becomes secondary, goes along or is promoted is decided here
//! (`net/ipv4/devinet.c`, `net/ipv6/addrconf.c`).

use vip_model::config::Scope;
use vip_model::{Family, LinkIndex};

use super::Held;
use crate::setup::Secondaries;

/// `EINVAL`: an IPv4 address has another scope than those of its network that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongScope;

/// Adds an address that is not there yet, where the kernel does: IPv4 primaries by scope, the narrower first, then in
/// the order of their coming, then secondaries; IPv6 by scope, the wider first, then the newest.
pub(super) fn insert(list: &mut Vec<Held>, mut new: Held) -> Result<(), WrongScope> {
    let (start, end) = range(list, &new);
    let here = &list[start..end];
    let at = match Family::of(new.net.addr()) {
        Family::V4 => {
            if here.iter().any(|held| same_network(held, &new) && held.scope != new.scope) {
                return Err(WrongScope);
            }
            new.secondary = here.iter().any(|held| same_network(held, &new));
            let goes_before = |held: &Held| !held.secondary && narrow(held.scope) >= narrow(new.scope);
            if new.secondary {
                end
            } else {
                start + here.iter().rposition(goes_before).map_or(0, |at| at + 1)
            }
        }
        Family::V6 => {
            let not_wider = |held: &Held| narrow(held.scope) >= narrow(new.scope);
            here.iter().position(not_wider).map_or(end, |at| start + at)
        }
    };
    list.insert(at, new);
    Ok(())
}

/// Takes out the address at this position, and does to its secondaries what the kernel does.
pub(super) fn remove(list: &mut Vec<Held>, at: usize, secondaries: Secondaries) {
    let gone = list.remove(at);
    if gone.secondary || Family::of(gone.net.addr()) == Family::V6 {
        return;
    }
    let follows = |held: &Held| held.link == gone.link && held.secondary && same_network(held, &gone);
    match secondaries {
        Secondaries::Go => list.retain(|held| !follows(held)),
        Secondaries::Promoted => {
            let Some(next) = list.iter().position(follows) else { return };
            let mut promoted = list.remove(next);
            promoted.secondary = false;
            // Behind the last primary behind it that is not wider, else in its place.
            let last = |held: &Held| !held.secondary && narrow(held.scope) >= narrow(gone.scope);
            let at = list[at..next].iter().rposition(last).map_or(at, |last| at + last + 1);
            list.insert(at, promoted);
        }
    }
}

/// Where the addresses of the same link and family are.
fn range(list: &[Held], of: &Held) -> (usize, usize) {
    let key = |held: &Held| -> (Family, LinkIndex) { (Family::of(held.net.addr()), held.link) };
    let start = list.partition_point(|held| key(held) < key(of));
    (start, list.partition_point(|held| key(held) <= key(of)))
}

fn same_network(one: &Held, two: &Held) -> bool {
    one.net.prefix_len() == two.net.prefix_len() && one.net.network() == two.net.network()
}

/// How narrow a scope is (`rtnetlink(7)`).
fn narrow(scope: Scope) -> u8 {
    match scope {
        Scope::Global => 0,
        Scope::Link => 253,
        Scope::Host => 254,
    }
}
