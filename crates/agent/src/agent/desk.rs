//! What is under way outside: the batch in the kernel and the label write, one of each at most, with their pauses after
//! failures, and the lifetimes that were last applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vip_model::kernel::{Actual, Address, Batch, BatchId, Change, Dad, Lifetime, Outcome, Report};
use vip_model::plan::PacketFilter;
use vip_model::store::Answer;
use vip_model::{Instant, ScopedAddr};
use vip_plan::diff::Applied;

/// Pause after a batch in which something failed; doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The same changes again within this time count as a repetition: renewals are further apart.
const REPEAT_WINDOW: Duration = Duration::from_millis(300);
/// So many repetitions cost no pause: somebody may well delete an address twice.
const REPEATS_AT_ONCE: u32 = 4;
/// The longest pause after repetitions.
const REPEAT_PAUSE_MAX: Duration = Duration::from_millis(200);
/// First pause after a failed label write; doubles.
const LABEL_RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest: nothing depends on it.
const LABEL_RETRY_MAX: Duration = Duration::from_secs(10);
/// How long to wait for the watch to show labels that were written, before looking again.
const LABELS_SHOWN_WITHIN: Duration = Duration::from_secs(1);
/// An address is not worth setting for less than this: the kernel counts whole seconds.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);
/// The most changes in one batch; the rest follows in the next.
const BATCH_LIMIT: usize = 1000;

/// The node's in-tray and out-tray.
#[derive(Debug, Default)]
pub(super) struct KernelDesk {
    last: BatchId,
    done: BatchId,
    in_flight: Option<Batch>,
    applied: Applied,
    /// When the first of our usable addresses ends, as the kernel's last picture shows it.
    first_end: Option<Instant>,
    filter: Option<PacketFilter>,
    /// What failed last time, and until when the same is not tried again.
    failed: BTreeSet<About>,
    failures: u32,
    retry_at: Option<Instant>,
    /// The last batch by what it was about, when, and how often the same came again at once.
    repeated: (BTreeSet<About>, Instant, u32),
    labels: Labels,
    /// Label writes that failed in a row.
    label_failures: u32,
}

/// The labels of a Node that are ours.
type NodeLabels = BTreeMap<String, String>;

#[derive(Debug, Default, PartialEq, Eq)]
enum Labels {
    #[default]
    Idle,
    /// Asked, from these.
    InFlight(NodeLabels),
    /// Written: nothing more until the watch shows others than these, or until then.
    Written(NodeLabels, Instant),
    /// Failed: nothing more until then.
    Pausing(Instant),
}

