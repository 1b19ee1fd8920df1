//! Two kernels side by side: the real one behind the gateway, in a network namespace of this thread, and the
//! simulator's. Tests hand both the same steps; [`Pair::differences`] says where their pictures differ.

use std::fs;
use std::io::{Write as _, stderr};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Watch};

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use vip_kernel::{Accepted, Gateway, KernelEvent, boot_now};
use vip_lab::bench::{Metronome, Span, Stamp};
use vip_model::config::Scope;
use vip_model::kernel::{
    Actual, Address, Batch, BatchId, Change, Dad, DefaultRoute, Lifetime, LinkState, Outcome, Premise,
    SetAddress,
};
use vip_model::{Family, Instant, LinkIndex, VipNet};
use vip_sim::kernel::{Duplicate, FakeKernel, Outside};
use vip_sim::setup::own_addresses;
use vip_sim::{Clock, Drift, Moment, Secondaries};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(8);
/// A dump shows whole seconds, and the two are taken one after the other.
const SAME_END: Duration = Duration::from_millis(1300);
/// The owner byte of an address where the test does not care.
pub(crate) const TAG: u8 = 77;
/// The link that carries VIPs in both kernels.
pub(crate) const WIRE: &str = "eth0";

/// Whether a test could be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    Yes,
    Skipped,
}

/// Runs a test in a thread with a network namespace of its own, or says that it cannot.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) -> Ran {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            // Past the capture of the test runner: a skipped test is to be seen.
            let advice = "run it as root or under unshare -Urn";
            let line = format!("SKIPPED {name}: cannot make a network namespace: {error}; {advice}\n");
            stderr().write_all(line.as_bytes()).unwrap();
            return Ran::Skipped;
        }
        test();
        Ran::Yes
    });
    thread.unwrap().join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A processor that stood still for longer than this makes a test that counts milliseconds say nothing.
const DISTURBED: Duration = Duration::from_millis(50);
/// How often such a test is repeated; the last time counts as it is.
const REPEATS: u32 = 3;

/// [`in_namespace`] for a test that counts milliseconds: again when it failed while the machine itself stood still.
pub(crate) fn undisturbed(test: fn()) {
    let metronome = Metronome::start().unwrap();
    for _ in 0..REPEATS {
        let begin = Stamp::now();
        let Err(panic) = std::panic::catch_unwind(|| in_namespace(test)) else { return };
        let stall = metronome.longest_stall(Span::new(begin, Stamp::now()));
        if stall <= DISTURBED {
            std::panic::resume_unwind(panic);
        }
        println!("a processor of this machine stood still for {} ms: repeated", stall.as_millis());
    }
    in_namespace(test);
}

/// Runs `ip` with these words, in the namespace of this thread.
pub(crate) fn ip(words: &str) {
    let Output { status, stderr, .. } = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .expect("the command ip (package iproute2)");
    assert!(status.success(), "ip {words}: {}", String::from_utf8_lossy(&stderr));
}

/// The addresses of this namespace as `ip` sees them.
pub(crate) fn ip_addresses() -> String {
    let Output { stdout, .. } =
        Command::new("ip").args(["-o", "address"]).output().expect("the command ip (package iproute2)");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Sets a kernel setting of this namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Default routes over the wire, as the simulator's nodes have them.
pub(crate) fn default_routes() {
    ip("route replace default via 10.0.0.254 dev eth0 metric 100");
    ip("-6 route replace default via fd00::fe dev eth0 metric 100");
}

/// A link by its role, as each kernel has a number of its own for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The link of the VIPs.
    Wire,
    /// `lo`.
    Loopback,
    /// A link that does not exist.
    Nowhere,
}

/// One step, for both kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `SetAddress`; times are counted from now.
    Set { place: Place, net: IpNet, scope: Scope, tag: u8, life: Life },
    /// `DelAddress`.
    Del { place: Place, net: IpNet },
}

/// How long an address shall live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Without an end.
    Forever,
    /// So many whole seconds and a half: the two kernels need not begin to count within the same second.
    Seconds(u64),
    /// Less than the second that the kernel counts in.
    Short,
    /// Long enough, but the grant itself is of the past.
    Passed,
    /// So many whole seconds and a half, if it is there.
    Cut(u64),
}

