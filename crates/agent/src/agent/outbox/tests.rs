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
fn snapshot(version: &str) -> Snapshot {
    let service = Service {
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
    };
    let services = BTreeMap::from([(web(), Arc::new(service))]);
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
        self.outbox.sent(&write("1"), |_| "1".to_owned());
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
    desk.outbox.sent(&write("1"), |_| "1".to_owned());
    desk.outbox.answered(desk.now, &web(), &failure(FailureClass::Forbidden));
    desk.outbox.saw(desk.now, &snapshot("2"));
    assert!(desk.outbox.busy().is_empty());
    assert_eq!(desk.fail(FailureClass::Forbidden), 250);
}

#[test]
fn people_are_told_once_and_only_when_it_is_written() {
    let mut desk = Desk::new();
    desk.fail(FailureClass::Server);
    desk.outbox.sent(&write("1"), |_| "1".to_owned());
    let told = desk.outbox.answered(desk.now, &web(), &Answer::Done);
    assert_eq!((told.len(), told[0].reason.as_str(), told[0].uid.as_str()), (1, "Announced", "1"));
    assert!(desk.outbox.answered(desk.now, &web(), &Answer::Done).is_empty());
    assert!(desk.outbox.busy().contains(&web()), "until the watch shows it");
    desk.outbox.saw(desk.now, &snapshot("2"));
    assert!(desk.outbox.busy().is_empty());
}
