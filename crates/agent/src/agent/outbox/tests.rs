//! Writes under way: pauses and Events.

use std::sync::Arc;

use vip_model::Known;
use vip_model::service::{Condition, FamilyPolicy, ObjectLife, Service, ServiceKind, TrafficPolicy};
use vip_model::store::{Failure, FailureClass};

use super::*;

fn web() -> ServiceName {
    ServiceName::new("default", "web")
}

/// The Service in a version.
fn service(version: &str) -> Service {
    Service {
        uid: "1".to_owned(),
        version: Version(version.to_owned()),
        created: String::new(),
        kind: ServiceKind::LoadBalancer,
        class: None,
        families: Vec::new(),
        family_policy: FamilyPolicy::SingleStack,
        traffic: TrafficPolicy::Cluster,
        ports: Vec::new(),
        spec_ip: None,
        ingress: Vec::new(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        conditions: BTreeMap::new(),
        life: ObjectLife::Alive,
    }
}

fn snapshot(version: &str) -> Snapshot {
    let services = BTreeMap::from([(web(), Arc::new(service(version)))]);
    Snapshot { services: Known::Known(Arc::new(services)), ..Snapshot::default() }
}

/// A write of a condition, made from a version.
fn write(version: &str) -> Ask {
    let condition = Condition {
        status: "True".to_owned(),
        reason: "Announced".to_owned(),
        message: "a node answers".to_owned(),
    };
    Ask::WriteServiceStatus(ServiceStatusWrite {
        service: web(),
        expect: Version(version.to_owned()),
        ingress: Vec::new(),
        conditions: [("kube-vip.io/Announced".to_owned(), Some(condition))].into(),
    })
}

fn failure(class: FailureClass) -> Answer {
    Answer::Failed(Failure { class, text: "test".to_owned() })
}

/// An outbox with a clock.
struct Desk {
    outbox: Outbox,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        Self { outbox: Outbox::default(), now: Instant::ZERO }
    }

    /// Writes; says after how many milliseconds of failures of this class the next attempt is due.
    fn fail(&mut self, class: FailureClass) -> u64 {
        self.outbox.sent(&write("1"), Some(&service("1")));
        assert!(self.outbox.answered(self.now, &web(), &failure(class)).is_empty(), "nobody is told");
        let mut waited = 0;
        while self.outbox.busy().contains(&web()) {
            waited += 1;
            self.now = self.now + Duration::from_millis(1);
            self.outbox.saw(self.now, &snapshot("1"));
        }
        waited
    }
}

#[test]
fn pauses_grow_while_a_right_is_missing_and_stay_short_while_the_api_is_away() {
    let mut desk = Desk::new();
    let pauses: Vec<u64> = (0..9).map(|_| desk.fail(FailureClass::Forbidden)).collect();
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    let mut desk = Desk::new();
    let pauses: Vec<u64> = (0..5).map(|_| desk.fail(FailureClass::Unreachable)).collect();
    assert_eq!(pauses, [250, 500, 1000, 1000, 1000]);
}

#[test]
fn another_version_ends_a_pause_and_the_count_of_failures() {
    let mut desk = Desk::new();
    desk.fail(FailureClass::Forbidden);
    desk.fail(FailureClass::Forbidden);
    desk.outbox.sent(&write("1"), Some(&service("1")));
    desk.outbox.answered(desk.now, &web(), &failure(FailureClass::Forbidden));
    desk.outbox.saw(desk.now, &snapshot("2"));
    assert!(desk.outbox.busy().is_empty());
    assert_eq!(desk.fail(FailureClass::Forbidden), 250);
}

#[test]
fn people_are_told_once_and_only_when_it_is_written() {
    let mut desk = Desk::new();
    desk.fail(FailureClass::Server);
    desk.outbox.sent(&write("1"), Some(&service("1")));
    let told = desk.outbox.answered(desk.now, &web(), &Answer::Done);
    assert_eq!((told.len(), told[0].reason.as_str(), told[0].uid.as_str()), (1, "Announced", "1"));
    assert!(desk.outbox.answered(desk.now, &web(), &Answer::Done).is_empty());
    assert!(desk.outbox.busy().contains(&web()), "until the watch shows it");
    desk.outbox.saw(desk.now, &snapshot("2"));
    assert!(desk.outbox.busy().is_empty());
}

#[test]
fn a_move_is_told_with_both_nodes_and_a_first_host_is_not() {
    let told = |former: Option<&str>, host: Option<&str>| {
        let (mut desk, mut seen) = (Desk::new(), service("1"));
        seen.annotations.extend(former.map(|former| (HOST.to_owned(), former.to_owned())));
        let annotations = BTreeMap::from([(HOST.to_owned(), host.map(str::to_owned))]);
        let (expect, labels) = (Version("1".to_owned()), BTreeMap::new());
        let write = ServiceWrite { service: web(), expect, annotations, labels, spec_ip: None };
        desk.outbox.sent(&Ask::WriteService(write), Some(&seen));
        let told = desk.outbox.answered(desk.now, &web(), &Answer::Done);
        told.into_iter().map(|event| format!("{}: {}", event.reason, event.message)).collect::<Vec<_>>()
    };
    let moved = ["Moved: n2 answers for the addresses, before it was n1"];
    assert_eq!(told(Some("n1"), Some("n2")), moved);
    assert_eq!(told(Some("n2"), Some("n2")), [""; 0]);
    assert_eq!(told(Some("n1"), None), [""; 0]);
    assert_eq!(told(None, Some("n2")), [""; 0]);
}

#[test]
fn what_comes_again_is_told_with_its_count() {
    let mut desk = Desk::new();
    let counts: Vec<u32> = (0..3)
        .flat_map(|_| {
            desk.outbox.sent(&write("1"), Some(&service("1")));
            desk.outbox.answered(desk.now, &web(), &Answer::Done)
        })
        .map(|event| event.count)
        .collect();
    assert_eq!(counts, [1, 2, 3]);
}
