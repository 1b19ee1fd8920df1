//! Plans as golden files: `<case>/case.yaml` says what the user asked for, `world.yaml` what is, in the format that
//! `kube-vip plan --cluster` reads; `plan.yaml` is what should be and `changes.yaml` the steps that lead there.
//! `BLESS=1` writes the last two anew.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vip_model::config::{
    Advertise, Config, ControlPlane, Election, HealthCheck, InterfaceChoice, Layer2, LeaseTimings, LinkDown,
    NodeLabel, OnLoss, Scope,
};
use vip_model::kernel::{Actual, Change, Lifetime};
use vip_model::members::Members;
use vip_model::observed::Observed;
use vip_model::plan::NodePlan;
use vip_model::store::Snapshot;
use vip_model::{InstanceName, Known, LeaseName, NodeName, ScopedAddr, VipNet};
use vip_plan::diff::{self, Applied};
use vip_plan::{KernelWork, Life, World};

/// What the user asked for, as far as it is not what most people ask for, and what the process knows of itself.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    vips: Vec<VipNet>,
    interface: InterfaceChoice,
    on_loss: OnLoss,
    node_label: NodeLabel,
    health: Option<HealthCheck>,
    stopping: bool,
    adopt_until: Lifetime,
    /// The lifetimes that were last applied.
    applied: BTreeMap<ScopedAddr, Lifetime>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            vips: vec![VipNet("10.0.0.100/32".parse().expect("an address with a length"))],
            interface: InterfaceChoice::Named("eth0".to_owned()),
            on_loss: OnLoss::Remove,
            node_label: NodeLabel::Off,
            health: None,
            stopping: false,
            adopt_until: Lifetime::Forever,
            applied: Applied::new(),
        }
    }
}

/// The world at one moment. The same keys as the dump of `kube-vip plan`, whose tests read these files too.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Dump {
    kernel: Option<Actual>,
    members: Members,
    observed: Observed,
    snapshot: Snapshot,
}

/// The steps from what is to what should be.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Changes {
    addresses: Vec<Change>,
    node_labels: BTreeMap<String, Option<String>>,
}

impl Case {
    /// Node `n1` with upstream's default timings.
    fn config(&self) -> Config {
        let layer2 = Layer2 { announce_interval: Duration::from_secs(3), skip_conflict_probe: false };
        Config {
            node: NodeName::new("n1"),
            instance: InstanceName::new("control-plane"),
            advertise: Advertise::Arp(layer2),
            election_mode: vip_model::config::ElectionMode::Lease,
            preferred: Vec::new(),
            services: None,
            control_plane: Some(ControlPlane {
                vips: self.vips.clone(),
                port: 6443,
                interface: self.interface.clone(),
                link_down: LinkDown::Yield,
                loopback_scope: Scope::Host,
                election: Election {
                    lease: LeaseName::new("kube-system", "plndr-cp-lock"),
                    annotations: BTreeMap::new(),
                    timings: LeaseTimings::default(),
                },
                on_loss: self.on_loss,
                health: self.health.clone(),
                node_label: self.node_label,
            }),
        }
    }

    fn plan(&self, config: &Config, dump: &Dump, actual: &Known<Actual>) -> NodePlan {
        vip_plan::plan(&World {
            config,
            life: if self.stopping { Life::Stopping } else { Life::Running },
            snapshot: &dump.snapshot,
            members: &dump.members,
            observed: &dump.observed,
            actual,
            kernel_work: KernelWork::Settled,
            former: None,
            adopt_until: self.adopt_until,
        })
    }

    fn changes(&self, config: &Config, dump: &Dump, (plan, actual): (&NodePlan, &Known<Actual>)) -> Changes {
        let tag = config.instance.address_tag();
        let addresses = actual
            .get()
            .map(|actual| diff::addresses(&plan.addresses, actual, &self.applied, tag))
            .unwrap_or_default();
        let node = dump.snapshot.nodes.get().and_then(|nodes| nodes.get(&config.node));
        Changes { addresses, node_labels: diff::node_labels(&plan.node_labels, node) }
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares with the golden file, or writes it.
fn compare<T: Debug + PartialEq + Serialize + for<'a> Deserialize<'a>>(path: &Path, value: &T) {
    if std::env::var_os("BLESS").is_some() {
        let text = serde_saphyr::to_string(value).expect("it has a YAML form");
        fs::write(path, text).expect("a writable folder");
    }
    let golden: T = read(path);
    assert_eq!(golden, *value, "{} (BLESS=1 writes it anew)", path.display());
}

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let case: Case = read(&folder.join("case.yaml"));
    let mut dump: Dump = read(&folder.join("world.yaml"));
    let config = case.config();
    let actual = dump.kernel.take().map_or(Known::Unknown, Known::Known);
    let plan = case.plan(&config, &dump, &actual);
    compare(&folder.join("plan.yaml"), &plan);
    compare(&folder.join("changes.yaml"), &case.changes(&config, &dump, (&plan, &actual)));
}

#[test]
fn a_new_vip_is_probed_before_anything_is_installed() {
    check("free-vip-new");
}

#[test]
fn a_holder_refreshes_what_is_there_and_installs_what_is_missing() {
    check("holder-dual-stack");
}

#[test]
fn a_follower_removes_what_is_ours_and_nothing_else() {
    check("follower-with-leftovers");
}

#[test]
fn an_undecided_node_keeps_what_it_finds_for_no_longer_than_a_fence() {
    check("undecided-adoption");
}

#[test]
fn a_holder_whose_link_is_down_lets_go() {
    check("link-down");
}

#[test]
fn a_new_vip_that_somebody_answers_for_is_not_taken() {
    check("conflict");
}

#[test]
fn a_holder_with_a_red_gate_stands_reluctantly_and_serves_meanwhile() {
    check("red-gate");
}

#[test]
fn a_stopping_node_wants_nothing() {
    check("stopping");
}

#[test]
fn preserving_keeps_the_ipv4_address_of_a_lost_election() {
    check("preserve");
}
