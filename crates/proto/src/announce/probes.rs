//! The probes: does anybody have this address? Two frames, 20 ms of listening, one result (RFC 5227 §2.1.1,
//! RFC 4862 §5.4, with shorter times).

use std::collections::BTreeMap;

use vip_model::observed::ProbeState;
use vip_model::{Instant, LinkAddr, ScopedAddr, Walk};

use super::frame::{Written, probe};
use super::queue::Queue;
use super::{PROBE_AGAIN, PROBE_LISTEN, PROBE_REPEAT_MAX, ProbeTarget};

/// All wanted probes.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    live: BTreeMap<ScopedAddr, Live>,
    /// What they found; the same keys as `live`.
    states: BTreeMap<ScopedAddr, ProbeState>,
    /// How often `states` changed.
    findings: u64,
    /// Those in `Ask` and `AskAgain`.
    asking: Queue,
    /// Those in `Listen`.
    listening: Queue,
}

/// One wanted probe.
#[derive(Clone, Debug)]
struct Live {
    target: ProbeTarget,
    step: Step,
    /// How often it was answered.
    answers: u32,
}

/// Where a probe stands.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The first frame is due.
    Ask { due: Instant },
    /// The first frame is sent, the second is due.
    AskAgain { due: Instant },
    /// Both are sent; silence until then means that nobody has it.
    Listen { until: Instant },
    /// Nobody had it; nothing more is asked.
    Rest,
}

impl Probes {
    /// What they found.
    pub(super) const fn states(&self) -> &BTreeMap<ScopedAddr, ProbeState> {
        &self.states
    }

    /// How often what they found changed.
    pub(super) const fn findings(&self) -> u64 {
        self.findings
    }

    /// When the next frame is due, the pace aside.
    pub(super) fn due(&self) -> Option<Instant> {
        self.asking.due()
    }

    /// When the next silence is decided; needs no frame and so knows no pace.
    pub(super) fn verdict_due(&self) -> Option<Instant> {
        self.listening.due()
    }

    /// Takes over the wanted set.
    pub(super) fn want(&mut self, now: Instant, wanted: BTreeMap<ScopedAddr, ProbeTarget>) {
        let mut walk = Walk::new(&wanted);
        let is_gone = |(at, live): &(&ScopedAddr, &Live)| walk.find(at) != Some(&live.target);
        let gone: Vec<_> = self.live.iter().filter(is_gone).map(|(&at, _)| at).collect();
        for at in gone {
            self.unqueue(at);
            self.live.remove(&at);
            self.states.remove(&at);
            self.findings += 1;
        }
        let mut live = Walk::new(&self.live);
        let news: Vec<_> = wanted.into_iter().filter(|(at, _)| live.find(at).is_none()).collect();
        for (at, target) in news {
            self.find(at, ProbeState::Asking);
            let step = match target {
                ProbeTarget::Station { .. } => {
                    self.asking.add(now, at);
                    Step::Ask { due: now }
                }
                ProbeTarget::Time(until) => {
                    self.listening.add(until, at);
                    Step::Listen { until }
                }
            };
            self.live.insert(at, Live { target, step, answers: 0 });
        }
    }

    fn find(&mut self, at: ScopedAddr, state: ProbeState) {
        self.states.insert(at, state);
        self.findings += 1;
    }

    fn unqueue(&mut self, at: ScopedAddr) {
        match self.live.get(&at).map(|live| live.step) {
            Some(Step::Ask { due } | Step::AskAgain { due }) => self.asking.remove(due, at),
            Some(Step::Listen { until }) => self.listening.remove(until, at),
            Some(Step::Rest) | None => {}
        }
    }

    /// Somebody has `at`.
    pub(super) fn answer(&mut self, now: Instant, at: ScopedAddr, from: &LinkAddr) {
        // Whoever comes after the silence came after us: that is a foreign claim, not a finding of the probe. Where time
        // decides, nobody is asked.
        let Some(Live { target: ProbeTarget::Station { repeat, until, .. }, step, answers }) =
            self.live.get(&at)
        else {
            return;
        };
        if matches!(step, Step::Rest) {
            return;
        }
        let is_over = until.is_some_and(|until| now >= until);
        let pause = (*repeat * 2u32.saturating_pow((*answers).min(16))).min(PROBE_REPEAT_MAX);
        self.unqueue(at);
        let Some(live) = self.live.get_mut(&at) else { return };
        if is_over {
            live.step = Step::Rest;
            return self.find(at, ProbeState::Silent);
        }
        live.answers = live.answers.saturating_add(1);
        let due = now + pause;
        live.step = Step::Ask { due };
        self.asking.add(due, at);
        self.find(at, ProbeState::Answered(from.clone()));
    }

    /// Decides the probes whose time of listening is over.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some((_, at)) = self.listening.pop(now) {
            if let Some(live) = self.live.get_mut(&at) {
                live.step = Step::Rest;
                self.find(at, ProbeState::Silent);
            }
        }
    }

    /// The next frame that is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<Written> {
        let (_, at) = self.asking.pop(now)?;
        let live = self.live.get_mut(&at)?;
        let ProbeTarget::Station { addr, broadcast, .. } = &live.target else { return None };
        if let Step::AskAgain { .. } = live.step {
            // Counted from the second frame, which the pace may hold up, so that it has its time to be answered too.
            let until = now + PROBE_LISTEN;
            live.step = Step::Listen { until };
            self.listening.add(until, at);
        } else {
            let due = now + PROBE_AGAIN;
            live.step = Step::AskAgain { due };
            self.asking.add(due, at);
        }
        Some(probe(at, (addr, broadcast), now + PROBE_LISTEN))
    }
}
