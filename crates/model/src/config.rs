//! What the user asked for, after parsing: the effective configuration of one agent.
//!
//! Text (environment, flags, file) becomes these types at the door, in the program; from here on every value is
//! trusted. Modes are enums, decided here once and matched once, in `plan`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{InstanceName, LeaseName, NodeName, VipNet};

/// The effective configuration of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// This node: the identity in Leases (`vip_nodename`).
    pub node: NodeName,
    /// Which agent of the node this is (`instance_name`, else derived from what it does).
    pub instance: InstanceName,
    /// How addresses are made reachable.
    pub advertise: Advertise,
    /// The control-plane VIP, when it is wanted (`cp_enable`).
    pub control_plane: Option<ControlPlane>,
    /// Services of type LoadBalancer, when they are wanted (`svc_enable`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Services>,
    /// How owners of addresses are found (`election_mode`).
    #[serde(default, skip_serializing_if = "ElectionMode::is_lease")]
    pub election_mode: ElectionMode,
    /// Which nodes addresses shall be on while they can (`preferred_nodes`); none prefers nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<Preference>,
}

/// A wish for nodes with a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference {
    /// The label's key.
    pub label: String,
    /// The value that it must have; any when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How much it counts. The weights of all wishes that a node fulfils are added up; the largest sum goes first.
    pub weight: u32,
}

impl Preference {
    /// How much a node with these labels is preferred.
    pub fn score(wishes: &[Self], labels: &BTreeMap<String, String>) -> u32 {
        let counts = |wish: &&Self| match (&wish.value, labels.get(&wish.label)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(value)) => wanted == value,
        };
        wishes.iter().filter(counts).map(|wish| wish.weight).fold(0, u32::saturating_add)
    }
}

/// How owners of addresses are found. One mode per agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElectionMode {
    /// One renewed Lease per election, as upstream does it.
    #[default]
    Lease,
    /// Sessions, juries and claims.
    Session(SessionSettings),
}

impl ElectionMode {
    /// Whether it is the mode `lease`.
    pub const fn is_lease(&self) -> bool {
        matches!(self, Self::Lease)
    }
}

/// Settings of the mode `session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSettings {
    /// Namespace of the session Leases: that of the agent's first election.
    pub namespace: String,
    /// Timings of the session Lease (`vip_leaseduration` and so on).
    pub timings: LeaseTimings,
    /// Heartbeats between agents.
    pub peers: PeerMode,
    /// Lifetime of control-plane addresses in the kernel, whole seconds (`vip_address_lifetime`, default 3 s).
    pub control_plane_lifetime: Duration,
    /// Lifetime of Service addresses in the kernel, whole seconds (`svc_address_lifetime`, default 8 s).
    pub service_lifetime: Duration,
    /// What a holder does when neither jurors nor the API prove its right (`api_loss`).
    pub api_loss: ApiLoss,
    /// Whether groups go back to a node that is placed better (`failback`).
    pub failback: Failback,
    /// Least time between two moves from one node that nothing forces (`move_pause`, default 500 ms).
    pub move_pause: Duration,
    /// What a stopping agent does with what it holds (`on_stop`).
    pub on_stop: OnStop,
}

/// Heartbeats between agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerMode {
    /// None are sent and none are heard: sessions live by the API alone.
    Off,
    /// They are sent.
    On {
        /// UDP port (`peers_port`).
        port: u16,
        /// Time between two heartbeats (`peers_interval`, 10 ms to 1 s, default 50 ms).
        interval: Duration,
    },
}

/// What a holder does when neither jurors nor the API prove its right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiLoss {
    /// It holds while enough jurors vouch, else it lets go at the renew deadline.
    #[default]
    HoldIfPeersAgree,
    /// It holds on. In a partition two nodes may answer.
    Hold,
    /// It lets go at the renew deadline, whatever jurors say, as in mode `lease`.
    Release,
}

/// Whether groups go back to a node that is placed better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failback {
    /// Never: they move when they must.
    #[default]
    Never,
    /// When that node has been a candidate for so long.
    After(Duration),
}

/// What a stopping agent does with what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStop {
    /// It gives it to another member, make before break.
    #[default]
    HandOver,
    /// It leaves it in the kernel, for its own restart within the lifetime of the addresses.
    Stay,
}

/// How addresses are made reachable. One mode per agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advertise {
    /// One owner per address, announced by ARP and NDP (`vip_arp`).
    Arp(Layer2),
}

