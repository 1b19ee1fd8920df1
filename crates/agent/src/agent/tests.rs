//! Tests of the node as a whole: the two walks of ARCHITECTURE.md step by step, with a kernel and a store that answer at
//! once. What happens in a world that does not is the simulator's.

use std::net::IpAddr;
use std::sync::Arc;

use vip_model::config::{
    Advertise, ControlPlane, Election, InterfaceChoice, Layer2, LeaseTimings, LinkDown, NodeLabel, OnLoss,
    Scope,
};
use vip_model::kernel::{Address, Batch, BatchId, Change, Dad, Link, LinkKind, LinkState, Outcome};
use vip_model::members::Role;
use vip_model::store::{
    Ask, Failure, FailureClass, LeaseRecord, LeaseSeen, NodeFacts, Purpose, Sight, Version,
};
use vip_model::verdict::Verdict;
use vip_model::{InstanceName, LinkAddr, NodeName, VipNet};

use super::*;

mod services;

const ETH0: LinkIndex = LinkIndex(2);

fn lease() -> LeaseName {
    LeaseName::new("kube-system", "plndr-cp-lock")
}

fn vip() -> VipNet {
    VipNet("10.0.0.100/32".parse().unwrap())
}

fn config() -> Config {
    let timings = LeaseTimings {
        duration: Duration::from_secs(5),
        renew_deadline: Duration::from_secs(3),
        retry_period: Duration::from_secs(1),
    };
    Config {
        node: NodeName::new("n1"),
        instance: InstanceName::new("control-plane"),
        advertise: Advertise::Arp(Layer2 {
            announce_interval: Duration::from_secs(3),
            skip_conflict_probe: false,
        }),
        services: None,
        election_mode: vip_model::config::ElectionMode::Lease,
        preferred: Vec::new(),
        control_plane: Some(ControlPlane {
            vips: vec![vip()],
            port: 6443,
            interface: InterfaceChoice::Named("eth0".to_owned()),
            link_down: LinkDown::Yield,
            loopback_scope: Scope::Host,
            election: Election { lease: lease(), annotations: BTreeMap::new(), timings },
            on_loss: OnLoss::Remove,
            health: None,
            node_label: NodeLabel::Off,
        }),
    }
}

/// One node with a kernel and a store that answer at once.
struct Desk {
    agent: Agent,
    now: Instant,
    kernel: Actual,
    errno: Option<i32>,
    records: BTreeMap<LeaseName, LeaseRecord>,
    version: u64,
    store_answers: bool,
    /// Our Node, once it is known.
    snapshot: Snapshot,
    /// What the node did, in order.
    log: Vec<String>,
}

impl Desk {
    fn new() -> Self {
        let link = Link {
            index: ETH0,
            name: "eth0".to_owned(),
            addr: Some(LinkAddr::Ethernet([2, 0, 0, 0, 0, 1])),
            broadcast: None,
            state: LinkState::Up,
            kind: LinkKind::Broadcast,
        };
        let kernel = Actual { links: BTreeMap::from([(ETH0, link)]), ..Actual::default() };
        let agent = Agent::new(Instant::ZERO, 1, config());
        let mut desk = Self {
            agent,
            now: Instant::ZERO,
            kernel,
            errno: None,
            records: BTreeMap::new(),
            version: 0,
            store_answers: true,
            snapshot: Snapshot::default(),
            log: Vec::new(),
        };
        desk.feed(Input::Actual(desk.kernel.clone()));
        desk
    }

    fn feed(&mut self, input: Input) {
        self.agent.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..200 {
            match self.agent.poll(self.now) {
                Some(output) => self.carry_out(output),
                None => return,
            }
        }
        panic!("the node does not come to rest: {:?}", self.log);
    }

    fn run_for(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now + Duration::from_millis(1);
            if self.agent.deadline().is_some_and(|deadline| deadline <= self.now) {
                self.drain();
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Kernel(batch) => self.apply(&batch),
            Output::Ask(question) => self.answer(question),
            Output::Frame(frame) => self.log.push(format!("frame {:04x}", frame.ethertype)),
            Output::Exit => self.log.push("exit".to_owned()),
            Output::Listen(_) | Output::Watch(_) | Output::Errand(_) => {}
            Output::Peer(_) | Output::Door(_) | Output::Remember(_) => panic!("mode lease has no peers"),
        }
    }

