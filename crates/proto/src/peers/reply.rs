//! Replies that say what the last one said. A holder lives by the echoes in them, which count from when it sent, and the silence
//! of whoever replies counts from when the door let the last one in. Such a reply may therefore wait for the next turn of the
//! node, whatever brings it: a turn for each juror and interval less. Fed by the door with every datagram that it lets in; gives back whether it may wait.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::Instant;
use vip_model::peers::{Datagram, Kind};
use vip_model::session::SessionId;

/// Sessions whose last reply is remembered: more than the jurors of one session. Beyond it all of them are forgotten, and the
/// next reply of each is news.
const SESSIONS_MOST: usize = 64;

/// After a pause of two of the default intervals a reply is news whatever it says: doubt may wait for it.
const PAUSE: Duration = Duration::from_millis(100);

/// When the node must look at a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// At once.
    AtOnce,
    /// With its next turn.
    NextTurn,
}

/// The last reply of each session.
#[derive(Debug, Default)]
pub struct Replies {
    /// With when the last one came.
    sessions: BTreeMap<SessionId, (Instant, Datagram)>,
}

impl Replies {
    /// A memory of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a datagram that was let in at `now`.
    pub fn note(&mut self, now: Instant, datagram: &Datagram) -> Haste {
        if !may_wait(datagram) {
            // Whatever came between two replies makes the next one news.
            self.sessions.remove(&datagram.session);
            return Haste::AtOnce;
        }
        if let Some((at, former)) = self.sessions.get_mut(&datagram.session)
            && is_same(former, datagram)
        {
            let is_late = now.since(*at) > PAUSE;
            *at = now;
            return if is_late { Haste::AtOnce } else { Haste::NextTurn };
        }
        if self.sessions.len() >= SESSIONS_MOST {
            self.sessions.clear();
        }
        self.sessions.insert(datagram.session, (now, datagram.clone()));
        Haste::AtOnce
    }
}

/// Whether nobody waits for what it says: it wants no answer and moves nothing.
const fn may_wait(datagram: &Datagram) -> bool {
    matches!(datagram.kind, Kind::Reply)
        && datagram.asks.is_empty()
        && datagram.grants.is_empty()
        && datagram.unseen.is_empty()
}

/// Whether two say the same, but for the times in them. All fields are named, so that a new one is thought of.
pub(crate) fn is_same(former: &Datagram, datagram: &Datagram) -> bool {
    let Datagram { instance, from, session, to, sequence: _, echo, kind, jury, api_age: _, .. } = datagram;
    let Datagram { fitness, groups, asks, grants, successions, unseen, .. } = datagram;
    let echoes_alike = match (&former.echo, echo) {
        (Some(former), Some(echo)) => {
            (former.session, former.word, former.groups) == (echo.session, echo.word, echo.groups)
        }
        (former, echo) => former.is_none() && echo.is_none(),
    };
    echoes_alike
        && (former.instance, former.session, former.kind) == (*instance, *session, *kind)
        && (former.jury, former.fitness) == (*jury, *fitness)
        && (&former.from, &former.to) == (from, to)
        && (&former.groups, &former.successions) == (groups, successions)
        && (&former.asks, &former.grants, &former.unseen) == (asks, grants, unseen)
}

#[cfg(test)]
mod tests {
    use vip_model::NodeName;
    use vip_model::peers::{Echo, Fitness, GroupId, GroupList, InstanceTag, ListDigest, Vote, Word};
    use vip_model::session::Succession;

    use super::*;

    fn reply(millis: u64) -> Datagram {
        Datagram {
            instance: InstanceTag(7),
            from: NodeName::new("n2"),
            session: SessionId(2),
            to: NodeName::new("n1"),
            sequence: Instant::from_millis(millis),
            echo: Some(Echo {
                session: SessionId(1),
                sequence: Instant::from_millis(millis),
                word: Word::Vouches,
                groups: ListDigest::default(),
            }),
            kind: Kind::Reply,
            jury: 0,
            api_age: Some(Duration::from_millis(millis)),
            fitness: Fitness::Fit,
            groups: GroupList::EMPTY,
            asks: vec![],
            grants: vec![],
            successions: vec![],
            unseen: vec![],
        }
    }

