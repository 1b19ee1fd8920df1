//! What can go wrong, and when: a schedule of faults, each with its beginning and its end, as text that a person can
//! write (`12.5s +3s kill n1`) and the shrinker prints. The generator and seed files give it, the world carries it
//! out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Moment;

/// What goes wrong. The number beside it (`Fault::amount`) has the unit that is named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// SIGKILL; the agent starts again at the end.
    Kill,
    /// SIGKILL between the decision on a kernel batch and its first system call.
    KillAtBatch,
    /// SIGKILL between the decision on a store question and its sending.
    KillAtAsk,
    /// SIGSTOP, then SIGCONT at the end.
    Pause,
    /// SIGSTOP between the decision on a kernel batch and its first system call.
    PauseAtBatch,
    /// SIGSTOP between the decision on a store question and its sending.
    PauseAtAsk,
    /// SIGTERM; a new agent starts at the end.
    Terminate,
    /// SIGTERM to one node after the other, `amount` ms apart; each is back after 200 ms.
    RollingRestart,
    /// Power goes: the kernel with all it holds, agents, the API server. Boots at the end.
    PowerOff,
    /// Everything stands still but the boot-time clock.
    Suspend,
    /// The health check of the local API server fails.
    GateRed,
    /// The VIP link has no carrier.
    CarrierLoss,
    /// The VIP link is set down: IPv6 addresses go.
    LinkDown,
    /// The VIP link is removed; comes back with another index at the end.
    LinkRemoved,
    /// No frames between this node and node `amount`.
    Cut,
    /// No frames from this node to node `amount`.
    CutOut,
    /// No frames between this node and anybody.
    Isolate,
    /// `amount` per cent of all frames are lost.
    Loss,
    /// Every frame is late by up to `amount` ms, in any order.
    WireDelay,
    /// `amount` per cent of all frames arrive twice.
    Duplicate,
    /// The node's API server refuses connections.
    ApiRefuse,
    /// The node's API server accepts and never answers.
    ApiHang,
    /// The node's API server answers after `amount` ms.
    ApiSlow,
    /// Writes are answered with the HTTP status `amount` (not applied).
    WriteStatus,
    /// Writes of Services, their status and Events are answered with the HTTP status `amount` (not applied).
    ServiceStatus,
    /// Reads and watches are answered with the HTTP status `amount`.
    ReadStatus,
    /// Reads and watches show what was true `amount` ms ago.
    ApiLag,
    /// Watches break and are opened again (once).
    WatchDrop,
    /// Watches fall silent; they break at the end.
    WatchFreeze,
    /// `amount` per cent of writes are applied, but their answer is lost.
    LoseAnswers,
    /// Requests wait for up to `amount` ms before they are applied, also beyond their timeout.
    LateWrites,
    /// An outsider adds VIP number `amount` on this node, untagged, for ever (once).
    OutsiderAdds,
    /// An outsider adds VIP number `amount` on this node with another prefix length (once).
    OutsiderAddsWide,
    /// An outsider removes VIP number `amount` on this node (once).
    OutsiderRemoves,
    /// An outsider removes the node's own IPv4 address; back at the end.
    OwnAddressRemoved,
    /// An outsider adds and removes an address of his own every 50 ms.
    OutsiderBusy,
    /// Every kernel change takes up to `amount` ms.
    SlowApply,
    /// Half of all kernel changes fail with errno `amount`.
    ApplyFails,
    /// Kernel notifications are lost; the overrun is noticed up to `amount` ms later.
    Overrun,
    /// A dump takes up to `amount` ms.
    SlowDump,
    /// Somebody deletes the Leases (once).
    LeaseDeleted,
    /// Another client takes the Leases, and renews them until the end.
    LeaseStolen,
    /// Somebody asks for a drill of the first agent's claim (once): a crash, or with `amount` 1 a planned one.
    Drill,
    /// SIGKILL after `amount` more outputs of any kind.
    KillAfter,
    /// SIGSTOP after `amount` more outputs of any kind.
    PauseAfter,
    /// No heartbeats between this node and node `amount`.
    PeerCut,
    /// No heartbeats from this node to node `amount`.
    PeerCutOut,
    /// No heartbeats between this node and anybody.
    PeerIsolate,
    /// `amount` per cent of all heartbeats are lost.
    PeerLoss,
    /// Every heartbeat is late by up to `amount` ms, in any order.
    PeerDelay,
    /// `amount` per cent of all heartbeats arrive twice.
    PeerDuplicate,
    /// After `amount` per cent of all heartbeats somebody sends an old one again.
    PeerReplay,
    /// A firewall blocks the port for heartbeats on this node.
    PortBlocked,
    /// The port for heartbeats cannot be opened, and is closed.
    DoorShut,
    /// The node has another key than the others, under the same fingerprint.
    KeyWrong,
    /// The node cannot read any key.
    KeyUnreadable,
    /// A new key comes into the Secret; at the end the old one leaves it, if every session lists the new one.
    KeyRotation,
    /// Neither this node nor node `amount` reaches the API server of the other.
    ApiCut,
    /// This node reaches no API server but its own, nobody reaches this node's.
    ApiIsolate,
    /// This node reaches no API server at all.
    ApiAway,
    /// All that leads to other nodes is cut, silently: VIP network, node network, API servers.
    CutOff,
    /// As above, and the link has no carrier.
    Unplug,
    /// All that leads from this node to node `amount` and back is cut, silently.
    Between,
    /// Etcd has no leader: writes over this node's API server wait until the end, also beyond their timeout.
    WritesWait,
    /// Broadcast questions for addresses are answered by the fabric, for the living and the dead.
    ArpSuppression,
    /// `amount` per cent of all announcements are lost.
    LostAnnouncements,
    /// Somebody deletes the session Leases of the node (once).
    SessionDeleted,
    /// What agents of the node left for their next lives is lost (once).
    MemoryLost,
    /// The agents of the node end in good order, and at the end start in mode `lease`.
    ToLeaseMode,
    /// As above, in mode `session`.
    ToSessionMode,
}

