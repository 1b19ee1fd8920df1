//! The rules that decide whose a Service is, which node may serve it, and what those have to say that share an address:
//! classes and annotations, nodes that are taken out, labels, port clashes. With the real binary on three nodes.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/class.rs"]
#[allow(dead_code)] // the real API server lets a class be changed in one way only
mod class;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vip_lab::bench::{Stamp, net};

use rig::draft::{Draft, Stack};
use rig::{Rig, gap, play_bare};

const ALL: [u8; 3] = [1, 2, 3];
/// Whatever is decided about a Service is done within this.
const SOON: Duration = Duration::from_secs(1);
/// A move in good order: release, take, install, announce, on a busy machine.
const MOVE: Duration = Duration::from_millis(150);
/// In so long something would have been written or moved, if anybody meant to.
const QUIET: Duration = Duration::from_millis(1500);
/// Services of both kinds of election in one lab.
const BOTH: (&str, &str) = ("per_service_election_on_demand", "true");

fn forced(draft: Draft) -> Draft {
    draft.note("forcePerServiceElection", "true")
}

fn create(rig: &Rig, draft: &Draft) -> Result<()> {
    rig.back(draft, &ALL)?;
    rig.write(draft)?;
    Ok(())
}

fn served(rig: &Rig, draft: &Draft) -> Result<u8> {
    rig.within(SOON, &format!("{} is served", draft.title()), |rig| rig.server(draft))
}

/// Waits for a condition with this status and reason.
fn told(rig: &Rig, draft: &Draft, (status, reason): (&str, &str)) -> Result<()> {
    rig.within(SOON, &format!("{} is told {reason}", draft.title()), |rig| {
        let condition = rig.condition(draft, "Announced")?;
        (condition["status"] == status && condition["reason"] == reason).then_some(())
    })
}

/// Of two Services that want one port of one address the later one has to wait, and says for whom.
fn the_later_one_waits(rig: &Rig, summon: fn(Draft) -> Draft, number: u8) -> Result<()> {
    let draft = |name: &str| summon(Draft::new(&format!("{name}-{number}"), Stack::V4First).at(number));
    let (first, second) = (draft("first"), draft("second"));
    create(rig, &first)?;
    let server = served(rig, &first)?;
    create(rig, &second)?;
    told(rig, &second, ("False", "PortClash"))?;
    let condition = rig.condition(&second, "Announced").context("it was told")?;
    let says_who = condition["message"].as_str().is_some_and(|text| text.contains(&first.title()));
    ensure!(says_who, "nobody is named: {condition}");
    ensure!(rig.server(&first) == Some(server), "{} was disturbed", first.title());
    let (code, said) = rig.command(server, &["explain", &second.title()])?;
    ensure!(code == 0 && said.contains(&first.title()), "{said}");
    rig.remove(&first);
    served(rig, &second)?;
    told(rig, &second, ("True", "Announced"))?;
    rig.remove(&second);
    Ok(())
}

#[test]
fn of_services_that_clash_the_later_one_waits_and_says_for_whom() {
    play_bare("of_services_that_clash_the_later_one_waits_and_says_for_whom", |rig| {
        rig.start_all(&[BOTH])?;
        rig.ready(&ALL)?;
        the_later_one_waits(rig, |draft| draft, 210)?;
        the_later_one_waits(rig, forced, 211)
    });
}

#[test]
fn a_service_shares_the_address_of_the_control_plane_but_not_its_port() {
    play_bare("a_service_shares_the_address_of_the_control_plane_but_not_its_port", |rig| {
        let vip = net::v4(net::VIP).into();
        rig.configure(&[("address", "10.77.0.200"), ("svc_enable", "true"), ("svc_election", "true")])?;
        rig.start_missing()?;
        rig.ready(&ALL)?;
        let holder = rig.within(SOON, "the VIP", |rig| {
            let holder = rig.holder("kube-system/plndr-cp-lock")?;
            rig.addresses(holder).ok()?.contains(&vip).then_some(holder)
        })?;
        let watch = rig.watch(&vip.to_string())?;
        let at = Stamp::now();
        let draft = |name: &str, port| Draft::new(name, Stack::V4).on(vec![vip]).ports(&[("TCP", port)]);
        let (beside, clashing) = (draft("beside", 80), draft("clashing", 6443));
        create(rig, &beside)?;
        create(rig, &clashing)?;
        ensure!(served(rig, &beside)? == holder, "not on the holder n{holder}");
        told(rig, &clashing, ("False", "Invalid"))?;
        // It follows the control plane's election.
        rig.stop(holder)?;
        let next = rig.within(SOON, "both on another node", |rig| {
            rig.server(&beside)
                .filter(|next| *next != holder && rig.holder("kube-system/plndr-cp-lock") == Some(*next))
        })?;
        rig.remove(&beside);
        rig.remove(&clashing);
        std::thread::sleep(QUIET);
        ensure!(rig.addresses(next)?.contains(&vip), "the VIP went with the Service");
        let (silence, overlap) = gap(&watch, at, Duration::ZERO);
        ensure!(silence <= MOVE && overlap.is_zero(), "gap {silence:?}, overlap {overlap:?}");
        Ok(())
    });
}