    fn apply(&mut self, batch: &Batch) {
        let mut outcomes = Vec::new();
        for change in &batch.changes {
            if let Some(errno) = self.errno {
                self.log.push("refused".to_owned());
                outcomes.push(Outcome::Failed { errno, text: "test".to_owned() });
                continue;
            }
            match change {
                Change::SetAddress(set) => {
                    assert!(self.now < set.not_after);
                    self.kernel.addresses.retain(|address| address.net != set.net.0);
                    self.kernel.addresses.push(Address {
                        link: set.link,
                        net: set.net.0,
                        scope: set.scope,
                        tag: set.tag,
                        valid: set.valid,
                        dad: Dad::Ready,
                        secondary: false,
                    });
                    self.log.push("set".to_owned());
                }
                Change::SetFilter { .. } => self.log.push("filter".to_owned()),
                Change::DelAddress { net, .. } => {
                    self.kernel.addresses.retain(|address| address.net != *net);
                    self.log.push("del".to_owned());
                }
            }
            outcomes.push(Outcome::Done);
        }
        self.kernel.after = batch.id;
        self.agent.handle(self.now, Input::Report(Report { batch: batch.id, outcomes }));
        self.agent.handle(self.now, Input::Actual(self.kernel.clone()));
    }

    fn answer(&mut self, question: Question) {
        if !self.store_answers {
            let failure = Failure { class: FailureClass::Unreachable, text: "test".to_owned() };
            self.agent.handle(self.now, Input::Answer(question.id, Answer::Failed(failure)));
            return;
        }
        let name = match &question.ask {
            Ask::ReadLease(name) => name.clone(),
            Ask::WriteLease(write) => write.lease.clone(),
            Ask::LabelNode { labels, .. } => return self.label(question.id, labels),
            Ask::WriteService(_) | Ask::WriteServiceStatus(_) | Ask::PostEvent(_) => {
                self.log.push("service".to_owned());
                self.agent.handle(self.now, Input::Answer(question.id, Answer::Done));
                return;
            }
            Ask::ReadSession(_) | Ask::WriteSession(_) => panic!("nothing of the kind is wanted"),
        };
        if let Ask::WriteLease(write) = question.ask {
            self.log.push(format!("{:?}", write.purpose).to_lowercase());
            self.version += 1;
            let record = LeaseRecord {
                holder: write.holder.map(|node| node.to_string()),
                duration: Some(write.duration),
                transitions: write.transitions,
                acquired: None,
                renewed: None,
                annotations: BTreeMap::new(),
            };
            self.records.insert(name.clone(), record);
        }
        let sight = self.records.get(&name).cloned().map_or(Sight::Absent(None), |record| Sight::Present {
            version: Version(self.version.to_string()),
            record,
        });
        let seen = LeaseSeen { lease: name, sight };
        self.agent.handle(self.now, Input::Answer(question.id, Answer::Lease(seen)));
    }

    /// A node that labels itself, and knows its Node.
    fn labelling() -> Self {
        let mut desk = Self::new();
        let mut config = config();
        config.control_plane.as_mut().unwrap().node_label = NodeLabel::HasIp;
        desk.agent.want(desk.now, config);
        desk.snapshot.nodes = Known::Known(Arc::new([(NodeName::new("n1"), NodeFacts::default())].into()));
        desk.show();
        desk
    }

    /// The watch shows the Node as it is.
    fn show(&mut self) {
        self.feed(Input::Snapshot(self.snapshot.clone()));
    }

    /// Writes the labels; the watch shows it later.
    fn label(&mut self, id: QuestionId, labels: &BTreeMap<String, Option<String>>) {
        let Known::Known(nodes) = &mut self.snapshot.nodes else { panic!("the Node is known") };
        let facts = Arc::make_mut(nodes).get_mut(&NodeName::new("n1")).expect("our own");
        for (key, value) in labels {
            self.log.push(format!("label {key}={}", value.as_deref().unwrap_or("none")));
            match value {
                Some(value) => facts.labels.insert(key.clone(), value.clone()),
                None => facts.labels.remove(key),
            };
        }
        self.agent.handle(self.now, Input::Answer(id, Answer::Done));
    }

    fn has_vip(&self) -> bool {
        self.kernel.addresses.iter().any(|address| address.addr() == vip().addr())
    }

    fn role(&mut self) -> Role {
        self.agent.view().elections[&lease()].role
    }
}

#[test]
fn a_node_takes_a_free_vip_after_its_probe_and_announces_it_at_once() {
    let mut desk = Desk::new();
    desk.run_for(10);
    assert_eq!((desk.has_vip(), desk.role() != Role::Undecided), (false, true), "the probe is still open");
    desk.run_for(15);
    assert!(desk.has_vip());
    let view = desk.agent.view();
    assert_eq!(view.verdicts[0].verdict, Verdict::Announce);
    assert_eq!(view.verdicts[0].interface.as_deref(), Some("eth0"));
    let set = desk.log.iter().position(|entry| entry == "set").unwrap();
    assert_eq!(desk.log[set + 1], "frame 0806", "{:?}", desk.log);
}