    const NOW: Instant = Instant::from_millis(1_000);

    #[test]
    fn the_first_reply_is_news_and_the_same_again_is_not() {
        let mut replies = Replies::new();
        assert_eq!(replies.note(NOW, &reply(1)), Haste::AtOnce);
        assert_eq!(replies.note(NOW, &reply(2)), Haste::NextTurn);
        assert_eq!(replies.note(NOW, &reply(3)), Haste::NextTurn);
        let other = Datagram { session: SessionId(3), ..reply(4) };
        assert_eq!(replies.note(NOW, &other), Haste::AtOnce, "another session");
        assert_eq!(replies.note(NOW, &reply(5)), Haste::NextTurn);
    }

    #[test]
    fn whatever_a_reply_says_otherwise_is_news_and_so_is_the_way_back() {
        let vote = Vote { of: SessionId(1), generation: 1, heir: SessionId(2), attempt: 1, rank: 0 };
        let echo = reply(2).echo.unwrap();
        let others = [
            Datagram { fitness: Fitness::Leaving, ..reply(2) },
            Datagram { echo: None, ..reply(2) },
            Datagram { echo: Some(Echo { session: SessionId(9), ..echo }), ..reply(2) },
            Datagram { echo: Some(Echo { word: Word::Silent, ..echo }), ..reply(2) },
            Datagram { echo: Some(Echo { groups: ListDigest(9), ..echo }), ..reply(2) },
            Datagram { groups: GroupList::AsEchoed(ListDigest(9)), ..reply(2) },
            Datagram { asks: vec![vote], ..reply(2) },
            Datagram { grants: vec![vote], ..reply(2) },
            Datagram { successions: vec![Succession { id: SessionId(8), heir: None }], ..reply(2) },
            Datagram { unseen: vec![GroupId(1)], ..reply(2) },
            Datagram { kind: Kind::Beat, ..reply(2) },
            Datagram { jury: 1, ..reply(2) },
            Datagram { from: NodeName::new("n3"), ..reply(2) },
        ];
        for other in others {
            let mut replies = Replies::new();
            replies.note(NOW, &reply(1));
            assert_eq!(replies.note(NOW, &other), Haste::AtOnce, "{other:?}");
            assert_eq!(replies.note(NOW, &reply(3)), Haste::AtOnce, "after {other:?}");
        }
    }

    #[test]
    fn what_somebody_waits_for_never_waits_however_often_it_is_said() {
        let vote = Vote { of: SessionId(1), generation: 1, heir: SessionId(2), attempt: 1, rank: 0 };
        let urgent = [
            Datagram { kind: Kind::Beat, ..reply(2) },
            Datagram { asks: vec![vote], ..reply(2) },
            Datagram { grants: vec![vote], ..reply(2) },
            Datagram { unseen: vec![GroupId(1)], ..reply(2) },
        ];
        for urgent in urgent {
            let mut replies = Replies::new();
            for _ in 0..3 {
                assert_eq!(replies.note(NOW, &urgent), Haste::AtOnce, "{urgent:?}");
            }
        }
    }

    #[test]
    fn after_a_pause_every_reply_is_news() {
        let mut replies = Replies::new();
        let mut note = |millis| replies.note(Instant::from_millis(millis), &reply(millis));
        assert_eq!([note(1), note(51), note(101)], [Haste::AtOnce, Haste::NextTurn, Haste::NextTurn]);
        assert_eq!([note(202), note(252)], [Haste::AtOnce, Haste::NextTurn]);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut replies = Replies::new();
        for number in 0..1_000 {
            replies.note(NOW, &Datagram { session: SessionId(number), ..reply(number) });
            assert!(replies.sessions.len() <= SESSIONS_MOST);
        }
    }
}
