//! What a client of one Service address sees: a prober that asks pods through it, and a detector that asks which nodes
//! answer for it. A scenario starts one, lets a calm time pass, and asks what was seen since a moment; every bound is
//! compared with the longest gap of that calm time on top, which is what the instruments and this machine add.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lab::bench::{Detector, Lab, Prober, Responder, Span, Stamp};
use vip_lab::scenario::service::PORT;

/// The calm time after the first answer.
const CALM: Duration = Duration::from_millis(800);
/// How long the first answer may take before the scenario gives up.
const LIMIT: Duration = Duration::from_secs(8);
/// The last probes of a window may still be on their way.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// The instruments at one address.
pub(crate) struct Client {
    address: IpAddr,
    prober: Prober,
    detector: Detector,
    calm: Duration,
}

/// What was seen in a window.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The longest time without an answer of a pod; zero when nothing was lost or late.
    pub(crate) gap: Duration,
    /// Requests that were never answered.
    pub(crate) lost: usize,
    /// Requests that were sent.
    pub(crate) sent: usize,
    /// The longest time in which no node answered for the address.
    pub(crate) silence: Duration,
    /// The longest time in which two nodes answered for it.
    pub(crate) overlap: Duration,
    /// Which pods answered, when first and when last.
    pub(crate) pods: BTreeMap<Responder, Span>,
    /// Which nodes answered for the address, when first and when last.
    pub(crate) nodes: BTreeMap<u8, Span>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pods: Vec<String> = self.pods.keys().map(|who| format!("n{}/{}", who.node, who.pod)).collect();
        write!(
            f,
            "gap {:.1} ms, {} of {} requests lost, nobody for {} ms, two nodes for {} ms, pods {}",
            self.gap.as_secs_f64() * 1000.0,
            self.lost,
            self.sent,
            self.silence.as_millis(),
            self.overlap.as_millis(),
            pods.join(" "),
        )
    }
}

impl Client {
    /// Starts to look at an address, and waits for its first answer and the calm time after it.
    pub(crate) fn start(lab: &Lab, address: &str) -> Result<Self> {
        let address = address.parse()?;
        let prober = lab.probe_service(SocketAddr::new(address, PORT))?;
        let detector = lab.detect(address)?;
        prober.wait_answer(Stamp::default(), LIMIT, |answer| answer.pod != 0)?;
        // What a move before it still sets off is no part of the calm.
        std::thread::sleep(CALM / 4);
        let from = Stamp::now();
        std::thread::sleep(CALM);
        let calm = prober.trace().gap(Span::new(from, Stamp::now()));
        ensure!(calm.length() < CALM / 4, "{address} is not calm while nothing happens: {calm:?}");
        Ok(Self { address, prober, detector, calm: calm.length() })
    }

    /// The longest gap while nothing happened.
    pub(crate) fn calm(&self) -> Duration {
        self.calm
    }

    /// Waits until a pod of this node answers a datagram that came back after `since`.
    pub(crate) fn wait_node(&self, since: Stamp, node: u8) -> Result<Stamp> {
        let answer =
            self.prober.wait_answer(since, LIMIT, |answer| answer.node == node && answer.pod != 0)?;
        Ok(answer.at)
    }

    /// What was seen in a window that may have just ended.
    pub(crate) fn seen(&self, window: Span) -> Seen {
        let ends = Stamp::now().since(window.until);
        std::thread::sleep(ON_ITS_WAY.saturating_sub(ends));
        let (trace, sightings) = (self.prober.trace(), self.detector.sightings());
        let late = trace.late_with_control(window);
        if late > 0 {
            println!("  {late} answers were as late as the node's own address: the machine, not the VIP");
        }
        let answerers = sightings.answerers(window).into_iter();
        Seen {
            gap: trace.outage(window).unwrap_or(Duration::MAX),
            lost: trace.lost(window),
            sent: trace.sent(window),
            silence: sightings.silence(window),
            overlap: sightings.overlap(window).longest,
            pods: trace.answerers(window),
            nodes: answerers.filter_map(|(mac, span)| mac.node().map(|node| (node, span))).collect(),
        }
    }

    /// Judges what was seen in a window: at most so long without a pod or without an owner, never two owners.
    pub(crate) fn keeps(&self, what: &str, window: Span, bound: Duration) -> Result<Seen> {
        let (seen, allowed) = (self.seen(window), bound + self.calm);
        let kept = seen.overlap.is_zero() && seen.gap <= allowed && seen.silence <= allowed;
        ensure!(kept, "{what}, {}: {seen}; allowed are {allowed:?} and never two", self.address);
        Ok(seen)
    }

    /// Lets time pass, judges what was seen since a moment, and says it.
    pub(crate) fn judge(&self, what: &str, since: Stamp, time: Duration, bound: Duration) -> Result<Seen> {
        std::thread::sleep(time);
        let seen = self.keeps(what, Span::new(since, Stamp::now()), bound)?;
        println!("  {what}: {seen} (bound {} + {} ms)", bound.as_millis(), self.calm.as_millis());
        Ok(seen)
    }
}
