//! Lists of groups in heartbeats. A member lists its groups until the other side has echoed the digest of that list, and
//! then says that it is the same. A list that was lost is sent again, because its digest does not come back; nothing has to
//! be asked for, and no list is put together from parts.

use vip_model::Instant;
use vip_model::peers::{Echo, GroupId, GroupList, GroupWord, ListDigest, Stage};

/// The list of another member, as last heard.
#[derive(Debug, Default)]
pub(super) struct HeardList {
    words: Vec<GroupWord>,
    digest: ListDigest,
    is_unknown: bool,
}

impl HeardList {
    /// The list after this was said. Whether it is another one.
    pub(super) fn hear(&mut self, said: GroupList) -> bool {
        let former = (self.digest, self.is_unknown);
        match said {
            GroupList::Listed(words) => {
                self.digest = ListDigest::of(&words);
                self.words = words;
                self.is_unknown = false;
            }
            GroupList::AsEchoed(digest) if digest == self.digest => self.is_unknown = false,
            // It echoes what an earlier life of this agent echoed: until the list comes, nothing is known.
            GroupList::AsEchoed(_) => *self = Self { is_unknown: true, ..Self::default() },
        }
        former != (self.digest, self.is_unknown)
    }

    /// What is known of it; none of it while it is unknown.
    pub(super) fn words(&self) -> &[GroupWord] {
        &self.words
    }

    /// Whether it said something that this agent does not know.
    pub(super) const fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// What an echo says of it.
    pub(super) const fn digest(&self) -> ListDigest {
        self.digest
    }

    /// Where a group stands.
    pub(super) fn stage(&self, group: GroupId) -> Option<Stage> {
        self.words.iter().find(|word| word.group == group).map(|word| word.stage)
    }
}

/// What another member has of our list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToldList {
    /// The newest datagram to it that listed groups.
    listed: Option<Instant>,
    /// What it echoed since that one.
    echoed: Option<ListDigest>,
    /// Whether it was last told that the list is the same.
    is_short: bool,
}

impl ToldList {
    /// It echoed. Whether it must be told the list at once: it was told that it has it, and does not.
    pub(super) fn echoed(&mut self, echo: Echo) -> bool {
        // What it had before that datagram says nothing of now: the list may have changed and changed back.
        self.echoed = self.listed.filter(|listed| echo.sequence >= *listed).map(|_| echo.groups);
        self.is_short && self.echoed == Some(ListDigest::NONE)
    }

    /// How a datagram with this sequence speaks of the own list.
    pub(super) fn tell(&mut self, sequence: Instant, own: &OwnList) -> GroupList {
        self.is_short = !own.words.is_empty() && self.echoed == Some(own.digest);
        if self.is_short {
            return GroupList::AsEchoed(own.digest);
        }
        self.listed = Some(sequence);
        self.echoed = None;
        GroupList::Listed(own.words.clone())
    }
}

/// The own list.
#[derive(Debug)]
pub(super) struct OwnList {
    words: Vec<GroupWord>,
    digest: ListDigest,
}

impl OwnList {
    pub(super) fn new(words: Vec<GroupWord>) -> Self {
        let digest = ListDigest::of(&words);
        Self { words, digest }
    }

    /// The same for who was never heard.
    pub(super) fn listed(&self) -> GroupList {
        GroupList::Listed(self.words.clone())
    }
}

#[cfg(test)]
mod tests {
    use vip_model::peers::Word;
    use vip_model::session::SessionId;

    use super::*;

    fn list(groups: &[u64]) -> OwnList {
        let word = |group: &u64| GroupWord { group: GroupId(*group), stage: Stage::Announced };
        OwnList::new(groups.iter().map(word).collect())
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn echo(sequence: u64, heard: &HeardList) -> Echo {
        Echo { session: SessionId(1), sequence: at(sequence), word: Word::Vouches, groups: heard.digest() }
    }

    #[test]
    fn a_list_is_sent_until_it_is_echoed_and_then_its_digest() {
        let (mut told, mut heard, own) = (ToldList::default(), HeardList::default(), list(&[1, 2]));
        assert!(matches!(told.tell(at(1), &own), GroupList::Listed(_)), "it was lost");
        told.echoed(echo(1, &heard));
        heard.hear(told.tell(at(2), &own));
        assert_eq!(heard.words(), own.words);
        told.echoed(echo(2, &heard));
        let short = told.tell(at(3), &own);
        assert_eq!(short, GroupList::AsEchoed(own.digest));
        assert!(!heard.hear(short), "nothing changed");
        assert_eq!((heard.words(), heard.is_unknown()), (&own.words[..], false));
    }

    #[test]
    fn a_list_that_changes_and_changes_back_is_sent_again() {
        let (mut told, mut heard) = (ToldList::default(), HeardList::default());
        heard.hear(told.tell(at(1), &list(&[1])));
        told.echoed(echo(1, &heard));
        assert!(matches!(told.tell(at(2), &list(&[1, 2])), GroupList::Listed(_)));
        // Its echo of the first list is still on its way when the list is what it was.
        told.echoed(echo(1, &heard));
        assert!(matches!(told.tell(at(3), &list(&[1])), GroupList::Listed(_)));
    }

    #[test]
    fn who_lost_its_memory_is_told_the_list_at_once_and_knows_nothing_until_then() {
        let (mut told, mut heard, own) = (ToldList::default(), HeardList::default(), list(&[1, 2]));
        heard.hear(told.tell(at(1), &own));
        told.echoed(echo(1, &heard));
        let short = told.tell(at(2), &own);
        let mut restarted = HeardList::default();
        assert!(restarted.hear(short));
        assert!(restarted.is_unknown() && restarted.words().is_empty());
        assert!(told.echoed(echo(2, &restarted)), "at once");
        assert!(restarted.hear(told.tell(at(3), &own)));
        assert_eq!((restarted.words(), restarted.is_unknown()), (&own.words[..], false));
    }

    #[test]
    fn a_list_of_nothing_needs_no_memory() {
        let (mut told, mut heard) = (ToldList::default(), HeardList::default());
        for sequence in 1..4 {
            let said = told.tell(at(sequence), &list(&[]));
            assert_eq!(said, GroupList::EMPTY);
            heard.hear(said);
            assert!(!told.echoed(echo(sequence, &heard)));
        }
        assert!(!heard.is_unknown());
    }
}
