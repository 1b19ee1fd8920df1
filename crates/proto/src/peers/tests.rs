//! What is sealed comes back, however much it says; what is not ours does not come in. Bytes of another implementation
//! stand in `tests/peers.rs`.

use std::time::Duration;

use vip_model::peers::{
    Echo, Fitness, GroupId, GroupList, GroupWord, ListDigest, PeerKey, Stage, Vote, Word,
};
use vip_model::session::{SessionId, Succession};
use vip_model::{Instant, NodeName, Random};

use super::*;

fn key(byte: u8) -> SealKey {
    SealKey::new(PeerKey::new([byte; PeerKey::LENGTH]))
}

/// A list of up to `most` things, sometimes of none and sometimes of all.
fn list<T>(random: &mut Random, most: usize, mut thing: impl FnMut(&mut Random) -> T) -> Vec<T> {
    let count = match random.below(4) {
        0 => 0,
        1 => most,
        _ => random.below(most as u64 + 1) as usize,
    };
    (0..count).map(|_| thing(random)).collect()
}

fn vote(random: &mut Random) -> Vote {
    Vote {
        of: SessionId(random.next_u64()),
        generation: random.next_u64() as u32,
        heir: SessionId(random.next_u64()),
        attempt: random.next_u64() as u32,
        rank: random.below(256) as u8,
    }
}

fn stage(random: &mut Random) -> Stage {
    [Stage::Owned, Stage::Announced, Stage::Withdrawn, Stage::Released, Stage::Given]
        [random.below(5) as usize]
}

fn name(random: &mut Random, longest: usize) -> NodeName {
    let length = 1 + random.below(longest as u64) as usize;
    NodeName::new(&(0..length).map(|_| char::from(b'a' + random.below(26) as u8)).collect::<String>())
}

/// Any datagram whose lists are within the limits.
fn datagram(random: &mut Random, groups: usize, longest_name: usize) -> Datagram {
    let [echoed, word] = [random.next_u64(), random.below(3)];
    let word = [None, Some(Word::Silent), Some(Word::Vouches)][word as usize];
    Datagram {
        instance: vip_model::peers::InstanceTag(random.next_u64() as u8),
        from: name(random, longest_name),
        session: SessionId(random.next_u64()),
        to: name(random, longest_name),
        sequence: Instant::from_nanos(random.next_u64()),
        echo: word.map(|word| Echo {
            session: SessionId(echoed),
            sequence: Instant::from_nanos(echoed.rotate_left(7)),
            word,
            groups: ListDigest(echoed.rotate_left(11)),
        }),
        kind: if random.next_u64().is_multiple_of(2) {
            vip_model::peers::Kind::Beat
        } else {
            vip_model::peers::Kind::Reply
        },
        jury: random.next_u64() as u32,
        api_age: random.chance(0.5).then(|| Duration::from_nanos(random.next_u64() >> 1)),
        fitness: [Fitness::Fit, Fitness::Unhealthy, Fitness::Leaving, Fitness::BackSoon]
            [random.below(4) as usize],
        groups: match random.below(4) {
            0 => GroupList::AsEchoed(ListDigest(random.next_u64())),
            _ => GroupList::Listed(list(random, groups, |random| GroupWord {
                group: GroupId(random.next_u64()),
                stage: stage(random),
            })),
        },
        asks: list(random, ASKS_MOST, vote),
        grants: list(random, GRANTS_MOST, vote),
        successions: list(random, SUCCESSIONS_MOST, |random| Succession {
            id: SessionId(random.next_u64()),
            heir: random.chance(0.5).then(|| SessionId(random.next_u64())),
        }),
        unseen: list(random, UNSEEN_MOST, |random| GroupId(random.next_u64())),
    }
}

#[test]
fn what_is_sealed_is_admitted_as_it_was() {
    let mut random = Random::new(1);
    for _ in 0..3_000 {
        let datagram = datagram(&mut random, 40, 40);
        let bytes = seal(&key(1), &datagram).unwrap();
        assert!(bytes.len() <= LONGEST);
        assert_eq!(admit(&[key(2), key(1)], &bytes), Ok(datagram));
    }
}

#[test]
fn too_many_groups_are_cut_down_to_those_that_somebody_waits_for() {
    let mut random = Random::new(2);
    let mut cut = 0;
    for _ in 0..1_000 {
        let whole = datagram(&mut random, 3 * GROUPS_MOST, NAME_LONGEST);
        let bytes = seal(&key(1), &whole).unwrap();
        assert!(bytes.len() <= LONGEST);
        let heard = admit(&[key(1)], &bytes).unwrap();
        let left_out: Vec<Stage> = whole
            .groups
            .listed()
            .iter()
            .filter(|word| !heard.groups.listed().contains(word))
            .map(|word| word.stage)
            .collect();
        if !left_out.is_empty() {
            cut += 1;
            assert!(
                bytes.len() + 9 > LONGEST || heard.groups.listed().len() == GROUPS_MOST,
                "there was room"
            );
        }
        let order = [Stage::Withdrawn, Stage::Released, Stage::Given, Stage::Owned, Stage::Announced];
        let weight = |stage: &Stage| order.iter().position(|other| other == stage);
        let lightest_in = heard.groups.listed().iter().map(|word| weight(&word.stage)).max().flatten();
        let heaviest_out = left_out.iter().map(weight).min().flatten();
        if let (Some(inside), Some(outside)) = (lightest_in, heaviest_out) {
            assert!(inside <= outside, "{inside} went in and {outside} stayed out");
        }
        assert_eq!(
            Datagram { groups: GroupList::EMPTY, ..heard },
            Datagram { groups: GroupList::EMPTY, ..whole }
        );
    }
    assert!(cut > 100, "only {cut} were cut");
}

