//! The world as the node meets it: each output goes to the gateway that carries it out, each event of a gateway
//! becomes an input. Nothing is decided here and nothing waits.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use tokio::runtime::Handle;
use vip_agent::{Input, Output};
use vip_cluster::{Cluster, ClusterEvent, ServiceAddress};
use vip_kernel::{Accepted, Gateway, KernelEvent, Sent};
use vip_model::Instant;
use vip_model::kernel::Actual;
use vip_model::peers::PeerHeard;

use super::inbox::Inbox;
use super::session::{Keys, Session};
use super::turn::Surroundings;
use crate::board::Board;
use crate::errand::Errands;
use crate::settings::{Effective, LocalApi};

/// Where a kubelet mounts a pod's credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where kubeadm writes kubeconfigs.
const KUBERNETES_DIR: &str = "/etc/kubernetes";

/// Everything outside of the node.
pub(super) struct World {
    kernel: Gateway,
    cluster: Arc<Cluster>,
    errands: Errands,
    inbox: Arc<Inbox>,
    session: Session,
    io: Handle,
}

impl World {
    /// Opens both gateways. Call it inside of the runtime `io`.
    pub(super) fn open(effective: &Effective, board: &Arc<Board>, io: &Handle) -> anyhow::Result<Self> {
        let inbox = Arc::clone(&board.inbox);
        let letters = Arc::clone(&inbox);
        let session = Session::open(&effective.config, board, io);
        let keys = session.keys();
        let sink = Arc::new(move |event| hear_cluster(&letters, &keys, event));
        let mut cluster = Cluster::start(api(effective), sink);
        session.keep_keys(&mut cluster);
        let cluster = Arc::new(cluster);
        let (letters, ear) = (Arc::clone(&inbox), Arc::clone(&cluster));
        let kernel = Gateway::start(Arc::new(move |event| hear_kernel(&letters, &ear, event)))
            .context("opening the way to the kernel")?;
        Ok(Self { kernel, cluster, errands: Errands::new(), inbox, session, io: io.clone() })
    }

    /// Waits a moment for what is still to be written.
    pub(super) fn flush(&self) {
        self.session.flush();
    }
}

/// Answers come as inputs.
impl Surroundings for World {
    fn carry(&mut self, output: Output) {
        match output {
            Output::Kernel(batch) => self.kernel.apply(batch),
            Output::Frame(frame) => {
                if let Sent::Failed(errno) = self.kernel.send(&frame) {
                    // Counted by the gateway; the next announcement comes anyway.
                    tracing::debug!(link = frame.link.0, errno, "a frame was not sent");
                }
            }
            Output::Listen(links) => self.kernel.listen(links),
            Output::Ask(question) => self.cluster.ask(question),
            Output::Watch(watches) => self.cluster.watch(watches),
            Output::Errand(errand) => {
                let (errands, inbox) = (self.errands.clone(), Arc::clone(&self.inbox));
                self.io.spawn(async move {
                    inbox.post(Input::Errand(errands.run(errand).await));
                });
            }
            Output::Peer(send) => self.session.send(&send),
            Output::Door(want) => self.session.want(want),
            Output::Remember(memory) => self.session.remember(memory),
            // The loop ends at this one and does not hand it on.
            Output::Exit => {}
        }
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.session.wait(&self.inbox, deadline)
    }

    fn take_heard(&mut self) -> Vec<PeerHeard> {
        self.session.take_heard()
    }
}

fn hear_kernel(inbox: &Inbox, cluster: &Cluster, event: KernelEvent) -> Accepted {
    inbox.post(match event {
        KernelEvent::Actual(actual) => {
            cluster.note_here(here(&actual));
            Input::Actual(actual)
        }
        KernelEvent::Report(report) => Input::Report(report),
        KernelEvent::Frame(frame) => Input::Frame(frame),
    })
}

/// What is this node itself: a server at one of these addresses proves nothing of the way to other nodes.
fn here(actual: &Actual) -> BTreeSet<IpNet> {
    let loopback =
        [IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8), IpAddr::from(Ipv6Addr::LOCALHOST).into()];
    loopback.into_iter().chain(actual.addresses.iter().map(|installed| installed.net.addr().into())).collect()
}

