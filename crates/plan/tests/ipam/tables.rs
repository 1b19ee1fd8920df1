//! The cloud-provider's documented cases, and the defects that we do not share with it.

use vip_model::Family::{V4, V6};
use vip_model::plan::Promise;
use vip_model::service::FamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};
use vip_model::service::Service;
use vip_plan::ipam::{Origin, Outcome};

use super::scene::{ADDRESSES, ALLOCATED, Cluster, ingress, ip, list, named, service, tcp, udp};

/// Entries of a ConfigMap.
type Entries<'a> = &'a [(&'a str, &'a str)];

/// What the first Services of a namespace get, one after the other.
fn first(pools: &[(&str, &str)], namespace: &str, count: usize) -> Vec<String> {
    let mut cluster = Cluster::new(pools);
    let names: Vec<_> = (0..count).map(|at| format!("{namespace}/s{at}")).collect();
    for name in &names {
        cluster.add(name, |_| {});
    }
    names.iter().map(|name| cluster.outcome(name)).collect()
}

fn annotate(addresses: &str) -> impl FnOnce(&mut Service) + use<> {
    let text = addresses.to_owned();
    |service| drop(service.annotations.insert(ADDRESSES.to_owned(), text))
}

// F-CCM-1, F-CCM-2

#[test]
fn pools_give_their_lowest_or_highest_free_address() {
    let rows: &[(Entries<'_>, &str, &[&str])] = &[
        (&[("cidr-global", "192.168.0.220/29")], "any", &["192.168.0.216", "192.168.0.217"]),
        (&[("cidr-global", "192.168.0.220/29"), ("search-order", "desc")], "any", &["192.168.0.223"]),
        (&[("cidr-global", "192.168.0.220/29"), ("skip-end-ips-in-cidr", "true")], "any", &["192.168.0.217"]),
        (
            &[("range-global", "192.168.0.200-192.168.0.202")],
            "any",
            &[
                "192.168.0.200",
                "192.168.0.201",
                "192.168.0.202",
                "pool range-global has no free IPv4 address left",
            ],
        ),
        (
            &[("range-global", "192.168.0.200-192.168.0.202"), ("search-order", "desc")],
            "any",
            &["192.168.0.202", "192.168.0.201", "192.168.0.200"],
        ),
        (&[("cidr-global", "192.168.0.200/30,192.168.0.200/29")], "any", &["192.168.0.200", "192.168.0.201"]),
        (
            &[("range-global", "192.168.0.10-192.168.0.11,192.168.0.10-192.168.0.13")],
            "any",
            &["192.168.0.10", "192.168.0.11", "192.168.0.12", "192.168.0.13"],
        ),
        (&[("cidr-global", "2001::12/127,2001::10/127")], "any", &["2001::10", "2001::11", "2001::12"]),
        (
            &[("range-global", "2001::10-2001::14,2001::20-2001::24"), ("search-order", "desc")],
            "any",
            &["2001::24"],
        ),
        (&[("cidr-global", "192.168.0.200/30,2001::10/127")], "any", &["192.168.0.200"]),
        (
            &[
                ("cidr-default", "192.168.0.200/29"),
                ("cidr-finance", "192.168.0.220/29"),
                ("cidr-ipv6", "2001::10/127"),
            ],
            "finance",
            &["192.168.0.216"],
        ),
        (&[("cidr-ipv6", "2001::10/127")], "ipv6", &["2001::10", "2001::11"]),
        (
            &[("cidr-global", "10.0.0.254/31")],
            "any",
            &["10.0.0.254", "pool cidr-global has no free IPv4 address left"],
        ),
        (&[("cidr-global", "10.0.0.0/32")], "any", &["pool cidr-global has no free IPv4 address left"]),
        (&[("range-global", "10.0.0.254-10.0.1.1")], "any", &["10.0.0.254", "10.0.1.1"]),
        (
            &[("cidr-web", "10.0.1.0/24"), ("range-db", "10.0.2.1-10.0.2.9"), ("cidr-global", "10.0.3.0/24")],
            "db",
            &["10.0.3.1"],
        ),
        (&[("cidr-global", "2001:db8::/64")], "any", &["2001:db8::", "2001:db8::1"]),
    ];
    for (pools, namespace, wanted) in rows {
        assert_eq!(first(pools, namespace, wanted.len()), *wanted, "{pools:?}");
    }
}

#[test]
fn without_a_pool_the_reason_names_the_keys_that_were_looked_for() {
    let outcome = first(&[("cidr-other", "10.0.0.0/24")], "web", 1);
    assert_eq!(
        outcome,
        ["no address pool: the ConfigMap has none of cidr-web, cidr-global, range-web, range-global"]
    );
}

// F-CCM-3

#[test]
fn families_follow_the_policy_and_their_order_the_first_family() {
    let both = &[("range-default", "192.168.0.10-192.168.0.10,2001::10-2001::11")][..];
    let only_v4 = &[("cidr-default", "192.168.0.8/29")][..];
    let only_v6 = &[("cidr-default", "2001::10/127")][..];
    let rows = [
        (both, &[][..], SingleStack, "192.168.0.10"),
        (only_v6, &[], SingleStack, "2001::10"),
        (both, &[V6], SingleStack, "2001::10"),
        (both, &[V6, V4], PreferDualStack, "2001::10,192.168.0.10"),
        (both, &[V4, V6], PreferDualStack, "192.168.0.10,2001::10"),
        (both, &[], PreferDualStack, "192.168.0.10,2001::10"),
        (both, &[V6, V4], RequireDualStack, "2001::10,192.168.0.10"),
        (both, &[V4, V6], RequireDualStack, "192.168.0.10,2001::10"),
        (only_v4, &[V6, V4], PreferDualStack, "192.168.0.8"),
        (only_v6, &[V4, V6], PreferDualStack, "2001::10"),
        (both, &[V4], PreferDualStack, "192.168.0.10"),
        (only_v6, &[V4], PreferDualStack, "pool cidr-default has no IPv4 address to give"),
        (only_v4, &[V6], SingleStack, "pool cidr-default has no IPv6 address to give"),
        (only_v6, &[V4], SingleStack, "pool cidr-default has no IPv4 address to give"),
        (only_v4, &[V4, V6], RequireDualStack, "pool cidr-default has no IPv6 address to give"),
        (only_v6, &[V6, V4], RequireDualStack, "pool cidr-default has no IPv4 address to give"),
    ];
    for (pools, families, policy, wanted) in rows {
        let mut cluster = Cluster::new(pools);
        cluster.add_stack("default/web", families, policy);
        assert_eq!(cluster.outcome("default/web"), wanted, "{pools:?} {families:?} {policy:?}");
    }
}

#[test]
fn an_exhausted_family_costs_prefer_one_address_and_require_both() {
    let mut cluster = Cluster::new(&[("range-default", "192.168.0.10-192.168.0.10,2001::10-2001::11")]);
    cluster.add_stack("default/first", &[V4], SingleStack);
    cluster.add_stack("default/require", &[V4, V6], RequireDualStack);
    cluster.add_stack("default/prefer", &[V4, V6], PreferDualStack);
    assert_eq!(cluster.outcome("default/first"), "192.168.0.10");
    assert_eq!(cluster.outcome("default/require"), "pool range-default has no free IPv4 address left");
    assert_eq!(cluster.outcome("default/prefer"), "2001::10", "what was refused took nothing");
    cluster.add_stack("default/more", &[V6], SingleStack);
    cluster.add_stack("default/late", &[V6, V4], PreferDualStack);
    let late = cluster.outcome("default/late");
    assert_eq!(late, "pool range-default has no free IPv6 and no free IPv4 address left");
}

// F-CCM-4

#[test]
fn sharing_needs_permission_disjoint_ports_and_an_address_of_the_pool() {
    let pools = [("cidr-dev", "10.0.0.8/29"), ("allow-share-dev", "true")];
    let rows: &[(&str, &[_], &str)] = &[
        ("other ports share", &[tcp(443)], "10.0.0.8"),
        ("the same number of another protocol shares", &[udp(80)], "10.0.0.8"),
        ("the same port does not", &[tcp(443), tcp(80)], "10.0.0.9"),
        ("a Service without ports takes a whole address", &[], "10.0.0.9"),
    ];
    for (what, ports, wanted) in rows {
        let mut cluster = Cluster::new(&pools);
        cluster.add("dev/first", |_| {});
        cluster.settle();
        cluster.add("dev/second", |service| service.ports = ports.to_vec());
        assert_eq!(cluster.outcome("dev/second"), *wanted, "{what}");
        cluster.pools.remove("allow-share-dev");
        assert_eq!(cluster.outcome("dev/second"), "10.0.0.9", "{what}, not allowed");
    }
}

#[test]
fn an_address_without_ports_outside_the_pool_or_of_another_namespace_is_not_shared() {
    let pools = [("cidr-dev", "10.0.0.8/29"), ("allow-share-global", "true"), ("search-order", "asc")];
    let rows = [
        ("dev/portless", "10.0.0.8", true, "10.0.0.9"),
        ("dev/outside", "10.9.9.9", false, "10.0.0.8"),
        ("prod/guest", "10.0.0.8", false, "10.0.0.9"),
        ("dev/inside", "10.0.0.11", false, "10.0.0.11"),
    ];
    for (name, addr, is_portless, wanted) in rows {
        let mut cluster = Cluster::new(&pools);
        cluster.add(name, |service| {
            annotate(addr)(service);
            if is_portless {
                service.ports.clear();
            }
        });
        cluster.add("dev/new", |service| service.ports = vec![tcp(443)]);
        assert_eq!(cluster.outcome("dev/new"), wanted, "{name}");
    }
}

#[test]
fn sharing_works_for_both_families_across_namespaces_of_a_global_pool_and_from_the_searched_end() {
    let pools = [("cidr-global", "10.0.0.8/29,fd00::8/125"), ("allow-share-global", "true")];
    let mut cluster = Cluster::new(&pools);
    for (name, addrs) in [("a/one", "10.0.0.9,fd00::9"), ("b/two", "10.0.0.11,fd00::b")] {
        cluster.add(name, annotate(addrs));
    }
    cluster.add("c/new", |service| {
        service.family_policy = RequireDualStack;
        service.ports = vec![tcp(443)];
    });
    assert_eq!(cluster.outcome("c/new"), "10.0.0.9,fd00::9");
    cluster.pools.insert("search-order".to_owned(), "desc".to_owned());
    assert_eq!(cluster.outcome("c/new"), "10.0.0.11,fd00::b");
}

#[test]
fn many_services_fill_shared_addresses_port_by_port() {
    let mut cluster = Cluster::new(&[("range-global", "10.0.0.1-10.0.0.2"), ("allow-share-global", "1")]);
    for (name, port) in [("a", 80), ("b", 80), ("c", 443), ("d", 443), ("e", 80), ("f", 22)] {
        cluster.add(&format!("n/{name}"), |service| service.ports = vec![tcp(port)]);
    }
    let got: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|name| cluster.outcome(&format!("n/{name}"))).into();
    let full = "pool range-global has no free IPv4 address left";
    assert_eq!(got, ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2", full, "10.0.0.1"]);
}

// F-CCM-5

#[test]
fn the_interface_of_the_namespace_goes_before_the_global_one() {
    let rows: [(Entries<'_>, Option<&str>); 4] = [
        (&[("interface-web", "eth3"), ("interface-global", "eth5")], Some("eth3")),
        (&[("interface-global", "eth5")], Some("eth5")),
        (&[("interface-other", "eth4")], None),
        (&[("interface-web", "no/such"), ("interface-global", "eth5")], Some("eth5")),
    ];
    for (interfaces, wanted) in rows {
        let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.0/24")]);
        cluster.pools.extend(interfaces.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        cluster.add("web/a", |_| {});
        let Outcome::Assign(assignment) = cluster.allocation_of("web/a") else { panic!("{interfaces:?}") };
        assert_eq!(assignment.interface.as_deref(), wanted, "{interfaces:?}");
    }
}

// F-CCM-6

#[test]
fn the_dhcp_pool_is_known_and_not_built_yet() {
    let outcome = first(&[("cidr-global", "0.0.0.0/32")], "web", 1);
    assert_eq!(outcome, ["pool cidr-global: addresses from DHCP are not built yet"]);
}

// F-CCM-7

#[test]
fn a_legacy_address_in_the_spec_is_adopted_and_in_use() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29")]);
    cluster.add("web/new", |_| {});
    cluster.add("web/legacy", |service| service.spec_ip = Some("10.0.0.8".to_owned()));
    let Outcome::Assign(assignment) = cluster.allocation_of("web/legacy") else { panic!("not adopted") };
    assert_eq!((list(&assignment.addrs), assignment.origin), ("10.0.0.8".to_owned(), Origin::Spec));
    assert_eq!(cluster.outcome("web/new"), "10.0.0.9", "although it is older");
}

#[test]
fn a_lost_annotation_is_written_again_with_both_addresses() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29,fd00::8/125")]);
    cluster.add("web/a", |service| {
        service.families = vec![V6, V4];
        service.spec_ip = Some("10.0.0.9".to_owned());
        service.ingress = vec![ingress("10.0.0.9"), ingress("fd00::9")];
    });
    assert_eq!(cluster.outcome("web/a"), "fd00::9,10.0.0.9");
    cluster.services.get_mut(&named("web/a")).unwrap().spec_ip = Some("10.0.0.10".to_owned());
    assert_eq!(cluster.outcome("web/a"), "10.0.0.10", "the user chose another");
}

#[test]
fn an_unreadable_address_in_the_spec_is_a_reason() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29")]);
    cluster.add("web/a", |service| service.spec_ip = Some("10.0.0.300".to_owned()));
    assert_eq!(cluster.outcome("web/a"), "spec.loadBalancerIP \"10.0.0.300\" is no IP address");
    cluster.add("web/b", |service| service.spec_ip = Some("0.0.0.0".to_owned()));
    assert!(cluster.outcome("web/b").starts_with("spec.loadBalancerIP 0.0.0.0 asks for DHCP"));
}

