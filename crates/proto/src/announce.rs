//! Who answers for an address on layer 2: the machine that announces our addresses by ARP and neighbour discovery,
//! notices when somebody else claims them, and probes whether an address is taken. The agent feeds it the wanted claims
//! and probes and the frames that arrived; it gives back frames to send, what the probes found, and who else claims.
//!
//! ```text
//!  want: claim ──► First ──0──► burst 50 150 400 1000 ms ──► every interval      (paced: 2,000 frames/s; probes beside them, too)
//!                    ▲             ▲ foreign claim: again at once, at most every 100 ms
//!                    └ somebody else stopped answering
//!  want: probe ──► ask ──8 ms──► ask ──12 ms──► Silent
//!                   ▲   └── an answer ──► Answered ──┐
//!                   └───────── 50 ms to 1 s ─────────┘
//! ```
//!
//! A claim is announced only until its `not_after`; then it is silent until the want moves that instant. What is no
//! longer wanted is silent at once.

mod claims;
mod foreign;
pub(crate) mod frame;
mod pace;
mod probes;
mod queue;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vip_model::kernel::{FrameIn, FrameOut};
use vip_model::observed::ProbeState;
use vip_model::plan::Claim;
use vip_model::{Instant, LinkAddr, LinkIndex, ScopedAddr};

use crate::Machine;
use claims::Claims;
use frame::Heard;
use pace::Pace;
use probes::Probes;

/// When a new claim is announced, counted from its first announcement. Five times in a second, because frames get lost
/// and because a switch that has just learned of a failed port drops the first ones; the last is late enough for the
/// neighbour caches that refuse replies within one second of their last change (Linux `locktime`).
pub const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_secs(1),
];

/// Announcements per second, counted in frames, and frames of probes beside them. 5,000 addresses of a failed node are
/// announced once within 2.5 s (IPv6) or 5 s (IPv4, two frames each), those of a cold start are probed in 5 s, and no
/// switch or neighbour loses frames to a flood.
pub const FRAMES_PER_SECOND: u32 = 2_000;

/// Frames that may leave together after a pause: 20 ms worth of the rate, so that a node that is at a plan for thousands of
/// Services that long still reaches it.
pub const FRAMES_AT_ONCE: u32 = 40;

/// Repetitions of all addresses begin at multiples of this.
pub const TOGETHER: Duration = Duration::from_millis(500);

/// The least time between two announcements of one address after its burst. A shorter interval is taken as this.
pub const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// The least time between an announcement and its repetition because somebody else claims the address, so that two
/// holders don't storm.
pub const LEAST_REASSERT: Duration = Duration::from_millis(100);

/// A foreign claim is reported again after the same claimant was quiet for so long.
pub const FOREIGN_QUIET: Duration = Duration::from_mins(1);

/// Foreign claimants that are remembered per address. More than a handful is an attack or a broken network; those
/// beyond are counted but not reported.
pub const FOREIGN_PER_ADDRESS: usize = 16;

/// Reports of foreign claims that wait for [`Announcer::take_foreign`]; those beyond wait for the claimant's next frame.
pub const FOREIGN_REPORTS: usize = 1024;

/// Time from the first to the second frame of a probe: one lost frame must not mean "nobody".
pub const PROBE_AGAIN: Duration = Duration::from_millis(8);

/// Time from the second frame of a probe to its result; 20 ms after the first. Far below the seconds of RFC 5227 §1.1, because a kernel on the same
/// link answers within a millisecond and the result holds up a take-over.
pub const PROBE_LISTEN: Duration = Duration::from_millis(12);

/// Time from the first answer to the next probe of an address that a former holder is about to let go; doubles with every
/// further answer.
pub const PROBE_REPEAT: Duration = Duration::from_millis(50);

/// The longest time from an answer to the next probe of the same address.
pub const PROBE_REPEAT_MAX: Duration = Duration::from_secs(1);

/// All that is wanted of the announcer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceWant {
    /// Addresses that are announced: those of the plan.
    pub claims: BTreeMap<ScopedAddr, Claim>,
    /// Addresses that are probed for somebody else who answers.
    pub probes: BTreeMap<ScopedAddr, ProbeTarget>,
    /// Link-layer addresses of all links of this host: what comes from them is never foreign. Those of `claims` and
    /// `probes` need not be repeated.
    pub own: BTreeSet<LinkAddr>,
}

/// How it is found out whether somebody else has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeTarget {
    /// By asking the stations on the link.
    Station {
        /// Our link-layer address on that link.
        addr: LinkAddr,
        /// The link's broadcast address.
        broadcast: LinkAddr,
        /// Time from the first answer to the next probe; doubles up to [`PROBE_REPEAT_MAX`].
        repeat: Duration,
        /// From then on an answer counts as none.
        until: Option<Instant>,
    },
    /// By time alone: from then on nobody has it.
    Time(Instant),
}

impl ProbeTarget {
    /// Our link-layer address, when stations are asked.
    const fn station(&self) -> Option<&LinkAddr> {
        match self {
            Self::Station { addr, .. } => Some(addr),
            Self::Time(_) => None,
        }
    }
}