#[test]
fn of_other_lists_that_are_too_long_the_first_ones_go() {
    let mut random = Random::new(3);
    let mut long = datagram(&mut random, 0, 10);
    long.asks = (0..ASKS_MOST + 3).map(|_| vote(&mut random)).collect();
    long.unseen = (0..300).map(GroupId).collect();
    let heard = admit(&[key(1)], &seal(&key(1), &long).unwrap()).unwrap();
    assert_eq!(heard.asks, long.asks[..ASKS_MOST]);
    assert_eq!(heard.unseen, long.unseen[..UNSEEN_MOST]);
}

#[test]
fn the_longest_ages_and_clocks_come_through() {
    let mut random = Random::new(4);
    let mut datagram = datagram(&mut random, 1, 5);
    datagram.sequence = Instant::from_nanos(u64::MAX);
    datagram.api_age = Some(Duration::MAX);
    let heard = admit(&[key(1)], &seal(&key(1), &datagram).unwrap()).unwrap();
    assert_eq!(heard.sequence, datagram.sequence);
    assert_eq!(heard.api_age, Some(Duration::from_nanos(u64::MAX - 1)), "584 years, and not `never`");
}

#[test]
fn a_name_that_kubernetes_would_not_take_is_not_sent() {
    let mut random = Random::new(5);
    for name in [String::new(), "n".repeat(NAME_LONGEST + 1)] {
        let odd = Datagram { to: NodeName::new(&name), ..datagram(&mut random, 1, 5) };
        assert_eq!(seal(&key(1), &odd), Err(Unsendable(name)));
    }
}

#[test]
fn a_datagram_of_another_key_costs_no_look_at_its_code() {
    let mut bytes = seal(&key(1), &datagram(&mut Random::new(6), 3, 9)).unwrap();
    assert_eq!(admit(&[key(2)], &bytes), Err(Refused::Key(key(1).id())));
    assert_eq!(admit(&[], &bytes), Err(Refused::Key(key(1).id())));
    bytes[2] = 9;
    assert_eq!(admit(&[key(1)], &bytes), Err(Refused::Version(9)));
    bytes[0] = 0;
    assert_eq!(admit(&[key(1)], &bytes), Err(Refused::Foreign));
    assert_eq!(admit(&[key(1)], &bytes[..40]), Err(Refused::Length(40)));
    assert_eq!(admit(&[key(1)], &[0; LONGEST + 1]), Err(Refused::Length(LONGEST + 1)));
}

/// Bytes that a member with the right key, and another idea of the layout, would send.
fn sealed_by_a_member(change: impl Fn(&mut Vec<u8>)) -> Result<Datagram, Refused> {
    let sealed = seal(&key(1), &datagram(&mut Random::new(7), 0, 9)).unwrap();
    let mut bytes = sealed[..sealed.len() - key::CODE_LENGTH].to_vec();
    change(&mut bytes);
    let code = key(1).code(&bytes);
    bytes.extend_from_slice(&code);
    admit(&[key(1)], &bytes)
}

#[test]
fn authentic_bytes_that_do_not_say_what_they_should_are_refused() {
    assert!(sealed_by_a_member(|_| {}).is_ok());
    let refused = [
        sealed_by_a_member(|bytes| bytes.push(0)),
        sealed_by_a_member(|bytes| bytes[56] = 5),
        sealed_by_a_member(|bytes| bytes[57] = 3),
        sealed_by_a_member(|bytes| bytes[58] = 255),
        sealed_by_a_member(|bytes| bytes[62] = 254),
        sealed_by_a_member(|bytes| bytes[68] = 0),
        sealed_by_a_member(|bytes| bytes[69] = 0xff),
        sealed_by_a_member(|bytes| bytes.truncate(bytes.len() - 1)),
    ];
    for (number, outcome) in refused.iter().enumerate() {
        assert!(matches!(outcome, Err(Refused::Malformed(_))), "{number}: {outcome:?}");
    }
}

#[test]
fn a_key_is_never_shown() {
    let shown = format!("{:?}", key(0xab));
    assert!(!shown.contains("ab, ") && !shown.contains("abab") && !shown.contains("171"), "{shown}");
    assert!(shown.contains(&format!("{:08x}", key(0xab).id().0)), "its fingerprint is: {shown}");
}

#[test]
fn two_keys_with_one_fingerprint_would_both_be_tried() {
    // Such a pair is hard to find; the same key twice takes the same way.
    let bytes = seal(&key(1), &datagram(&mut Random::new(8), 3, 9)).unwrap();
    assert!(admit(&[key(1), key(1)], &bytes).is_ok());
}