/// Sets a VIP on the wire with this life, scope global.
pub(crate) fn set(net: &str, life: Life) -> Step {
    Step::Set { place: Place::Wire, net: net_of(net), scope: Scope::Global, tag: TAG, life }
}

/// Removes an address from the wire.
pub(crate) fn del(net: &str) -> Step {
    Step::Del { place: Place::Wire, net: net_of(net) }
}

/// The network in this text.
pub(crate) fn net_of(net: &str) -> IpNet {
    net.parse().unwrap()
}

/// What is compared of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) link: String,
    pub(crate) net: IpNet,
    scope: Scope,
    pub(crate) tag: u8,
    pub(crate) dad: Dad,
    pub(crate) secondary: bool,
    pub(crate) valid: Lifetime,
}

impl Row {
    fn agrees(&self, other: &Self) -> bool {
        let ends = match (self.valid, other.valid) {
            (Lifetime::Forever, Lifetime::Forever) => true,
            // `-` of instants saturates.
            (Lifetime::Until(one), Lifetime::Until(two)) => (one - two).max(two - one) <= SAME_END,
            _ => false,
        };
        ends && *self == Self { valid: self.valid, ..other.clone() }
    }
}

/// The two kernels.
pub(crate) struct Pair {
    gateway: Gateway,
    events: Receiver<KernelEvent>,
    /// The gateway's last picture.
    pub(crate) actual: Actual,
    /// The simulator's kernel.
    pub(crate) fake: FakeKernel,
    clock: Clock,
    batch: u64,
}

impl Pair {
    /// Both as they are after booting: `lo`, and the wire with the first node's own addresses. The other end of the
    /// real wire is `far`, in the same namespace.
    pub(crate) fn boot(secondaries: Secondaries) -> Self {
        ip("link set lo up");
        // The simulator has no link-local addresses and no ::1.
        ip("address delete ::1/128 dev lo");
        ip("link add name eth0 type veth peer name far");
        for link in [WIRE, "far"] {
            ip(&format!("link set {link} addrgenmode none"));
            ip(&format!("link set {link} up"));
        }
        let promote = if secondaries == Secondaries::Promoted { "1" } else { "0" };
        for link in ["all", "lo", WIRE] {
            sysctl(&format!("ipv4/conf/{link}/promote_secondaries"), promote);
        }
        for own in own_addresses(0) {
            let nodad = if own.addr().is_ipv6() { "nodad" } else { "" };
            ip(&format!("address add {own} dev {WIRE} {nodad}"));
        }
        default_routes();
        // The simulated world began a minute ago: what was there at its start is long settled.
        let clock = Clock::new(Moment::START, boot_now().before(Duration::from_mins(1)), Drift(0));
        let (sender, events) = channel();
        let sender = Mutex::new(sender);
        let sink = move |event| {
            sender.lock().unwrap().send(event).ok();
            Accepted::Yes
        };
        let gateway = Gateway::start(Arc::new(sink)).unwrap();
        let fake = FakeKernel::boot(0, secondaries);
        let mut pair = Self { gateway, events, actual: Actual::default(), fake, clock, batch: 0 };
        // Carrier comes a moment after `up`.
        pair.await_picture(|actual| actual.link_named(WIRE).is_some_and(|link| link.state == LinkState::Up));
        pair
    }

    /// True time, as the simulator's kernel knows it.
    pub(crate) fn now(&self) -> Moment {
        self.clock.moment_of(boot_now())
    }

