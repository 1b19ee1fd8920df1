use std::sync::Arc;

use serde_json::json;

use super::*;

fn objects(policy: &str, endpoints: &Value) -> Objects {
    let service = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": policy,
            "ports": [{"name": "a", "port": 80, "protocol": "UDP"}, {"name": "b", "port": 80, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "10.77.0.210"}]}},
    });
    let slice = json!({
        "metadata": {
            "name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "a", "port": 7007, "protocol": "UDP"}, {"name": "b", "port": 7007, "protocol": "TCP"}],
    });
    Objects { services: vec![Arc::new(service)], slices: vec![Arc::new(slice)] }
}

fn two_ready() -> Value {
    json!([
        {"addresses": ["10.244.1.5"], "nodeName": "n1", "conditions": {"ready": true}},
        {"addresses": ["10.244.2.5"], "nodeName": "n2", "conditions": {"ready": true}},
    ])
}

#[test]
fn policy_cluster_leads_to_all_endpoints_and_masquerades() {
    let seen = render("n3", &objects("Cluster", &two_ready()));
    for expected in [
        "ip daddr 10.77.0.210 udp dport 80 goto svc-10_77_0_210-udp-80",
        "ip daddr 10.77.0.210 tcp dport 80 goto svc-10_77_0_210-tcp-80",
        "meta mark set 0x4000\n    numgen random mod 2 vmap",
        "meta l4proto udp dnat ip to 10.244.1.5:7007",
        "meta l4proto tcp dnat ip to 10.244.2.5:7007",
    ] {
        assert!(seen.text.contains(expected), "{expected}\n{}", seen.text);
    }
    assert_eq!(seen.marks.len(), 2);
}

#[test]
fn policy_local_leads_to_local_endpoints_alone_and_drops_without_one() {
    let objects = objects("Local", &two_ready());
    let seen = render("n2", &objects);
    assert!(seen.text.contains("dnat ip to 10.244.2.5:7007"), "{}", seen.text);
    assert!(!seen.text.contains("10.244.1.5") && !seen.text.contains("set 0x4000"), "{}", seen.text);
    let seen = render("n3", &objects);
    assert!(seen.text.contains("drop") && !seen.text.contains("dnat ip"), "{}", seen.text);
    assert!(seen.marks.is_empty());
}

#[test]
fn endpoints_that_leave_serve_only_while_none_is_ready() {
    let leaving = json!({
        "addresses": ["10.244.1.5"], "nodeName": "n1",
        "conditions": {"ready": false, "serving": true, "terminating": true},
    });
    let ready = json!({"addresses": ["10.244.2.5"], "nodeName": "n2", "conditions": {"ready": true}});
    let unready = json!({"addresses": ["10.244.3.5"], "nodeName": "n3", "conditions": {"ready": false}});
    let seen = render("n1", &objects("Cluster", &json!([leaving, ready, unready])));
    assert!(seen.text.contains("10.244.2.5") && !seen.text.contains("10.244.1.5"), "{}", seen.text);
    let seen = render("n1", &objects("Cluster", &json!([leaving, unready])));
    assert!(seen.text.contains("10.244.1.5") && !seen.text.contains("10.244.3.5"), "{}", seen.text);
}

#[test]
fn a_service_without_an_address_or_of_another_type_gives_no_rule() {
    let mut all = objects("Cluster", &two_ready());
    let mut service = Value::clone(&all.services[0]);
    service["status"] = json!({"loadBalancer": {}});
    all.services = vec![Arc::new(service.clone())];
    assert!(!render("n1", &all).text.contains("dport"));
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.77.0.210"}]}});
    service["spec"]["type"] = json!("ClusterIP");
    all.services = vec![Arc::new(service)];
    assert!(!render("n1", &all).text.contains("dport"));
}
