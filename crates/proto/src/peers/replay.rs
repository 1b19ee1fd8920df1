//! What was already heard of each session: a datagram that is not newer than the last one of its session is a replay, or
//! came late, and says nothing. Fed by the door with every authentic datagram; gives back whether it counts.

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
            if sequence <= heard.newest {
                return Err(Stale::Replayed);
            }
            if heard.even > now + apart * BURST {
                return Err(Stale::TooMany);
            }
            *heard = Heard { newest: sequence, at: now, even: heard.even.max(now) + apart };
            return Ok(());
        }
        if self.sessions.len() >= SESSIONS_MOST {
            self.forget_one();
        }
        self.sessions.insert(session, Heard { newest: sequence, at: now, even: now + apart });
        Ok(())
    }

    /// Forgets the session that was heard least recently: one that lives is heard many times a second.
    fn forget_one(&mut self) {
        let oldest = self.sessions.iter().min_by_key(|(_, heard)| heard.at).map(|(id, _)| *id);
        self.sessions.retain(|id, _| Some(*id) != oldest);
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
        assert_eq!(note(9), Err(Stale::Replayed), "an older one");
        assert_eq!(note(11), Ok(()));
    }

    #[test]
    fn sessions_have_nothing_to_do_with_each_other() {
        let mut replay = Replay::new();
        assert_eq!(replay.note(NOW, id(1), Instant::from_millis(10)), Ok(()));
        assert_eq!(replay.note(NOW, id(2), Instant::from_millis(3)), Ok(()));
        assert_eq!(replay.note(NOW, id(2), Instant::from_millis(2)), Err(Stale::Replayed));
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