/// How an operator takes a node out, and how the change is undone.
struct Way {
    what: &'static str,
    out: fn(&mut Value),
    back: fn(&mut Value),
}

fn without(fields: &mut Value, key: &str) {
    drop(fields.as_object_mut().and_then(|fields| fields.shift_remove(key)));
}

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

const OWN_EXCLUDE: &str = "kube-vip.io/exclude";

const WAYS: [Way; 4] = [
    Way {
        what: "drain annotation",
        out: |node| node["metadata"]["annotations"]["kube-vip.io/drain"] = json!("true"),
        back: |node| without(&mut node["metadata"]["annotations"], "kube-vip.io/drain"),
    },
    Way {
        what: "exclude label",
        out: |node| node["metadata"]["labels"][EXCLUDE] = json!(""),
        back: |node| without(&mut node["metadata"]["labels"], EXCLUDE),
    },
    Way {
        what: "exclude label of our own",
        out: |node| node["metadata"]["labels"][OWN_EXCLUDE] = json!("true"),
        back: |node| without(&mut node["metadata"]["labels"], OWN_EXCLUDE),
    },
    Way {
        what: "out-of-service taint",
        out: |node| {
            let taint = json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
            node["spec"]["taints"] = json!([taint]);
        },
        back: |node| without(&mut node["spec"], "taints"),
    },
];

/// The label by which a node says that it serves a Service, and its value.
fn label(rig: &Rig, draft: &Draft, number: u8) -> Option<String> {
    let key = format!("service-provided.kube-vip.io/{}.{}", draft.name, draft.namespace);
    rig.own_labels(number).ok()?.remove(&key)
}

/// As upstream writes it, but with a joint that is legal.
fn label_value(draft: &Draft) -> String {
    let text = |addr: &std::net::IpAddr| match addr {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("{:032x}", u128::from(*v6)),
    };
    draft.addrs.iter().map(text).collect::<Vec<_>>().join("_")
}

/// Exactly the node that serves is labelled.
fn labelled(rig: &Rig, draft: &Draft, server: u8) -> Result<()> {
    rig.within(SOON, &format!("labels for {}", draft.title()), |rig| {
        let is_right =
            |number: &u8| label(rig, draft, *number) == (*number == server).then(|| label_value(draft));
        ALL.iter().all(is_right).then_some(())
    })
}

fn take_out(rig: &Rig, way: &Way, draft: &Draft) -> Result<()> {
    let former = served(rig, draft)?;
    labelled(rig, draft, former)?;
    let watch = rig.watch(&draft.addrs[0].to_string())?;
    std::thread::sleep(Duration::from_millis(50));
    let node = format!("n{former}");
    let at = rig.edit(("nodes", "", &node), way.out)?;
    let next = rig.within(SOON, &format!("{} on another node", draft.title()), |rig| {
        rig.server(draft).filter(|next| *next != former)
    })?;
    labelled(rig, draft, next)?;
    let said = format!("n{next} answers for the addresses, before it was n{former}");
    rig.within(SOON, "an Event that tells of the move", |rig| {
        rig.has_event(draft, ("Normal", "Moved"), &said).then_some(())
    })?;
    rig.edit(("nodes", "", &node), way.back)?;
    let (silence, overlap) = gap(&watch, at, QUIET);
    println!("  {}, {}: n{former} → n{next}, gap {silence:?}, overlap {overlap:?}", way.what, draft.title());
    ensure!(silence <= MOVE && overlap.is_zero(), "gap {silence:?}, overlap {overlap:?}");
    ensure!(rig.server(draft) == Some(next), "{} went back by itself", draft.title());
    Ok(())
}