// D32 and A25

#[test]
fn whatever_shows_an_address_uses_it() {
    let pools = [("cidr-global", "10.0.0.8/29")];
    let mut cluster = Cluster::new(&pools);
    cluster.add("web/new", |_| {});
    cluster.add("a/annotated", annotate(" 10.0.0.8 , vip.example.org,10.0.0.8"));
    cluster.add("b/spec", |service| service.spec_ip = Some("10.0.0.9".to_owned()));
    cluster.add("c/status", |service| service.ingress = vec![ingress("10.0.0.10")]);
    let mut other = service(50);
    other.ingress = vec![ingress("10.0.0.11")];
    cluster.others.push(other);
    cluster.reserved.insert(ip("10.0.0.12"));
    cluster.seen.insert(ip("10.0.0.13"));
    cluster.add("d/bad", annotate("10.0.0.14,10.0.0.999"));
    assert_eq!(cluster.outcome("web/new"), "10.0.0.15");
    assert_eq!(cluster.outcome("c/status"), "10.0.0.10", "what was served stays");
    let usage = &cluster.allocate().pools.usage[0];
    assert_eq!((usage.size, usage.used, usage.free), (8, 8, 0));
}

#[test]
fn one_bad_annotation_is_a_reason_for_one_service() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29")]);
    cluster.add("web/bad", annotate("10.0.0.8,fd00::1::2"));
    cluster.add("web/names", annotate("vip.example.org"));
    cluster.add("web/dhcp", annotate("0.0.0.0"));
    cluster.add("web/empty", annotate(" , "));
    assert!(cluster.outcome("web/bad").contains("\"fd00::1::2\" is neither an IP address nor a DNS name"));
    assert_eq!(cluster.outcome("web/names"), "set by user");
    assert_eq!(cluster.outcome("web/dhcp"), "set by user");
    assert_eq!(cluster.outcome("web/empty"), "10.0.0.9", "an empty annotation is none");
}

