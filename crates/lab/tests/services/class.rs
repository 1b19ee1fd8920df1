//! The class of a Service changes after it was created: it is left when it is another's, untouched from then on, and taken
//! again when it is ours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::draft::{Draft, Stack};

const ALL: [u8; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(1);
/// In so long something would have been written, if anybody meant to.
const QUIET: Duration = Duration::from_millis(500);
const OWN: &str = "kube-vip.io/kube-vip-class";
const OTHER: &str = "example.org/other";

/// How a class is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In one write, which API servers of today refuse while the type stays.
    AtOnce,
    /// By way of a type without a class, as they want it.
    ByType,
}

/// No class is an empty one.
fn set_class(service: &mut Value, class: &str) {
    let Some(spec) = service["spec"].as_object_mut() else { return };
    if class.is_empty() {
        drop(spec.shift_remove("loadBalancerClass"));
    } else {
        spec.insert("loadBalancerClass".to_owned(), json!(class));
    }
}

fn change(rig: &Rig, draft: &Draft, (class, way): (&str, Way)) -> Result<()> {
    let target = ("services", draft.namespace.as_str(), draft.name.as_str());
    if way == Way::ByType {
        rig.edit(target, |service| {
            set_class(service, "");
            service["spec"]["type"] = json!("ClusterIP");
            // Only Services that are reached from outside have one.
            drop(service["spec"].as_object_mut().and_then(|spec| spec.shift_remove("externalTrafficPolicy")));
            service["status"] = json!({"loadBalancer": {}});
        })?;
        rig.within(SOON, "no address of another type", |rig| rig.is_away(draft).then_some(()))?;
    }
    rig.edit(target, |service| {
        set_class(service, class);
        service["spec"]["type"] = json!("LoadBalancer");
    })?;
    Ok(())
}

fn changes(rig: &mut Rig, ways: &[Way]) -> Result<()> {
    rig.start_all(&[("svc_election", "true")])?;
    rig.ready(&ALL)?;
    let web = Draft::new("web", Stack::V4).at(210);
    rig.back(&web, &ALL)?;
    rig.write(&web)?;
    rig.within(SOON, "served without a class", |rig| rig.server(&web))?;
    let version = |rig: &Rig| rig.service(&web).map(|service| service["metadata"]["resourceVersion"].clone());
    for way in ways {
        for (class, is_ours) in [(OTHER, false), (OWN, true), (OTHER, false), ("", true)] {
            change(rig, &web, (class, *way))?;
            if is_ours {
                rig.within(SOON, "served", |rig| rig.server(&web)).context(class.to_owned())?;
                continue;
            }
            let before = version(rig);
            rig.within(SOON, "no address of another's", |rig| rig.is_away(&web).then_some(()))?;
            std::thread::sleep(QUIET);
            ensure!(version(rig) == before, "{way:?}: it is of class {class} and was written to");
            ensure!(rig.is_away(&web), "{way:?}: it is of class {class} and is served");
        }
    }
    rig.remove(&web);
    Ok(())
}

/// In every way.
pub(crate) fn in_every_way(rig: &mut Rig) -> Result<()> {
    changes(rig, &[Way::AtOnce, Way::ByType])
}

/// As API servers of today let it.
pub(crate) fn by_type(rig: &mut Rig) -> Result<()> {
    changes(rig, &[Way::ByType])
}