/// Name in text and kind of each fault.
const NAMES: &[(&str, What)] = &[
    ("kill", What::Kill),
    ("kill-at-batch", What::KillAtBatch),
    ("kill-at-ask", What::KillAtAsk),
    ("pause", What::Pause),
    ("pause-at-batch", What::PauseAtBatch),
    ("pause-at-ask", What::PauseAtAsk),
    ("terminate", What::Terminate),
    ("rolling-restart", What::RollingRestart),
    ("power-off", What::PowerOff),
    ("suspend", What::Suspend),
    ("gate-red", What::GateRed),
    ("carrier-loss", What::CarrierLoss),
    ("link-down", What::LinkDown),
    ("link-removed", What::LinkRemoved),
    ("cut", What::Cut),
    ("cut-out", What::CutOut),
    ("isolate", What::Isolate),
    ("loss", What::Loss),
    ("wire-delay", What::WireDelay),
    ("duplicate", What::Duplicate),
    ("api-refuse", What::ApiRefuse),
    ("api-hang", What::ApiHang),
    ("api-slow", What::ApiSlow),
    ("write-status", What::WriteStatus),
    ("service-status", What::ServiceStatus),
    ("read-status", What::ReadStatus),
    ("api-lag", What::ApiLag),
    ("watch-drop", What::WatchDrop),
    ("watch-freeze", What::WatchFreeze),
    ("lose-answers", What::LoseAnswers),
    ("late-writes", What::LateWrites),
    ("outsider-adds", What::OutsiderAdds),
    ("outsider-adds-wide", What::OutsiderAddsWide),
    ("outsider-removes", What::OutsiderRemoves),
    ("own-address-removed", What::OwnAddressRemoved),
    ("outsider-busy", What::OutsiderBusy),
    ("slow-apply", What::SlowApply),
    ("apply-fails", What::ApplyFails),
    ("overrun", What::Overrun),
    ("slow-dump", What::SlowDump),
    ("lease-deleted", What::LeaseDeleted),
    ("lease-stolen", What::LeaseStolen),
    ("drill", What::Drill),
    ("kill-after", What::KillAfter),
    ("pause-after", What::PauseAfter),
    ("peer-cut", What::PeerCut),
    ("peer-cut-out", What::PeerCutOut),
    ("peer-isolate", What::PeerIsolate),
    ("peer-loss", What::PeerLoss),
    ("peer-delay", What::PeerDelay),
    ("peer-duplicate", What::PeerDuplicate),
    ("peer-replay", What::PeerReplay),
    ("port-blocked", What::PortBlocked),
    ("door-shut", What::DoorShut),
    ("key-wrong", What::KeyWrong),
    ("key-unreadable", What::KeyUnreadable),
    ("key-rotation", What::KeyRotation),
    ("api-cut", What::ApiCut),
    ("api-isolate", What::ApiIsolate),
    ("api-away", What::ApiAway),
    ("cut-off", What::CutOff),
    ("unplug", What::Unplug),
    ("between", What::Between),
    ("writes-wait", What::WritesWait),
    ("arp-suppression", What::ArpSuppression),
    ("lost-announcements", What::LostAnnouncements),
    ("session-deleted", What::SessionDeleted),
    ("memory-lost", What::MemoryLost),
    ("to-lease-mode", What::ToLeaseMode),
    ("to-session-mode", What::ToSessionMode),
];

