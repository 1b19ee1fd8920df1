//! Looks: does this address answer at this link-layer address? Asked by unicast, again and again, for as long as
//! somebody is interested. Fed with wishes and with frames that arrived; gives back frames, and how often in a row
//! there was no answer.
//!
//! Broadcasts would not do: a fabric that suppresses ARP answers them for the dead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use vip_model::kernel::{FrameIn, FrameOut};
use vip_model::plan::Look;
use vip_model::session::Site;
use vip_model::{Instant, LinkAddr};

use crate::announce::frame::{Heard, ask_one, claimed};

/// Time between two looks at the same place: a kernel on the same link answers within a millisecond.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(15);
/// A look that nobody has been interested in for so long is over.
const FORGET: Duration = Duration::from_millis(200);
/// Time that each place without an answer adds between two looks at it, so that an agent asks at most 20,000 times a second
/// in vain: who is cut off from fifty nodes looks at a thousand places. Up to three hundred it changes nothing.
const SPACING: Duration = Duration::from_micros(50);
/// The most looks at a time; further wishes are taken when others are over.
const MOST: usize = 4096;

/// A place to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The address.
    pub(super) addr: IpAddr,
    /// Whom to ask.
    pub(super) whom: LinkAddr,
}

/// All looks.
#[derive(Debug, Default)]
pub(super) struct Looks {
    live: BTreeMap<Place, Live>,
    /// All of them by `Live::next`.
    due: BTreeSet<(Instant, Place)>,
    /// How many of them had no answer the last time.
    missed: usize,
}

#[derive(Debug)]
struct Live {
    look: Look,
    sent: Option<Instant>,
    next: Instant,
    every: Duration,
    answered: Option<Instant>,
    misses: u32,
    /// Until when a slower wish changes nothing.
    paced_until: Instant,
    until: Instant,
}

impl Looks {
    /// Goes on looking at a place, every `every`.
    pub(super) fn want(&mut self, now: Instant, (look, whom): (&Look, &LinkAddr), every: Duration) {
        let place = Place { addr: look.at.addr, whom: whom.clone() };
        if self.live.len() >= MOST && !self.live.contains_key(&place) {
            return;
        }
        let live = self.live.entry(place.clone()).or_insert_with(|| {
            self.due.insert((now, place.clone()));
            let (sent, answered) = (None, None);
            Live {
                look: look.clone(),
                sent,
                next: now,
                every,
                answered,
                misses: 0,
                paced_until: now,
                until: now,
            }
        });
        // A link that was removed comes back with another index, and a node may change its own link-layer address.
        if live.look != *look {
            live.look.clone_from(look);
        }
        if every < live.every {
            let next = live.next.min(live.sent.map_or(now, |sent| sent + every));
            self.due.remove(&(live.next, place.clone()));
            self.due.insert((next, place));
            live.next = next;
        }
        // Who looks seldom does not slow down who looks often.
        if every <= live.every || now >= live.paced_until {
            live.every = every;
            live.paced_until = now + every * 2;
        }
        live.until = live.until.max(now + FORGET.max(every * 2));
    }

    /// How many looks in a row had no answer; none while it is not looked at.
    pub(super) fn misses(&self, addr: IpAddr, whom: &LinkAddr) -> Option<u32> {
        self.live.get(&Place { addr, whom: whom.clone() }).map(|live| live.misses)
    }

    /// Forgets what was missed: only later looks count.
    pub(super) fn recount(&mut self, addr: IpAddr, whom: &LinkAddr) {
        if let Some(live) = self.live.get_mut(&Place { addr, whom: whom.clone() }) {
            live.sent = None;
            self.missed -= usize::from(std::mem::take(&mut live.misses) > 0);
        }
    }

    /// Whether everything that is looked at answered the last time.
    pub(super) const fn have_missed_nothing(&self) -> bool {
        self.missed == 0
    }

    /// When it last answered.
    pub(super) fn answered(&self, addr: IpAddr, whom: &LinkAddr) -> Option<Instant> {
        self.live.get(&Place { addr, whom: whom.clone() })?.answered
    }

    /// A frame arrived. Whether it answers a look.
    pub(super) fn hear(&mut self, now: Instant, frame: &FrameIn) -> bool {
        if self.live.is_empty() {
            return false;
        }
        let Heard::Claim(addr, whom) = claimed(frame) else { return false };
        let Some(live) = self.live.get_mut(&Place { addr, whom }) else { return false };
        live.answered = Some(now);
        self.missed -= usize::from(std::mem::take(&mut live.misses) > 0);
        true
    }

