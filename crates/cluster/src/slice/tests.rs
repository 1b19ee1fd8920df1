use serde_json::{Value, json};

use super::*;

fn slice(object: Value) -> Piece {
    serde_json::from_value::<SliceShape>(object).unwrap().convert(&mut NodeNames::default())
}

fn one_slice(family: &str, endpoints: &Value) -> Piece {
    slice(json!({
        "metadata": {"namespace": "n", "name": "web-x1", "labels": {SERVICE: "web", "other": "x"}},
        "addressType": family, "endpoints": endpoints, "ports": [{"port": 80}],
    }))
}

fn endpoint(addr: &str, node: Option<&str>, host: Option<&str>, state: EndpointState) -> Endpoint {
    let (node, host) = (node.map(NodeName::new), host.map(str::to_owned));
    Endpoint { addr: addr.parse().unwrap(), node, host, state }
}

#[test]
fn conditions_are_read_as_kube_proxy_reads_them() {
    use EndpointState::{NotReady, Ready, ServingTerminating};
    let rows = [
        (json!(null), Ready),
        (json!({}), Ready),
        (json!({"ready": null, "serving": null, "terminating": null}), Ready),
        (json!({"ready": true, "serving": true, "terminating": false}), Ready),
        (json!({"ready": true, "terminating": true}), Ready),
        (json!({"ready": false, "serving": true, "terminating": true}), ServingTerminating),
        (json!({"ready": false, "serving": true, "terminating": false}), NotReady),
        (json!({"ready": false, "serving": true}), NotReady),
        (json!({"ready": false, "serving": false, "terminating": true}), NotReady),
        (json!({"ready": false, "terminating": true}), NotReady),
        (json!({"ready": false}), NotReady),
    ];
    for (conditions, state) in rows {
        let piece = one_slice("IPv4", &json!([{"addresses": ["10.1.0.1"], "conditions": conditions}]));
        assert_eq!(piece.endpoints, [endpoint("10.1.0.1", None, None, state)], "{conditions}");
    }
}

#[test]
fn an_endpoint_has_its_first_address_and_a_node_or_else_a_host_name() {
    let piece = one_slice(
        "IPv6",
        &json!([
            {"addresses": ["fd00::2", "fd00::9"], "nodeName": "N2", "hostname": "pod-2"},
            {"addresses": ["fd00::1"], "hostname": "pod-1"},
            {"addresses": ["fd00::3"], "nodeName": ""},
            {"addresses": []},
        ]),
    );
    let ready = EndpointState::Ready;
    assert_eq!(
        piece.endpoints,
        [
            endpoint("fd00::1", None, Some("pod-1"), ready),
            endpoint("fd00::2", Some("n2"), None, ready),
            endpoint("fd00::3", None, None, ready),
        ]
    );
    assert_eq!(piece.service, Some(ServiceName::new("n", "web")));
    assert_eq!(piece.object, ("n".to_owned(), "web-x1".to_owned()));
}

#[test]
fn names_and_addresses_of_another_family_are_no_endpoints() {
    for family in ["FQDN", "IPv6", ""] {
        let piece = one_slice(family, &json!([{"addresses": ["10.1.0.1"]}, {"addresses": ["web.example"]}]));
        assert_eq!(piece.endpoints, [], "{family}");
    }
    let piece = one_slice("IPv4", &json!(null));
    assert_eq!(piece.endpoints, []);
}

#[test]
fn a_slice_without_a_service_belongs_to_none() {
    let object = json!({"metadata": {"namespace": "n", "name": "x", "labels": null}, "addressType": "IPv4"});
    assert_eq!(slice(object).service, None);
}

#[test]
fn an_endpoint_that_is_seen_twice_counts_once_with_its_best_state() {
    let (ready, not) = (EndpointState::Ready, EndpointState::NotReady);
    let merged = merge(vec![
        endpoint("10.1.0.2", Some("a"), None, not),
        endpoint("10.1.0.1", Some("a"), None, not),
        endpoint("10.1.0.2", Some("b"), None, not),
        endpoint("10.1.0.2", Some("a"), None, ready),
    ]);
    assert_eq!(
        merged,
        [
            endpoint("10.1.0.1", Some("a"), None, not),
            endpoint("10.1.0.2", Some("a"), None, ready),
            endpoint("10.1.0.2", Some("b"), None, not),
        ]
    );
}

#[test]
fn an_endpoints_object_tells_ready_and_other_addresses() {
    let shape: EndpointsShape = serde_json::from_value(json!({
        "metadata": {"namespace": "n", "name": "web"},
        "subsets": [
            {"addresses": [{"ip": "10.1.0.1", "nodeName": "n1", "targetRef": {"kind": "Pod"}}],
             "notReadyAddresses": [{"ip": "10.1.0.2", "hostname": "pod-2"}, {"ip": "x"}]},
            {"addresses": null, "notReadyAddresses": [{"ip": "10.1.0.1", "nodeName": "n1"}, {"ip": "fd00::1"}]},
        ],
    }))
    .unwrap();
    let piece = shape.convert(&mut NodeNames::default());
    assert_eq!(piece.service, Some(ServiceName::new("n", "web")));
    assert_eq!(
        piece.endpoints,
        [
            endpoint("10.1.0.1", Some("n1"), None, EndpointState::Ready),
            endpoint("10.1.0.2", None, Some("pod-2"), EndpointState::NotReady),
            endpoint("fd00::1", None, None, EndpointState::NotReady),
        ]
    );
    let bare: EndpointsShape =
        serde_json::from_value(json!({"metadata": {"namespace": "n", "name": "web"}})).unwrap();
    assert_eq!(bare.convert(&mut NodeNames::default()).endpoints, []);
}