/// Settings of the layer-2 mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer2 {
    /// Time between two announcements of an address after the first burst (`vip_arpRate`, ≥ 500 ms, default 3 s).
    pub announce_interval: Duration,
    /// Neither our own conflict probe nor the kernel's DAD before an address is used (`vip_skipdad`).
    pub skip_conflict_probe: bool,
}

/// The control-plane VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlane {
    /// The addresses, one or two, each with its prefix length (`address`, `vip_subnet`).
    pub vips: Vec<VipNet>,
    /// The API server's port (`port`), shown to users.
    pub port: u16,
    /// Where the addresses go.
    pub interface: InterfaceChoice,
    /// What a link that is down means (`vip_allow_interface_not_up`).
    pub link_down: LinkDown,
    /// Address scope on the loopback link (`vip_interfaceloglobal`).
    pub loopback_scope: Scope,
    /// The election that decides who holds the addresses.
    pub election: Election,
    /// What happens to installed addresses when the election is lost (`vip_preserve_on_leadership_loss`).
    pub on_loss: OnLoss,
    /// The health gate, when one is configured (`control_plane_health_check_*`).
    pub health: Option<HealthCheck>,
    /// Whether the holder's Node gets the label `kube-vip.io/has-ip` (`enable_node_labeling`).
    pub node_label: NodeLabel,
}

/// Services of type LoadBalancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Only Services of this namespace (`svc_namespace`); all when none.
    pub namespace: Option<String>,
    /// Which classes are ours.
    pub class: ClassRule,
    /// Where addresses go when the Service itself does not say it (`vip_servicesinterface`, else `vip_interface`).
    pub interface: InterfaceChoice,
    /// What a link that is down means (`vip_allow_interface_not_up`).
    pub link_down: LinkDown,
    /// Prefix length of IPv4 addresses (`vip_subnet`, first part).
    pub prefix_v4: PrefixRule,
    /// Prefix length of IPv6 addresses (`vip_subnet`, second part).
    pub prefix_v6: PrefixRule,
    /// How holders are elected (`svc_election`).
    pub election: ServiceElection,
    /// Whether `kube-vip.io/forcePerServiceElection` is honoured under a global election
    /// (`per_service_election_on_demand`).
    pub on_demand: OnDemand,
    /// Where endpoints are read (`enable_endpoints`).
    pub endpoints: EndpointSource,
    /// Whether Services are written to (`disable_service_updates`).
    pub updates: ServiceUpdates,
    /// Whether only a Service's ports reach its address (`enable_service_security`).
    pub security: ServiceSecurity,
    /// Whether the holder's Node is labelled for each Service (`enable_node_labeling`).
    pub node_labels: ServiceLabels,
    /// The built-in address management, when it is on (`svc_ipam`).
    pub ipam: Option<Ipam>,
}

/// Which `spec.loadBalancerClass` is ours. Legacy and modern handling come to this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRule {
    /// The class that is ours (`lb_class_name`); may be empty.
    pub name: String,
    /// What a Service without a class is.
    pub unset: UnsetClass,
}

/// What a Service without a class is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsetClass {
    /// Ours.
    Ours,
    /// Somebody else's (`lb_class_only`, or modern handling with a class name).
    NotOurs,
}

/// The prefix length of Service addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrefixRule {
    /// This length.
    Fixed(u8),
    /// That of the link's network that contains the address (`auto`).
    OfLink,
}

/// How the holders of Service addresses are elected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceElection {
    /// One election for all of them (`svc_leasename`).
    Global(Election),
    /// One for each Service (`kubevip-<name>` in its namespace, or what the annotation `leaseName` says).
    PerService(LeaseTimings),
}

/// Whether single Services may ask for an election of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDemand {
    /// The annotation is ignored.
    Off,
    /// The annotation is honoured, with these timings.
    On(LeaseTimings),
}

/// Where endpoints are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointSource {
    /// `discovery.k8s.io/v1` EndpointSlices.
    Slices,
    /// `v1` Endpoints.
    Endpoints,
}

/// Whether Services are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceUpdates {
    /// Status, annotations and conditions are written.
    On,
    /// Nothing is written.
    Off,
}

/// Whether only a Service's ports reach its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceSecurity {
    /// No packet filter.
    Off,
    /// A packet filter in a table of our own.
    On,
}

/// Whether the holder's Node is labelled for each Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceLabels {
    /// No label.
    Off,
    /// `service-provided.kube-vip.io/<name>.<namespace>` with the addresses.
    On,
}

