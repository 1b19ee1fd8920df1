//! What was already heard of each session: a datagram that is not newer than the last one of its session is a replay and
//! says nothing, but for one that was just overtaken: it was never heard, and its sender waits for the answer. Fed by the
//! door with every authentic datagram; gives back whether it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::Instant;
use vip_model::session::SessionId;

/// Sessions that are remembered. A member has one, and a new one after having been deposed: enough for several hundred
/// nodes. Beyond it the one that was heard least recently is forgotten.
const SESSIONS_MOST: usize = 1024;

/// Datagrams of one session that count, per second. At the shortest interval a holder and its juror exchange some 200 in
/// each direction, and news comes on top.
const MOST_PER_SECOND: u32 = 1_000;

/// Datagrams of one session that may come at once, after a pause.
const BURST: u32 = 100;

/// A datagram that left so much before the newest one may have been overtaken by it: ways through one network differ by
/// less than a millisecond.
const OVERTAKEN: Duration = Duration::from_millis(2);

/// So many of a session are remembered by their sequence, beside the newest. One that is older than all of them was heard,
/// as far as anybody knows.
const REMEMBERED: usize = 4;

/// Why an authentic datagram says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stale {
    /// A newer one of its session, or the same, was heard before.
    Replayed,
    /// More of its session in a second than a member sends.
    TooMany,
}

/// The newest sequence of each session.
#[derive(Debug, Default)]
pub struct Replay {
    sessions: BTreeMap<SessionId, Heard>,
}

#[derive(Debug)]
struct Heard {
    /// The newest sequence, on the sender's clock.
    newest: Instant,
    /// Those that counted before it, the newest first; zero where there was none.
    former: [Instant; REMEMBERED],
    /// When it was heard, on our own.
    at: Instant,
    /// When all datagrams so far would have come, had they come evenly at the highest rate.
    even: Instant,
}

impl Replay {
    /// A memory of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of an authentic datagram that arrived at `now`.
    pub fn note(&mut self, now: Instant, session: SessionId, sequence: Instant) -> Result<(), Stale> {
        let apart = Duration::from_secs(1) / MOST_PER_SECOND;
        if let Some(heard) = self.sessions.get_mut(&session) {
            if !heard.is_unheard(sequence) {
                return Err(Stale::Replayed);
            }
            if heard.even > now + apart * BURST {
                return Err(Stale::TooMany);
            }
            heard.keep(sequence);
            (heard.at, heard.even) = (now, heard.even.max(now) + apart);
            return Ok(());
        }
        if self.sessions.len() >= SESSIONS_MOST {
            self.forget_one();
        }
        let former = [Instant::ZERO; REMEMBERED];
        self.sessions.insert(session, Heard { newest: sequence, former, at: now, even: now + apart });
        Ok(())
    }

    /// Forgets the session that was heard least recently: one that lives is heard many times a second.
    fn forget_one(&mut self) {
        let oldest = self.sessions.iter().min_by_key(|(_, heard)| heard.at).map(|(id, _)| *id);
        self.sessions.retain(|id, _| Some(*id) != oldest);
    }
}

impl Heard {
    /// Whether a sequence was surely not heard before: it is newer than all, or was just overtaken.
    fn is_unheard(&self, sequence: Instant) -> bool {
        let is_overtaken = sequence < self.newest && self.newest - sequence <= OVERTAKEN;
        let is_remembered = self.former.iter().all(|former| *former > sequence);
        sequence > self.newest || (is_overtaken && !is_remembered && !self.former.contains(&sequence))
    }

