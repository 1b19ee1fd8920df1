//! The built-in address management with the real binary on three nodes: the cloud-provider's documented cases through the
//! API, exhaustion and refusals as conditions and Events, addresses that stay over restarts and are never given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::draft::{Draft, Stack};

const ALL: [u8; 3] = [1, 2, 3];
/// From a Service, or a change of the pools, to its address or the word why there is none.
const SOON: Duration = Duration::from_secs(1);
/// A take-over of the allocator's Lease after SIGKILL: timings 5/3/1 s.
const EXPIRED: Duration = Duration::from_millis(5300);
const ON: (&str, &str) = ("svc_ipam", "true");
/// The Lease of the agent that gives addresses.
const LEASE: &str = "kube-system/kubevip-ipam";

/// Writes the ConfigMap with the pools.
fn pools(rig: &Rig, keys: &[(&str, &str)]) -> Result<()> {
    let data: BTreeMap<_, _> = keys.iter().copied().collect();
    let meta = json!({"name": "kubevip", "namespace": "kube-system"});
    rig.cluster().apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}))
}

fn note(rig: &Rig, draft: &Draft, key: &str) -> Option<String> {
    let service = rig.service(draft)?;
    service["metadata"]["annotations"][format!("kube-vip.io/{key}")].as_str().map(str::to_owned)
}

/// The addresses that a Service was given, when its condition says so, too.
fn given(rig: &Rig, draft: &Draft) -> Option<String> {
    let list = note(rig, draft, "loadbalancerIPs")?;
    let condition = rig.condition(draft, "AddressAssigned")?;
    (condition["status"] == "True" && note(rig, draft, "allocatedIPs").as_ref() == Some(&list))
        .then_some(list)
}

/// The same Service as one that asks for what it was given, to be looked at.
fn holding(draft: &Draft, list: &str) -> Result<Draft> {
    let addrs: Result<Vec<IpAddr>, _> = list.split(',').map(str::parse).collect();
    Ok(draft.clone().on(addrs?))
}

/// Waits until a Service is told that it gets no address, and why.
fn refused(rig: &Rig, draft: &Draft, reason: &str) -> Result<Value> {
    rig.within(SOON, &format!("{} is refused: {reason}", draft.title()), |rig| {
        let condition = rig.condition(draft, "AddressAssigned")?;
        let is_told = condition["status"] == "False" && condition["reason"] == reason;
        (is_told && rig.has_event(draft, ("Warning", reason), "")).then_some(condition)
    })
}