#[test]
fn node_addresses_in_a_status_are_not_adopted() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29")]);
    cluster.reserved.insert(ip("10.0.0.8"));
    cluster.add("web/a", |service| service.ingress = vec![ingress("10.0.0.8")]);
    assert_eq!(cluster.outcome("web/a"), "10.0.0.9");
}

#[test]
fn a_reserved_address_is_not_shared_although_a_service_asked_for_it() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29"), ("allow-share-global", "true")]);
    cluster.reserved.insert(ip("10.0.0.8"));
    cluster.add("web/on-the-vip", annotate("10.0.0.8"));
    cluster.add("web/new", |service| service.ports = vec![tcp(443)]);
    assert_eq!(cluster.outcome("web/new"), "10.0.0.9");
}

#[test]
fn the_pools_as_they_are_now_decide_and_what_was_given_stays() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29")]);
    cluster.add("web/a", |_| {});
    cluster.settle();
    for (pools, wanted) in
        [("cidr-global", "10.0.0.8/29"), ("range-global", "10.1.0.1-10.1.0.9")].map(|pool| (pool, pool.1))
    {
        cluster.pools = Cluster::new(&[pools]).pools;
        assert_eq!(cluster.outcome("web/a"), "allocated", "{wanted}");
    }
    cluster.add("web/b", |_| {});
    assert_eq!(cluster.outcome("web/b"), "10.1.0.1");
}