#[test]
fn services_leave_a_node_that_is_taken_out_and_its_labels_follow() {
    play_bare("services_leave_a_node_that_is_taken_out_and_its_labels_follow", |rig| {
        for number in ALL {
            // On control-plane nodes the label excludes nothing: kubeadm puts it on each of them.
            rig.edit(("nodes", "", &format!("n{number}")), |node| {
                without(&mut node["metadata"]["labels"], "node-role.kubernetes.io/control-plane");
            })?;
        }
        rig.start_all(&[BOTH, ("enable_node_labeling", "true")])?;
        rig.ready(&ALL)?;
        let drafts = [
            Draft::new("common", Stack::V6).at(212),
            forced(Draft::new("own", Stack::V6First).at(213)),
            forced(Draft::new("own4", Stack::V4First).at(214)),
        ];
        drafts.iter().try_for_each(|draft| create(rig, draft))?;
        for way in &WAYS {
            for draft in &drafts {
                take_out(rig, way, draft).with_context(|| format!("{}, {}", way.what, draft.title()))?;
            }
        }
        Ok(())
    });
}

/// Settings about classes and namespaces, and for each class (none when empty) whether a Service of it is ours.
struct Claim {
    settings: &'static [(&'static str, &'static str)],
    ours: &'static [&'static str],
    foreign: &'static [&'static str],
}

const OWN: &str = "kube-vip.io/kube-vip-class";
const OTHER: &str = "example.org/other";

const CLAIMS: [Claim; 5] = [
    Claim { settings: &[], ours: &["", OWN], foreign: &[OTHER] },
    Claim { settings: &[("lb_class_only", "true")], ours: &[OWN], foreign: &["", OTHER] },
    Claim { settings: &[("lb_class_name", OTHER)], ours: &["", OTHER], foreign: &[OWN] },
    Claim { settings: &[("lb_class_legacy_handling", "false")], ours: &[OWN], foreign: &["", OTHER] },
    Claim {
        settings: &[("lb_class_legacy_handling", "false"), ("lb_class_name", "")],
        ours: &[""],
        foreign: &[OWN, OTHER],
    },
];

fn of_class(class: &str, number: u8) -> Draft {
    let word = class.split('/').nth(1).unwrap_or("none");
    let draft = Draft::new(&format!("class-{word}"), Stack::V4).at(number);
    if class.is_empty() { draft } else { draft.spec("loadBalancerClass", json!(class)) }
}

/// Services that are nobody's business here, whatever their class: they are as they were, to the version.
fn strangers() -> Vec<Draft> {
    vec![
        Draft::new("ignored", Stack::V4).at(220).note("ignore", "true"),
        Draft::new("cluster-ip", Stack::V4).at(221).spec("type", json!("ClusterIP")),
        Draft::new("elsewhere", Stack::V4).at(222).within("other"),
    ]
}

fn version(rig: &Rig, draft: &Draft) -> Option<Value> {
    rig.service(draft).map(|service| service["metadata"]["resourceVersion"].clone())
}

fn claim(rig: &mut Rig, claim: &Claim) -> Result<()> {
    let number = |at: usize| 210 + u8::try_from(at).expect("a handful");
    let ours: Vec<_> = claim.ours.iter().enumerate().map(|(at, class)| of_class(class, number(at))).collect();
    let mut foreign = strangers();
    foreign.extend(claim.foreign.iter().enumerate().map(|(at, class)| of_class(class, number(at + 5))));
    for draft in ours.iter().chain(&foreign) {
        create(rig, draft)?;
    }
    let versions: Vec<_> = foreign.iter().map(|draft| version(rig, draft)).collect();
    let settings = [("svc_namespace", "default"), ("svc_ipam", "true"), ("enable_node_labeling", "true")];
    let settings: Vec<_> = settings.iter().chain(claim.settings).copied().collect();
    rig.start_all(&settings)?;
    rig.ready(&ALL)?;
    let server = ours.iter().map(|draft| served(rig, draft)).collect::<Result<Vec<_>>>()?[0];
    // A move and a restart give everybody a reason to write.
    rig.stop(server)?;
    rig.start(server)?;
    std::thread::sleep(QUIET);
    ours.iter().try_for_each(|draft| served(rig, draft).map(drop))?;
    for (draft, before) in foreign.iter().zip(versions) {
        ensure!(version(rig, draft) == before, "{} was written to", draft.title());
        ensure!(rig.is_away(draft), "{} is served", draft.title());
    }
    // What was ours and is ignored from now on is left as it is, but its address goes.
    let dropped = &ours[0];
    rig.edit(("services", &dropped.namespace, &dropped.name), |service| {
        service["metadata"]["annotations"]["kube-vip.io/ignore"] = json!("true");
    })?;
    let before = version(rig, dropped);
    rig.within(SOON, "no address of what is ignored", |rig| rig.is_away(dropped).then_some(()))?;
    std::thread::sleep(QUIET / 3);
    ensure!(version(rig, dropped) == before, "{} was written to", dropped.title());
    rig.stop_all()?;
    ensure!(version(rig, dropped) == before, "{} was written to at the end", dropped.title());
    for draft in ours.iter().chain(&foreign) {
        rig.remove(draft);
    }
    Ok(())
}