/// The built-in address management: the cloud-provider's ConfigMap, allocated by whichever agent holds the claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipam {
    /// Namespace of the ConfigMap (`KUBEVIP_NAMESPACE`, default `kube-system`).
    pub namespace: String,
    /// Its name (`KUBEVIP_CONFIG_MAP`, default `kubevip`).
    pub config_map: String,
    /// Who allocates: the holder of this Lease.
    pub election: Election,
}

/// Which link carries an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceChoice {
    /// The link with this name (`vip_interface`).
    Named(String),
    /// The link whose network contains the VIP, else the link of the default route (IPv4 first, then IPv6).
    Auto,
}

/// What a link that is down means for the right to hold an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkDown {
    /// Yield at once.
    Yield,
    /// Carry on as if it were up.
    Ignore,
}

/// The scope of an address, as rtnetlink knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// `RT_SCOPE_UNIVERSE`.
    Global,
    /// `RT_SCOPE_LINK`.
    Link,
    /// `RT_SCOPE_HOST`.
    Host,
}

/// What happens to an installed address when its election is lost without a known successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// It is removed at once; a finite lifetime in the kernel removes it when nobody is alive to do so.
    Remove,
    /// IPv4 addresses stay, without a lifetime, until another leader is seen. Unsafe on more than one node.
    Preserve,
}

/// Whether the holder labels its Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeLabel {
    /// No label is written.
    Off,
    /// `kube-vip.io/has-ip` on the holder's Node.
    HasIp,
}

/// An election in mode `lease`: one renewed Lease, as client-go does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// The Lease (`vip_leasename`; the namespace rules are upstream's).
    pub lease: LeaseName,
    /// Annotations that the Lease must carry (`vip_leaseannotations`).
    pub annotations: BTreeMap<String, String>,
    /// Its timings.
    pub timings: LeaseTimings,
}

/// The three timings of a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimings {
    /// How long others respect a holder after its last renewal (`vip_leaseduration`, default 15 s).
    pub duration: Duration,
    /// After how long without an answered renewal a holder gives up (`vip_renewdeadline`, default 10 s).
    pub renew_deadline: Duration,
    /// Time between two renewals (`vip_retryperiod`, default 2 s).
    pub retry_period: Duration,
}

impl LeaseTimings {
    /// How long after *asking* for a renewal an address may stay in the kernel: `0.98 · duration − 1 s`. The two
    /// per cent pay for clocks that run apart, the second for a kernel that expires addresses late. Zero when the
    /// duration leaves nothing.
    pub fn fence(&self) -> Duration {
        self.duration.mul_f64(0.98).saturating_sub(Duration::from_secs(1))
    }
}

impl Default for LeaseTimings {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// An HTTP(S) health check of the local API server that gates the right to hold the VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is fetched with GET; any 200 counts as healthy (`control_plane_health_check_address`).
    pub url: String,
    /// Time between two probes (`…_period_seconds`, default 5 s).
    pub period: Duration,
    /// How long one probe may take (`…_timeout_seconds`, default 3 s).
    pub timeout: Duration,
    /// How many failures in a row close the gate (`…_failure_threshold`, default 3).
    pub failure_threshold: u32,
    /// PEM file with CAs that are trusted beside the system's (`…_ca_path`).
    pub ca_path: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_preferred_by_all_the_wishes_that_it_fulfils() {
        let wish = |label: &str, value: Option<&str>, weight| Preference {
            label: label.to_owned(),
            value: value.map(str::to_owned),
            weight,
        };
        let wishes = [wish("zone", Some("a"), 10), wish("ssd", None, 5), wish("zone", Some("b"), 1)];
        let score = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Preference::score(&wishes, &labels)
        };
        assert_eq!(score(&[("zone", "a"), ("ssd", "")]), 15);
        assert_eq!(score(&[("zone", "b")]), 1);
        assert_eq!(score(&[("zone", "c"), ("disk", "ssd")]), 0);
    }

    #[test]
    fn the_fence_leaves_room_for_a_late_kernel_and_drifting_clocks() {
        let timings = |secs| LeaseTimings { duration: Duration::from_secs(secs), ..LeaseTimings::default() };
        assert_eq!(timings(15).fence(), Duration::from_millis(13_700));
        assert_eq!(timings(5).fence(), Duration::from_millis(3_900));
        assert_eq!(timings(1).fence(), Duration::ZERO);
    }
}