#[test]
fn an_address_whose_time_is_over_in_the_last_picture_is_not_announced() {
    let mut desk = Desk::new();
    desk.run_for(100);
    desk.errno = Some(1);
    desk.run_for(3000);
    desk.log.clear();
    desk.run_for(7000);
    assert!(matches!(desk.role(), Role::Holder { .. }), "the store answers");
    assert_eq!(desk.agent.view().verdicts[0].verdict, Verdict::Skip(vip_model::verdict::Reason::Installing));
    assert!(!desk.log.iter().any(|entry| entry.starts_with("frame")), "{:?}", desk.log);
}

#[test]
fn a_stop_is_silent_first_then_removes_then_releases_then_ends() {
    let mut desk = Desk::new();
    desk.run_for(100);
    desk.log.clear();
    desk.feed(Input::Stop);
    desk.run_for(3000);
    assert_eq!(desk.log, ["del", "release", "exit"]);
}

#[test]
fn a_node_that_stops_takes_its_label_away_also_when_it_was_written_a_moment_ago() {
    for pause in [1, 5, 400] {
        let mut desk = Desk::labelling();
        while !desk.log.iter().any(|entry| entry.starts_with("label ")) {
            desk.run_for(1);
        }
        // The watch shows the label late, here after the node was told to stop.
        desk.log.clear();
        desk.run_for(pause);
        desk.feed(Input::Stop);
        desk.run_for(10);
        assert!(!desk.log.contains(&"exit".to_owned()), "{:?}", desk.log);
        desk.show();
        desk.run_for(10);
        assert_eq!(desk.log.last().unwrap(), "label kube-vip.io/has-ip=none");
        desk.show();
        desk.run_for(1);
        assert_eq!(desk.log.last().unwrap(), "exit", "{:?}", desk.log);
    }
}

#[test]
fn a_stop_with_a_dead_api_does_not_wait_for_labels() {
    let mut desk = Desk::labelling();
    desk.run_for(100);
    desk.show();
    desk.log.clear();
    desk.store_answers = false;
    desk.feed(Input::Stop);
    desk.run_for(2600);
    assert_eq!(desk.log, ["del", "exit"]);
}

#[test]
fn a_stop_with_a_dead_api_removes_and_ends_within_three_seconds() {
    let mut desk = Desk::new();
    desk.run_for(100);
    desk.log.clear();
    desk.store_answers = false;
    desk.feed(Input::Stop);
    assert!(!desk.has_vip());
    desk.run_for(2600);
    assert_eq!(desk.log, ["del", "exit"]);
}

#[test]
fn what_neighbours_say_to_each_other_is_followed_by_no_turn_and_what_they_say_of_the_vip_is() {
    let mut desk = Desk::new();
    desk.run_for(2_000);
    assert!(desk.has_vip());
    let mut hear = |sender_ip: [u8; 4]| {
        // RFC 826: hardware and protocol type, their lengths, a reply; the sender's addresses, the target's.
        let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9];
        payload.extend(sender_ip);
        payload.extend([2, 0, 0, 0, 0, 8, 10, 0, 0, 8]);
        let from = Some(LinkAddr::Ethernet([2, 0, 0, 0, 0, 9]));
        let ethertype = vip_model::kernel::ETHERTYPE_ARP;
        desk.agent.handle(desk.now, Input::Frame(FrameIn { link: ETH0, from, ethertype, payload }));
        desk.agent.rest
    };
    assert!(matches!(hear([10, 0, 0, 9]), Rest::Until(Some(_))));
    assert_eq!(hear([10, 0, 0, 100]), Rest::No);
}

#[test]
fn a_lost_api_costs_the_vip_at_the_deadline_and_its_return_brings_it_back() {
    let mut desk = Desk::new();
    desk.run_for(1500);
    desk.store_answers = false;
    desk.run_for(2000);
    assert!(desk.has_vip(), "the deadline is three seconds after the last renewal was asked");
    desk.run_for(1100);
    assert!(!desk.has_vip());
    desk.run_for(60_000);
    desk.store_answers = true;
    desk.run_for(500);
    assert!(desk.has_vip());
}

#[test]
fn a_removed_vip_is_set_again_by_the_next_dump() {
    let mut desk = Desk::new();
    desk.run_for(500);
    desk.kernel.addresses.clear();
    desk.feed(Input::Actual(desk.kernel.clone()));
    assert!(desk.has_vip());
}

