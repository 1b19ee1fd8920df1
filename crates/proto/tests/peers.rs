//! Heartbeats against bytes that another implementation printed (`vectors/peers.py`), both ways.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::peers::{
    Datagram, Echo, Fitness, GroupId, GroupList, GroupWord, KeyId, Kind, ListDigest, PeerKey, Stage, Vote,
    Word,
};
use vip_model::session::{SessionId, Succession};
use vip_model::{Instant, NodeName};
use vip_proto::peers::{Refused, SealKey, admit, seal};

fn key() -> SealKey {
    SealKey::new(PeerKey::new(std::array::from_fn(|at| at as u8)))
}

fn vectors() -> BTreeMap<&'static str, Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    let lines = include_str!("vectors/peers.hex").lines();
    lines
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a name and hex");
            (name, hex.trim().as_bytes().chunks(2).map(byte).collect())
        })
        .collect()
}

fn quiet() -> Datagram {
    Datagram {
        instance: vip_model::peers::InstanceTag::default(),
        from: NodeName::new("a"),
        session: SessionId(0x1111),
        to: NodeName::new("b"),
        sequence: Instant::from_nanos(1_000_000_007),
        echo: None,
        kind: Kind::Beat,
        jury: 0,
        api_age: None,
        fitness: Fitness::Fit,
        groups: GroupList::EMPTY,
        asks: vec![],
        grants: vec![],
        successions: vec![],
        unseen: vec![],
    }
}

fn full() -> Datagram {
    let vote = |of, generation, heir, attempt, rank| Vote {
        of: SessionId(of),
        generation,
        heir: SessionId(heir),
        attempt,
        rank,
    };
    let word = |group, stage| GroupWord { group: GroupId(group), stage };
    Datagram {
        instance: vip_model::peers::InstanceTag::default(),
        from: NodeName::new("node-1.example.org"),
        session: SessionId(0x0123_4567_89ab_cdef),
        to: NodeName::new("node-2.example.org"),
        sequence: Instant::from_nanos((1 << 40) + 5),
        echo: Some(Echo {
            session: SessionId(0xfedc_ba98_7654_3210),
            sequence: Instant::from_nanos((1 << 41) + 6),
            word: Word::Vouches,
            groups: ListDigest::of(&[word(0xf1, Stage::Owned), word(0xf2, Stage::Announced)]),
        }),
        kind: Kind::Reply,
        jury: 0x0102_0304,
        api_age: Some(Duration::from_millis(1500)),
        fitness: Fitness::BackSoon,
        groups: GroupList::Listed(vec![
            word(0xe1, Stage::Owned),
            word(0xe2, Stage::Announced),
            word(0xe3, Stage::Withdrawn),
            word(0xe4, Stage::Released),
        ]),
        asks: vec![vote(0xa1, 7, 0xb1, 3, 2)],
        grants: vec![vote(0xa2, 8, 0xb2, 4, 0), vote(0xa3, u32::MAX, 0xb3, 1, 255)],
        successions: vec![
            Succession { id: SessionId(0xc1), heir: Some(SessionId(0xc2)) },
            Succession { id: SessionId(0xc3), heir: None },
        ],
        unseen: vec![GroupId(0xd1), GroupId(0xd2)],
    }
}

fn as_echoed() -> Datagram {
    let word = |group, stage| GroupWord { group: GroupId(group), stage };
    let list = [word(0xe1, Stage::Owned), word(0xe2, Stage::Announced)];
    Datagram { groups: GroupList::AsEchoed(ListDigest::of(&list)), ..quiet() }
}

#[test]
fn heartbeats_have_the_bytes_of_another_implementation_both_ways() {
    for (name, datagram) in [("quiet", quiet()), ("full", full()), ("as-echoed", as_echoed())] {
        let bytes = &vectors()[name];
        assert_eq!(&seal(&key(), &datagram).unwrap(), bytes, "{name}, sealed");
        assert_eq!(admit(&[key()], bytes), Ok(datagram), "{name}, admitted");
    }
}

#[test]
fn what_another_implementation_sealed_otherwise_is_refused_with_the_reason() {
    let other = KeyId(u32::from_be_bytes(vectors()["other-key"][4..8].try_into().unwrap()));
    assert_eq!(admit(&[key()], &vectors()["other-key"]), Err(Refused::Key(other)));
    assert_eq!(
        admit(&[SealKey::new(PeerKey::new([b'k'; 32]))], &vectors()["other-key"]),
        Ok(quiet()),
        "its own cluster"
    );
    assert_eq!(admit(&[key()], &vectors()["version-1"]), Err(Refused::Version(1)));
    assert_eq!(admit(&[key()], &vectors()["one-byte-more"]), Err(Refused::Malformed("the end")));
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = &vectors()["full"];
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = admit(&[key()], &flipped).expect_err(&format!("bit {bit}"));
        assert!(
            !matches!(refused, Refused::Malformed(_)),
            "bit {bit}: content was read before the code: {refused}"
        );
    }
}

#[test]
fn every_cut_is_refused() {
    let bytes = &vectors()["full"];
    for length in 0..bytes.len() {
        admit(&[key()], &bytes[..length]).expect_err(&format!("{length} bytes"));
        admit(&[key()], &bytes[bytes.len() - length..]).expect_err(&format!("the last {length} bytes"));
    }
}
