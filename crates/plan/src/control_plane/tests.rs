//! The control plane's part of the plan, one rule per test (F-L2-6, F-L2-7, F-L2-10, F-L2-12, F-L2-14, F-CP-3, F-CP-4).

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vip_model::config::{
    Advertise, ApiLoss, Config, Election, ElectionMode, Failback, InterfaceChoice, Layer2, LeaseTimings,
    LinkDown, OnLoss, OnStop, PeerMode, Scope, SessionSettings,
};
use vip_model::kernel::{Change, Dad, DefaultRoute, Lifetime, LinkKind, LinkState, SetAddress};
use vip_model::members::Members;
use vip_model::observed::{Observed, ProbeState};
use vip_model::store::{NodeFacts, Snapshot};
use vip_model::{Family, InstanceName, Instant, Known, LeaseName, LinkAddr, LinkIndex, NodeName, ScopedAddr};

use super::*;
use crate::diff;

const ETH0: LinkIndex = LinkIndex(2);
const ETH1: LinkIndex = LinkIndex(3);

/// A world that a test changes where it needs to.
struct Scene {
    config: Config,
    snapshot: Snapshot,
    members: Members,
    observed: Observed,
    actual: Known<Actual>,
    life: Life,
    kernel_work: KernelWork,
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn lease() -> LeaseName {
    LeaseName::new("kube-system", "plndr-cp-lock")
}

fn vip4() -> VipNet {
    VipNet("10.0.0.100/32".parse().unwrap())
}

fn vip6() -> VipNet {
    VipNet("fd00::100/128".parse().unwrap())
}

fn mac(last: u8) -> LinkAddr {
    LinkAddr::Ethernet([2, 0, 0, 0, 0, last])
}

fn link(index: LinkIndex, name: &str) -> Link {
    let addr = Some(mac(u8::try_from(index.0).unwrap()));
    let kind = if name == "lo" { LinkKind::Loopback } else { LinkKind::Broadcast };
    Link { index, name: name.to_owned(), addr, broadcast: None, state: LinkState::Up, kind }
}

fn address(link: LinkIndex, net: &str, tag: u8, valid: Lifetime) -> Address {
    Address {
        link,
        net: net.parse().unwrap(),
        scope: Scope::Global,
        tag,
        valid,
        dad: Dad::Ready,
        secondary: false,
    }
}

fn holder() -> Role {
    Role::Holder { since: at(1000), fence_until: at(14_700), serve_until: at(11_000) }
}

impl Scene {
    fn new() -> Self {
        let control_plane = ControlPlane {
            vips: vec![vip4()],
            port: 6443,
            interface: InterfaceChoice::Auto,
            link_down: LinkDown::Yield,
            loopback_scope: Scope::Host,
            election: Election {
                lease: lease(),
                annotations: BTreeMap::new(),
                timings: LeaseTimings::default(),
            },
            on_loss: OnLoss::Remove,
            health: None,
            node_label: NodeLabel::Off,
        };
        let layer2 = Layer2 { announce_interval: Duration::from_secs(3), skip_conflict_probe: false };
        let config = Config {
            node: NodeName::new("n1"),
            instance: InstanceName::new("control-plane"),
            advertise: Advertise::Arp(layer2),
            services: None,
            election_mode: vip_model::config::ElectionMode::Lease,
            preferred: Vec::new(),
            control_plane: Some(control_plane),
        };
        let links = [link(LinkIndex(1), "lo"), link(ETH0, "eth0"), link(ETH1, "eth1")];
        let actual = Actual {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses: vec![
                address(ETH0, "192.168.1.11/24", 0, Lifetime::Forever),
                address(ETH1, "10.0.0.11/24", 0, Lifetime::Forever),
                address(ETH1, "fd00::11/64", 0, Lifetime::Forever),
            ],
            default_routes: vec![DefaultRoute { family: Family::V4, link: ETH0, metric: 0 }],
            ..Actual::default()
        };
        let state = ElectionState { history: History::Held, ..ElectionState::default() };
        Self {
            config,
            snapshot: Snapshot::default(),
            members: Members { elections: BTreeMap::from([(lease(), state)]) },
            observed: Observed::default(),
            actual: Known::Known(actual),
            life: Life::Running,
            kernel_work: KernelWork::Settled,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn control_plane(&mut self) -> &mut ControlPlane {
        self.config.control_plane.as_mut().unwrap()
    }

    fn kernel(&mut self) -> &mut Actual {
        match &mut self.actual {
            Known::Known(actual) => actual,
            Known::Unknown => panic!("the scene has a kernel"),
        }
    }

    fn state(&mut self) -> &mut ElectionState {
        self.members.elections.get_mut(&lease()).unwrap()
    }

    fn tag(&self) -> u8 {
        self.config.instance.address_tag()
    }

    fn holding() -> Self {
        Self::new().with(|scene| {
            scene.state().role = holder();
            scene.state().holder = Some("n1".to_owned());
        })
    }

    fn installed(net: &str) -> Self {
        Self::holding().with(|scene| {
            let tag = scene.tag();
            scene.kernel().addresses.push(address(ETH1, net, tag, Lifetime::Until(at(14_000))));
        })
    }

    fn plan(&self) -> NodePlan {
        crate::plan(&World {
            config: &self.config,
            life: self.life,
            snapshot: &self.snapshot,
            members: &self.members,
            observed: &self.observed,
            actual: &self.actual,
            kernel_work: self.kernel_work,
            former: None,
            adopt_until: Lifetime::Until(at(13_700)),
        })
    }

    fn changes(&self) -> Vec<Change> {
        let applied = self.actual.get().unwrap().addresses.iter();
        let applied = applied
            .filter(|address| address.tag == self.tag())
            .map(|address| {
                (ScopedAddr { addr: address.addr(), link: address.link }, Lifetime::Until(at(14_700)))
            })
            .collect();
        diff::addresses(&self.plan().addresses, self.actual.get().unwrap(), &applied, self.tag())
    }

    fn verdict(&self) -> Verdict {
        self.plan().verdicts[&Subject::ControlPlane(vip4().addr())].clone()
    }

    fn standing(&self) -> Standing {
        self.plan().elections[&lease()].standing
    }
}

fn sets(changes: &[Change]) -> Vec<&SetAddress> {
    changes
        .iter()
        .filter_map(|change| if let Change::SetAddress(set) = change { Some(set) } else { None })
        .collect()
}

fn dels(changes: &[Change]) -> Vec<String> {
    let of = |change: &Change| match change {
        Change::DelAddress { link, net } => Some(format!("{net} {}", link.0)),
        Change::SetAddress(_) | Change::SetFilter { .. } => None,
    };
    changes.iter().filter_map(of).collect()
}

#[test]
fn a_holder_installs_its_vip_with_the_fence_on_the_link_whose_network_contains_it() {
    let scene = Scene::holding();
    let changes = scene.changes();
    let [set] = sets(&changes)[..] else { panic!("{changes:?}") };
    assert_eq!((set.link, set.net, set.valid), (ETH1, vip4(), Lifetime::Until(at(14_700))));
    assert_eq!(set.not_after, at(11_000));
    assert_eq!(scene.verdict(), Verdict::Skip(Reason::Installing));
    assert!(scene.plan().claims.is_empty(), "nothing is announced before it is installed");
}

#[test]
fn links_are_chosen_by_name_then_by_network_then_by_default_route() {
    let link_of = |scene: &Scene| scene.plan().addresses.set.keys().map(|at| at.link).collect::<Vec<_>>();
    assert_eq!(link_of(&Scene::holding()), [ETH1]);
    let named =
        Scene::holding().with(|s| s.control_plane().interface = InterfaceChoice::Named("eth0".into()));
    assert_eq!(link_of(&named), [ETH0]);
    let elsewhere =
        Scene::holding().with(|s| s.control_plane().vips = vec![VipNet("172.16.0.1/32".parse().unwrap())]);
    assert_eq!(link_of(&elsewhere), [ETH0]);
}

#[test]
fn an_installed_address_is_announced_and_not_touched_again() {
    let scene = Scene::installed("10.0.0.100/32");
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.verdict(), Verdict::Announce);
    let plan = scene.plan();
    let claim = &plan.claims[&ScopedAddr { addr: vip4().addr(), link: ETH1 }];
    assert_eq!((&claim.addr, claim.not_after), (&mac(3), at(11_000)));
}

#[test]
fn an_answered_renewal_moves_the_lifetime() {
    let scene = Scene::installed("10.0.0.100/32").with(|scene| {
        scene.state().role =
            Role::Holder { since: at(1000), fence_until: at(16_700), serve_until: at(13_000) };
    });
    let changes = scene.changes();
    assert_eq!(sets(&changes)[0].valid, Lifetime::Until(at(16_700)));
}

#[test]
fn tentative_and_duplicate_addresses_are_not_announced_and_a_duplicate_is_repaired() {
    for (dad, steps) in [(Dad::Tentative, 0), (Dad::Failed, 1)] {
        let scene = Scene::installed("10.0.0.100/32").with(|s| s.kernel().addresses[3].dad = dad);
        assert!(scene.plan().claims.is_empty());
        assert_eq!(scene.changes().len(), steps, "{dad:?}");
    }
}

#[test]
fn a_follower_removes_what_is_its_own_and_nothing_else() {
    let scene = Scene::installed("10.0.0.100/32").with(|scene| {
        scene.state().role = Role::Follower;
        scene.state().holder = Some("n2".to_owned());
        let (own, other) = (scene.tag(), InstanceName::new("services").address_tag());
        let forever = Lifetime::Forever;
        let foreign = ["10.0.0.55/32"].map(|net| address(ETH1, net, other, forever));
        scene.kernel().addresses.extend(foreign);
        scene.kernel().addresses.push(address(ETH0, "10.9.9.9/32", own, forever)); // a VIP of a former configuration
        scene.kernel().addresses.push(address(ETH0, "10.0.0.100/24", 0, forever)); // left by an agent that does not tag
    });
    assert_eq!(dels(&scene.changes()), ["10.0.0.100/32 3", "10.9.9.9/32 2", "10.0.0.100/24 2"]);
    assert_eq!(scene.verdict(), Verdict::Skip(Reason::HeldBy("n2".to_owned())));
}

#[test]
fn unknown_leases_delete_nothing_and_add_nothing() {
    let scene = Scene::installed("10.0.0.100/32").with(|scene| scene.state().role = Role::Undecided);
    assert_eq!(scene.changes(), []);
    let empty = Scene::new().with(|scene| scene.state().role = Role::Undecided);
    assert_eq!(empty.changes(), []);
}

#[test]
fn what_cannot_be_served_anyway_is_removed_as_soon_as_the_lease_was_seen() {
    let scene = |history| {
        Scene::installed("10.0.0.100/32").with(|scene| {
            (scene.state().role, scene.state().history) = (Role::Undecided, history);
            let excluded = Some("annotation kube-vip.io/drain".to_owned());
            let facts = NodeFacts { excluded, ..NodeFacts::default() };
            scene.snapshot.nodes = Known::Known(BTreeMap::from([(NodeName::new("n1"), facts)]).into());
        })
    };
    assert_eq!(scene(History::Unknown).changes(), []);
    assert_eq!(dels(&scene(History::Held).changes()), ["10.0.0.100/32 3"]);
    let settings = SessionSettings {
        namespace: "kube-system".to_owned(),
        timings: LeaseTimings::default(),
        peers: PeerMode::Off,
        control_plane_lifetime: Duration::from_secs(3),
        service_lifetime: Duration::from_secs(8),
        api_loss: ApiLoss::HoldIfPeersAgree,
        failback: Failback::Never,
        move_pause: std::time::Duration::from_millis(500),
        on_stop: OnStop::HandOver,
    };
    let in_session =
        scene(History::Held).with(|scene| scene.config.election_mode = ElectionMode::Session(settings));
    assert_eq!(in_session.changes(), []);
}

#[test]
fn what_is_found_undecided_gets_an_end_but_never_a_longer_life() {
    let scene = Scene::new().with(|scene| {
        scene.state().role = Role::Undecided;
        scene.kernel().addresses.push(address(ETH1, "10.0.0.100/32", 0, Lifetime::Forever));
    });
    let changes = scene.changes();
    assert_eq!(sets(&changes)[0].valid, Lifetime::Until(at(13_700)));
}

#[test]
fn an_untagged_vip_is_adopted_without_being_removed() {
    let scene = Scene::holding().with(|scene| {
        scene.kernel().addresses.push(address(ETH1, "10.0.0.100/32", 0, Lifetime::Forever));
    });
    let changes = scene.changes();
    assert_eq!((sets(&changes).len(), dels(&changes).len()), (1, 0));
}

#[test]
fn a_vip_with_another_prefix_is_replaced_make_before_break() {
    let scene = Scene::installed("10.0.0.100/24");
    assert!(matches!(&scene.changes()[..], [Change::SetAddress(_), Change::DelAddress { .. }]));
}

#[test]
fn an_untagged_address_that_a_node_lists_as_its_own_is_left_alone() {
    let scene = Scene::new().with(|scene| {
        scene.state().role = Role::Follower;
        scene.kernel().addresses.push(address(ETH1, "10.0.0.100/24", 0, Lifetime::Forever));
        let facts = NodeFacts { addresses: BTreeSet::from([vip4().addr()]), ..NodeFacts::default() };
        scene.snapshot.nodes = Known::Known(BTreeMap::from([(NodeName::new("n1"), facts)]).into());
    });
    assert_eq!(scene.changes(), []);
}

#[test]
fn a_new_vip_that_is_a_nodes_address_is_refused_and_an_old_one_is_not() {
    for (history, expected) in [(History::New, Standing::Leave), (History::Held, Standing::Contend)] {
        let scene = Scene::new().with(|scene| {
            scene.state().history = history;
            let facts = NodeFacts { addresses: BTreeSet::from([vip4().addr()]), ..NodeFacts::default() };
            scene.snapshot.nodes = Known::Known(BTreeMap::from([(NodeName::new("n3"), facts)]).into());
        });
        assert_eq!(scene.standing(), expected, "{history:?}");
    }
}

#[test]
fn a_new_vip_waits_for_its_probe_and_an_answer_is_a_conflict() {
    let key = ScopedAddr { addr: vip4().addr(), link: ETH1 };
    let scene = |probe: Option<ProbeState>| {
        Scene::holding().with(|scene| {
            scene.state().history = History::New;
            scene.observed.probes.extend(probe.map(|probe| (key, probe)));
        })
    };
    assert_eq!(scene(None).plan().probes, BTreeSet::from([key]));
    assert_eq!(scene(None).verdict(), Verdict::Skip(Reason::Probing));
    let answered = scene(Some(ProbeState::Answered(mac(9))));
    assert_eq!(answered.verdict(), Verdict::Skip(Reason::Conflict(mac(9))));
    assert_eq!(answered.changes(), []);
    assert_eq!(sets(&scene(Some(ProbeState::Silent)).changes()).len(), 1);
    let skipping = scene(None).with(|scene| {
        let Advertise::Arp(layer2) = &mut scene.config.advertise;
        layer2.skip_conflict_probe = true;
    });
    assert_eq!((sets(&skipping.changes()).len(), skipping.plan().probes.len()), (1, 0));
}

#[test]
fn obstacles_make_the_node_leave_with_a_reason() {
    let named =
        |scene: &mut Scene, name: &str| scene.control_plane().interface = InterfaceChoice::Named(name.into());
    let down = |scene: &mut Scene| scene.kernel().links.get_mut(&ETH1).unwrap().state = LinkState::Down;
    let missing = Scene::installed("10.0.0.100/32").with(|scene| named(scene, "eth9"));
    let down_link = Scene::installed("10.0.0.100/32").with(down);
    let stopping = Scene::installed("10.0.0.100/32").with(|scene| scene.life = Life::Stopping);
    for (scene, reason) in [
        (missing, Reason::LinkMissing("eth9".into())),
        (down_link, Reason::LinkDown("eth1".into())),
        (stopping, Reason::Stopping),
    ] {
        assert_eq!(scene.standing(), Standing::Leave);
        assert_eq!(scene.verdict(), Verdict::Skip(reason.clone()));
        assert_eq!(dels(&scene.changes()), ["10.0.0.100/32 3"], "{reason:?}");
        assert_eq!(scene.plan().claims.len(), 0);
    }
    let ignored =
        Scene::installed("10.0.0.100/32").with(down).with(|s| s.control_plane().link_down = LinkDown::Ignore);
    assert_eq!(ignored.standing(), Standing::Contend);
}

#[test]
fn a_closed_gate_makes_reluctant_and_a_leaving_node_is_silent_first() {
    let red = |scene: &mut Scene| scene.observed.control_plane_gate = Gate::Red { reason: "refused".into() };
    assert_eq!(Scene::holding().with(red).standing(), Standing::Reluctant);
    let leaving =
        Scene::installed("10.0.0.100/32").with(red).with(|scene| scene.state().role = Role::Leaving);
    assert_eq!(dels(&leaving.changes()), ["10.0.0.100/32 3"]);
    assert_eq!(leaving.plan().elections[&lease()].footprint, Footprint::Present);
    assert_eq!(leaving.verdict(), Verdict::Skip(Reason::Unhealthy("refused".into())));
}

#[test]
fn the_footprint_is_clear_only_when_nothing_is_there_and_nothing_is_under_way() {
    let footprint = |scene: &Scene| scene.plan().elections[&lease()].footprint;
    assert_eq!(footprint(&Scene::new()), Footprint::Clear);
    assert_eq!(footprint(&Scene::installed("10.0.0.100/32")), Footprint::Present);
    assert_eq!(footprint(&Scene::new().with(|s| s.kernel_work = KernelWork::InFlight)), Footprint::Present);
    assert_eq!(footprint(&Scene::new().with(|s| s.actual = Known::Unknown)), Footprint::Present);
}

#[test]
fn preserve_keeps_ipv4_until_another_leader_is_seen() {
    let scene = |holder: Option<&str>| {
        Scene::installed("10.0.0.100/32").with(|scene| {
            scene.control_plane().on_loss = OnLoss::Preserve;
            scene.control_plane().vips.push(vip6());
            let tag = scene.tag();
            scene.kernel().addresses.push(address(ETH1, "fd00::100/128", tag, Lifetime::Forever));
            scene.state().role = Role::Follower;
            scene.state().holder = holder.map(str::to_owned);
        })
    };
    assert_eq!(dels(&scene(None).changes()), ["fd00::100/128 3"]);
    assert_eq!(dels(&scene(Some("n2")).changes()).len(), 2);
}

#[test]
fn on_loopback_the_scope_follows_the_setting_and_nothing_is_announced() {
    for scope in [Scope::Host, Scope::Global] {
        let scene = Scene::holding().with(|scene| {
            scene.control_plane().interface = InterfaceChoice::Named("lo".into());
            scene.control_plane().loopback_scope = scope;
        });
        assert_eq!(sets(&scene.changes())[0].scope, scope);
        assert!(scene.plan().claims.is_empty());
    }
}

#[test]
fn an_ipv6_address_is_not_set_again_for_a_scope_that_the_kernel_never_shows() {
    let scene = Scene::installed("10.0.0.100/32").with(|scene| {
        scene.control_plane().vips = vec![vip6()];
        scene.control_plane().interface = InterfaceChoice::Named("lo".into());
        let tag = scene.tag();
        scene.kernel().addresses =
            vec![address(LinkIndex(1), "fd00::100/128", tag, Lifetime::Until(at(14_000)))];
    });
    assert_eq!(scene.changes(), []);
}

#[test]
fn only_the_node_that_serves_carries_the_label_with_a_legal_value() {
    let dual = Scene::installed("10.0.0.100/32").with(|scene| {
        scene.control_plane().node_label = NodeLabel::HasIp;
        scene.control_plane().vips.push(vip6());
    });
    let value = dual.plan().node_labels[LABEL_HAS_IP].clone().unwrap();
    assert_eq!(value, "10.0.0.100_fd000000000000000000000000000100");
    assert!(value.len() <= 63);
    let follower = dual.with(|scene| scene.state().role = Role::Follower);
    assert_eq!(follower.plan().node_labels[LABEL_HAS_IP], None);
}
