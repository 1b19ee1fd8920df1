//! The bytes of a heartbeat: the layout is drawn in the parent module.

use std::time::Duration;

use vip_model::peers::{
    Datagram, Echo, Fitness, GroupId, GroupList, GroupWord, InstanceTag, KeyId, Kind, ListDigest, Stage,
    Vote, Word,
};
use vip_model::session::{SessionId, Succession};
use vip_model::{Instant, NodeName};

use super::key::CODE_LENGTH;
use super::{Refused, Unsendable};

/// Bytes of the longest heartbeat. With the headers of IPv6 and UDP it fits into the 1,450 bytes that overlay networks
/// leave of an Ethernet frame, so that none is ever cut into fragments.
pub const LONGEST: usize = 1_400;
/// Bytes of a node name, as Kubernetes limits them (RFC 1123).
pub const NAME_LONGEST: usize = 253;
/// Votes that one datagram asks for: one for each session that looks dead at the same time.
pub const ASKS_MOST: usize = 8;
/// Votes that one datagram gives.
pub const GRANTS_MOST: usize = 8;
/// Ended sessions that one datagram tells of.
pub const SUCCESSIONS_MOST: usize = 12;
/// Groups that one datagram calls unseen.
pub const UNSEEN_MOST: usize = 12;
/// Groups that one datagram speaks of, as far as the other lists leave room for them.
pub const GROUPS_MOST: usize = 96;

const MAGIC: [u8; 2] = *b"kv";
const VERSION: u8 = 2;
const HEADER: usize = 8;
const FIXED: usize = 60;
const VOTE: usize = 25;
const SUCCESSION: usize = 17;
const UNSEEN: usize = 8;
const GROUP: usize = 9;
/// The count of groups that says: as echoed.
const AS_ECHOED: u8 = 255;
const DIGEST: usize = 8;
/// Header, fixed part, two names of one byte, code.
const SHORTEST: usize = HEADER + FIXED + 4 + CODE_LENGTH;
/// "Never" of the API's age.
const NEVER: u64 = u64::MAX;

/// Everything but the groups fits, whatever it says.
const _: () = assert!(
    HEADER
        + FIXED
        + 2 * (1 + NAME_LONGEST)
        + (ASKS_MOST + GRANTS_MOST) * VOTE
        + SUCCESSIONS_MOST * SUCCESSION
        + UNSEEN_MOST * UNSEEN
        + DIGEST
        + CODE_LENGTH
        <= LONGEST
);

/// The first bytes of a heartbeat that is sealed with `key`.
pub(super) fn header(key: KeyId, instance: InstanceTag) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LONGEST);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, instance.0]);
    bytes.extend_from_slice(&key.0.to_be_bytes());
    bytes
}

/// A heartbeat in its parts, unchecked.
pub(super) struct Sealed<'a> {
    pub(super) key: KeyId,
    pub(super) instance: InstanceTag,
    pub(super) authenticated: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) code: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Cuts a heartbeat into its parts. Looks at the header alone.
    pub(super) fn cut(bytes: &'a [u8]) -> Result<Self, Refused> {
        if bytes.len() < SHORTEST || bytes.len() > LONGEST {
            return Err(Refused::Length(bytes.len()));
        }
        if bytes[..2] != MAGIC {
            return Err(Refused::Foreign);
        }
        if bytes[2] != VERSION {
            return Err(Refused::Version(bytes[2]));
        }
        let key = KeyId(u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
        let (authenticated, code) = bytes.split_at(bytes.len() - CODE_LENGTH);
        let instance = InstanceTag(bytes[3]);
        Ok(Self { key, instance, authenticated, body: &authenticated[HEADER..], code })
    }
}

