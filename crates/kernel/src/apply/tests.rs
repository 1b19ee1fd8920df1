use std::io::Write;
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use vip_model::VipNet;
use vip_model::kernel::{Address, BatchId};

use super::*;
use crate::wire::{Attributes, Messages};

const START: Instant = Instant::from_millis(1_000_000);

fn set(net: &str, valid: Lifetime) -> SetAddress {
    SetAddress {
        link: LinkIndex(3),
        net: VipNet(net.parse().unwrap()),
        scope: Scope::Global,
        tag: 77,
        valid,
        not_after: START + Duration::from_secs(10),
        premise: Premise::None,
    }
}

fn until(millis: u64) -> Lifetime {
    Lifetime::Until(START + Duration::from_millis(millis))
}

#[test]
fn lifetimes_are_rounded_down_and_less_than_a_second_is_too_late() {
    let cases = [
        (until(0), 0, None),
        (until(999), 0, None),
        (until(1000), 0, Some(1)),
        (until(1999), 0, Some(1)),
        (until(13_700), 0, Some(13)),
        (until(13_700), 800, Some(12)),
        (until(13_700), 9_999, Some(3)),
        (until(60_000), 10_000, Some(50)),
        (until(60_000), 10_001, None),
        (Lifetime::Forever, 10_000, Some(u32::MAX)),
        (Lifetime::Forever, 10_001, None),
        (Lifetime::Until(Instant::from_nanos(u64::MAX)), 0, Some(u32::MAX - 1)),
    ];
    for (valid, now, expected) in cases {
        let now = START + Duration::from_millis(now);
        assert_eq!(seconds_left(&set("10.0.0.9/32", valid), now), expected, "{valid:?} at {now}");
    }
}

#[test]
fn a_grant_that_the_kernel_came_to_late_is_noticed() {
    let cases = [
        // 13 of 13.7 s were given: they may begin up to 0.7 s later.
        (until(13_700), 700, false),
        (until(13_700), 701, true),
        (Lifetime::Forever, 9_000, false),
        (Lifetime::Forever, 10_001, true),
    ];
    for (valid, ended, expected) in cases {
        let ended = START + Duration::from_millis(ended);
        assert_eq!(outlives(&set("10.0.0.9/32", valid), START, ended), expected, "{valid:?} at {ended}");
    }
}

#[test]
fn only_what_a_replacement_cannot_change_is_removed_first() {
    let there = |net: &str, scope, dad| Address {
        link: LinkIndex(3),
        net: net.parse().unwrap(),
        scope,
        tag: 0,
        valid: Lifetime::Forever,
        dad,
        secondary: false,
    };
    let cases = [
        ("10.0.0.9/32", there("10.0.0.9/32", Scope::Global, Dad::Ready), 0),
        ("10.0.0.9/32", there("10.0.0.9/32", Scope::Host, Dad::Ready), 1),
        ("10.0.0.9/32", there("10.0.0.9/24", Scope::Global, Dad::Ready), 0),
        ("10.0.0.9/32", there("10.0.0.8/32", Scope::Host, Dad::Ready), 0),
        ("fd00::9/128", there("fd00::9/128", Scope::Global, Dad::Ready), 0),
        ("fd00::9/128", there("fd00::9/128", Scope::Link, Dad::Tentative), 0),
        ("fd00::9/128", there("fd00::9/128", Scope::Global, Dad::Failed), 1),
        ("fd00::9/128", there("fd00::9/64", Scope::Global, Dad::Ready), 1),
    ];
    for (net, address, expected) in cases {
        let elsewhere = Address { link: LinkIndex(4), ..address.clone() };
        let actual = Actual { addresses: vec![elsewhere, address.clone()], ..Actual::default() };
        let removed = in_the_way(&set(net, Lifetime::Forever), &actual);
        assert_eq!(removed.len(), expected, "{net} over {address:?}");
    }
}