impl What {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(_, what)| *what)
    }

    /// Whether it is a fault of a network as a whole, whatever place stands beside it.
    pub fn is_everywhere(self) -> bool {
        matches!(
            self,
            Self::Loss
                | Self::WireDelay
                | Self::Duplicate
                | Self::PeerLoss
                | Self::PeerDelay
                | Self::PeerDuplicate
                | Self::PeerReplay
                | Self::LostAnnouncements
                | Self::ArpSuppression
        )
    }

    /// Its name in schedules.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, what)| *what == self).expect("every kind is in the table").0
    }
}

/// Where it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On one node, by number from 0.
    Node(usize),
    /// On the node that answers for the first VIP when the fault begins; the first one when nobody does.
    Holder,
    /// On the node that comes so many places after that one.
    Other(usize),
    /// On all nodes, or nowhere in particular.
    All,
}

/// As the `amount` of a cut: the node that answers for the first VIP. So much more is the node that comes so many places
/// after it.
pub const HOLDER: u32 = 100;

/// One fault of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub at: Moment,
    /// How long it lasts; none means: until the end of the world, it is never healed.
    pub span: Option<Duration>,
    /// What goes wrong.
    pub what: What,
    /// Where.
    pub place: Place,
    /// How much; the unit stands beside each `What`. 0 where it says nothing.
    pub amount: u32,
}

impl Fault {
    /// When it ends; `None` when never.
    pub fn end(&self) -> Option<Moment> {
        self.span.map(|span| self.at + span)
    }

    /// Whether it goes wrong on a node, or between it and another one. Says nothing before the fault has begun: only then is
    /// it known who the holder is.
    pub fn strikes(&self, node: usize) -> bool {
        if self.what.is_everywhere() {
            return true;
        }
        let is_its_other_end = || {
            matches!(
                self.what,
                What::Cut | What::CutOut | What::PeerCut | What::PeerCutOut | What::ApiCut | What::Between
            ) && usize::try_from(self.amount).is_ok_and(|amount| amount == node + 1)
        };
        match self.place {
            Place::All => true,
            Place::Node(place) => place == node || is_its_other_end(),
            Place::Holder | Place::Other(_) => false,
        }
    }
}