/// What a Service gets in a documented case.
enum Gets {
    /// These addresses, with this interface where the ConfigMap names one.
    Addrs(&'static str),
    /// None, with the condition's reason and a part of its message.
    Refusal(&'static str, &'static str),
}

/// A documented case of the cloud-provider: pools, a Service, what it gets.
struct Case {
    what: &'static str,
    pools: &'static [(&'static str, &'static str)],
    namespace: &'static str,
    stack: Stack,
    gets: Gets,
}

const fn case(
    what: &'static str,
    pools: &'static [(&'static str, &'static str)],
    (namespace, stack): (&'static str, Stack),
    gets: Gets,
) -> Case {
    Case { what, pools, namespace, stack, gets }
}

use Gets::{Addrs, Refusal};
use Stack::{V4, V4First, V6, V6First};

/// Each with addresses of its own, so that nothing of an earlier case is in the way.
const CASES: [Case; 17] = [
    case("a global CIDR", &[("cidr-global", "10.78.0.0/29")], ("default", V4), Addrs("10.78.0.1")),
    case("a global range", &[("range-global", "10.78.1.5-10.78.1.6")], ("default", V4), Addrs("10.78.1.5")),
    case(
        "a CIDR of the namespace before the global one",
        &[("cidr-shop", "10.78.2.8/29"), ("cidr-global", "10.78.3.0/29")],
        ("shop", V4),
        Addrs("10.78.2.8"),
    ),
    case(
        "a global CIDR before a range of the namespace",
        &[("range-shop", "10.78.4.1-10.78.4.9"), ("cidr-global", "10.78.5.0/29")],
        ("shop", V4),
        Addrs("10.78.5.1"),
    ),
    case(
        "a namespace without pools of its own",
        &[("cidr-shop", "10.78.6.0/29"), ("range-global", "10.78.7.7-10.78.7.9")],
        ("default", V4),
        Addrs("10.78.7.7"),
    ),
    case(
        "several CIDRs",
        &[("cidr-global", "10.78.8.4/32,10.78.8.16/29")],
        ("default", V4),
        Addrs("10.78.8.4"),
    ),
    case(
        "search order desc",
        &[("cidr-global", "10.78.9.0/29"), ("search-order", "desc")],
        ("default", V4),
        Addrs("10.78.9.7"),
    ),
    case(
        "end addresses skipped",
        &[("cidr-global", "10.78.10.4/30"), ("skip-end-ips-in-cidr", "true")],
        ("default", V4),
        Addrs("10.78.10.5"),
    ),
    case("IPv6", &[("cidr-global", "fd78:b::10/124")], ("default", V6), Addrs("fd78:b::10")),
    case(
        "the family of the Service",
        &[("cidr-global", "10.78.12.0/29,fd78:c::10/124")],
        ("default", V6),
        Addrs("fd78:c::10"),
    ),
    case(
        "dual stack, IPv4 first",
        &[("cidr-global", "10.78.13.8/29,fd78:d::10/124")],
        ("default", V4First),
        Addrs("10.78.13.8,fd78:d::10"),
    ),
    case(
        "dual stack, IPv6 first",
        &[("cidr-global", "10.78.14.8/29,fd78:e::10/124")],
        ("default", V6First),
        Addrs("fd78:e::10,10.78.14.8"),
    ),
    case(
        "no pool of the family",
        &[("cidr-global", "10.78.15.8/29")],
        ("default", V6),
        Refusal("Invalid", "IPv6"),
    ),
    case(
        "both families required and one there",
        &[("cidr-global", "10.78.16.8/29")],
        ("default", V4First),
        Refusal("Invalid", "IPv6"),
    ),
    case(
        "no pool for the namespace",
        &[("cidr-shop", "10.78.17.8/29")],
        ("default", V4),
        Refusal("Invalid", "cidr-global"),
    ),
    case(
        "a bad entry beside a good one",
        &[("cidr-global", "10.78.18.0/33,10.78.18.8/29"), ("range-shop", "nonsense")],
        ("default", V4),
        Addrs("10.78.18.8"),
    ),
    case(
        "an interface for them",
        &[("cidr-global", "10.78.19.8/29"), ("interface-global", "eth0")],
        ("default", V4),
        Addrs("10.78.19.8"),
    ),
];

fn play_case(rig: &Rig, (case, number): (&Case, usize)) -> Result<()> {
    pools(rig, case.pools)?;
    let draft = Draft::new(&format!("case-{number}"), case.stack).within(case.namespace);
    rig.back(&draft, &ALL)?;
    rig.write(&draft)?;
    match case.gets {
        Addrs(list) => {
            let what = format!("{} gets {list}", draft.title());
            let found = rig.within(SOON, &what, |rig| given(rig, &draft))?;
            ensure!(found == list, "it got {found}, not {list}");
            rig.within(SOON, "an Event that tells of it", |rig| {
                rig.has_event(&draft, ("Normal", "Allocated"), "").then_some(())
            })?;
            let interface = case.pools.iter().find(|(key, _)| *key == "interface-global");
            let noted = note(rig, &draft, "serviceInterface");
            ensure!(noted.as_deref() == interface.map(|(_, name)| *name), "interface {noted:?}");
            let holding = holding(&draft, list)?;
            rig.within(SOON, &format!("{} is served", draft.title()), |rig| rig.server(&holding))?;
        }
        Refusal(reason, part) => {
            let condition = refused(rig, &draft, reason)?;
            let message = condition["message"].as_str().unwrap_or_default();
            ensure!(message.contains(part), "{message:?} does not name {part:?}");
        }
    }
    rig.remove(&draft);
    Ok(())
}

pub(crate) fn documented_cases(rig: &mut Rig) -> Result<()> {
    rig.namespace("shop")?;
    pools(rig, &[])?;
    rig.start_all(&[ON])?;
    rig.ready(&ALL)?;
    // Defects of the cloud-provider: an address in the spec that is not tracked, and one bad annotation that blocks all.
    let bad = Draft::new("bad", Stack::V4).note("loadbalancerIPs", "10.0.0.300, vip.example.org");
    rig.write(&bad)?;
    for (number, one) in CASES.iter().enumerate() {
        play_case(rig, (one, number)).context(one.what)?;
    }
    pools(rig, &[("cidr-global", "10.78.30.8/29")])?;
    let legacy = Draft::new("legacy", Stack::V4).spec("loadBalancerIP", json!("10.78.30.8"));
    let next = Draft::new("next", Stack::V4);
    rig.write(&legacy)?;
    rig.within(SOON, "the address of the spec", |rig| {
        (note(rig, &legacy, "loadbalancerIPs")? == "10.78.30.8").then_some(())
    })?;
    rig.write(&next)?;
    let found = rig.within(SOON, "another address", |rig| given(rig, &next))?;
    ensure!(found == "10.78.30.9", "{found} was given");
    Ok(())
}

pub(crate) fn sharing(rig: &mut Rig) -> Result<()> {
    pools(rig, &[("cidr-global", "10.78.40.8/30"), ("allow-share-default", "true")])?;
    rig.start_all(&[ON])?;
    rig.ready(&ALL)?;
    let draft = |name: &str, port| Draft::new(name, Stack::V4).ports(&[("TCP", port)]);
    let mut found = Vec::new();
    for one in [draft("a", 80), draft("b", 443), draft("c", 80)] {
        rig.back(&one, &ALL)?;
        rig.write(&one)?;
        let list = rig.within(SOON, &one.title(), |rig| given(rig, &one))?;
        rig.within(SOON, "it is served", |rig| rig.server(&holding(&one, &list).ok()?))?;
        found.push(list);
    }
    ensure!(found == ["10.78.40.8", "10.78.40.8", "10.78.40.9"], "{found:?}");
    Ok(())
}

pub(crate) fn exhausted(rig: &mut Rig) -> Result<()> {
    // Of these eight the nodes have 11 to 13, and the control plane's address may not be given either.
    pools(rig, &[("cidr-global", "10.77.0.8/29,10.77.0.200/32")])?;
    let settings = [("address", "10.77.0.200"), ("svc_enable", "true"), ON];
    rig.configure(&settings)?;
    rig.start_missing()?;
    rig.ready(&ALL)?;
    let drafts: Vec<_> = (0..5).map(|number| Draft::new(&format!("s{number}"), Stack::V4)).collect();
    let mut lists = BTreeSet::new();
    for draft in &drafts {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
        lists.insert(rig.within(SOON, &draft.title(), |rig| given(rig, draft))?);
    }
    let expected = [8, 9, 10, 14, 15].map(|last| format!("10.77.0.{last}"));
    ensure!(lists == BTreeSet::from(expected), "{lists:?}");
    let late = Draft::new("late", Stack::V4);
    rig.back(&late, &ALL)?;
    rig.write(&late)?;
    refused(rig, &late, "PoolExhausted")?;
    let allocator = rig.holder(LEASE).context("somebody allocates")?;
    let (code, said) = rig.command(allocator, &["explain", &late.title()])?;
    ensure!(code == 0 && said.contains("cidr-global"), "{said}");
    rig.remove(&drafts[2]);
    let list = rig.within(SOON, "what was freed", |rig| given(rig, &late))?;
    rig.within(SOON, "it is served", |rig| rig.server(&holding(&late, &list).ok()?))?;
    Ok(())
}

/// The addresses of all these Services; none while one has none.
fn all_given(rig: &Rig, drafts: &[Draft]) -> Option<Vec<String>> {
    drafts.iter().map(|draft| given(rig, draft)).collect()
}

pub(crate) fn restarts(rig: &mut Rig) -> Result<()> {
    pools(rig, &[("cidr-global", "10.78.50.0/24")])?;
    rig.start_all(&[ON])?;
    rig.ready(&ALL)?;
    let drafts: Vec<_> = (0..40).map(|number| Draft::new(&format!("s{number}"), Stack::V4)).collect();
    let (first, second) = drafts.split_at(20);
    for draft in first {
        rig.write(draft)?;
    }
    let allocator = rig.holder(LEASE).context("somebody allocates")?;
    rig.within(SOON, "the first", |rig| all_given(rig, &drafts[..1]))?;
    // The allocator dies in the midst of it; another one goes on when its Lease has run out.
    rig.kill(allocator)?;
    for draft in second {
        rig.write(draft)?;
    }
    let lists = rig.within(EXPIRED + SOON, "all of them", |rig| all_given(rig, &drafts))?;
    ensure!(lists.iter().collect::<BTreeSet<_>>().len() == drafts.len(), "given twice: {lists:?}");
    for draft in &drafts {
        rig.back(draft, &ALL)?;
    }
    rig.start(allocator)?;
    rig.ready(&ALL)?;
    rig.stop_all()?;
    rig.start_missing()?;
    rig.ready(&ALL)?;
    for (draft, list) in drafts.iter().zip(&lists) {
        let holding = holding(draft, list)?;
        rig.within(2 * SOON, &format!("{} is served again", draft.title()), |rig| rig.server(&holding))?;
    }
    for number in ALL {
        rig.kill(number)?;
    }
    rig.start_missing()?;
    rig.ready(&ALL)?;
    std::thread::sleep(SOON);
    let after = rig.within(EXPIRED, "all of them", |rig| all_given(rig, &drafts))?;
    ensure!(after == lists, "some have moved");
    Ok(())
}