/// Somebody else claims an address that we announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignClaim {
    /// The address and the link on which the claim was heard.
    pub at: ScopedAddr,
    /// Who claims it.
    pub from: LinkAddr,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Announcements sent (for IPv4, two frames each).
    pub announcements: u64,
    /// Frames sent, probes included.
    pub frames: u64,
    /// Foreign claims heard for addresses that we announced at that time, every frame.
    pub foreign: u64,
    /// Frames heard that say nothing to us: neither ARP for IPv4 nor neighbour discovery.
    pub ignored: u64,
    /// Announcements and probes that could not be written, because link and broadcast address are of different kinds.
    pub unwritable: u64,
}

/// The announcer.
#[derive(Clone, Debug, Default)]
pub struct Announcer {
    claims: Claims,
    probes: Probes,
    own: BTreeSet<LinkAddr>,
    /// Of the announcements.
    pace: Pace,
    /// Of the probes: what waits for one must not wait for thousands of announcements.
    probe_pace: Pace,
    counters: Counters,
}

impl Announcer {
    /// An announcer that wants nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the probes found, for exactly the wanted ones.
    pub const fn probes(&self) -> &BTreeMap<ScopedAddr, ProbeState> {
        self.probes.states()
    }

    /// How often what the probes found changed: whoever remembers it need not compare thousands of findings.
    pub const fn findings(&self) -> u64 {
        self.probes.findings()
    }

    /// The foreign claims that are new since the last call: each address and claimant once, until it was quiet for
    /// [`FOREIGN_QUIET`].
    pub fn take_foreign(&mut self) -> Vec<ForeignClaim> {
        self.claims.take_foreign()
    }

    /// How often each announced address was claimed by others since it is wanted; only those that were.
    pub fn foreign(&self) -> impl Iterator<Item = (ScopedAddr, u64)> {
        self.claims.foreign()
    }

    /// What happened so far.
    pub const fn counters(&self) -> Counters {
        Counters { announcements: self.claims.announcements(), ..self.counters }
    }

    /// The links whose ARP and neighbour discovery frames have to be fed to the announcer.
    pub fn links(&self) -> BTreeSet<LinkIndex> {
        self.claims.addresses().chain(self.probes.states().keys()).map(|at| at.link).collect()
    }

    /// Somebody says that `at` is at `from`.
    fn claimed(&mut self, now: Instant, at: ScopedAddr, from: &LinkAddr) {
        // A sender of zeroes or a group as sender is no station that could hold an address.
        let station = match from {
            LinkAddr::Ethernet(mac) => mac[0] & 1 == 0 && *mac != [0; 6],
            LinkAddr::Infiniband(addr) => addr[4..] != [0; 16] && addr[4] != 0xff,
        };
        if !station {
            self.counters.ignored += 1;
            return;
        }
        if self.own.contains(from) {
            return;
        }
        if self.claims.contest(now, at, from) {
            self.counters.foreign += 1;
        }
        self.probes.answer(now, at, from);
    }
}

impl Machine for Announcer {
    type Want = AnnounceWant;
    type Input = FrameIn;
    type Output = FrameOut;

    fn want(&mut self, now: Instant, want: AnnounceWant) {
        let AnnounceWant { claims, probes, mut own } = want;
        let used =
            claims.values().map(|claim| &claim.addr).chain(probes.values().filter_map(ProbeTarget::station));
        for addr in used {
            if !own.contains(addr) {
                own.insert(addr.clone());
            }
        }
        self.own = own;
        self.claims.want(now, claims);
        self.probes.want(now, probes);
    }

    fn handle(&mut self, now: Instant, frame: FrameIn) {
        match frame::claimed(&frame) {
            Heard::Nothing => self.counters.ignored += 1,
            Heard::NoClaim => {}
            Heard::Claim(addr, from) => self.claimed(now, ScopedAddr { addr, link: frame.link }, &from),
        }
    }

    fn poll(&mut self, now: Instant) -> Option<FrameOut> {
        self.probes.settle(now);
        loop {
            let (may_announce, may_probe) = (self.pace.ready_at() <= now, self.probe_pace.ready_at() <= now);
            // What a take-over waits for goes first, then the probes, then repetitions.
            let (written, pace) = if let Some(first) = may_announce.then(|| self.claims.first(now)).flatten()
            {
                (first, &mut self.pace)
            } else if let Some(probe) = may_probe.then(|| self.probes.next(now)).flatten() {
                (probe, &mut self.probe_pace)
            } else {
                (may_announce.then(|| self.claims.again(now)).flatten()?, &mut self.pace)
            };
            match written {
                frame::Written::Frame(frame) => {
                    pace.take(now);
                    self.counters.frames += 1;
                    return Some(frame);
                }
                frame::Written::Not => self.counters.unwritable += 1,
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let claim = self.claims.due().map(|due| due.max(self.pace.ready_at()));
        let probe = self.probes.due().map(|due| due.max(self.probe_pace.ready_at()));
        claim.into_iter().chain(probe).chain(self.probes.verdict_due()).min()
    }
}
