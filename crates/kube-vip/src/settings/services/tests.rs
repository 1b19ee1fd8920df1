use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::settings::{Effective, Sources, load};
use vip_model::config::{Election, LinkDown, PrefixRule};

/// An agent for Services alone, in a pod of the namespace `vips`.
fn started(environment: &[(&str, &str)]) -> Result<Effective, String> {
    let enough = [("vip_arp", "true"), ("svc_enable", "true"), ("vip_nodename", "n1")];
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let sources = Sources {
        environment: enough.iter().chain(environment).map(pair).collect::<BTreeMap<_, _>>(),
        ..Sources::default()
    };
    let machine = Machine { hostname: None, service_account_namespace: Some("vips".into()) };
    load(&sources, &machine).map_err(|refusal| refusal.to_string())
}

fn services(environment: &[(&str, &str)]) -> Services {
    let effective = started(environment).unwrap();
    assert_eq!(effective.warnings, [], "{environment:?}");
    effective.config.services.expect("Services are wanted")
}

fn refused(environment: &[(&str, &str)]) -> String {
    started(environment).expect_err("a refusal")
}

fn global(lease: &str, timings: LeaseTimings) -> Election {
    let (namespace, name) = lease.split_once('/').unwrap();
    Election { lease: LeaseName::new(namespace, name), annotations: BTreeMap::new(), timings }
}

#[test]
fn services_alone_start_with_the_defaults_of_kube_vip() {
    let effective = started(&[]).unwrap();
    assert_eq!(effective.config.instance.as_str(), "services");
    assert_eq!(effective.config.control_plane, None);
    let expected = Services {
        namespace: None,
        class: ClassRule { name: "kube-vip.io/kube-vip-class".into(), unset: UnsetClass::Ours },
        interface: InterfaceChoice::Auto,
        link_down: LinkDown::Yield,
        prefix_v4: PrefixRule::Fixed(32),
        prefix_v6: PrefixRule::Fixed(128),
        election: ServiceElection::Global(global("vips/plndr-svcs-lock", LeaseTimings::default())),
        on_demand: OnDemand::Off,
        endpoints: EndpointSource::Slices,
        updates: ServiceUpdates::On,
        security: ServiceSecurity::Off,
        node_labels: ServiceLabels::Off,
        ipam: None,
    };
    assert_eq!(effective.config.services, Some(expected));
}

#[test]
fn without_svc_enable_nothing_of_the_services_is_read() {
    let control_plane = [("svc_enable", "false"), ("cp_enable", "true"), ("address", "192.0.2.1")];
    let broken = [("svc_namespace", "Not A Name"), ("lb_class_only", "maybe"), ("svc_leasename", "a/b/c")];
    let effective = started(&[&control_plane[..], &broken].concat()).unwrap();
    assert_eq!((effective.config.services, effective.warnings.as_slice()), (None, [].as_slice()));
    assert!(effective.config.control_plane.is_some());
    assert!(refused(&[("svc_enable", "false")]).starts_with("no features are enabled"));
}

#[test]
fn switches_become_what_they_say() {
    let services = services(&[
        ("enable_endpoints", "true"),
        ("disable_service_updates", "true"),
        ("enable_service_security", "true"),
        ("enable_node_labeling", "true"),
        ("vip_allow_interface_not_up", "true"),
        ("svc_namespace", "edge"),
    ]);
    assert_eq!(services.endpoints, EndpointSource::Endpoints);
    assert_eq!(services.updates, ServiceUpdates::Off);
    assert_eq!(services.security, ServiceSecurity::On);
    assert_eq!(services.node_labels, ServiceLabels::On);
    assert_eq!(services.link_down, LinkDown::Ignore);
    assert_eq!(services.namespace.as_deref(), Some("edge"));
}

#[test]
fn a_service_without_a_class_is_ours_as_legacy_or_modern_handling_says() {
    for (legacy, only, name, unset) in [
        ("true", "false", "a/b", UnsetClass::Ours),
        ("true", "true", "a/b", UnsetClass::NotOurs),
        ("true", "true", "", UnsetClass::NotOurs),
        ("false", "false", "a/b", UnsetClass::NotOurs),
        ("false", "true", "a/b", UnsetClass::NotOurs),
        ("false", "false", "", UnsetClass::Ours),
    ] {
        let given = [("lb_class_legacy_handling", legacy), ("lb_class_only", only), ("lb_class_name", name)];
        assert_eq!(services(&given).class, ClassRule { name: name.into(), unset }, "{given:?}");
    }
}

