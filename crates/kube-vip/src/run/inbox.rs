//! The node's letter box: the gateways, errands and signals post what happened, the loop takes it out. Level-like
//! flows (`Actual`, `Snapshot`, `Sessions`) keep only their newest value, frames are few and may be lost,
//! and everything that answers a question or tells of a Lease is kept, in order, for ever.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use vip_agent::Input;
use vip_kernel::Accepted;
use vip_model::Instant;
use vip_model::explanation::Explanation;
use vip_model::kernel::{Actual, FrameIn};
use vip_model::service::ServiceName;
use vip_model::session::Sessions;
use vip_model::store::Snapshot;

use super::alarm::{Alarm, Woken};
use crate::board::boot_now;

/// Frames that may wait. A turn takes microseconds: more than this in one of them is a storm, and a foreign claim
/// that matters comes again.
pub(crate) const FRAMES_WAITING: usize = 256;

/// Where inputs wait for the next turn.
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    alarm: Alarm,
}

/// Somebody who wants to know why a Service is served or not, and where the answer goes.
pub(crate) struct Inquiry {
    /// The Service.
    pub(crate) service: ServiceName,
    /// Takes what the node says; none when it never saw the Service.
    pub(crate) answer: oneshot::Sender<Option<Explanation>>,
}

/// What waits.
///
/// `letters` has no limit of its own: it holds answers (as many as there are questions), reports (one batch is in
/// flight), watched Leases (as fast as the store writes them) and signals. When turns stop, `/livez` ends the
/// process long before their number matters.
#[derive(Default)]
struct Waiting {
    letters: VecDeque<Input>,
    actual: Option<Actual>,
    snapshot: Option<Snapshot>,
    sessions: Option<Arc<Sessions>>,
    frames: VecDeque<FrameIn>,
    frames_dropped: u64,
    inquiries: Vec<Inquiry>,
    since: Option<Instant>,
}

impl Inbox {
    /// An empty inbox.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { waiting: Mutex::default(), alarm: Alarm::new()? })
    }

    /// Hands an input to the next turn; only a frame can be refused. From any thread; never blocks for longer than the
    /// copy of a turn's inputs.
    pub(crate) fn post(&self, input: Input) -> Accepted {
        let mut waiting = self.lock();
        match input {
            Input::Actual(actual) => waiting.actual = Some(actual),
            Input::Snapshot(snapshot) => waiting.snapshot = Some(snapshot),
            Input::Sessions(sessions) => waiting.sessions = Some(sessions),
            Input::Frame(frame) if waiting.frames.len() < FRAMES_WAITING => waiting.frames.push_back(frame),
            Input::Frame(_) => {
                waiting.frames_dropped += 1;
                return Accepted::No;
            }
            letter => waiting.letters.push_back(letter),
        }
        let first = waiting.since.is_none();
        if first {
            waiting.since = Some(boot_now());
        }
        drop(waiting);
        if first {
            self.alarm.ring();
        }
        Accepted::Yes
    }

    /// Takes out everything that waits: letters in order, then the newest pictures, then frames. A report thus comes
    /// before the dump that shows its effect.
    pub(crate) fn take(&self) -> Vec<Input> {
        let mut waiting = self.lock();
        waiting.since = None;
        let mut inputs: Vec<Input> = waiting.letters.drain(..).collect();
        inputs.extend(waiting.actual.take().map(Input::Actual));
        inputs.extend(waiting.snapshot.take().map(Input::Snapshot));
        inputs.extend(waiting.sessions.take().map(Input::Sessions));
        inputs.extend(waiting.frames.drain(..).map(Input::Frame));
        inputs
    }

    /// Asks the node, after its next turn.
    pub(crate) fn ask(&self, inquiry: Inquiry) {
        self.lock().inquiries.push(inquiry);
        self.alarm.ring();
    }

    /// Takes out who asked.
    pub(crate) fn take_inquiries(&self) -> Vec<Inquiry> {
        std::mem::take(&mut self.lock().inquiries)
    }

    /// Sleeps until something is posted, `deadline` is reached or `socket` can be read.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<Woken> {
        self.alarm.wait(deadline, socket)
    }

    /// Ends the current `wait`, or else the next one.
    pub(crate) fn ring(&self) {
        self.alarm.ring();
    }

    /// Since when the oldest input waits.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.lock().since
    }

    /// How many frames found no place, since the start.
    pub(crate) fn frames_dropped(&self) -> u64 {
        self.lock().frames_dropped
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code that can panic runs under the lock, and a panic ends the process anyway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use vip_model::kernel::{BatchId, ETHERTYPE_ARP, Report};
    use vip_model::observed::ErrandAnswer;
    use vip_model::{LinkIndex, QuestionId};

    use super::*;

    fn frame(byte: u8) -> Input {
        Input::Frame(FrameIn {
            link: LinkIndex(2),
            from: None,
            ethertype: ETHERTYPE_ARP,
            payload: vec![byte],
        })
    }

    fn actual(after: u64) -> Input {
        Input::Actual(Actual { after: BatchId(after), ..Actual::default() })
    }

    fn answer(id: u64) -> Input {
        Input::Errand(ErrandAnswer { id: QuestionId(id), result: Ok(()) })
    }

    #[test]
    fn only_the_newest_picture_of_the_kernel_is_taken_out() {
        let inbox = Inbox::new().unwrap();
        inbox.post(actual(1));
        inbox.post(Input::Report(Report { batch: BatchId(2), outcomes: Vec::new() }));
        inbox.post(actual(2));
        let report = Input::Report(Report { batch: BatchId(2), outcomes: Vec::new() });
        assert_eq!(inbox.take(), vec![report, actual(2)]);
        assert_eq!(inbox.take(), Vec::new());
    }

    #[test]
    fn answers_are_never_dropped_and_keep_their_order() {
        let inbox = Inbox::new().unwrap();
        let answers: Vec<Input> = (0..10_000).map(answer).collect();
        for answer in answers.clone() {
            inbox.post(answer);
        }
        assert_eq!(inbox.take(), answers);
    }

    #[test]
    fn a_storm_of_frames_is_cut_and_counted() {
        let inbox = Inbox::new().unwrap();
        for _ in 0..FRAMES_WAITING + 7 {
            inbox.post(frame(1));
        }
        inbox.post(answer(1));
        assert_eq!(inbox.frames_dropped(), 7);
        let inputs = inbox.take();
        assert_eq!(inputs.len(), FRAMES_WAITING + 1);
        assert_eq!(inputs[0], answer(1), "the answer does not wait behind the frames");
    }

    #[test]
    fn the_age_of_the_oldest_input_is_known_until_it_is_taken() {
        let inbox = Inbox::new().unwrap();
        assert_eq!(inbox.waiting_since(), None);
        inbox.post(answer(1));
        let since = inbox.waiting_since();
        inbox.post(answer(2));
        assert!(since.is_some());
        assert_eq!(inbox.waiting_since(), since);
        inbox.take();
        assert_eq!(inbox.waiting_since(), None);
    }
}