pub(crate) fn seconds(span: Duration) -> String {
    let millis = span.as_millis();
    let (whole, rest) = (millis / 1000, millis % 1000);
    if rest == 0 { format!("{whole}s") } else { format!("{whole}.{rest:03}s") }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", seconds(self.at.since(Moment::START)))?;
        match self.span {
            Some(span) => write!(f, "+{} ", seconds(span))?,
            None => f.write_str("+ever ")?,
        }
        f.write_str(self.what.name())?;
        match self.place {
            Place::Node(node) => write!(f, " n{}", node + 1)?,
            Place::All => f.write_str(" all")?,
            Place::Holder => f.write_str(" holder")?,
            Place::Other(number) => write!(f, " other{number}")?,
        }
        if self.amount > 0 {
            write!(f, " {}", self.amount)?;
        }
        Ok(())
    }
}

/// A line of a schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line:?}: {why}; a fault reads `12.5s +3s kill n1 [amount]`")]
pub struct NotAFault {
    /// The line.
    pub line: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A span written as `12s` or `12.5s`, to the millisecond.
pub(crate) fn parse_seconds(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: u64 = format!("{rest:0<3}").parse().ok()?;
    Some(Duration::from_millis(whole.parse::<u64>().ok()?.checked_mul(1000)? + millis))
}

impl FromStr for Fault {
    type Err = NotAFault;

    fn from_str(line: &str) -> Result<Self, NotAFault> {
        let bad = |why| NotAFault { line: line.to_owned(), why };
        let mut words = line.split_whitespace();
        let at = words.next().and_then(parse_seconds).ok_or(bad("no time at the start"))?;
        let span = words.next().and_then(|word| word.strip_prefix('+')).ok_or(bad("no +span"))?;
        let span = match span {
            "ever" => None,
            span => Some(parse_seconds(span).ok_or(bad("the span is no time"))?),
        };
        let name = words.next().ok_or(bad("no fault is named"))?;
        let (_, what) = NAMES.iter().find(|(known, _)| *known == name).ok_or(bad("unknown fault"))?;
        let place = match words.next().ok_or(bad("no place"))? {
            "all" => Place::All,
            "holder" => Place::Holder,
            other if other.starts_with("other") => {
                let number = other.trim_start_matches("other").parse().map_err(|_| bad("no such place"))?;
                Place::Other(number)
            }
            node => {
                let number: usize =
                    node.strip_prefix('n').and_then(|n| n.parse().ok()).ok_or(bad("no such place"))?;
                Place::Node(number.checked_sub(1).ok_or(bad("nodes count from n1"))?)
            }
        };
        let amount = match words.next() {
            None => 0,
            Some(word) => word.parse().map_err(|_| bad("the amount is no number"))?,
        };
        Ok(Self { at: Moment::START + at, span, what: *what, place, amount })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_strikes_both_its_ends_and_nobody_else() {
        let strikes = |line: &str| -> Vec<usize> {
            let fault: Fault = line.parse().unwrap();
            (0..4).filter(|node| fault.strikes(*node)).collect()
        };
        assert_eq!(strikes("1s +1s cut n2 1"), [0, 1]);
        assert_eq!(strikes("1s +1s kill n2 1"), [1], "the amount of a kill is no node");
        assert_eq!(strikes("1s +1s loss n2 50"), [0, 1, 2, 3], "a network loses frames of everybody");
        assert_eq!(strikes("1s +1s cut holder 1"), [0; 0], "who that is is not known yet");
    }

    #[test]
    fn a_fault_reads_as_it_is_written() {
        for line in [
            "12.500s +3s kill n1",
            "0s +ever power-off n3",
            "1s +2s loss all 30",
            "4s +0.050s cut n2 1",
            "4s +1s peer-cut holder 101",
            "4s +1s kill other2",
        ] {
            assert_eq!(line.parse::<Fault>().unwrap().to_string(), line);
        }
        assert_eq!("1s +2s explode n1".parse::<Fault>().unwrap_err().why, "unknown fault");
        assert_eq!("1s +2s kill n0".parse::<Fault>().unwrap_err().why, "nodes count from n1");
    }
}
