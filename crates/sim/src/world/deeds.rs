//! Deeds are carried out, and kubelets are lost and found again.

use std::net::IpAddr;
use std::time::Duration;

use vip_model::service::{
    FamilyPolicy, ObjectLife, Service, ServiceKind, ServiceName, ServicePort, TrafficPolicy,
};
use vip_model::{Family, service};

use super::{Fact, Voice, World};
use crate::clock::Moment;
use crate::deed::{Act, Deed, Edit};
use crate::fault::{Fault, What};
use crate::store::{Kubelet, Matter};

/// After how long without a report a Node is not ready (`node-monitor-grace-period`).
pub(super) const GRACE: Duration = Duration::from_secs(40);
/// After how long a kubelet that is back has reported, at most.
pub(super) const REPORT: Duration = Duration::from_secs(10);

/// What the annotation `kube-vip.io/drain` says.
const DRAIN: &str = "annotation kube-vip.io/drain";

/// When the last thing has happened that follows from the schedule, in a world where anybody looks at Nodes.
pub(super) fn kubelets_settled(schedule: &[Fault]) -> Moment {
    let silences = |fault: &&Fault| matches!(fault.what, What::PowerOff | What::Suspend);
    let settled = |fault: &Fault| match fault.end() {
        None => fault.at + GRACE,
        Some(end) if end >= fault.at + GRACE => end + REPORT,
        Some(end) => end,
    };
    schedule.iter().filter(silences).map(settled).max().unwrap_or(Moment::START)
}

impl World {
    /// A deed is done.
    pub(super) fn deed(&mut self, number: usize) {
        let deed = self.deeds[number].clone();
        self.trace.world(self.now, || format!("DEED {deed}"));
        let matter = self.carry_out(&deed);
        self.look_after_asked();
        self.forget_silence();
        self.tell(&Fact::Deed(&deed));
        self.news(matter);
    }

    fn carry_out(&mut self, deed: &Deed) -> Matter {
        let now = self.now;
        match &deed.act {
            Act::Apply(name, edits) => {
                let service = self.store.objects.service(name).map(|service| Service::clone(service));
                let service = service.unwrap_or_else(|| self.new_service());
                self.put_service(name, service, edits);
                Matter::Services
            }
            Act::Again(name, edits) => {
                let version = self.store.next_version();
                self.store.objects.remove(now, name, version);
                self.news(Matter::Services);
                let service = self.new_service();
                self.put_service(name, service, edits);
                Matter::Services
            }
            Act::Linger(name) => {
                if let Some(service) = self.store.objects.service(name) {
                    let mut service = Service::clone(service);
                    service.life = ObjectLife::Deleting;
                    self.put_service(name, service, &[]);
                }
                Matter::Services
            }
            Act::Delete(name) => {
                let version = self.store.next_version();
                self.store.objects.remove(now, name, version);
                Matter::Services
            }
            Act::Pods(name, pods) => {
                self.store.objects.set_pods(now, name, pods.clone());
                Matter::Endpoints
            }
            Act::Pools(pools) => {
                self.store.objects.pools.change(now, pools.clone());
                Matter::Pools
            }
            Act::Drain(node) => {
                self.store.objects.change_node(now, *node, |facts| facts.excluded = Some(DRAIN.to_owned()));
                Matter::Nodes
            }
            Act::Undrain(node) => {
                self.store.objects.change_node(now, *node, |facts| facts.excluded = None);
                Matter::Nodes
            }
        }
    }

    pub(crate) fn new_service(&mut self) -> Service {
        let seconds = self.now.as_millis() / 1000;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        Service {
            uid: self.store.objects.new_uid(),
            version: vip_model::store::Version("0".to_owned()),
            created: format!("2026-01-01T{hours:02}:{minutes:02}:{seconds:02}Z"),
            kind: ServiceKind::LoadBalancer,
            class: None,
            families: vec![Family::V4],
            family_policy: FamilyPolicy::SingleStack,
            traffic: TrafficPolicy::Cluster,
            ports: vec![ServicePort { protocol: service::Protocol::Tcp, port: 80 }],
            spec_ip: None,
            ingress: Vec::new(),
            annotations: std::collections::BTreeMap::new(),
            labels: std::collections::BTreeMap::new(),
            conditions: std::collections::BTreeMap::new(),
            life: ObjectLife::Alive,
        }
    }

    fn put_service(&mut self, name: &ServiceName, mut service: Service, edits: &[Edit]) {
        for edit in edits {
            edit.change(&mut service);
        }
        service.version = self.store.next_version();
        self.store.objects.put(self.now, name, service);
    }

    /// Addresses that Services ask for are looked after.
    pub(super) fn look_after_asked(&mut self) {
        let asked: Vec<IpAddr> = self.ought().addrs.keys().copied().collect();
        for addr in asked {
            self.look_after(addr);
        }
    }

    /// An address that nobody shall serve any more may be silent.
    fn forget_silence(&mut self) {
        let ought = self.ought();
        for (number, vip) in self.vips.iter().enumerate() {
            if vip.purpose == super::Purpose::Services && !ought.is_wanted(vip.addr()) {
                self.voices[number] = Voice::NotYet;
            }
        }
    }

    /// A kubelet that stays silent for long is missed; one that is back reports.
    pub(super) fn kubelet_is_looked_at(&mut self, node: usize) {
        let place = &self.nodes[node];
        let kubelet = match place.silent_since {
            Some(since) if self.now >= since + GRACE => Kubelet::Lost,
            Some(_) => return,
            None => Kubelet::Reports,
        };
        let now = self.now;
        if self.store.objects.set_kubelet(now, node, kubelet) {
            self.trace.world(now, || format!("n{} is {kubelet:?}", node + 1));
            self.news(Matter::Nodes);
            self.news(Matter::Endpoints);
        }
    }

    /// A node falls silent, or is back.
    pub(super) fn kubelet_changes(&mut self, node: usize, since: Option<Moment>) {
        self.nodes[node].silent_since = since;
        if self.setup.services().is_some() {
            let after = match since {
                Some(_) => GRACE,
                None => self.between(Duration::from_secs(1), REPORT),
            };
            self.queue.push(self.now + after, crate::queue::Event::Kubelet(node));
        }
    }
}