/// Appends what stands between the header and the code.
///
/// At most [`ASKS_MOST`] asks, [`GRANTS_MOST`] grants, [`SUCCESSIONS_MOST`] successions and [`UNSEEN_MOST`] unseen
/// groups are taken, the first ones of each. The rest of the [`LONGEST`] bytes is for groups, at most [`GROUPS_MOST`]:
/// when there are more, those whose word somebody waits for go first: withdrawn, released, given, owned, then announced ones, and
/// among equals the first ones.
pub fn encode(datagram: &Datagram, bytes: &mut Vec<u8>) -> Result<(), Unsendable> {
    let asks = first(&datagram.asks, ASKS_MOST);
    let grants = first(&datagram.grants, GRANTS_MOST);
    let successions = first(&datagram.successions, SUCCESSIONS_MOST);
    let unseen = first(&datagram.unseen, UNSEEN_MOST);
    let others = FIXED
        + 2
        + datagram.from.as_str().len()
        + datagram.to.as_str().len()
        + (asks.len() + grants.len()) * VOTE
        + successions.len() * SUCCESSION
        + unseen.len() * UNSEEN;
    let room = LONGEST.saturating_sub(HEADER + others + CODE_LENGTH) / GROUP;
    let groups = weightiest(datagram.groups.listed(), room.min(GROUPS_MOST));

    put_fixed(datagram, bytes);
    let counts = [asks.len(), grants.len(), successions.len(), unseen.len()];
    bytes.extend(counts.map(|count| count as u8));
    bytes.push(match datagram.groups {
        GroupList::Listed(_) => groups.len() as u8,
        GroupList::AsEchoed(_) => AS_ECHOED,
    });
    bytes.push(match datagram.kind {
        Kind::Beat => 0,
        Kind::Reply => 1,
    });
    bytes.extend_from_slice(&datagram.jury.to_be_bytes());
    put_name(&datagram.from, bytes)?;
    put_name(&datagram.to, bytes)?;
    for vote in asks.iter().chain(grants) {
        put_vote(vote, bytes);
    }
    for succession in successions {
        put_succession(*succession, bytes);
    }
    for group in unseen {
        bytes.extend_from_slice(&group.0.to_be_bytes());
    }
    for word in &groups {
        bytes.extend_from_slice(&word.group.0.to_be_bytes());
        bytes.push(word.stage as u8);
    }
    if let GroupList::AsEchoed(digest) = datagram.groups {
        bytes.extend_from_slice(&digest.0.to_be_bytes());
    }
    Ok(())
}

fn first<T>(list: &[T], most: usize) -> &[T] {
    &list[..list.len().min(most)]
}

fn weightiest(groups: &[GroupWord], room: usize) -> Vec<GroupWord> {
    let mut groups = groups.to_vec();
    if groups.len() > room {
        groups.sort_by_key(|word| match word.stage {
            Stage::Withdrawn => 0,
            Stage::Released => 1,
            Stage::Given => 2,
            Stage::Owned => 3,
            Stage::Announced => 4,
        });
        groups.truncate(room);
    }
    groups
}

fn put_fixed(datagram: &Datagram, bytes: &mut Vec<u8>) {
    let (session, sequence, groups, word) = match datagram.echo {
        Some(echo) => (echo.session, echo.sequence, echo.groups.0, word_to_byte(echo.word)),
        None => (SessionId::default(), Instant::ZERO, 0, 0),
    };
    let nanos = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(NEVER).min(NEVER - 1);
    let numbers = [
        datagram.sequence.as_nanos(),
        datagram.session.0,
        session.0,
        sequence.as_nanos(),
        groups,
        datagram.api_age.map_or(NEVER, nanos),
    ];
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.push(fitness_to_byte(datagram.fitness));
    bytes.push(word);
}

fn put_name(name: &NodeName, bytes: &mut Vec<u8>) -> Result<(), Unsendable> {
    let text = name.as_str();
    if text.is_empty() || text.len() > NAME_LONGEST {
        return Err(Unsendable(text.to_owned()));
    }
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_vote(vote: &Vote, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&vote.of.0.to_be_bytes());
    bytes.extend_from_slice(&vote.generation.to_be_bytes());
    bytes.extend_from_slice(&vote.heir.0.to_be_bytes());
    bytes.extend_from_slice(&vote.attempt.to_be_bytes());
    bytes.push(vote.rank);
}

fn put_succession(succession: Succession, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&succession.id.0.to_be_bytes());
    bytes.push(u8::from(succession.heir.is_some()));
    bytes.extend_from_slice(&succession.heir.unwrap_or_default().0.to_be_bytes());
}

