//! The annotations of a Service that say something to the plan, read in one walk. Text that means nothing stays text:
//! what is wrong with it is said where it is used.

use vip_model::service::Service;

/// The prefix of all of them.
pub(super) const PREFIX: &str = "kube-vip.io/";

/// What a Service says in annotations. An empty text says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes<'a> {
    /// `loadbalancerIPs`: its addresses.
    pub(super) addresses: Option<&'a str>,
    /// `serviceVLAN`: the VLAN link that it wants.
    pub(super) vlan: Option<&'a str>,
    /// `serviceInterface`: its interface; `auto` is the one whose network contains the address.
    pub(super) interface: Option<&'a str>,
    /// `leaseName`: its Lease.
    pub(super) lease: Option<&'a str>,
    /// `forcePerServiceElection`: an election of its own; counts when it is exactly `true`.
    pub(super) force: Option<&'a str>,
    /// `allow-reconcile-without-endpoints`: served without endpoints under policy `Cluster`; `true` in any case.
    pub(super) without_endpoints: Option<&'a str>,
    /// `ignore-service-security`: out of the packet filter; counts when it is exactly `true`.
    pub(super) open: Option<&'a str>,
    /// `vipHost`: the node that serves it.
    pub(super) host: Option<&'a str>,
    /// `anti-affinity`: a name; Services of its namespace with the same one are on different nodes while they can.
    pub(super) apart: Option<&'a str>,
}

impl<'a> Notes<'a> {
    pub(super) fn of(service: &'a Service) -> Self {
        let mut notes = Self::default();
        for (key, text) in &service.annotations {
            let note = match key.strip_prefix(PREFIX) {
                Some("loadbalancerIPs") => &mut notes.addresses,
                Some("serviceVLAN") => &mut notes.vlan,
                Some("serviceInterface") => &mut notes.interface,
                Some("leaseName") => &mut notes.lease,
                Some("forcePerServiceElection") => &mut notes.force,
                Some("allow-reconcile-without-endpoints") => &mut notes.without_endpoints,
                Some("ignore-service-security") => &mut notes.open,
                Some("vipHost") => &mut notes.host,
                Some("anti-affinity") => &mut notes.apart,
                _ => continue,
            };
            let text = text.trim();
            *note = (!text.is_empty()).then_some(text);
        }
        notes
    }

    /// Whether it asks for an election of its own.
    pub(super) fn is_forced(&self) -> bool {
        self.force == Some("true")
    }

    /// Whether it opts out of the packet filter.
    pub(super) fn is_open(&self) -> bool {
        self.open == Some("true")
    }

    /// Whether it can be served without endpoints.
    pub(super) fn serves_without_endpoints(&self) -> bool {
        self.without_endpoints.is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }
}