    /// Remembers a sequence.
    fn keep(&mut self, sequence: Instant) {
        let mut falling = sequence;
        for place in std::iter::once(&mut self.newest).chain(&mut self.former) {
            if falling > *place {
                std::mem::swap(place, &mut falling);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(5_000);

    fn id(number: usize) -> SessionId {
        SessionId(number as u64)
    }

    #[test]
    fn only_what_is_newer_counts() {
        let mut replay = Replay::new();
        let mut note = |sequence| replay.note(NOW, id(1), Instant::from_millis(sequence));
        assert_eq!(note(10), Ok(()));
        assert_eq!(note(10), Err(Stale::Replayed), "the same one");
        assert_eq!(note(7), Err(Stale::Replayed), "an older one");
        assert_eq!(note(11), Ok(()));
    }

    #[test]
    fn one_that_was_overtaken_counts_once() {
        let mut replay = Replay::new();
        let mut note = |micros: u64| replay.note(NOW, id(1), Instant::from_nanos(micros * 1_000));
        assert_eq!(note(50_000), Ok(()));
        assert_eq!(note(50_300), Ok(()));
        assert_eq!(note(50_100), Ok(()), "it was overtaken");
        assert_eq!(note(50_100), Err(Stale::Replayed), "it was heard");
        assert_eq!(note(50_000), Err(Stale::Replayed), "and so was the first");
        assert_eq!(note(50_200), Ok(()), "another one");
        assert_eq!(note(48_299), Err(Stale::Replayed), "that was no overtaking");
    }

    #[test]
    fn whatever_comes_in_whatever_order_counts_once_at_most() {
        let mut random = vip_model::Random::new(7);
        for _ in 0..200 {
            let (mut replay, mut counted) = (Replay::new(), std::collections::BTreeSet::new());
            for step in 0..400_u64 {
                // Within the last three milliseconds, up to twenty at the same time.
                let nanos = 1_000_000 * (1 + step / 20) + 150_000 * random.below(20);
                let at = NOW + Duration::from_millis(10 * step);
                if replay.note(at, id(1), Instant::from_nanos(nanos)).is_ok() {
                    assert!(counted.insert(nanos), "{nanos} counted twice");
                }
            }
            assert!(counted.len() > 20);
        }
    }

    #[test]
    fn sessions_have_nothing_to_do_with_each_other() {
        let mut replay = Replay::new();
        assert_eq!(replay.note(NOW, id(1), Instant::from_millis(100)), Ok(()));
        assert_eq!(replay.note(NOW, id(2), Instant::from_millis(30)), Ok(()));
        assert_eq!(replay.note(NOW, id(2), Instant::from_millis(20)), Err(Stale::Replayed));
    }

    #[test]
    fn the_table_is_bounded_and_living_sessions_stay_in_it() {
        let mut replay = Replay::new();
        replay.note(NOW, id(0), Instant::from_millis(100)).unwrap();
        for number in 1..3 * SESSIONS_MOST {
            let now = NOW + Duration::from_millis(number as u64);
            replay.note(now, id(number), Instant::from_millis(1)).unwrap();
            replay.note(now, id(0), Instant::from_millis(100 + number as u64)).unwrap();
        }
        assert_eq!(replay.sessions.len(), SESSIONS_MOST);
        assert_eq!(replay.note(NOW, id(0), Instant::from_millis(100)), Err(Stale::Replayed));
    }

    #[test]
    fn one_session_is_heard_so_and_so_often_a_second_and_no_more() {
        let mut replay = Replay::new();
        let mut counted = 0;
        // Ten seconds at 10,000 a second.
        for tick in 0..100_000_u64 {
            let now = NOW + Duration::from_micros(100 * tick);
            match replay.note(now, id(1), Instant::from_nanos(1 + tick)) {
                Ok(()) => counted += 1,
                Err(stale) => assert_eq!(stale, Stale::TooMany),
            }
        }
        let most = 10 * MOST_PER_SECOND + BURST + 1;
        assert!((10 * MOST_PER_SECOND..=most).contains(&counted), "{counted}");
    }

    #[test]
    fn heartbeats_at_the_shortest_interval_are_never_too_many() {
        let mut replay = Replay::new();
        // A heartbeat and an answer every 10 ms, for a minute.
        for tick in 0..6_000_u64 {
            let now = NOW + Duration::from_millis(10 * tick);
            assert_eq!(replay.note(now, id(1), Instant::from_millis(1 + 2 * tick)), Ok(()));
            assert_eq!(replay.note(now, id(1), Instant::from_millis(2 + 2 * tick)), Ok(()));
        }
    }
}
