//! A batch of changes → netlink requests → one outcome for each change. A change of the packet filter goes to
//! [`Filter`], in its turn; the rest of this module is about addresses.
//!
//! The netlink thread calls [`apply`] with the last picture in hand, because two things that a VIP needs cannot be
//! changed in place: the scope of an IPv4 address, and a failed duplicate address detection of an IPv6 one. Those
//! addresses are removed and added again in one system call. Everything else is a replacement, during which the
//! address never goes away: lifetime, `IFA_PROTO` and (IPv6) flags follow, as `tests/address.rs` shows.
//!
//! What grants something is checked twice. Right before the system call, as everywhere; and when the kernel took
//! long to answer (a process that was stopped inside, a routing lock that was held), once more after it, because the
//! lifetime began to run only when the kernel came to it. A grant that came too late is taken back at once.
//!
//! An address whose end is only brought forward ([`Premise::Present`]) is looked for right before the system call: the
//! kernel knows no change that leaves alone what is not there (`NLM_F_CREATE` is not asked for, by either family).
//!
//! A new IPv6 address is done when packets reach it. The kernel finishes it in a task of its own, some hundred
//! microseconds after the acknowledgement; until then it answers neighbour solicitations for the address and drops, or
//! forwards, what is sent to it, such as the advertisement of a client whose MAC it has just asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use vip_model::config::Scope;
use vip_model::kernel::{Actual, Batch, Change, Dad, Lifetime, Outcome, Premise, Report, SetAddress};
use vip_model::{Family, Instant, LinkIndex};

use crate::dump::{self, FOREVER};
use crate::filter::Filter;
use crate::netlink_socket::{NetlinkSocket, Refusal};
use crate::wire::Request;

/// Changes per system call. Each answer takes about 1 KiB of a receive buffer that has 208 KiB by default, and a
/// small share keeps the check of `not_after` close to the kernel's work.
const SHARE: usize = 64;
/// From this duration of a system call on, its grants are checked again. The fence keeps a whole second for a late
/// kernel (ownership: ⌊0.98 · lease − 1 s⌋), so a tenth of it may pass unnoticed.
const STALL: Duration = Duration::from_millis(100);
/// How often grants are corrected when one stall follows another.
const CORRECTIONS: u32 = 3;
/// How often, and after which time each, it is looked whether packets reach a new IPv6 address: some 50 ms in all. It
/// takes this long only while somebody else holds the routing lock.
const LOOKS: u32 = 500;
const LOOK_AGAIN: Duration = Duration::from_micros(100);

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
// linux/rtnetlink.h
const RTA_DST: u16 = 1;
/// `rtm_type` in `struct rtmsg`.
const RTM_TYPE: usize = 7;

/// What a batch is carried out against.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// The last picture of the kernel.
    pub(crate) actual: &'a Actual,
    /// The clock: [`crate::boot_now`], or a test's.
    pub(crate) clock: &'a dyn Fn() -> Instant,
}

/// A change of an address.
#[derive(Clone, Copy)]
enum AddressChange<'a> {
    Set(&'a SetAddress),
    Del(LinkIndex, IpNet),
}

/// Carries out a batch, in its order.
pub(crate) fn apply(
    socket: &mut NetlinkSocket,
    filter: &mut Filter,
    batch: &Batch,
    moment: Moment<'_>,
) -> Report {
    let mut outcomes = Vec::with_capacity(batch.changes.len());
    let mut addresses = Vec::new();
    for change in &batch.changes {
        match change {
            Change::SetAddress(set) => addresses.push(AddressChange::Set(set)),
            Change::DelAddress { link, net } => addresses.push(AddressChange::Del(*link, *net)),
            Change::SetFilter { instance, filter: wanted } => {
                outcomes.extend(apply_addresses(socket, &addresses, moment));
                addresses.clear();
                outcomes.push(filter.set(instance, wanted.as_ref()));
            }
        }
    }
    outcomes.extend(apply_addresses(socket, &addresses, moment));
    Report { batch: batch.id, outcomes }
}