    /// The next frame that is due.
    pub(super) fn poll(&mut self, now: Instant, sites: &[Site]) -> Option<FrameOut> {
        while self.due.first().is_some_and(|(next, _)| *next <= now) {
            let (_, place) = self.due.pop_first()?;
            let Some(live) = self.live.get_mut(&place) else { continue };
            if live.until <= now {
                self.missed -= usize::from(live.misses > 0);
                self.live.remove(&place);
                continue;
            }
            match (live.sent, live.answered) {
                (Some(sent), Some(answered)) if answered >= sent && now < sent + live.every => {
                    live.next = sent + live.every;
                    self.due.insert((live.next, place));
                    continue;
                }
                (Some(sent), answered) if answered.is_none_or(|answered| answered < sent) => {
                    self.missed += usize::from(live.misses == 0);
                    live.misses += 1;
                }
                _ => {}
            }
            live.sent = Some(now);
            // One that is not answered is followed by the next soon, however seldom they are.
            let missed = u32::try_from(self.missed).unwrap_or(u32::MAX);
            live.next = now + live.every.min(LOOK_EVERY).max(SPACING.saturating_mul(missed));
            let own = (source(sites, &live.look), &live.look.addr);
            let frame = ask_one(live.look.at, own, &place.whom, live.next);
            self.due.insert((live.next, place));
            return Some(frame);
        }
        None
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(next, _)| *next)
    }
}

/// Who asks: an own IPv6 address on that link, the one on the network of what is looked at first.
fn source(sites: &[Site], look: &Look) -> Option<Ipv6Addr> {
    let own = |site: &&Site| site.addr == look.addr && site.net.addr().is_ipv6();
    let site = sites.iter().filter(own).max_by_key(|site| site.holds(look.at.addr))?;
    match site.net.addr() {
        IpAddr::V6(addr) => Some(addr),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use vip_model::{LinkIndex, ScopedAddr};

    use super::*;
    use crate::ndp;

    #[test]
    fn the_answer_to_a_look_goes_to_its_asker_alone() {
        let own = LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]);
        let whom = LinkAddr::Ethernet([2, 0, 0, 0, 0, 2]);
        let site = |net: &str| Site { net: net.parse().expect("a network"), addr: own.clone() };
        let sites = [site("10.0.0.1/24"), site("fd00:1::1/64"), site("fd00::1/64")];
        let at = ScopedAddr { addr: "fd00::100".parse().expect("an address"), link: LinkIndex(2) };
        let mut looks = Looks::default();
        looks.want(Instant::ZERO, (&Look { at, addr: own.clone() }, &whom), LOOK_EVERY);
        let frame = looks.poll(Instant::ZERO, &sites).expect("a look is due at once");
        let Ok(ndp::Message::Solicitation(asked)) = ndp::decode(&frame.payload) else { panic!("{frame:?}") };
        assert_eq!(asked.source.to_string(), "fd00::1", "an answer to nobody would go to all, and move them");
        assert_eq!((asked.addr, frame.to), (Some(own.clone()), whom));
        // One outside of the nodes' networks, too.
        let at = ScopedAddr { addr: "fd05::100".parse().expect("an address"), ..at };
        assert!(source(&sites, &Look { at, addr: own }).is_some());
    }

    #[test]
    fn a_thousand_places_without_an_answer_are_looked_at_more_seldom() {
        let (mut looks, mut sent) = (Looks::default(), 0);
        let own = LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]);
        for millis in 0..1_500 {
            let now = Instant::ZERO + Duration::from_millis(millis);
            for number in 0..1_000_u16 {
                let [high, low] = number.to_be_bytes();
                let whom = LinkAddr::Ethernet([2, 0, 0, 1, high, low]);
                let at = ScopedAddr { addr: "10.0.0.100".parse().expect("an address"), link: LinkIndex(2) };
                looks.want(now, (&Look { at, addr: own.clone() }, &whom), LOOK_EVERY);
            }
            sent += std::iter::from_fn(|| looks.poll(now, &[])).filter(|_| millis >= 500).count();
        }
        // Every 50 ms, to the millisecond, instead of every 15.
        assert!((19_000..=20_000).contains(&sent), "{sent} looks in a second");
    }
}