#[test]
fn requests_have_the_form_that_the_kernel_documents() {
    let bytes = setting(&set("fd00::9/128", until(13_700)), 13).finish(4);
    let message = Messages(&bytes).next().unwrap();
    assert_eq!(message.kind, libc::RTM_NEWADDR);
    assert_eq!(
        message.flags,
        (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16
    );
    assert_eq!(message.body[..4], [libc::AF_INET6 as u8, 128, 0, 0]);
    let attributes: Vec<_> = Attributes(&message.body[8..]).collect();
    let octets = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    assert_eq!(attributes[0], (IFA_LOCAL, &octets[..]));
    assert_eq!(attributes[1], (IFA_ADDRESS, &octets[..]));
    assert_eq!(attributes[2], (IFA_FLAGS, &0x202u32.to_ne_bytes()[..]));
    assert_eq!(attributes[3].1[..8], [[0; 4], 13u32.to_ne_bytes()].concat()[..]);
    assert_eq!(attributes[4], (IFA_PROTO, &[77][..]));
}

#[test]
fn a_removal_of_what_is_not_there_is_done_and_a_refusal_says_what_where_and_why() {
    let actual = Actual { after: BatchId(1), ..Actual::default() };
    let del = AddressChange::Del(LinkIndex(3), "10.0.0.9/32".parse().unwrap());
    let set = set("10.0.0.9/32", Lifetime::Forever);
    let set = AddressChange::Set(&set);
    let refused = |errno| Err(Refusal { errno, words: None });
    for errno in [libc::EADDRNOTAVAIL, libc::ENODEV, libc::ESRCH] {
        assert_eq!(outcome(del, &refused(errno), &actual), Outcome::Done);
    }
    let Outcome::Failed { errno, text } = outcome(set, &refused(libc::ENODEV), &actual) else { panic!() };
    assert_eq!(errno, libc::ENODEV);
    for part in ["set 10.0.0.9/32", "link 3", "No such device", "no such link"] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
}

/// A process that is stopped inside the system call goes on when others have taken over long since.
#[test]
fn what_a_stalled_process_granted_is_taken_back_at_once() {
    let thread = std::thread::Builder::new().name("stall".to_owned()).spawn(|| {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            let name = "what_a_stalled_process_granted_is_taken_back_at_once";
            let line = format!("SKIPPED {name}: no network namespace: {error}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return;
        }
        let mut socket = NetlinkSocket::open_route().unwrap();
        let mut filter = Filter::new(Arc::new(Epoll::new(EpollCreateFlags::empty()).unwrap()), 0);
        let nothing = Actual::default();
        // Stalled for so long, with a lifetime of 60.5 s: outcome, and the seconds that the kernel then shows.
        let cases = [
            (50, Outcome::Done, Some(60)),
            (2_000, Outcome::Done, Some(58)),
            (20_000, Outcome::TooLate, None),
        ];
        for net in ["192.0.2.9/32", "2001:db8::9/128"] {
            for (stall, outcome, seconds) in cases.clone() {
                let set = SetAddress { link: LinkIndex(1), ..set(net, until(60_500)) };
                let batch = Batch { id: BatchId(1), changes: vec![Change::SetAddress(set.clone())] };
                let calls = std::cell::Cell::new(0);
                let clock = || {
                    let stalled = calls.replace(calls.get() + 1) > 0;
                    START + Duration::from_millis(if stalled { stall } else { 0 })
                };
                let report =
                    apply(&mut socket, &mut filter, &batch, Moment { actual: &nothing, clock: &clock });
                assert_eq!(report.outcomes, [outcome], "{net} after {stall} ms");
                let picture = crate::dump::dump(&mut socket, BatchId(1)).unwrap();
                let found = picture.addresses.iter().find(|address| address.net == set.net.0);
                let left = found.map(|address| match address.valid {
                    Lifetime::Until(end) => ((end - crate::boot_now()).as_millis() + 500) / 1000,
                    Lifetime::Forever => panic!("{found:?}"),
                });
                assert_eq!(left, seconds, "{net} after {stall} ms");
            }
        }
    });
    thread.unwrap().join().unwrap();
}