fn hear_cluster(inbox: &Inbox, keys: &Keys, event: ClusterEvent) {
    let input = match event {
        ClusterEvent::Lease(seen) => Input::Lease(seen),
        ClusterEvent::Snapshot(snapshot) => Input::Snapshot(snapshot),
        ClusterEvent::Sessions(sessions) => Input::Sessions(sessions),
        ClusterEvent::Answer(id, answer) => Input::Answer(id, answer),
        ClusterEvent::Trouble(failure) => {
            // The node says so when it matters to a Lease; this line tells of every other request too.
            tracing::debug!(class = failure.class.as_str(), reason = failure.text, "the API is in trouble");
            return;
        }
        ClusterEvent::PeerKeys(now) => return keys.hear(now),
        ClusterEvent::Unreadable { object, reason } => {
            tracing::warn!(object, reason, "an object cannot be understood and is left out");
            return;
        }
        ClusterEvent::Reachable => return tracing::debug!("the API answers"),
        // What is off without the keys is said with why they cannot be had.
        ClusterEvent::MissingRight { resource: "secrets", .. } => return,
        ClusterEvent::MissingRight { verb, resource } => {
            tracing::warn!(verb, resource, "a right is missing; what needs it is off until it is granted");
            return;
        }
    };
    inbox.post(input);
}

fn api(effective: &Effective) -> vip_cluster::ApiSettings {
    let settings = &effective.api;
    let control_plane = effective.config.control_plane.as_ref();
    let vips = control_plane.into_iter().flat_map(|control_plane| &control_plane.vips);
    vip_cluster::ApiSettings {
        kubeconfig: settings.kubeconfig.clone(),
        kubernetes_dir: PathBuf::from(KUBERNETES_DIR),
        home: std::env::var_os("HOME").map(PathBuf::from),
        service_account: PathBuf::from(SERVICE_ACCOUNT),
        service: kubernetes_service(),
        server: settings.server.clone(),
        local: match (control_plane, settings.local) {
            (None, _) => vip_cluster::LocalApi::NotOurs,
            (Some(_), LocalApi::HostAlias) => vip_cluster::LocalApi::HostAlias,
            (Some(_), LocalApi::Certificate) => vip_cluster::LocalApi::Certificate,
        },
        port: settings.port,
        node: effective.config.node.clone(),
        vips: vips.map(|vip| vip.addr()).collect::<BTreeSet<IpAddr>>(),
        traits: effective.config.preferred.iter().map(|wish| wish.label.clone()).collect(),
    }
}

/// The `kubernetes` Service as this process was told of it.
pub(crate) fn kubernetes_service() -> Option<ServiceAddress> {
    let variable = |name: &str| std::env::var(name).ok();
    service(variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
}

/// The `kubernetes` Service as a kubelet tells it; none outside of a pod.
fn service(host: Option<String>, port: Option<String>) -> Option<ServiceAddress> {
    let host = host.filter(|host| !host.is_empty())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(ServiceAddress { host, port: port?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use vip_model::LinkIndex;
    use vip_model::config::Scope;
    use vip_model::kernel::{Address, Dad, Lifetime};

    use super::*;

    #[test]
    fn this_node_is_every_address_that_it_has_and_not_the_networks_around_them() {
        let address = |net: &str| Address {
            link: LinkIndex(2),
            net: net.parse().unwrap(),
            scope: Scope::Global,
            tag: 0,
            valid: Lifetime::Forever,
            dad: Dad::Ready,
            secondary: false,
        };
        let addresses = vec![address("10.0.0.11/24"), address("fd00::11/64")];
        let here = here(&Actual { addresses, ..Actual::default() });
        let is_here = |text: &str| here.iter().any(|net| net.contains(&text.parse::<IpAddr>().unwrap()));
        assert!(["10.0.0.11", "fd00::11", "127.0.0.1", "127.9.9.9", "::1"].into_iter().all(is_here));
        assert!(!["10.0.0.12", "fd00::12", "128.0.0.1", "::2"].into_iter().any(is_here));
    }

    #[test]
    fn the_service_is_known_only_inside_of_a_pod() {
        let service = |host: Option<&str>, port: Option<&str>| {
            super::service(host.map(str::to_owned), port.map(str::to_owned)).map(|s| (s.host, s.port))
        };
        assert_eq!(service(Some("10.96.0.1"), Some("443")), Some(("10.96.0.1".to_owned(), 443)));
        assert_eq!(service(Some("[fd00::1]"), Some("443")), Some(("fd00::1".to_owned(), 443)));
        assert_eq!(service(None, Some("443")), None);
        assert_eq!(service(Some(""), Some("443")), None);
        assert_eq!(service(Some("10.96.0.1"), Some("x")), None);
    }
}
