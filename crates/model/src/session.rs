//! Sessions and claims, as the store holds them (election mode `session`).
//!
//! A *session* is one agent's proof of life: one Lease per node and instance, renewed with the user's timings. A
//! *claim* is one Lease per address group that names the session which owns it, written only when it changes hands.
//! Both are ordinary `coordination.k8s.io/v1` Leases; what their fields can't say stands in annotations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::drill::DrillReport;
use crate::peers::KeyId;
use crate::store::{Expect, Purpose, Version};
use crate::{InstanceName, LeaseName, LinkAddr, NodeName};

/// The label that all session Leases carry; its value is the instance (`InstanceName`).
pub const SESSION_LABEL: &str = "kube-vip.io/session-of";
/// The annotation of a session Lease: a [`SessionRecord`] as JSON.
pub const SESSION: &str = "kube-vip.io/session";
/// The annotation of a claim: the id of the session that owns it. Absent or empty on a Lease of mode `lease`.
pub const CLAIM: &str = "kube-vip.io/claimed-by";
/// The annotation of a claim that is handed over: the id of the session that serves it until the new owner announces
/// it. Absent or empty at other times.
pub const CLAIM_FROM: &str = "kube-vip.io/claimed-from";
/// The annotation of a claim with which somebody asks its owner to hand it over: a node name, or `*` for any. The owner
/// removes it with its next write, whether it can do so or not.
pub const HAND_OVER_TO: &str = "kube-vip.io/hand-over-to";
/// `spec.leaseDurationSeconds` of a claim. It is not renewed, and an agent in mode `lease` (upstream's, too) respects
/// what the Lease says: for as long as a 32-bit number of seconds allows.
pub const CLAIM_DURATION: Duration = Duration::from_secs(i32::MAX as u64);

/// A session id: random, never used twice; as text 16 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.to_string()
    }
}

/// A text that is no session id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no session id (16 hex digits)")]
pub struct NotASessionId(pub String);

impl FromStr for SessionId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        let id = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| NotASessionId(text.to_owned()))
    }
}

impl TryFrom<String> for SessionId {
    type Error = NotASessionId;

    fn try_from(text: String) -> Result<Self, NotASessionId> {
        text.parse()
    }
}

/// One boot of a node: a 64-bit hash of the kernel's random boot id; as text 16 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub SessionId);

/// The name of the session Lease of a node's instance.
pub fn session_lease(namespace: &str, instance: &InstanceName, node: &NodeName) -> LeaseName {
    LeaseName::new(namespace, format!("kube-vip-session-{instance}-{node}"))
}

/// What a session Lease says beside its `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// The node.
    pub node: NodeName,
    /// The boot of the node in which it began.
    pub boot: BootId,
    /// Where the node's peers socket listens; the first of a family that both sides have is used. Empty while it does
    /// not listen.
    #[serde(default)]
    pub doors: Vec<SocketAddr>,
    /// The networks of the node on which a VIP of ours could be: the node's own address there, with its prefix length
    /// and link-layer address. Contenders look at the VIP itself at this link-layer address, a doubting holder at the
    /// juror's own address.
    #[serde(default)]
    pub sites: Vec<Site>,
    /// Who lends the session its right.
    #[serde(default)]
    pub jury: Jury,
    /// Former ids of this node's sessions with their heirs, oldest first, at most [`FORMER_LIMIT`].
    #[serde(default)]
    pub former: Vec<Succession>,
    /// How it ended, when it did.
    #[serde(default)]
    pub end: Option<End>,
    /// The keys for heartbeats that this node can read.
    #[serde(default)]
    pub keys: Vec<KeyId>,
    /// Whether a jury was ever heard by this session; never becomes false again.
    #[serde(default)]
    pub was_heard: bool,
    /// What the node saw of the last drill, for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillReport>,
}

/// How many former sessions of a node are remembered in its session Lease.
pub const FORMER_LIMIT: usize = 16;

/// The node's own place on a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Site {
    /// Its own address there, with the network's prefix length.
    pub net: IpNet,
    /// Its link-layer address there.
    pub addr: LinkAddr,
}