#[test]
fn a_promise_stands_while_its_write_is_under_way() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29")]);
    cluster.add("web/b", |service| service.created = "2026-01-01T00:00:00Z".to_owned());
    let promise = |uid: &str| Promise { uid: uid.to_owned(), addrs: vec![ip("10.0.0.8")] };
    cluster.promised.insert(named("web/b"), promise("uid-0"));
    // It comes later, and yet before in the order: the same second, an earlier name.
    cluster.add("web/a", |service| service.created = "2026-01-01T00:00:00Z".to_owned());
    assert_eq!(cluster.outcome("web/b"), "10.0.0.8");
    assert_eq!(cluster.outcome("web/a"), "10.0.0.9");
    cluster.promised.insert(named("web/b"), promise("another life"));
    assert_eq!(cluster.outcome("web/a"), "10.0.0.8", "a promise to the dead binds nobody");
    cluster.promised.insert(named("web/b"), Promise { uid: "uid-0".to_owned(), addrs: vec![ip("10.9.9.9")] });
    assert_eq!(cluster.outcome("web/b"), "10.0.0.9", "nor does one from outside the pool");
}

#[test]
fn an_address_that_was_given_twice_stays_with_the_older_service() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.8/29")]);
    let allocated = |service: &mut Service| {
        annotate("10.0.0.8")(service);
        service.annotations.insert(ALLOCATED.to_owned(), "10.0.0.8".to_owned());
    };
    cluster.add("web/z-older", allocated);
    cluster.add("web/a-younger", allocated);
    cluster.add("web/by-hand", annotate("10.0.0.8"));
    assert_eq!(cluster.outcome("web/z-older"), "allocated");
    assert_eq!(cluster.outcome("web/a-younger"), "10.0.0.9");
    assert_eq!(cluster.outcome("web/by-hand"), "set by user", "what a user wrote is never changed");
}

#[test]
fn of_two_families_only_the_address_that_was_given_twice_moves() {
    let pool = [("range-global", "10.0.0.8-10.0.0.11,fd00::8-fd00::b")];
    let mut cluster = Cluster::new(&pool);
    let allocated = |list: &'static str, policy: vip_model::service::FamilyPolicy| {
        move |service: &mut Service| {
            annotate(list)(service);
            service.annotations.insert(ALLOCATED.to_owned(), list.to_owned());
            (service.families, service.family_policy) = (vec![V4, V6], policy);
        }
    };
    cluster.add("web/older", allocated("10.0.0.8", PreferDualStack));
    cluster.add("web/younger", allocated("10.0.0.8,fd00::9", RequireDualStack));
    assert_eq!(cluster.outcome("web/younger"), "10.0.0.9,fd00::9");
    let promise = Promise { uid: "uid-1".to_owned(), addrs: vec![ip("10.0.0.10"), ip("fd00::9")] };
    cluster.promised.insert(named("web/younger"), promise);
    assert_eq!(cluster.outcome("web/younger"), "10.0.0.10,fd00::9", "a promise stands");
}