    /// A batch for both: the outcomes by kind, the real kernel's and the simulator's. A failure is its errno.
    pub(crate) fn apply(&mut self, steps: &[Step], late: Duration) -> (Vec<Kind>, Vec<Kind>) {
        let began = boot_now();
        self.batch += 1;
        let id = BatchId(self.batch);
        let real = |place| match place {
            Place::Wire => self.actual.link_named(WIRE).map_or(LinkIndex(0), |link| link.index),
            Place::Loopback => LinkIndex(1),
            Place::Nowhere => LinkIndex(9999),
        };
        let changes = steps.iter().map(|step| change(step, began, real)).collect();
        self.gateway.apply(Batch { id, changes });
        let report = self.await_event(|event, _| match event {
            KernelEvent::Report(report) => Some(report),
            _ => None,
        });
        assert_eq!(report.batch, id);
        self.await_picture(|actual| actual.after == id);
        let wire = self.fake.vip_link().map_or(LinkIndex(0), |link| link.index);
        let faked = |place| match place {
            Place::Wire => wire,
            Place::Loopback => LinkIndex(1),
            Place::Nowhere => LinkIndex(9999),
        };
        let now = self.clock.moment_of(began);
        let mut outcomes = Vec::new();
        for step in steps {
            let outcome = self.fake.carry_out(now, &self.clock, &change(step, began, faked), late);
            outcomes.push(kind(&outcome));
        }
        (report.outcomes.iter().map(kind).collect(), outcomes)
    }

    /// As `apply`, for tests where both must do all of it.
    pub(crate) fn apply_done(&mut self, steps: &[Step]) {
        let done = vec![Kind::Done; steps.len()];
        assert_eq!(self.apply(steps, Duration::ZERO), (done.clone(), done), "{steps:#?}");
    }

    /// An outsider adds an address without an end to the wire of both, in the real kernel with these words besides.
    pub(crate) fn outsider_adds(&mut self, net: &str, words: &str) {
        ip(&format!("address replace {net} dev {WIRE} {words}"));
        let now = self.now();
        // `nodad` is what the simulator calls an address that was there long before.
        let at = if words.contains("nodad") { Moment::START } else { now };
        self.fake.outsider_adds(at, Outside { net: net_of(net), tag: 0 }, Duplicate::No);
        self.settle();
    }

    /// An outsider removes an address from the wire of both.
    pub(crate) fn outsider_removes(&mut self, net: &str) {
        ip(&format!("address delete {net} dev {WIRE}"));
        self.fake.outsider_removes(net_of(net).addr());
        self.settle();
    }

    /// Waits until the pictures agree, for things that come by a notification.
    pub(crate) fn settle(&mut self) {
        let end = Watch::now() + PATIENCE;
        while !self.differences().is_empty() {
            let left = end.saturating_duration_since(Watch::now());
            match self.events.recv_timeout(left) {
                Ok(KernelEvent::Actual(actual)) => self.actual = actual,
                Ok(_) => {}
                Err(_) => self.assert_same("after waiting"),
            }
        }
    }

    /// The next event that comes within `patience`: whether there was one. A picture is kept.
    pub(crate) fn hear(&mut self, patience: Duration) -> bool {
        match self.events.recv_timeout(patience) {
            Ok(KernelEvent::Actual(actual)) => self.actual = actual,
            Ok(_) => {}
            Err(_) => return false,
        }
        true
    }

