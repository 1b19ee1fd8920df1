//! Who leads: what the election machines publish and the plan reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::store::{Failure, Revision};
use crate::{Instant, LeaseName};

/// The state of every election of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// By Lease.
    pub elections: BTreeMap<LeaseName, ElectionState>,
}

/// The state of one election, as its machine sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionState {
    /// Where we stand.
    pub role: Role,
    /// Who the Lease names, when it was seen: a node name, ours included.
    pub holder: Option<String>,
    /// Whether the Lease named a holder before this process first wrote it. A VIP whose Lease never did is new, and
    /// somebody else who answers for it is a conflict and not a former holder.
    pub history: History,
    /// What keeps the store from answering, while it does.
    pub trouble: Option<Failure>,
    /// Whether somebody may be about to take a Lease that names nobody and that we do not want.
    #[serde(default)]
    pub vacancy: Vacancy,
    /// How a holder came by it; how anybody else would find it now.
    #[serde(default)]
    pub found: Found,
    /// What the Lease says of how far its holder, or the last one, has got with the Services.
    #[serde(default)]
    pub said: Said,
    /// What keeps the owner of a group from serving it (mode `session`).
    #[serde(default)]
    pub restraint: Restraint,
    /// Whether the holder of a Lease that we do not want still renews it.
    #[serde(default)]
    pub pulse: Pulse,
    /// When somebody else who answered for the same addresses was last heard to have stopped: whoever asked in the
    /// meantime may have believed that one.
    #[serde(default)]
    pub cleared: Option<Instant>,
    /// While a holder is kept by looks: the addresses that nobody answers for any more. Only these are served.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub vacant: BTreeSet<IpAddr>,
}

impl ElectionState {
    /// Whether its Lease was not seen yet.
    pub fn is_unseen(&self) -> bool {
        self.role == Role::Undecided && self.history == History::Unknown
    }

    /// Whether an address may be served as far as this election decides: not while a former owner may still answer for it.
    pub fn may_serve(&self, addr: IpAddr) -> bool {
        self.restraint != Restraint::Looks || self.vacant.contains(&addr)
    }

    /// Whether it differs from the former one only by the instants of a tenure, which moved on.
    pub fn renews(&self, former: &Self) -> bool {
        let (
            Role::Holder { since, fence_until, serve_until },
            Role::Holder { since: same, fence_until: later_fence, serve_until: later },
        ) = (former.role, self.role)
        else {
            return false;
        };
        let moved_on = since == same && later_fence >= fence_until && later >= serve_until;
        moved_on && *former == Self { role: former.role, ..self.clone() }
    }
}

/// How far the holder of a Lease has got with the Services, by its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The revision up to which it has acted.
    pub acted: Option<Revision>,
    /// That at which an address last left the Lease for another one, while that is not long ago.
    pub moved: Option<Revision>,
    /// That at which it was given up because nobody asks for it any more.
    pub retired: Option<Revision>,
    /// Whether a refused write proves that there is a newer version of it, which is not seen here yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_outdated: bool,
}

/// What keeps the owner of a group from serving it (mode `session`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restraint {
    /// Nothing, or it is not ours.
    #[default]
    None,
    /// It looks whether somebody still answers.
    Looks,
    /// Neither jurors nor the store prove its right.
    Proof,
}

/// Whether the holder that a Lease names lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pulse {
    /// It may: its time has not passed.
    #[default]
    Beating,
    /// It has let its time pass.
    Lapsed,
}

/// For how long a Lease names nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vacancy {
    /// It names somebody, or did a moment ago: who can serve is on its way.
    #[default]
    Passing,
    /// For so long that nobody seems able to.
    Lasting,
}

/// How a Lease was found by the one who took it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// New, expired, or released by a holder who left it to others.
    #[default]
    Wanted,
    /// Released by a holder who knew of nobody who asks for it any more, at this revision of the Services: whoever still
    /// wants it may have missed that.
    Retired(Revision),
    /// New, expired, or released by a holder who left it to others, a short time after an address had left it for another
    /// Lease: at this revision of the Services.
    Moved(Revision),
    /// A claim of the mode `session`, when the session that owns it and all others had ended or expired: its owner may
    /// serve on all the same.
    Orphaned,
}

/// Where we stand in an election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Role {
    /// The Lease was not seen yet: entitlement is undecided. What is installed is kept, nothing is added.
    #[default]
    Undecided,
    /// Another node holds it, or it is free and we contend or wait.
    Follower,
    /// We hold it.
    Holder {
        /// Since when.
        since: Instant,
        /// The kernel must have forgotten our addresses by this instant (plus its own lateness, which is priced in).
        /// Moves in steps, with answered renewals.
        fence_until: Instant,
        /// We stop acting on it at this instant: the renew deadline, counted from the moment of asking.
        serve_until: Instant,
    },
    /// We hold it but let go: addresses go first, then the Lease is released.
    Leaving,
}

/// What was known of a Lease before this process wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Not seen yet.
    #[default]
    Unknown,
    /// It did not exist, or never named a holder.
    New,
    /// It named a holder before (whoever that was).
    Held,
}