impl KernelDesk {
    /// Whether no batch is in flight and the picture of the kernel is as young as the last batch.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.done == self.last
    }

    pub(super) const fn in_flight(&self) -> Option<&Batch> {
        self.in_flight.as_ref()
    }

    pub(super) const fn lifetimes(&self) -> &Applied {
        &self.applied
    }

    /// The packet filter that was last set.
    pub(super) const fn filter(&self) -> Option<&PacketFilter> {
        self.filter.as_ref()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        // While a batch or its picture is awaited, that wakes us.
        let retry = self.retry_at.filter(|_| self.is_idle());
        let label = match self.labels {
            Labels::Written(_, until) | Labels::Pausing(until) => Some(until),
            Labels::Idle | Labels::InFlight(_) => None,
        };
        retry.into_iter().chain(label).min()
    }

    /// Whether this picture is younger than the last batch that was reported.
    pub(super) fn accepts(&self, actual: &Actual) -> bool {
        self.in_flight.is_none() && actual.after >= self.last
    }

    pub(super) fn saw(&mut self, actual: &Actual, tag: u8) {
        self.done = actual.after;
        let is_usable = |address: &&Address| address.tag == tag && address.dad == Dad::Ready;
        let ends = actual.addresses.iter().filter(is_usable).filter_map(|address| match address.valid {
            Lifetime::Until(end) => Some(end),
            Lifetime::Forever => None,
        });
        self.first_end = ends.min();
        let at = |address: &Address| ScopedAddr { addr: address.addr(), link: address.link };
        let mut there: Vec<_> = actual.addresses.iter().map(at).collect();
        there.sort_unstable();
        self.applied.retain(|at, _| there.binary_search(at).is_ok());
    }

    /// When the time of the first usable address of ours is over, by the last picture.
    pub(super) const fn first_end(&self) -> Option<Instant> {
        self.first_end
    }

    /// Takes what is worth doing now; none when that is nothing.
    pub(super) fn submit(&mut self, now: Instant, mut changes: Vec<Change>) -> Option<Batch> {
        changes.retain(|change| !is_too_late(change, now));
        if let Some(retry_at) = self.retry_at {
            if now < retry_at {
                changes.retain(|change| !self.failed.contains(&about(change)));
            } else {
                self.retry_at = None;
            }
        }
        if changes.is_empty() {
            return None;
        }
        changes.truncate(BATCH_LIMIT);
        self.note_repetition(now, &changes);
        self.last = BatchId(self.last.0 + 1);
        let batch = Batch { id: self.last, changes };
        self.in_flight = Some(batch.clone());
        Some(batch)
    }

    /// A batch that comes again as soon as the last one was seen had no effect, or somebody undoes it: after a few
    /// times the next waits a little, so that neither costs a core.
    fn note_repetition(&mut self, now: Instant, changes: &[Change]) {
        let about: BTreeSet<_> = changes.iter().map(about).collect();
        let (former, at, count) = &mut self.repeated;
        *count = if *former == about && now - *at < REPEAT_WINDOW { *count + 1 } else { 0 };
        (*former, *at) = (about, now);
    }

    /// The pause after a repetition, if it has come to that.
    fn repetition_pause(&self) -> Option<Duration> {
        let over = self.repeated.2.checked_sub(REPEATS_AT_ONCE)?;
        Some((RETRY_FIRST * 2u32.pow(over.min(4))).min(REPEAT_PAUSE_MAX))
    }

    pub(super) fn applied(&mut self, now: Instant, report: &Report) {
        let Some(batch) = self.in_flight.take_if(|batch| batch.id == report.batch) else { return };
        self.failed.clear();
        for (change, outcome) in batch.changes.iter().zip(&report.outcomes) {
            match (outcome, change) {
                (Outcome::Done, Change::SetAddress(set)) => {
                    self.applied.insert(ScopedAddr { addr: set.net.addr(), link: set.link }, set.valid);
                }
                (Outcome::Done, Change::SetFilter { filter, .. }) => self.filter.clone_from(filter),
                (Outcome::Done, Change::DelAddress { .. }) | (Outcome::TooLate, _) => {}
                (Outcome::Failed { .. }, _) => {
                    self.failed.insert(about(change));
                }
            }
        }
        if self.failed.is_empty() {
            self.failures = 0;
            self.retry_at = self.repetition_pause().map(|pause| now + pause);
            if self.retry_at.is_some() {
                self.failed.clone_from(&self.repeated.0);
            }
        } else {
            let pause = (RETRY_FIRST * 2u32.pow(self.failures.min(6))).min(RETRY_MAX);
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(now + pause);
        }
    }

    /// Whether labels may be written now, when the watch shows these. Ends a pause that is over.
    pub(super) fn may_label(&mut self, now: Instant, shown: &NodeLabels) -> bool {
        let is_over = match &self.labels {
            Labels::Idle => true,
            Labels::InFlight(_) => false,
            Labels::Written(from, until) => shown != from || now >= *until,
            Labels::Pausing(until) => now >= *until,
        };
        if is_over {
            self.labels = Labels::Idle;
        }
        is_over
    }

    pub(super) fn labelling(&mut self, from: NodeLabels) {
        self.labels = Labels::InFlight(from);
    }

    /// A label write was answered.
    pub(super) fn labels_answered(&mut self, now: Instant, answer: &Answer) {
        let Labels::InFlight(from) = std::mem::take(&mut self.labels) else { return };
        self.labels = match answer {
            Answer::Failed(_) => {
                let pause = LABEL_RETRY_FIRST * 2u32.pow(self.label_failures.min(4));
                self.label_failures = self.label_failures.saturating_add(1);
                Labels::Pausing(now + pause.min(LABEL_RETRY_MAX))
            }
            Answer::Done | Answer::Conflict | Answer::Lease(_) | Answer::Session(..) => {
                self.label_failures = 0;
                Labels::Written(from, now + LABELS_SHOWN_WITHIN)
            }
        };
    }

    /// Whether a stopping node has nothing more to do about its labels. `missing`: what the watch shows differs from
    /// what is wanted. After a failure nobody waits for another attempt.
    pub(super) fn is_done_labelling(&self, shown: &NodeLabels, missing: usize) -> bool {
        match &self.labels {
            Labels::Idle => missing == 0,
            Labels::InFlight(_) => false,
            Labels::Written(from, _) => shown != from && missing == 0,
            Labels::Pausing(_) => true,
        }
    }
}

fn is_too_late(change: &Change, now: Instant) -> bool {
    match change {
        Change::DelAddress { .. } | Change::SetFilter { .. } => false,
        Change::SetAddress(set) => {
            let too_short = match set.valid {
                Lifetime::Until(end) => end - now < SHORTEST_LIFETIME,
                Lifetime::Forever => false,
            };
            too_short || now >= set.not_after
        }
    }
}

/// What a change is about: the same change with other instants is about the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Set(ScopedAddr),
    Del(ScopedAddr),
    Filter,
}

fn about(change: &Change) -> About {
    match change {
        Change::SetAddress(set) => About::Set(ScopedAddr { addr: set.net.addr(), link: set.link }),
        Change::DelAddress { link, net } => About::Del(ScopedAddr { addr: net.addr(), link: *link }),
        Change::SetFilter { .. } => About::Filter,
    }
}
