//! A namespace, a pair of links in it, and a gateway whose events can be waited for.

use std::fs;
use std::io::{Write, stderr};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Moment};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use vip_kernel::{Accepted, Gateway, KernelEvent, boot_now};
use vip_model::config::Scope;
use vip_model::kernel::{
    Actual, Address, Batch, BatchId, Change, FrameIn, Lifetime, Outcome, Premise, Report, SetAddress,
};
use vip_model::{Instant, LinkIndex, VipNet};

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// The owner byte of these tests.
pub(crate) const TAG: u8 = 77;

/// Runs a test in a thread with a network namespace of its own, or says that it cannot.
pub(crate) fn in_namespace(test: fn()) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            // Past the capture of the test runner: a skipped test is to be seen.
            let advice = "run it as root or under unshare -Urn";
            let line = format!("SKIPPED {name}: cannot make a network namespace: {error}; {advice}\n");
            stderr().write_all(line.as_bytes()).unwrap();
            return;
        }
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// The same for tests whose judge is `nft`.
pub(crate) fn in_namespace_with_nft(test: fn()) {
    let probe = Command::new("nft").args(["list", "tables"]).output();
    let missing = match &probe {
        Ok(output) if output.status.success() => return in_namespace(test),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "),
        Err(error) => error.to_string(),
    };
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let advice = "it needs the package nftables, a kernel with nf_tables, and root";
    stderr().write_all(format!("SKIPPED {name}: nft list tables: {missing}; {advice}\n").as_bytes()).unwrap();
}

/// Runs `nft` with these words, in the namespace of this thread.
pub(crate) fn nft(words: &str) -> String {
    let output = try_nft(words);
    assert!(output.status.success(), "nft {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn try_nft(words: &str) -> Output {
    Command::new("nft").args(words.split_whitespace()).output().expect("the command nft (package nftables)")
}

/// Runs `ip` with these words, in the namespace of this thread.
pub(crate) fn ip(words: &str) -> String {
    let output = try_ip(words);
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn try_ip(words: &str) -> Output {
    Command::new("ip").args(words.split_whitespace()).output().expect("the command ip (package iproute2)")
}

/// Makes the links `near` and `far`, two ends of one cable, both up.
pub(crate) fn cable() {
    ip("link add name near type veth peer name far");
    ip("link set near up");
    ip("link set far up");
}

pub(crate) fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// What `ip -j -d addr` says about this address, if it is there.
pub(crate) fn shown(link: &str, net: VipNet) -> Option<Value> {
    let links: Value = serde_json::from_str(&ip(&format!("-j -d addr show dev {link}"))).unwrap();
    let mut addresses = links[0]["addr_info"].as_array().unwrap().clone().into_iter();
    addresses.find(|address| {
        address["local"] == net.addr().to_string() && address["prefixlen"] == net.0.prefix_len()
    })
}

/// The index of a link.
pub(crate) fn index(link: &str) -> LinkIndex {
    let links: Value = serde_json::from_str(&ip(&format!("-j link show dev {link}"))).unwrap();
    LinkIndex(u32::try_from(links[0]["ifindex"].as_u64().unwrap()).unwrap())
}

/// A gateway and what came from it, each event with the moment at which it came.
pub(crate) struct Node {
    pub(crate) gateway: Gateway,
    events: Receiver<(Instant, KernelEvent)>,
    /// The last picture.
    pub(crate) actual: Actual,
    batch: u64,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| Accepted::Yes)
    }

    /// With a sink that also asks `accept`.
    pub(crate) fn start_with(accept: impl Fn(&KernelEvent) -> Accepted + Send + Sync + 'static) -> Self {
        let (sender, events) = channel();
        let sender = Mutex::new(sender);
        let gateway = Gateway::start(Arc::new(move |event| {
            let accepted = accept(&event);
            if accepted == Accepted::Yes {
                sender.lock().unwrap().send((boot_now(), event)).ok();
            }
            accepted
        }));
        let mut node = Self { gateway: gateway.unwrap(), events, actual: Actual::default(), batch: 0 };
        node.await_picture(|_| true);
        node
    }

    fn await_event<T>(&mut self, mut pick: impl FnMut(Instant, KernelEvent, &mut Self) -> Option<T>) -> T {
        let end = Moment::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Moment::now());
            let Ok((at, event)) = self.events.recv_timeout(left) else {
                panic!("nothing fitting came within {PATIENCE:?}; last picture: {:#?}", self.actual);
            };
            if let KernelEvent::Actual(actual) = &event {
                self.actual = actual.clone();
            }
            if let Some(found) = pick(at, event, self) {
                return found;
            }
        }
    }

    /// Waits for a *new* picture that fits, and gives the moment at which it came.
    pub(crate) fn await_picture(&mut self, fits: impl Fn(&Actual) -> bool) -> Instant {
        self.await_event(|at, event, _| match event {
            KernelEvent::Actual(actual) => fits(&actual).then_some(at),
            _ => None,
        })
    }

    /// Waits until the picture fits.
    pub(crate) fn settle(&mut self, fits: impl Fn(&Actual) -> bool) {
        if !fits(&self.actual) {
            self.await_picture(fits);
        }
    }

    pub(crate) fn await_frame(&mut self) -> FrameIn {
        self.await_event(|_, event, _| match event {
            KernelEvent::Frame(frame) => Some(frame),
            _ => None,
        })
    }

    /// Applies changes; waits for the report and for the picture that shows it.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) -> Vec<Outcome> {
        self.batch += 1;
        let id = BatchId(self.batch);
        self.gateway.apply(Batch { id, changes });
        let report: Report = self.await_event(|_, event, _| match event {
            KernelEvent::Report(report) => Some(report),
            _ => None,
        });
        assert_eq!(report.batch, id);
        self.await_picture(|actual| actual.after == id);
        report.outcomes
    }

    /// The address as the picture shows it.
    pub(crate) fn address(&self, net: VipNet) -> Option<&Address> {
        self.actual.addresses.iter().find(|address| address.net == net.0)
    }
}

/// A VIP that ends after `seconds` (plus a little, so that this many whole seconds are left).
pub(crate) fn vip(link: LinkIndex, net: &str, seconds: u64) -> SetAddress {
    let end = boot_now() + Duration::from_secs(seconds) + Duration::from_millis(200);
    SetAddress {
        link,
        net: net_of(net),
        scope: Scope::Global,
        tag: TAG,
        valid: Lifetime::Until(end),
        not_after: end,
        premise: Premise::None,
    }
}

pub(crate) fn net_of(net: &str) -> VipNet {
    VipNet(net.parse().unwrap())
}