#[test]
fn an_answer_to_a_question_that_was_never_asked_changes_nothing() {
    let mut desk = Desk::new();
    desk.run_for(500);
    let record = LeaseRecord {
        holder: Some("n2".to_owned()),
        duration: None,
        transitions: 9,
        acquired: None,
        renewed: None,
        annotations: BTreeMap::new(),
    };
    let sight = Sight::Present { version: Version("99".to_owned()), record };
    let answer = Answer::Lease(LeaseSeen { lease: lease(), sight });
    desk.feed(Input::Answer(QuestionId(77), answer));
    assert!(desk.has_vip());
    assert!(matches!(desk.role(), Role::Holder { .. }));
}

#[test]
fn a_picture_older_than_the_last_batch_is_thrown_away() {
    let mut desk = Desk::new();
    desk.run_for(500);
    let old = Actual { after: BatchId(0), addresses: Vec::new(), ..desk.kernel.clone() };
    desk.log.clear();
    desk.feed(Input::Actual(old));
    assert!(desk.log.is_empty(), "{:?}", desk.log);
}

#[test]
fn what_the_kernel_refuses_is_tried_again_with_growing_pauses() {
    let mut desk = Desk::new();
    desk.errno = Some(1);
    desk.run_for(10_000);
    let tries = desk.log.iter().filter(|entry| *entry == "refused").count();
    assert!((4..20).contains(&tries), "{tries} tries in ten seconds");
    assert_eq!(desk.agent.view().counters.changes["failed"], u64::try_from(tries).unwrap());
    desk.errno = None;
    desk.run_for(2100);
    assert!(desk.has_vip());
}

#[test]
fn a_change_without_effect_is_not_repeated_in_a_tight_loop() {
    let mut desk = Desk::new();
    desk.run_for(500);
    desk.log.clear();
    for _ in 0..1000 {
        desk.run_for(1);
        desk.kernel.addresses.clear(); // somebody undoes it each time
        desk.feed(Input::Actual(desk.kernel.clone()));
    }
    let sets = desk.log.iter().filter(|entry| *entry == "set").count();
    assert!((5..20).contains(&sets), "{sets} in a second");
}

#[test]
fn a_quiet_holder_only_renews_and_repeats() {
    let mut desk = Desk::new();
    desk.run_for(2000);
    desk.log.clear();
    let plans = desk.agent.view().counters.plans;
    desk.run_for(30_000);
    let count = |what: &str| desk.log.iter().filter(|entry| *entry == what).count();
    assert_eq!((count("renew"), count("set"), count("frame 0806")), (30, 30, 20));
    let view = desk.agent.view();
    assert!(view.counters.plans - plans <= 30 * 4, "{} plans", view.counters.plans - plans);
}

#[test]
fn another_configuration_moves_the_vip_without_a_restart() {
    let mut desk = Desk::new();
    desk.run_for(500);
    let mut config = config();
    let other: IpAddr = "10.0.0.101".parse().unwrap();
    config.control_plane.as_mut().unwrap().vips = vec![VipNet("10.0.0.101/32".parse().unwrap())];
    desk.agent.want(desk.now, config);
    desk.drain();
    desk.run_for(30); // its probe takes 20 ms
    let addresses: Vec<_> = desk.kernel.addresses.iter().map(Address::addr).collect();
    assert_eq!(addresses, [other]);
}

#[test]
fn the_purpose_of_every_question_is_counted() {
    let mut desk = Desk::new();
    desk.run_for(5500);
    let questions = &desk.agent.view().counters.questions;
    assert_eq!((questions["take"], questions["renew"]), (1, 5));
    assert_eq!(format!("{:?}", Purpose::Take), "Take");
}

#[test]
fn a_vip_that_is_no_longer_configured_goes_and_its_lease_is_released() {
    let mut desk = Desk::new();
    desk.run_for(500);
    desk.log.clear();
    let config = Config { control_plane: None, ..config() };
    desk.agent.want(desk.now, config);
    desk.drain();
    desk.run_for(100);
    assert_eq!(desk.log, ["del", "release"]);
    assert!(desk.agent.view().elections.is_empty());
}

#[test]
fn a_lease_with_another_name_is_taken_and_the_old_one_released() {
    let mut desk = Desk::new();
    desk.run_for(500);
    let mut config = config();
    let election = &mut config.control_plane.as_mut().unwrap().election;
    election.lease = LeaseName::new(election.lease.namespace(), "other");
    desk.log.clear();
    desk.agent.want(desk.now, config);
    desk.drain();
    desk.run_for(2000);
    assert!(desk.log.contains(&"release".to_owned()), "{:?}", desk.log);
    let view = desk.agent.view();
    assert_eq!(view.elections.keys().map(LeaseName::as_str).collect::<Vec<_>>(), ["kube-system/other"]);
}