    fn await_event<T>(&mut self, mut pick: impl FnMut(KernelEvent, &mut Self) -> Option<T>) -> T {
        let end = Watch::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Watch::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                panic!("nothing fitting came within {PATIENCE:?}; last picture: {:#?}", self.actual);
            };
            if let KernelEvent::Actual(actual) = &event {
                assert!(actual.after >= self.actual.after, "a picture of before: {actual:#?}");
                self.actual = actual.clone();
            }
            if let Some(found) = pick(event, self) {
                return found;
            }
        }
    }

    /// Waits for a new picture that fits.
    pub(crate) fn await_picture(&mut self, fits: impl Fn(&Actual) -> bool) {
        self.await_event(|event, _| match event {
            KernelEvent::Actual(actual) => fits(&actual).then_some(()),
            _ => None,
        });
    }

    /// The real kernel's addresses.
    pub(crate) fn real_rows(&self) -> Vec<Row> {
        rows(&self.actual)
    }

    /// The simulator's addresses.
    pub(crate) fn fake_rows(&self) -> Vec<Row> {
        rows(&self.fake_picture())
    }

    fn fake_picture(&self) -> Actual {
        let local = boot_now();
        self.fake.dump(self.clock.moment_of(local), local, BatchId(self.batch))
    }

    /// Where the two pictures differ: states of links, default routes, and the addresses of each link and family in their order.
    pub(crate) fn differences(&self) -> Vec<String> {
        let fake = self.fake_picture();
        let mut found = Vec::new();
        for name in ["lo", WIRE] {
            let state = |actual: &Actual| actual.link_named(name).map(|link| (link.state, link.kind));
            if state(&self.actual) != state(&fake) {
                found.push(format!("{name}: real {:?}, simulated {:?}", state(&self.actual), state(&fake)));
            }
        }
        let (real, simulated) = (routes(&self.actual), routes(&fake));
        if real != simulated {
            found.push(format!("default routes: real {real:?}, simulated {simulated:?}"));
        }
        let (real, fake) = (rows(&self.actual), rows(&fake));
        let same = real.len() == fake.len() && real.iter().zip(&fake).all(|(one, two)| one.agrees(two));
        if !same {
            found.push(format!("real:\n{}\nsimulated:\n{}", lines(&real), lines(&fake)));
        }
        found
    }

    /// Fails when the pictures differ.
    pub(crate) fn assert_same(&self, context: &str) {
        let found = self.differences();
        assert!(found.is_empty(), "{context}\n{}", found.join("\n"));
    }
}

/// What became of a step; a failure is its errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Carried out.
    Done,
    /// Its time had passed.
    TooLate,
    /// Refused with this errno.
    Failed(i32),
}

fn kind(outcome: &Outcome) -> Kind {
    match outcome {
        Outcome::Done => Kind::Done,
        Outcome::TooLate => Kind::TooLate,
        Outcome::Failed { errno, .. } => Kind::Failed(*errno),
    }
}

fn change(step: &Step, now: Instant, link: impl Fn(Place) -> LinkIndex) -> Change {
    match *step {
        Step::Del { place, net } => Change::DelAddress { link: link(place), net },
        Step::Set { place, net, scope, tag, life } => {
            let in_a_minute = now + Duration::from_mins(1);
            let (valid, not_after) = match life {
                Life::Forever => (Lifetime::Forever, in_a_minute),
                Life::Seconds(secs) | Life::Cut(secs) => {
                    (Lifetime::Until(now + Duration::from_millis(secs * 1000 + 500)), in_a_minute)
                }
                Life::Short => (Lifetime::Until(now + Duration::from_millis(900)), in_a_minute),
                Life::Passed => (Lifetime::Until(in_a_minute), now.before(Duration::from_millis(1))),
            };
            let premise = if matches!(life, Life::Cut(_)) { Premise::Present } else { Premise::None };
            Change::SetAddress(SetAddress {
                link: link(place),
                net: VipNet(net),
                scope,
                tag,
                valid,
                not_after,
                premise,
            })
        }
    }
}

/// Default routes as (link, family, metric).
fn routes(actual: &Actual) -> Vec<(String, Family, u32)> {
    let route = |route: &DefaultRoute| {
        let link = actual.links.get(&route.link)?;
        Some((link.name.clone(), route.family, route.metric))
    };
    actual.default_routes.iter().filter_map(route).collect()
}

fn rows(actual: &Actual) -> Vec<Row> {
    let row = |address: &Address| {
        let link = actual.links.get(&address.link)?.name.clone();
        (link == "lo" || link == WIRE).then_some(Row {
            link,
            net: address.net,
            scope: address.scope,
            tag: address.tag,
            dad: address.dad,
            secondary: address.secondary,
            valid: address.valid,
        })
    };
    let mut rows: Vec<Row> = actual.addresses.iter().filter_map(row).collect();
    // Stable: within a link and a family the kernel's order stays.
    rows.sort_by_key(|row| (row.link.clone(), Family::of(row.net.addr())));
    rows
}

/// One line for each.
pub(crate) fn lines<T: std::fmt::Debug>(rows: &[T]) -> String {
    rows.iter().map(|row| format!("  {row:?}")).collect::<Vec<_>>().join("\n")
}