/// Reads what stands between the header and the code; nothing may be left over.
pub fn decode(instance: InstanceTag, body: &[u8]) -> Result<Datagram, Refused> {
    let mut rest = Rest(body);
    let sequence = Instant::from_nanos(rest.u64()?);
    let session = SessionId(rest.u64()?);
    let echoed = (SessionId(rest.u64()?), Instant::from_nanos(rest.u64()?), ListDigest(rest.u64()?));
    let api_age = Some(rest.u64()?).filter(|age| *age != NEVER).map(Duration::from_nanos);
    let fitness = fitness_from_byte(rest.u8()?)?;
    let echo = match rest.u8()? {
        0 => None,
        byte => Some(Echo {
            session: echoed.0,
            sequence: echoed.1,
            groups: echoed.2,
            word: word_from_byte(byte)?,
        }),
    };
    let [asks, grants, successions, unseen] = rest.array::<4>()?.map(usize::from);
    let groups = rest.u8()?;
    let kind = match rest.u8()? {
        0 => Kind::Beat,
        1 => Kind::Reply,
        _ => return Err(Refused::Malformed("the kind")),
    };
    let within = asks <= ASKS_MOST
        && grants <= GRANTS_MOST
        && successions <= SUCCESSIONS_MOST
        && unseen <= UNSEEN_MOST
        && (usize::from(groups) <= GROUPS_MOST || groups == AS_ECHOED);
    if !within {
        return Err(Refused::Malformed("the length of a list"));
    }
    let datagram = Datagram {
        instance,
        kind,
        jury: rest.u32()?,
        from: rest.name()?,
        session,
        to: rest.name()?,
        sequence,
        echo,
        api_age,
        fitness,
        asks: rest.list(asks, Rest::vote)?,
        grants: rest.list(grants, Rest::vote)?,
        successions: rest.list(successions, Rest::succession)?,
        unseen: rest.list(unseen, |rest| rest.u64().map(GroupId))?,
        groups: rest.groups(groups)?,
    };
    if rest.0.is_empty() { Ok(datagram) } else { Err(Refused::Malformed("the end")) }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Refused::Malformed("the end"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    fn u8(&mut self) -> Result<u8, Refused> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        self.array().map(u64::from_be_bytes)
    }

    fn name(&mut self) -> Result<NodeName, Refused> {
        let length = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.take(length)?).ok();
        text.filter(|text| (1..=NAME_LONGEST).contains(&text.len()))
            .map(NodeName::new)
            .ok_or(Refused::Malformed("a node name"))
    }

    fn list<T>(
        &mut self,
        count: usize,
        item: impl Fn(&mut Self) -> Result<T, Refused>,
    ) -> Result<Vec<T>, Refused> {
        (0..count).map(|_| item(self)).collect()
    }

    fn vote(&mut self) -> Result<Vote, Refused> {
        Ok(Vote {
            of: SessionId(self.u64()?),
            generation: self.u32()?,
            heir: SessionId(self.u64()?),
            attempt: self.u32()?,
            rank: self.u8()?,
        })
    }

    fn succession(&mut self) -> Result<Succession, Refused> {
        let id = SessionId(self.u64()?);
        let has_heir = self.u8()?;
        let heir = SessionId(self.u64()?);
        match has_heir {
            0 => Ok(Succession { id, heir: None }),
            1 => Ok(Succession { id, heir: Some(heir) }),
            _ => Err(Refused::Malformed("a succession")),
        }
    }

    fn groups(&mut self, count: u8) -> Result<GroupList, Refused> {
        if count == AS_ECHOED {
            return self.u64().map(ListDigest).map(GroupList::AsEchoed);
        }
        self.list(usize::from(count), Self::group).map(GroupList::Listed)
    }

    fn group(&mut self) -> Result<GroupWord, Refused> {
        Ok(GroupWord { group: GroupId(self.u64()?), stage: stage_from_byte(self.u8()?)? })
    }
}

const fn fitness_to_byte(fitness: Fitness) -> u8 {
    match fitness {
        Fitness::Fit => 1,
        Fitness::Unhealthy => 2,
        Fitness::Leaving => 3,
        Fitness::BackSoon => 4,
    }
}

const fn fitness_from_byte(byte: u8) -> Result<Fitness, Refused> {
    Ok(match byte {
        1 => Fitness::Fit,
        2 => Fitness::Unhealthy,
        3 => Fitness::Leaving,
        4 => Fitness::BackSoon,
        _ => return Err(Refused::Malformed("the fitness")),
    })
}

const fn word_to_byte(word: Word) -> u8 {
    match word {
        Word::Silent => 1,
        Word::Vouches => 2,
    }
}

const fn word_from_byte(byte: u8) -> Result<Word, Refused> {
    Ok(match byte {
        1 => Word::Silent,
        2 => Word::Vouches,
        _ => return Err(Refused::Malformed("the word of a juror")),
    })
}

const fn stage_from_byte(byte: u8) -> Result<Stage, Refused> {
    Ok(match byte {
        1 => Stage::Owned,
        2 => Stage::Announced,
        3 => Stage::Withdrawn,
        4 => Stage::Released,
        5 => Stage::Given,
        _ => return Err(Refused::Malformed("the stage of a group")),
    })
}
