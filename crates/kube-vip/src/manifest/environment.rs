//! The environment of a generated manifest: the settings that upstream's generator carries over, in its order.
//! Repaired: the timeout of `vip_loseleadership` has its own name (upstream wrote it over the switch).

use serde_json::{Value, json};

use crate::settings::key as k;
use crate::settings::{Refusal, Values, table};

/// A variable and what it needs.
struct Row {
    key: &'static str,
    when: When,
}

/// When a variable is carried over.
#[derive(Clone, Copy)]
enum When {
    /// Always, even empty.
    Always,
    /// When it has a value.
    Set,
    /// When it is true.
    True,
    /// When it differs from its default.
    Changed,
}

use When::{Always, Changed, Set, True};

const HEAD: &[Row] = &[
    Row { key: k::INSTANCE, when: Set },
    Row { key: k::INTERFACE, when: Set },
    Row { key: k::LOOPBACK_GLOBAL, when: True },
    Row { key: k::SERVICES_INTERFACE, when: Set },
    Row { key: k::INTERFACE_NOT_UP, when: True },
    Row { key: k::SUBNET, when: Set },
    Row { key: k::DNS_MODE, when: Set },
];
const CONTROL_PLANE: &[Row] = &[
    Row { key: k::CONTROL_PLANE, when: Always },
    Row { key: k::NAMESPACE, when: Always },
    Row { key: k::DDNS, when: True },
    Row { key: k::DETECT, when: True },
];
const SERVICES: &[Row] = &[
    Row { key: k::SERVICES, when: Always },
    Row { key: k::SERVICES_LEASE, when: Always },
    Row { key: k::SERVICES_ELECTION, when: True },
    Row { key: k::CLASS_ONLY, when: True },
    Row { key: k::SERVICE_SECURITY, when: True },
];
const ELECTION: &[Row] = &[
    Row { key: k::LEADER_ELECTION, when: Always },
    Row { key: k::LEASE_NAME, when: Always },
    Row { key: k::LEASE_DURATION, when: Always },
    Row { key: k::RENEW_DEADLINE, when: Always },
    Row { key: k::RETRY_PERIOD, when: Always },
];
const LOSE: &[Row] =
    &[Row { key: k::LOSE_LEADERSHIP, when: Always }, Row { key: k::LOSE_TIMEOUT, when: Always }];
const MIDDLE: &[Row] = &[
    Row { key: k::NODE_LABEL, when: True },
    Row { key: k::ANNOTATION, when: Set },
    Row { key: k::WIREGUARD, when: True },
    Row { key: k::TABLE, when: True },
];
const BGP: &[Row] = &[
    Row { key: k::BGP, when: Always },
    Row { key: k::BGP_ATTACH, when: True },
    Row { key: k::BGP_ROUTER_ID, when: Always },
    Row { key: k::BGP_AS, when: Always },
    Row { key: k::BGP_PEER_ADDRESS, when: Always },
    Row { key: k::BGP_PEER_PASS, when: Always },
    Row { key: k::BGP_PEER_AS, when: Always },
    Row { key: k::BGP_SOURCE_IF, when: Set },
    Row { key: k::BGP_SOURCE_IP, when: Set },
    Row { key: k::BGP_PEERS, when: Set },
];
const HEALTH: &[Row] = &[
    Row { key: k::HEALTH_URL, when: Always },
    Row { key: k::HEALTH_PERIOD, when: Set },
    Row { key: k::HEALTH_TIMEOUT, when: Set },
    Row { key: k::HEALTH_THRESHOLD, when: Set },
    Row { key: k::HEALTH_CA, when: Set },
];
const BALANCE: &[Row] = &[
    Row { key: k::BALANCE, when: Always },
    Row { key: k::BALANCE_PORT, when: Always },
    Row { key: k::BALANCE_METHOD, when: Always },
];
const TAIL: &[Row] = &[
    Row { key: k::PROMETHEUS, when: Always },
    Row { key: k::ENDPOINTS, when: True },
    Row { key: k::NO_SERVICE_UPDATES, when: True },
    Row { key: k::MIRROR, when: Set },
    Row { key: k::HEALTH_PORT, when: Changed },
    Row { key: k::PRESERVE, when: True },
];
/// Ours: upstream has no such names.
const OURS: &[Row] = &[
    Row { key: k::ELECTION_MODE, when: Changed },
    Row { key: k::PEERS, when: Changed },
    Row { key: k::PEERS_PORT, when: Changed },
    Row { key: k::PEERS_INTERVAL, when: Changed },
    Row { key: k::API_LOSS, when: Changed },
    Row { key: k::FAILBACK, when: Changed },
    Row { key: k::MOVE_PAUSE, when: Changed },
    Row { key: k::PREFERRED_NODES, when: Set },
    Row { key: k::ON_STOP, when: Changed },
    Row { key: k::CONTROL_PLANE_LIFETIME, when: Changed },
    Row { key: k::SERVICES_LIFETIME, when: Changed },
    Row { key: k::STRICT, when: True },
];