fn apply_addresses(
    socket: &mut NetlinkSocket,
    changes: &[AddressChange<'_>],
    moment: Moment<'_>,
) -> Vec<Outcome> {
    // What a change needs to find, one before it in the batch may make or remove.
    let runs = changes.chunk_by(|one, next| is_tied(one) == is_tied(next));
    let shares = runs.flat_map(|run| run.chunks(SHARE));
    let outcomes: Vec<Outcome> = shares.flat_map(|share| apply_share(socket, share, moment)).collect();
    await_delivery(socket, changes, &outcomes, &fresh(changes, moment.actual));
    outcomes
}

/// The IPv6 addresses that a batch sets and the last picture does not show in working order.
fn fresh(changes: &[AddressChange<'_>], actual: &Actual) -> BTreeSet<(LinkIndex, IpNet)> {
    let of_v6 = |change: &AddressChange<'_>| match change {
        AddressChange::Set(set) if set.net.family() == Family::V6 => Some((set.link, set.net.0)),
        _ => None,
    };
    let mut fresh: BTreeSet<_> = changes.iter().filter_map(of_v6).collect();
    for address in actual.addresses.iter().filter(|address| address.dad == Dad::Ready) {
        fresh.remove(&(address.link, address.net));
    }
    fresh
}

fn apply_share(
    socket: &mut NetlinkSocket,
    changes: &[AddressChange<'_>],
    moment: Moment<'_>,
) -> Vec<Outcome> {
    let gone = gone(socket, changes);
    let began = (moment.clock)();
    let steps: Vec<Step> =
        changes
            .iter()
            .map(|change| {
                if gone.contains(&place(change)) {
                    Step::TooLate
                } else {
                    step(*change, began, moment.actual)
                }
            })
            .collect();
    let mut outcomes = carry_out(socket, changes, steps, moment.actual);
    take_back(socket, changes, &mut outcomes, (began, moment.clock));
    outcomes
}

/// Whether a change leaves alone what is not there.
fn is_tied(change: &AddressChange<'_>) -> bool {
    matches!(change, AddressChange::Set(set) if set.premise == Premise::Present)
}

fn place(change: &AddressChange<'_>) -> (LinkIndex, IpNet) {
    match change {
        AddressChange::Set(set) => (set.link, set.net.0),
        AddressChange::Del(link, net) => (*link, *net),
    }
}

/// The addresses that shall only be changed where they are and that the kernel does not show, right now. One that cannot
/// be looked for is left alone.
fn gone(socket: &mut NetlinkSocket, changes: &[AddressChange<'_>]) -> BTreeSet<(LinkIndex, IpNet)> {
    let tied = changes.iter().filter(|change| is_tied(change));
    let mut gone: BTreeSet<_> = tied.map(place).collect();
    if gone.is_empty() {
        return gone;
    }
    match dump::addresses(socket, Instant::default()) {
        Ok(there) => there.iter().for_each(|address| {
            gone.remove(&(address.link, address.net));
        }),
        Err(error) => tracing::warn!(
            addresses = gone.len(),
            %error,
            "whether addresses are still there cannot be seen, their lifetimes are left as they are"
        ),
    }
    gone
}

/// Waits until the kernel delivers what is sent to the fresh addresses that were set.
fn await_delivery(
    socket: &mut NetlinkSocket,
    changes: &[AddressChange<'_>],
    outcomes: &[Outcome],
    fresh: &BTreeSet<(LinkIndex, IpNet)>,
) {
    let mut looks = 0;
    for (change, outcome) in changes.iter().zip(outcomes) {
        let AddressChange::Set(set) = change else { continue };
        let IpAddr::V6(addr) = set.net.addr() else { continue };
        if *outcome != Outcome::Done || !fresh.contains(&(set.link, set.net.0)) {
            continue;
        }
        while looks < LOOKS && !is_delivered(socket, addr) {
            looks += 1;
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Whether the kernel's routes call an address its own. A question that it does not answer is no reason to wait.
fn is_delivered(socket: &mut NetlinkSocket, addr: Ipv6Addr) -> bool {
    // struct rtmsg: family, destination length.
    let mut fixed = [0; 12];
    (fixed[0], fixed[1]) = (libc::AF_INET6 as u8, 128);
    let question = Request::new(libc::RTM_GETROUTE, libc::NLM_F_ACK as u16, &fixed);
    let mut local = false;
    let asked = socket.ask(question.with(RTA_DST, &addr.octets()), |body| {
        local |= body.get(RTM_TYPE) == Some(&libc::RTN_LOCAL);
    });
    // Without any route to it the answer is ENETUNREACH: not delivered, either.
    local || asked.is_err_and(|error| error.raw_os_error() != Some(libc::ENETUNREACH))
}

/// What one change means for the kernel.
enum Step {
    /// Nothing: its time has passed.
    TooLate,
    /// Requests, of which the last one's answer counts.
    Ask(Vec<Request>),
}

fn step(change: AddressChange<'_>, now: Instant, actual: &Actual) -> Step {
    match change {
        AddressChange::Del(link, net) => Step::Ask(vec![removal(link, net)]),
        AddressChange::Set(set) => seconds_left(set, now).map_or(Step::TooLate, |seconds| {
            let mut requests: Vec<Request> = in_the_way(set, actual);
            requests.push(setting(set, seconds));
            Step::Ask(requests)
        }),
    }
}

fn carry_out(
    socket: &mut NetlinkSocket,
    changes: &[AddressChange<'_>],
    steps: Vec<Step>,
    actual: &Actual,
) -> Vec<Outcome> {
    let mut requests = Vec::new();
    let mut counts = Vec::with_capacity(steps.len());
    for step in steps {
        match step {
            Step::TooLate => counts.push(None),
            Step::Ask(asked) => {
                requests.extend(asked);
                counts.push(Some(requests.len() - 1));
            }
        }
    }
    let answers = if requests.is_empty() { Vec::new() } else { socket.change(requests) };
    let outcomes = changes
        .iter()
        .zip(counts)
        .map(|(change, answer)| answer.map_or(Outcome::TooLate, |at| outcome(*change, &answers[at], actual)));
    outcomes.collect()
}

/// After a stall: grants whose end has moved too far are shortened, or removed when nothing is left of them.
fn take_back(
    socket: &mut NetlinkSocket,
    changes: &[AddressChange<'_>],
    outcomes: &mut [Outcome],
    (mut began, clock): (Instant, &dyn Fn() -> Instant),
) {
    for _ in 0..CORRECTIONS {
        let ended = clock();
        if ended - began < STALL {
            return;
        }
        let gone = gone(socket, changes);
        let mut requests = Vec::new();
        for (change, outcome) in changes.iter().zip(&mut *outcomes) {
            let AddressChange::Set(set) = change else { continue };
            if *outcome != Outcome::Done || !outlives(set, began, ended) || gone.contains(&place(change)) {
                continue;
            }
            if let Some(seconds) = seconds_left(set, ended) {
                requests.push(setting(set, seconds));
            } else {
                requests.push(removal(set.link, set.net.0));
                *outcome = Outcome::TooLate;
            }
        }
        if requests.is_empty() {
            return;
        }
        tracing::warn!(
            stalled_ms = (ended - began).as_millis(),
            grants = requests.len(),
            "the kernel was slow to set addresses, their lifetimes are corrected"
        );
        began = ended;
        socket.change(requests);
    }
}

/// Whole seconds that the address may live, rounded down; none when it may not be set any more.
fn seconds_left(set: &SetAddress, now: Instant) -> Option<u32> {
    if now > set.not_after {
        return None;
    }
    match set.valid {
        Lifetime::Forever => Some(FOREVER),
        Lifetime::Until(end) => match (end - now).as_secs() {
            0 => None,
            seconds => Some(u32::try_from(seconds).unwrap_or(FOREVER).min(FOREVER - 1)),
        },
    }
}

/// Whether a lifetime reckoned at `began` may, counted from `ended`, last longer than it should.
fn outlives(set: &SetAddress, began: Instant, ended: Instant) -> bool {
    let lasts_too_long = match (set.valid, seconds_left(set, began)) {
        (Lifetime::Until(end), Some(seconds)) => ended + Duration::from_secs(seconds.into()) > end,
        _ => false,
    };
    ended > set.not_after || lasts_too_long
}

/// Requests that remove what a replacement would not change: see the module's head.
fn in_the_way(set: &SetAddress, actual: &Actual) -> Vec<Request> {
    let same_place = actual
        .addresses
        .iter()
        .filter(|address| address.link == set.link && address.addr() == set.net.addr());
    let stubborn = same_place.filter(|address| match set.net.family() {
        Family::V4 => address.net == set.net.0 && address.scope != set.scope,
        // The kernel finds an IPv6 address without looking at the prefix length, and would keep the old one.
        Family::V6 => address.net != set.net.0 || address.dad == Dad::Failed,
    });
    stubborn.map(|address| removal(address.link, address.net)).collect()
}

fn setting(set: &SetAddress, seconds: u32) -> Request {
    let flags = (libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
    let address_flags = match set.net.family() {
        Family::V4 => IFA_F_NOPREFIXROUTE,
        Family::V6 => IFA_F_NOPREFIXROUTE | IFA_F_NODAD,
    };
    // struct ifa_cacheinfo: preferred, valid, created, updated. No broadcast address and no label: without a prefix
    // route an explicit broadcast address is of no use, and the kernel answers for the network's own anyway.
    let mut cache = [0; 16];
    cache[4..8].copy_from_slice(&seconds.to_ne_bytes());
    with_address(libc::RTM_NEWADDR, flags, (set.link, set.net.0, set.scope))
        .with(IFA_FLAGS, &address_flags.to_ne_bytes())
        .with(IFA_CACHEINFO, &cache)
        .with(IFA_PROTO, &[set.tag])
}

fn removal(link: LinkIndex, net: IpNet) -> Request {
    with_address(libc::RTM_DELADDR, libc::NLM_F_ACK as u16, (link, net, Scope::Global))
}

/// `struct ifaddrmsg` and the address. Without `IFA_ADDRESS` the kernel removes an IPv4 address of any prefix length.
fn with_address(kind: u16, flags: u16, (link, net, scope): (LinkIndex, IpNet, Scope)) -> Request {
    let (family, octets) = match net.addr() {
        IpAddr::V4(addr) => (libc::AF_INET, addr.octets().to_vec()),
        IpAddr::V6(addr) => (libc::AF_INET6, addr.octets().to_vec()),
    };
    let scope = match scope {
        Scope::Global => 0,
        Scope::Link => 253,
        Scope::Host => 254,
    };
    let mut fixed = vec![family as u8, net.prefix_len(), 0, scope];
    fixed.extend(link.0.to_ne_bytes());
    Request::new(kind, flags, &fixed).with(IFA_LOCAL, &octets).with(IFA_ADDRESS, &octets)
}

fn outcome(change: AddressChange<'_>, answer: &Result<(), Refusal>, actual: &Actual) -> Outcome {
    let (verb, link, net) = match change {
        AddressChange::Set(set) => ("set", set.link, set.net.0),
        AddressChange::Del(link, net) => ("remove", link, net),
    };
    let Err(refusal) = answer else { return Outcome::Done };
    let gone = matches!(refusal.errno, libc::EADDRNOTAVAIL | libc::ENODEV | libc::ESRCH);
    if matches!(change, AddressChange::Del(..)) && gone {
        return Outcome::Done;
    }
    let place = match actual.links.get(&link) {
        Some(known) => format!("{} (link {})", known.name, link.0),
        None => format!("link {}", link.0),
    };
    let why = std::io::Error::from_raw_os_error(refusal.errno);
    let words = refusal.words.as_deref().unwrap_or_else(|| advice(refusal.errno, net));
    let text = format!("cannot {verb} {net} on {place}: {why}; {words}");
    Outcome::Failed { errno: refusal.errno, text }
}

/// What an errno means here, when the kernel gives no words of its own.
fn advice(errno: i32, net: IpNet) -> &'static str {
    match (errno, net) {
        (libc::EPERM, _) => "the process needs the capability NET_ADMIN",
        (libc::ENODEV, _) => "there is no such link any more",
        (libc::EACCES, IpNet::V6(_)) => "IPv6 is switched off (net.ipv6.conf.<link>.disable_ipv6)",
        (libc::EOPNOTSUPP | libc::EAFNOSUPPORT, IpNet::V6(_)) => "this kernel runs without IPv6",
        (libc::ENOBUFS, _) => "the link cannot carry addresses of this family (its MTU may be too small)",
        _ => "see netlink(7) and rtnetlink(7)",
    }
}

#[cfg(test)]
mod tests;
