//! Heartbeats that say what the last one said. Most of them do: what moves then are times, and all of them to later ones.

use vip_model::peers::Datagram;

/// Whether two say the same, but for the times in them and for which of them wants an answer. All fields are named, so that a
/// new one is thought of.
pub(crate) fn repeats(former: &Datagram, datagram: &Datagram) -> bool {
    let Datagram { instance, from, session, to, sequence: _, echo, kind: _, jury, api_age: _, .. } = datagram;
    let Datagram { fitness, groups, asks, grants, successions, unseen, .. } = datagram;
    let echoes_alike = match (&former.echo, echo) {
        (Some(former), Some(echo)) => {
            (former.session, former.word, former.groups) == (echo.session, echo.word, echo.groups)
        }
        (former, echo) => former.is_none() && echo.is_none(),
    };
    echoes_alike
        && (former.instance, former.session) == (*instance, *session)
        && (former.jury, former.fitness) == (*jury, *fitness)
        && (&former.from, &former.to) == (from, to)
        && (&former.groups, &former.successions) == (groups, successions)
        && (&former.asks, &former.grants, &former.unseen) == (asks, grants, unseen)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vip_model::peers::{Echo, Fitness, GroupId, GroupList, InstanceTag, Kind, ListDigest, Vote, Word};
    use vip_model::session::{SessionId, Succession};
    use vip_model::{Instant, NodeName};

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

    #[test]
    fn times_and_whether_an_answer_is_wanted_are_no_news() {
        assert!(repeats(&reply(1), &reply(2)));
        assert!(repeats(&reply(1), &Datagram { kind: Kind::Beat, ..reply(2) }));
    }

    #[test]
    fn whatever_it_says_otherwise_is_news_and_so_is_the_way_back() {
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
            Datagram { jury: 1, ..reply(2) },
            Datagram { session: SessionId(3), ..reply(2) },
            Datagram { instance: InstanceTag(8), ..reply(2) },
            Datagram { from: NodeName::new("n3"), ..reply(2) },
            Datagram { to: NodeName::new("n3"), ..reply(2) },
        ];
        for other in others {
            assert!(!repeats(&reply(1), &other), "{other:?}");
            assert!(!repeats(&other, &reply(3)), "after {other:?}");
        }
    }
}
