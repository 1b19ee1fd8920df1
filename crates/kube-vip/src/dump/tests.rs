use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::config::{Election, HealthCheck, Layer2, LeaseTimings, LinkDown, OnLoss, Scope};
use vip_model::{InstanceName, LeaseName, NodeName, VipNet};

use super::*;
use crate::settings::{ApiSettings, LocalApi, LogLevel};

/// Settings as a user has them.
pub(crate) fn effective() -> Effective {
    let control_plane = ControlPlane {
        vips: ["192.0.2.1/32", "2001:db8::1/128"].map(|net| VipNet(net.parse().unwrap())).to_vec(),
        port: 6443,
        interface: InterfaceChoice::Auto,
        link_down: LinkDown::Yield,
        loopback_scope: Scope::Host,
        election: Election {
            lease: LeaseName::new("kube-system", "plndr-cp-lock"),
            annotations: BTreeMap::new(),
            timings: LeaseTimings::default(),
        },
        on_loss: OnLoss::Remove,
        health: Some(HealthCheck {
            url: "https://127.0.0.1:6443/livez".to_owned(),
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            failure_threshold: 3,
            ca_path: None,
        }),
        node_label: NodeLabel::HasIp,
    };
    Effective {
        config: Config {
            node: NodeName::new("n1"),
            instance: InstanceName::new("control-plane"),
            advertise: Advertise::Arp(Layer2 {
                announce_interval: Duration::from_secs(3),
                skip_conflict_probe: false,
            }),
            services: None,
            election_mode: vip_model::config::ElectionMode::Lease,
            preferred: Vec::new(),
            control_plane: Some(control_plane),
        },
        api: ApiSettings {
            kubeconfig: "/etc/kubernetes/admin.conf".into(),
            server: None,
            port: 6443,
            local: LocalApi::HostAlias,
        },
        log: LogLevel::Info,
        prometheus_server: Some(Listen::AnyAddress { port: 2112 }),
        health_check_port: None,
        warnings: Vec::new(),
    }
}

#[test]
fn the_dump_has_kube_vips_sections_in_their_order() {
    let view = View { node: "n1".to_owned(), ..View::default() };
    let text = render(&effective(), &view, Instant::ZERO);
    let marks = [
        "KUBE-VIP CONFIGURATION DUMP\n",
        "Node Name: n1\n",
        "--- BASIC CONFIGURATION ---\n",
        "VIP: 192.0.2.1,2001:db8::1\n",
        "VIP Subnet: 32,128\n",
        "Port: 6443\n",
        "Prometheus Server: :2112\n",
        "--- ARP/NDP CONFIGURATION ---\n",
        "ARP Broadcast Rate: 3000 ms\n",
        "--- LEADER ELECTION CONFIGURATION ---\n",
        "Lease Name: plndr-cp-lock\n",
        "Lease Duration: 15 seconds\n",
        "--- RUNTIME STATISTICS ---\n",
        "--- STATUS ---\n",
        "--- VIEW ---\n",
        "END OF CONFIGURATION DUMP\n",
    ];
    let mut rest = text.as_str();
    for mark in marks {
        let at = rest.find(mark).unwrap_or_else(|| panic!("{mark:?} is missing or out of order in\n{text}"));
        rest = &rest[at + mark.len()..];
    }
}

#[test]
fn the_view_in_the_dump_can_be_read_back() {
    let view = View { node: "n1".to_owned(), ..View::default() };
    let text = render(&effective(), &view, Instant::ZERO);
    let (_, json) = text.split_once("--- VIEW ---\n").unwrap();
    let (json, _) = json.split_once("\n====").unwrap();
    assert_eq!(serde_json::from_str::<View>(json).unwrap(), view);
}