#[test]
fn nothing_is_ever_written_to_a_service_that_is_not_ours() {
    play_bare("nothing_is_ever_written_to_a_service_that_is_not_ours", |rig| {
        rig.namespace("other")?;
        for row in &CLAIMS {
            claim(rig, row).with_context(|| format!("{:?}", row.settings))?;
        }
        Ok(())
    });
}

fn annotate(rig: &Rig, draft: &Draft, key: &str, text: &str) -> Result<()> {
    rig.edit(("services", &draft.namespace, &draft.name), |service| {
        service["metadata"]["annotations"][format!("kube-vip.io/{key}")] = json!(text);
    })?;
    Ok(())
}

fn set_type(rig: &Rig, draft: &Draft, kind: &str) -> Result<()> {
    rig.edit(("services", &draft.namespace, &draft.name), |service| service["spec"]["type"] = json!(kind))?;
    Ok(())
}

fn gone(rig: &Rig, draft: &Draft) -> Result<()> {
    rig.within(SOON, &format!("no address of {}", draft.title()), |rig| rig.is_away(draft).then_some(()))
}

/// One Service through all that a user may do to it after it was created.
fn change_in_every_way(rig: &Rig) -> Result<()> {
    let web = Draft::new("web", Stack::V4First).at(210);
    create(rig, &web)?;
    served(rig, &web)?;
    set_type(rig, &web, "ClusterIP")?;
    gone(rig, &web).context("another type")?;
    set_type(rig, &web, "LoadBalancer")?;
    served(rig, &web).context("the type of before")?;
    annotate(rig, &web, "leaseName", "other")?;
    rig.within(SOON, "on the holder of another Lease", |rig| {
        (rig.server(&web)? == rig.holder("default/other")?).then_some(())
    })?;
    let moved = web.clone().at(211);
    rig.write(&moved)?;
    served(rig, &moved).context("another address")?;
    gone(rig, &web).context("the former address")?;
    // Deleted and made again at once, as another one.
    rig.remove(&moved);
    rig.unback(&moved);
    let again = Draft::new("web", Stack::V6).at(212);
    rig.back(&again, &ALL)?;
    rig.write(&again)?;
    served(rig, &again).context("made again")?;
    gone(rig, &moved).context("the address of the former one")?;
    // Without endpoints it is served only when it says so.
    rig.unback(&again);
    gone(rig, &again).context("without endpoints")?;
    annotate(rig, &again, "allow-reconcile-without-endpoints", "true")?;
    served(rig, &again).context("without endpoints, as it wants it")?;
    annotate(rig, &again, "serviceInterface", "eth9")?;
    gone(rig, &again).context("on an interface that is not there")?;
    annotate(rig, &again, "serviceInterface", "auto")?;
    served(rig, &again).context("on the interface of its network")?;
    rig.remove(&again);
    gone(rig, &again)
}

#[test]
fn a_service_is_followed_through_every_change_of_it() {
    play_bare("a_service_is_followed_through_every_change_of_it", |rig| {
        rig.start_all(&[("svc_election", "true")])?;
        rig.ready(&ALL)?;
        change_in_every_way(rig)
    });
}

#[test]
fn a_service_whose_class_changes_is_left_and_taken_again() {
    play_bare("a_service_whose_class_changes_is_left_and_taken_again", class::in_every_way);
}

#[test]
fn with_updates_off_a_service_is_served_and_nothing_is_written_to_it() {
    play_bare("with_updates_off_a_service_is_served_and_nothing_is_written_to_it", |rig| {
        rig.start_all(&[("disable_service_updates", "true")])?;
        rig.ready(&ALL)?;
        let web = Draft::new("web", Stack::V4First).at(210);
        create(rig, &web)?;
        let before = version(rig, &web);
        rig.within(SOON, "its addresses on one node", |rig| {
            let places = rig.places().ok()?;
            let is_alone = |addr| places.get(addr).is_some_and(|nodes| nodes.len() == 1);
            web.addrs.iter().all(is_alone).then_some(())
        })?;
        std::thread::sleep(QUIET);
        ensure!(version(rig, &web) == before, "it was written to");
        Ok(())
    });
}