#[test]
fn the_link_is_their_own_then_the_control_planes_then_found() {
    let named = |name: &str| InterfaceChoice::Named(name.to_owned());
    let shared = ("vip_interface", "eth0");
    assert_eq!(services(&[shared]).interface, named("eth0"));
    assert_eq!(services(&[shared, ("vip_servicesinterface", "eth1")]).interface, named("eth1"));
    assert_eq!(services(&[shared, ("vip_servicesinterface", "auto")]).interface, InterfaceChoice::Auto);
    assert!(refused(&[("vip_servicesinterface", "a/b")]).starts_with("vip_servicesinterface=\"a/b\""));
}

#[test]
fn prefix_lengths_are_those_of_their_family_or_of_the_link() {
    use PrefixRule::{Fixed, OfLink};
    for (subnet, expected) in [
        ("24", (Fixed(24), Fixed(128))),
        ("24,64", (Fixed(24), Fixed(64))),
        ("auto", (OfLink, OfLink)),
        ("24,auto", (Fixed(24), OfLink)),
        ("auto,64", (OfLink, Fixed(64))),
    ] {
        let services = services(&[("vip_subnet", subnet)]);
        assert_eq!((services.prefix_v4, services.prefix_v6), expected, "{subnet}");
    }
    for subnet in ["33,64", "24,129", "129", "24,64,8", "x", "/24"] {
        assert!(refused(&[("vip_subnet", subnet)]).starts_with("vip_subnet="), "{subnet}");
    }
}

#[test]
fn one_length_for_an_ipv6_control_plane_leaves_services_with_host_addresses_and_says_so() {
    let given = [("cp_enable", "true"), ("address", "2001:db8::1"), ("vip_subnet", "64")];
    let effective = started(&given).unwrap();
    let services = effective.config.services.unwrap();
    assert_eq!((services.prefix_v4, services.prefix_v6), (PrefixRule::Fixed(32), PrefixRule::Fixed(128)));
    assert_eq!(effective.config.control_plane.unwrap().vips[0].0.prefix_len(), 64);
    assert_eq!(effective.warnings.len(), 1);
    assert!(effective.warnings[0].text.starts_with("64 is no length for IPv4"), "{:?}", effective.warnings);
}

#[test]
fn the_lease_and_its_timings_follow_the_rules_of_the_control_plane() {
    let short = [("vip_leaseduration", "5"), ("vip_renewdeadline", "3"), ("vip_retryperiod", "1")];
    let timings = LeaseTimings {
        duration: Duration::from_secs(5),
        renew_deadline: Duration::from_secs(3),
        retry_period: Duration::from_secs(1),
    };
    let with = |more: &[(&str, &str)]| services(&[&short[..], more].concat());
    let own = with(&[("svc_leasename", "own/lock"), ("per_service_election_on_demand", "true")]);
    assert_eq!(own.election, ServiceElection::Global(global("own/lock", timings)));
    assert_eq!(own.on_demand, OnDemand::On(timings));
    // What the control plane's Lease is annotated with is not for this one.
    let named = with(&[("svc_leasename", "lock"), ("vip_leaseannotations", "{\"a\":\"b\"}")]);
    assert_eq!(named.election, ServiceElection::Global(global("vips/lock", timings)));
    assert_eq!(with(&[("svc_election", "true")]).election, ServiceElection::PerService(timings));
    assert!(refused(&[("svc_leasename", "Upper")]).starts_with("svc_leasename=\"Upper\""));
    assert!(refused(&[("vip_leaseduration", "10")]).contains("must be greater than"));
    assert!(refused(&[("election_mode", "etcd")]).contains("not built yet"));
}

#[test]
fn address_management_reads_the_cloud_providers_config_map_under_a_lease_of_its_own() {
    let ipam = |more: &[(&str, &str)]| services(&[&[("svc_ipam", "true")], more].concat()).ipam.unwrap();
    let plain = ipam(&[]);
    assert_eq!((plain.namespace.as_str(), plain.config_map.as_str()), ("kube-system", "kubevip"));
    assert_eq!(plain.election, global("vips/kubevip-ipam", LeaseTimings::default()));
    let moved = ipam(&[
        ("KUBEVIP_NAMESPACE", "edge"),
        ("KUBEVIP_CONFIG_MAP", "pools"),
        ("vip_leasename", "own/lock"),
    ]);
    assert_eq!((moved.namespace.as_str(), moved.config_map.as_str()), ("edge", "pools"));
    assert_eq!(moved.election.lease, LeaseName::new("own", "kubevip-ipam"));
    let line = refused(&[("svc_ipam", "true"), ("KUBEVIP_CONFIG_MAP", "My Pools")]);
    assert!(line.starts_with("KUBEVIP_CONFIG_MAP=\"My Pools\" is not accepted"), "{line}");
}