/// The variables of an agent with these settings.
pub(super) fn list(values: &Values) -> Result<Vec<Value>, Refusal> {
    let mut list = vec![
        variable(k::ARP, &canonical(values, k::ARP)?),
        variable(k::PORT, &canonical(values, k::PORT)?),
        json!({"name": k::NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}),
    ];
    add(&mut list, values, HEAD)?;
    list.push(variable(k::DHCP_MODE, dhcp_mode(values)));
    add(&mut list, values, &[Row { key: k::DHCP_ATTEMPTS, when: Changed }])?;
    let parts: [(&str, &[Row]); 4] = [
        (k::CONTROL_PLANE, CONTROL_PLANE),
        (k::SERVICES, SERVICES),
        (k::LEADER_ELECTION, ELECTION),
        (k::LOSE_LEADERSHIP, LOSE),
    ];
    add_parts(&mut list, values, &parts)?;
    add(&mut list, values, MIDDLE)?;
    add_parts(&mut list, values, &[(k::BGP, BGP)])?;
    if values.set(k::HEALTH_URL).is_some() {
        add(&mut list, values, HEALTH)?;
    }
    add_parts(&mut list, values, &[(k::BALANCE, BALANCE)])?;
    let address = if values.set(k::ADDRESS).is_some() { k::ADDRESS } else { k::VIP };
    list.push(variable(address, values.text(address)));
    add(&mut list, values, TAIL)?;
    if values.text(k::DEBOUNCE) != table::setting(k::DEBOUNCE).default {
        list.push(variable("debounce_time", values.text(k::DEBOUNCE)));
    }
    add(&mut list, values, OURS)?;
    Ok(list)
}

fn add_parts(list: &mut Vec<Value>, values: &Values, parts: &[(&str, &[Row])]) -> Result<(), Refusal> {
    for (switch, rows) in parts {
        if values.boolean(switch)? {
            add(list, values, rows)?;
        }
    }
    Ok(())
}

fn add(list: &mut Vec<Value>, values: &Values, rows: &[Row]) -> Result<(), Refusal> {
    for row in rows {
        let text = canonical(values, row.key)?;
        let wanted = match row.when {
            Always => true,
            Set => !text.is_empty(),
            True => text == "true",
            Changed => text != table::setting(row.key).default,
        };
        if wanted {
            list.push(variable(row.key, &text));
        }
    }
    Ok(())
}

/// The value as upstream writes it: switches in words, numbers without signs and zeros in front.
fn canonical(values: &Values, key: &str) -> Result<String, Refusal> {
    use table::Kind::{Bool, List, Millis, Number, Object, Port, Seconds, Span, Text};
    Ok(match table::setting(key).kind {
        Bool => values.boolean(key)?.to_string(),
        Port => values.number(key, &(0..=i64::from(u16::MAX)))?.to_string(),
        Number | Seconds | Millis => values.number(key, &(0..=i64::from(u32::MAX)))?.to_string(),
        Text | Span | List | Object => values.text(key).to_owned(),
    })
}

/// Upstream always writes it: the DNS mode, or `ipv4` where that is `first`.
fn dhcp_mode(values: &Values) -> &str {
    match (values.set(k::DHCP_MODE), values.text(k::DNS_MODE)) {
        (Some(mode), _) => mode,
        (None, "first") => "ipv4",
        (None, mode) => mode,
    }
}

fn variable(name: &str, value: &str) -> Value {
    if value.is_empty() { json!({"name": name}) } else { json!({"name": name, "value": value}) }
}
