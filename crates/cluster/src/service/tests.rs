use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use vip_model::Family;
use vip_model::service::{
    Condition, FamilyPolicy, Ingress, ObjectLife, Protocol, Service, ServiceKind, ServicePort, TrafficPolicy,
};
use vip_model::store::{ServiceStatusWrite, ServiceWrite};

use super::*;

fn convert(object: Value) -> Service {
    serde_json::from_value::<ServiceShape>(object).unwrap().convert().1
}

fn port(protocol: Protocol, port: u16) -> ServicePort {
    ServicePort { protocol, port }
}

fn at(second: &str) -> Timestamp {
    format!("2026-01-02T03:04:{second}.123456Z").parse().unwrap()
}

#[test]
fn a_dual_stack_service_is_read_in_full() {
    let shape: ServiceShape = serde_json::from_value(json!({
        "metadata": {
            "namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "77",
            "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 3,
            "annotations": {
                "kube-vip.io/loadbalancerIPs": "10.0.0.5", "kubectl.kubernetes.io/last-applied-configuration": "big",
                "kube-vip.iox/other": "x",
            },
            "labels": {"implementation": "kube-vip", "ipam-address": "10.0.0.5", "app": "web"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "kube-vip.io/kube-vip-class", "loadBalancerIP": "10.0.0.5",
            "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack", "externalTrafficPolicy": "Local",
            "ports": [
                {"name": "a", "protocol": "UDP", "port": 53}, {"name": "b", "port": 80, "targetPort": "web"},
                {"name": "c", "protocol": "SCTP", "port": 99},
            ],
            "selector": {"app": "web"},
        },
        "status": {
            "loadBalancer": {"ingress": [
                {"ip": "fd00::5", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP", "error": "x"}]},
                {"ip": "nonsense"}, {"hostname": "lb.example"},
            ]},
            "conditions": [
                {"type": "kube-vip.io/Ready", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "t"},
                {"type": "LoadBalancerPortsError", "status": "True"},
            ],
        },
    }))
    .unwrap();
    assert_eq!(shape.name(), ServiceName::new("shop", "web"));
    let (name, service) = shape.convert();
    assert_eq!(name, ServiceName::new("shop", "web"));
    assert_eq!((&*service.uid, &*service.version.0), ("u1", "77"));
    assert_eq!(service.created, "2026-01-02T03:04:05Z");
    assert_eq!(service.kind, ServiceKind::LoadBalancer);
    assert_eq!(service.class.as_deref(), Some("kube-vip.io/kube-vip-class"));
    assert_eq!(service.families, [Family::V6, Family::V4]);
    assert_eq!(service.family_policy, FamilyPolicy::RequireDualStack);
    assert_eq!(service.traffic, TrafficPolicy::Local);
    let ports = [port(Protocol::Udp, 53), port(Protocol::Tcp, 80), port(Protocol::Sctp, 99)];
    assert_eq!(service.ports, ports);
    assert_eq!(service.spec_ip.as_deref(), Some("10.0.0.5"));
    assert_eq!(service.ingress.len(), 3);
    assert_eq!(service.ingress[0].ip, Some("fd00::5".parse().unwrap()));
    assert_eq!(service.ingress[0].mode.as_deref(), Some("VIP"));
    assert_eq!(service.ingress[0].ports, [port(Protocol::Tcp, 80)]);
    assert_eq!(service.ingress[1], Ingress { ip: None, hostname: None, mode: None, ports: vec![] });
    assert_eq!(service.ingress[2].hostname.as_deref(), Some("lb.example"));
    assert_eq!(service.annotations.keys().collect::<Vec<_>>(), ["kube-vip.io/loadbalancerIPs"]);
    assert_eq!(service.labels.keys().collect::<Vec<_>>(), ["implementation", "ipam-address"]);
    let ready = Condition { status: "True".into(), reason: "R".into(), message: "m".into() };
    assert_eq!(service.conditions, BTreeMap::from([("kube-vip.io/Ready".to_owned(), ready)]));
    assert_eq!(service.life, ObjectLife::Alive);
}

#[test]
fn a_service_that_says_little_or_null_is_read_with_the_defaults() {
    let metadata = json!({"namespace": "n", "name": "s", "annotations": null, "labels": null});
    let bare = convert(json!({"metadata": metadata}));
    let nulls = convert(json!({
        "metadata": metadata,
        "spec": {"type": null, "ports": null, "ipFamilies": null, "loadBalancerIP": ""},
        "status": {"loadBalancer": {"ingress": null}, "conditions": null},
    }));
    assert_eq!(bare, nulls);
    assert_eq!(bare.kind, ServiceKind::Other);
    assert_eq!((bare.family_policy, bare.traffic), (FamilyPolicy::SingleStack, TrafficPolicy::Cluster));
    assert_eq!((bare.spec_ip, bare.class, bare.ports.len()), (None, None, 0));
}

#[test]
fn what_cannot_be_is_left_out_and_the_rest_is_read() {
    let service = convert(json!({
        "metadata": {"namespace": "n", "name": "s", "deletionTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {
            "type": "ExternalName", "ipFamilies": ["IPv5", "IPv4"],
            "ports": [{"port": 70000}, {"port": -1}, {"port": 0}, {"port": 1, "protocol": "DCCP"}, {"port": 2}],
        },
    }));
    assert_eq!(service.ports, [port(Protocol::Tcp, 2)]);
    assert_eq!(service.families, [Family::V4]);
    assert_eq!((service.kind, service.life), (ServiceKind::Other, ObjectLife::Deleting));
}

#[test]
fn annotations_labels_and_the_address_are_set_and_removed_and_others_stay() {
    let mut object = json!({
        "metadata": {"annotations": {"a": "1", "b": "2", "theirs": "x"}, "name": "s"},
        "spec": {"selector": {"app": "web"}},
    });
    let mut write = ServiceWrite {
        service: ServiceName::new("n", "s"),
        expect: vip_model::store::Version("1".into()),
        annotations: BTreeMap::from([("a".into(), Some("9".into())), ("b".into(), None), ("c".into(), None)]),
        labels: BTreeMap::from([("implementation".into(), Some("kube-vip".into()))]),
        spec_ip: Some("10.0.0.7".into()),
    };
    assert!(compose(&mut object, &write));
    let wanted = json!({
        "metadata": {"annotations": {"a": "9", "theirs": "x"}, "name": "s", "labels": {"implementation": "kube-vip"}},
        "spec": {"selector": {"app": "web"}, "loadBalancerIP": "10.0.0.7"},
    });
    assert_eq!(object, wanted);
    assert!(!compose(&mut object, &write), "what is so is not written again");
    write.spec_ip = None;
    assert!(!compose(&mut object, &write), "an address that is not named stays");
    assert_eq!(object, wanted);
}

fn status_write(ingress: Vec<Ingress>, conditions: &[(&str, Option<&str>)]) -> ServiceStatusWrite {
    let condition = |status: &str| Condition {
        status: status.to_owned(),
        reason: "Why".to_owned(),
        message: format!("it is {status}"),
    };
    ServiceStatusWrite {
        service: ServiceName::new("n", "s"),
        expect: vip_model::store::Version("1".into()),
        ingress,
        conditions: conditions
            .iter()
            .map(|(kind, status)| ((*kind).to_owned(), status.map(condition)))
            .collect(),
    }
}

fn ingress(ip: &str, mode: Option<&str>) -> Ingress {
    Ingress {
        ip: Some(ip.parse().unwrap()),
        hostname: None,
        mode: mode.map(str::to_owned),
        ports: vec![port(Protocol::Tcp, 80)],
    }
}

#[test]
fn a_status_is_written_and_foreign_conditions_and_fields_stay() {
    let foreign = json!({"type": "Foreign", "status": "True", "observedGeneration": 4});
    let mut object =
        json!({"status": {"conditions": [foreign], "other": 1, "loadBalancer": {"extra": true}}});
    let write = status_write(
        vec![ingress("10.0.0.5", Some("VIP")), ingress("fd00::5", Some("VIP"))],
        &[("kube-vip.io/Ready", Some("True")), ("kube-vip.io/Gone", None)],
    );
    assert!(compose_status(&mut object, &write, at("05")));
    let ports = json!([{"port": 80, "protocol": "TCP"}]);
    let wanted = json!({"status": {
        "conditions": [foreign, {
            "type": "kube-vip.io/Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": "Why", "message": "it is True",
        }],
        "other": 1,
        "loadBalancer": {"extra": true, "ingress": [
            {"ip": "10.0.0.5", "ipMode": "VIP", "ports": ports}, {"ip": "fd00::5", "ipMode": "VIP", "ports": ports},
        ]},
    }});
    assert_eq!(object, wanted);
    assert!(!compose_status(&mut object, &write, at("06")), "what is so is not written again");
    assert_eq!(object, wanted);
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut object = json!({"status": {"conditions": [{
        "type": "kube-vip.io/Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z",
        "reason": "Old", "message": "old", "observedGeneration": 2,
    }]}});
    let mut write = status_write(vec![], &[("kube-vip.io/Ready", Some("True"))]);
    assert!(compose_status(&mut object, &write, at("05")), "the message is another");
    let condition = object["status"]["conditions"][0].clone();
    assert_eq!(condition["lastTransitionTime"], "2020-01-01T00:00:00Z");
    assert_eq!((&condition["message"], &condition["observedGeneration"]), (&json!("it is True"), &json!(2)));
    write = status_write(vec![], &[("kube-vip.io/Ready", Some("False"))]);
    assert!(compose_status(&mut object, &write, at("07")));
    assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2026-01-02T03:04:07Z");
    write = status_write(vec![], &[("kube-vip.io/Ready", None)]);
    assert!(compose_status(&mut object, &write, at("08")));
    assert_eq!(object["status"]["conditions"], json!([]));
}

#[test]
fn an_ingress_list_is_replaced_emptied_and_compared_by_meaning() {
    let stored = json!({"loadBalancer": {"ingress": [
        {"ip": "fd00:0::5", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP", "error": "theirs"}]},
    ]}});
    let mut object = json!({"status": stored});
    for mode in [None, Some("VIP")] {
        let same = status_write(vec![ingress("fd00::5", mode)], &[]);
        assert!(!compose_status(&mut object, &same, at("05")), "{mode:?}");
    }
    assert_eq!(object["status"], stored);
    assert!(compose_status(
        &mut object,
        &status_write(vec![ingress("fd00::5", Some("Proxy"))], &[]),
        at("05")
    ));
    assert_eq!(object["status"]["loadBalancer"]["ingress"][0]["ipMode"], "Proxy");
    assert!(compose_status(&mut object, &status_write(vec![], &[]), at("05")));
    assert_eq!(object["status"]["loadBalancer"]["ingress"], json!([]));
    let mut fresh = json!({"metadata": {}});
    assert!(!compose_status(&mut fresh, &status_write(vec![], &[]), at("05")), "nothing is nothing");
}
