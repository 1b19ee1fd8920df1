//! Names: of nodes, of agent instances, of Leases, of questions.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ObjectName;

/// The name of a Kubernetes node, lower case: the identity in a Lease. Cheap to clone: every endpoint carries one.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct NodeName {
    /// The first eight bytes of the text, most significant first: every heartbeat looks names up, and nearly all comparisons
    /// end here.
    head: u64,
    text: Arc<str>,
}

impl Ord for NodeName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| {
            // Most are the very text that is looked for.
            if Arc::ptr_eq(&self.text, &other.text) { Ordering::Equal } else { self.text.cmp(&other.text) }
        })
    }
}

impl PartialOrd for NodeName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl NodeName {
    /// Lower-cases `name`, as upstream does.
    pub fn new(name: &str) -> Self {
        name.to_lowercase().into()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<String> for NodeName {
    fn from(text: String) -> Self {
        let mut head = [0; 8];
        let length = text.len().min(head.len());
        head[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { head: u64::from_be_bytes(head), text: text.into() }
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.text.as_ref().to_owned()
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeName").field(&self.text).finish()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which agent of a node this is. A node often runs two (a control-plane pod and a Services `DaemonSet`); kernel
/// objects and the status socket carry the instance, so that neither touches what belongs to the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceName(String);

impl InstanceName {
    /// An instance by name; see `docs/decisions` for how the name is derived when the user gives none.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The owner byte that this instance writes into `IFA_PROTO` of its addresses: a 32-bit FNV-1a hash of the
    /// name, folded into 64..=253. Values below 64 belong to the kernel and to other tools.
    pub fn address_tag(&self) -> u8 {
        const FIRST: u32 = 64;
        const COUNT: u32 = 190;
        let hash = self
            .0
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        u8::try_from(FIRST + hash % COUNT).expect("64 + 189 fits a byte")
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a [`LeaseName`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfLease {}

/// Namespace and name of a `coordination.k8s.io/v1` Lease.
pub type LeaseName = ObjectName<OfLease>;

/// The id of one request to the outside. Its answer carries it back (the fourth law of a turn).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuestionId(pub u64);

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_ordered_as_their_texts() {
        let texts =
            ["", "n", "n1", "n10", "n2", "worker-1", "worker-10", "worker-1a", "worker-2", "wörker-1"];
        for a in texts {
            for b in texts {
                let (left, right) = (NodeName::new(a), NodeName::new(b));
                assert_eq!(left.cmp(&right), a.cmp(b), "{a} {b}");
                assert_eq!(left == right, a == b, "{a} {b}");
            }
        }
    }

    #[test]
    fn address_tags_stay_clear_of_the_kernels_own() {
        for name in ["control-plane", "services", "all", "", "blue", "green"] {
            let tag = InstanceName::new(name).address_tag();
            assert!((64..=253).contains(&tag), "{name}: {tag}");
        }
        assert_ne!(
            InstanceName::new("control-plane").address_tag(),
            InstanceName::new("services").address_tag()
        );
    }
}
