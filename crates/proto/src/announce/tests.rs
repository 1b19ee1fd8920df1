//! The rules of announcing (F-L2-1 to F-L2-5): the timetable, the pace, foreign claims and probes.

mod burst;
mod foreign;
mod laws;
mod probe;

use std::net::Ipv4Addr;

use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6};

use super::*;
use crate::rig::{Bounds, Script, Step, play};
use crate::{arp, ndp};

pub(super) const LINK: LinkIndex = LinkIndex(3);
pub(super) const MAC: LinkAddr = LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]);
pub(super) const OTHER: LinkAddr = LinkAddr::Ethernet([2, 0, 0, 0, 0, 2]);
pub(super) const INTERVAL: Duration = Duration::from_secs(3);
/// When each test begins; not the start of the clock, so that nothing hangs on zero.
pub(super) const T0: Instant = Instant::from_millis(1_000_000);
/// Announcements and probes have a pace each.
pub(super) const BOUNDS: Bounds =
    Bounds { outputs_per_turn: 2 * FRAMES_AT_ONCE as usize, turns_per_wait: 1_000_000 };

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The n-th IPv4 address.
pub(super) fn v4(n: u16) -> ScopedAddr {
    let [high, low] = n.to_be_bytes();
    ScopedAddr { addr: Ipv4Addr::new(10, 0, high, low).into(), link: LINK }
}

/// The n-th IPv6 address.
pub(super) fn v6(n: u16) -> ScopedAddr {
    ScopedAddr { addr: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into(), link: LINK }
}

pub(super) fn claim() -> Claim {
    Claim {
        addr: MAC,
        broadcast: LinkAddr::BROADCAST,
        interval: INTERVAL,
        not_after: T0 + Duration::from_hours(1),
        cleared: None,
    }
}

pub(super) fn target() -> ProbeTarget {
    asked_by(MAC)
}

pub(super) fn asked_by(addr: LinkAddr) -> ProbeTarget {
    ProbeTarget::Station { addr, broadcast: LinkAddr::BROADCAST, repeat: PROBE_REPEAT_MAX, until: None }
}

pub(super) fn claims(at: impl IntoIterator<Item = ScopedAddr>) -> AnnounceWant {
    AnnounceWant { claims: at.into_iter().map(|at| (at, claim())).collect(), ..AnnounceWant::default() }
}

pub(super) fn probes(at: impl IntoIterator<Item = ScopedAddr>) -> AnnounceWant {
    AnnounceWant { probes: at.into_iter().map(|at| (at, target())).collect(), ..AnnounceWant::default() }
}

/// A frame in which `from` says that it has `at`: a gratuitous ARP request or an unsolicited advertisement.
pub(super) fn claim_by(from: &LinkAddr, at: ScopedAddr) -> FrameIn {
    let claim = Claim { addr: from.clone(), ..claim() };
    let frame::Written::Frame(frame) = frame::announcement(at, &claim, frame::Part::First) else {
        panic!("two Ethernet addresses")
    };
    heard(frame, from)
}

/// A frame in which `from` asks whether anybody has `at`.
pub(super) fn probe_by(from: &LinkAddr, at: ScopedAddr) -> FrameIn {
    let frame::Written::Frame(frame) = frame::probe(at, (from, &LinkAddr::BROADCAST), T0) else {
        panic!("two Ethernet addresses")
    };
    heard(frame, from)
}

fn heard(frame: FrameOut, from: &LinkAddr) -> FrameIn {
    let FrameOut { link, ethertype, payload, .. } = frame;
    FrameIn { link, from: Some(from.clone()), ethertype, payload }
}

/// What a frame of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ArpRequest,
    ArpReply,
    ArpProbe,
    Advertisement,
    NdpProbe,
}

/// What a frame of ours says, read by our own decoders (which the vectors hold to another implementation).
pub(super) fn read(frame: &FrameOut) -> (Kind, ScopedAddr) {
    let (kind, addr) = if frame.ethertype == ETHERTYPE_ARP {
        let packet = arp::decode(&frame.payload).unwrap();
        let kind = match (packet.operation, packet.claimed()) {
            (arp::Operation::Reply, _) => Kind::ArpReply,
            (arp::Operation::Request, Some(_)) => Kind::ArpRequest,
            (arp::Operation::Request, None) => Kind::ArpProbe,
        };
        (kind, packet.target_ip.into())
    } else {
        match ndp::decode(&frame.payload).unwrap() {
            ndp::Message::Advertisement(it) => (Kind::Advertisement, it.target.into()),
            ndp::Message::Solicitation(it) => (Kind::NdpProbe, it.target.into()),
        }
    };
    (kind, ScopedAddr { addr, link: frame.link })
}

/// An announcer, its clock, and what it sent.
pub(super) struct Bench {
    pub(super) announcer: Announcer,
    pub(super) now: Instant,
}

/// Milliseconds since `T0`, what was sent.
pub(super) type Sent = Vec<(u64, Kind, ScopedAddr)>;

impl Bench {
    pub(super) fn new() -> Self {
        Self { announcer: Announcer::new(), now: T0 }
    }

    /// Plays one step and gives back what was sent meanwhile.
    pub(super) fn step(&mut self, step: Step<AnnounceWant, FrameIn>) -> Sent {
        self.frames(step).iter().map(|(when, frame)| since(*when, read(frame))).collect()
    }

    pub(super) fn frames(&mut self, step: Step<AnnounceWant, FrameIn>) -> Vec<(Instant, FrameOut)> {
        let span = if let Step::Wait(span) = step { span } else { Duration::ZERO };
        let script: Script<Announcer> = vec![step];
        let out = play(&mut self.announcer, self.now, &script, BOUNDS);
        self.now = self.now + span;
        out
    }

    pub(super) fn want(&mut self, want: AnnounceWant) -> Sent {
        self.step(Step::Want(want))
    }

    pub(super) fn hear(&mut self, frame: FrameIn) -> Sent {
        self.step(Step::Input(frame))
    }

    pub(super) fn wait(&mut self, span: Duration) -> Sent {
        self.step(Step::Wait(span))
    }
}

fn since(when: Instant, (kind, at): (Kind, ScopedAddr)) -> (u64, Kind, ScopedAddr) {
    ((when - T0).as_millis() as u64, kind, at)
}

/// The instants of one kind of frame for one address, in milliseconds since `T0`.
pub(super) fn times(sent: &Sent, kind: Kind, at: ScopedAddr) -> Vec<u64> {
    sent.iter().filter(|it| it.1 == kind && it.2 == at).map(|it| it.0).collect()
}
