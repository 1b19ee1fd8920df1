use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::json;
use vip_model::NodeName;
use vip_model::session::{SESSION, SESSION_LABEL};

use super::*;
use crate::settings::{ApiSettings, LocalApi};

/// Node and session id of each session of a set.
type Told = Vec<(String, u64)>;

/// A watch of instance `i` in namespace `ns`, and the sets that it told.
struct Rig {
    watch: SessionWatch,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Rig {
    fn new() -> Self {
        let settings = ApiSettings {
            kubeconfig: PathBuf::new(),
            kubernetes_dir: PathBuf::new(),
            home: None,
            service_account: PathBuf::new(),
            service: None,
            server: None,
            local: LocalApi::NotOurs,
            port: 6443,
            node: NodeName::new("n1"),
            vips: BTreeSet::new(),
            traits: BTreeSet::new(),
        };
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let heard = Arc::clone(&told);
        let sink = move |event| {
            if let ClusterEvent::Sessions(sessions) = event {
                let of = |seen: &Arc<SessionSeen>| (seen.record.node.to_string(), seen.record.id.0);
                heard.lock().unwrap().push(sessions.values().map(of).collect());
            }
        };
        let gateway = Arc::new(Gateway::new(settings, Arc::new(sink)));
        let watch = SessionWatch::new(gateway, "ns".to_owned(), InstanceName::new("i"));
        Self { watch, told }
    }

    fn list(&mut self, version: u64, items: &[Value]) -> Vec<Told> {
        self.watch.starts();
        self.watch.found(items.to_vec());
        self.watch.listed(&Version(version.to_string()));
        self.told()
    }

    fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

fn object(node: &str, id: u64, version: u64) -> Value {
    let record = json!({"id": format!("{id:016x}"), "node": node, "boot": "0000000000000000"});
    json!({
        "metadata": {
            "name": format!("kube-vip-session-i-{node}"), "namespace": "ns",
            "resourceVersion": version.to_string(), "labels": {SESSION_LABEL: "i"},
            "annotations": {SESSION: record.to_string()},
        },
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 15},
    })
}

fn set(of: &[(&str, u64)]) -> Told {
    of.iter().map(|(node, id)| ((*node).to_owned(), *id)).collect()
}

#[test]
fn what_a_server_that_lags_behind_shows_again_is_ignored() {
    let mut rig = Rig::new();
    assert_eq!(rig.list(10, &[object("a", 1, 8), object("b", 2, 9)]), [set(&[("a", 1), ("b", 2)])]);
    rig.watch.changed(object("a", 3, 12));
    rig.watch.deleted(object("b", 2, 13));
    assert_eq!(rig.told(), [set(&[("a", 3), ("b", 2)]), set(&[("a", 3)])]);
    // The next server is as of 11, then as of 12: a's change and b's end come again.
    assert_eq!(rig.list(11, &[object("a", 1, 8), object("b", 2, 9)]), [set(&[("a", 3)])]);
    rig.watch.changed(object("a", 3, 12));
    assert_eq!(rig.list(12, &[object("a", 3, 12), object("b", 2, 9)]), [set(&[("a", 3)])]);
    rig.watch.deleted(object("b", 2, 13));
    assert_eq!(rig.told(), Vec::<Vec<_>>::new(), "nothing of it is news");
    // A server of before a's creation does not take a away, and one that is up to date does.
    assert_eq!(rig.list(7, &[]), [set(&[("a", 3)])]);
    rig.watch.changed(object("b", 4, 14));
    assert_eq!(rig.told(), [set(&[("a", 3), ("b", 4)])]);
    assert_eq!(rig.list(15, &[object("b", 4, 14)]), [set(&[("b", 4)])]);
}

#[test]
fn what_cannot_be_understood_is_gone_until_it_can_be_and_its_version_counts() {
    let mut rig = Rig::new();
    rig.list(10, &[object("a", 1, 8)]);
    let mut spoilt = object("a", 1, 11);
    spoilt["metadata"]["annotations"] = json!({});
    rig.watch.changed(spoilt);
    assert_eq!(rig.told(), [set(&[])]);
    assert_eq!(rig.list(10, &[object("a", 1, 8)]), [set(&[])], "older than the nonsense");
    rig.watch.changed(object("a", 1, 12));
    assert_eq!(rig.told(), [set(&[("a", 1)])]);
}

#[test]
fn versions_that_are_no_numbers_are_news() {
    let mut rig = Rig::new();
    let named = |id, version: &str| {
        let mut object = object("a", id, 0);
        object["metadata"]["resourceVersion"] = json!(version);
        object
    };
    rig.list(10, &[named(1, "x")]);
    rig.watch.changed(named(2, "y"));
    rig.watch.changed(named(3, "x"));
    assert_eq!(rig.told(), [set(&[("a", 2)]), set(&[("a", 3)])]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_brings_anything_is_not_silent_yet() {
    let mut rig = Rig::new();
    rig.list(10, &[object("a", 1, 8)]);
    let own = LeaseName::new("ns", "kube-vip-session-i-n1");
    rig.watch.gateway.session_ledger.note_answer(&own, &Version("12".to_owned()), object("n1", 1, 12));
    let start = Instant::now();
    tokio::time::sleep(Duration::from_millis(800)).await;
    rig.watch.changed(object("a", 2, 11));
    rig.watch.overdue().await;
    assert_eq!(start.elapsed().as_millis(), 1_800);
}