impl Site {
    /// Whether its network is one that every link has.
    pub fn is_link_local(&self) -> bool {
        match self.net.addr() {
            IpAddr::V4(addr) => addr.is_link_local(),
            IpAddr::V6(addr) => addr.is_unicast_link_local(),
        }
    }

    /// Whether a VIP is on this network.
    pub fn holds(&self, vip: IpAddr) -> bool {
        self.net.contains(&vip)
    }
}

/// Up to five other members that lend a session its right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jury {
    /// Counted up from 1 with every change of the list; 0 for a jury that never was.
    pub generation: u32,
    /// Their nodes, sorted.
    pub members: Vec<NodeName>,
}

impl Jury {
    /// Most members of a jury.
    pub const MOST: usize = 5;

    /// How many must vouch for a holder: half, rounded up.
    pub fn vouching(&self) -> usize {
        self.members.len().div_ceil(2)
    }

    /// How many must grant to an heir: more than half. With `vouching` it is more than all, so that they share a juror.
    pub fn granting(&self) -> usize {
        self.members.len() / 2 + 1
    }
}

/// A session and who follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Succession {
    /// The session that ended.
    pub id: SessionId,
    /// Its heir; none when it ended without one.
    pub heir: Option<SessionId>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// In good order: its claims are free.
    Released,
    /// Another session follows.
    SucceededBy(SessionId),
}

impl End {
    /// The end of the session `id` as a succession.
    pub const fn succession(self, id: SessionId) -> Succession {
        let heir = match self {
            Self::Released => None,
            Self::SucceededBy(heir) => Some(heir),
        };
        Succession { id, heir }
    }
}

/// One sight of a session Lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSeen {
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// `spec.renewTime` exactly as stored; compared, never computed with.
    pub renewed: Option<String>,
    /// `spec.leaseDurationSeconds`.
    pub duration: Duration,
    /// The rest.
    pub record: SessionRecord,
}

/// All session Leases of an instance, as a watch shows them. Those that cannot be read are not in it. Two sets share what did
/// not change between them.
pub type Sessions = BTreeMap<LeaseName, Arc<SessionSeen>>;

/// A compare-and-swap write of a session Lease. `spec.holderIdentity` is the record's node, `spec.renewTime` the
/// gateway's wall clock at the moment of sending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionWrite {
    /// The Lease.
    pub lease: LeaseName,
    /// The instance: the value of the label.
    pub instance: InstanceName,
    /// What must still hold.
    pub expect: Expect,
    /// `Renew` for the own session, `Depose` for another's, `Release` at the end.
    pub purpose: Purpose,
    /// `spec.leaseDurationSeconds`, whole seconds, at least 1.
    pub duration: Duration,
    /// The rest.
    pub record: SessionRecord,
    /// Which way it goes.
    pub via: Via,
}

/// Which API servers a question may go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Any, the usual order.
    #[default]
    Any,
    /// Only servers on other nodes, over a connection made for this question: its answer proves that this node reaches
    /// others. With no such server known, the answer is `Failed`.
    Elsewhere,
}

/// What an agent reads at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// This boot of the node.
    pub boot: BootId,
    /// What an earlier life of the agent left behind since then; none when there was none or it cannot be read.
    pub memory: Option<Memory>,
}

/// What a restarted agent goes on with, kept in a file that a reboot removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The own session as last written or about to be written.
    pub record: SessionRecord,
    /// The other members as last seen.
    pub members: Vec<SessionRecord>,
    /// The claims that were owned.
    pub claims: Vec<LeaseName>,
    /// Successions that are known.
    pub successions: Vec<Succession>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_hex_digits() {
        let id = SessionId(0x1f);
        assert_eq!(id.to_string(), "000000000000001f");
        assert_eq!("000000000000001f".parse(), Ok(id));
        assert!("1f".parse::<SessionId>().is_err());
        assert!("00000000000000zz".parse::<SessionId>().is_err());
    }

    #[test]
    fn vouching_and_granting_jurors_always_share_one() {
        for size in 0..=Jury::MOST {
            let members = (0..size).map(|number| NodeName::new(&format!("n{number}"))).collect();
            let jury = Jury { generation: 0, members };
            assert!(jury.vouching() + jury.granting() > size, "{size}");
        }
    }
}
