//! When claims are announced.

use super::*;
use crate::arp;

/// F-L2-2
#[test]
fn a_new_claim_is_announced_at_once_in_a_burst_and_then_at_its_interval() {
    for (at, kind) in [(v4(1), Kind::ArpRequest), (v4(1), Kind::ArpReply), (v6(1), Kind::Advertisement)] {
        let mut bench = Bench::new();
        let mut sent = bench.want(claims([at]));
        sent.extend(bench.wait(ms(10_100)));
        assert_eq!(times(&sent, kind, at), [0, 50, 150, 400, 1000, 4000, 7000, 10_000], "{kind:?}");
    }
}

/// F-L2-3: with any number of addresses, each one is announced in both forms, the request first.
#[test]
fn each_ipv4_announcement_is_a_request_and_a_reply() {
    let mut bench = Bench::new();
    let sent = bench.want(claims([v4(1), v4(2)]));
    let forms = |at| [(0, Kind::ArpRequest, at), (0, Kind::ArpReply, at)];
    assert_eq!(sent, [forms(v4(1)), forms(v4(2))].concat());
    let counters = bench.announcer.counters();
    assert_eq!((counters.announcements, counters.frames), (2, 4));
}

/// F-L2-1, F-L2-4
#[test]
fn frames_go_to_broadcast_or_to_all_nodes_and_carry_the_end_of_the_right() {
    let mut bench = Bench::new();
    let frames = bench.frames(Step::Want(claims([v4(1), v6(1)])));
    let heads: Vec<_> = frames.iter().map(|(_, it)| (it.link, it.to.to_string(), it.ethertype)).collect();
    let broadcast = "ff:ff:ff:ff:ff:ff".to_owned();
    assert_eq!(
        heads,
        [
            (LINK, broadcast.clone(), 0x0806),
            (LINK, broadcast, 0x0806),
            (LINK, "33:33:00:00:00:01".to_owned(), 0x86dd)
        ]
    );
    assert!(frames.iter().all(|(_, frame)| frame.not_after == claim().not_after));
}

/// F-L2-5
#[test]
fn on_infiniband_frames_go_to_the_groups_of_the_link() {
    let broadcast: LinkAddr = "00:ff:ff:ff:ff:12:40:1b:80:01:00:00:00:00:00:00:ff:ff:ff:ff".parse().unwrap();
    let addr = LinkAddr::Infiniband([7; 20]);
    let mut want = claims([v4(1), v6(1)]);
    for it in want.claims.values_mut() {
        (it.addr, it.broadcast) = (addr.clone(), broadcast.clone());
    }
    let frames = Bench::new().frames(Step::Want(want));
    assert_eq!(frames[0].1.to, broadcast);
    assert_eq!(arp::decode(&frames[0].1.payload).unwrap().hardware.sender(), addr);
    assert_eq!(frames[2].1.to.to_string(), "00:ff:ff:ff:ff:12:60:1b:80:01:00:00:00:00:00:00:00:00:00:01");
}

#[test]
fn a_refreshed_right_and_a_new_interval_do_not_restart_the_burst() {
    let mut bench = Bench::new();
    bench.want(claims([v6(1)]));
    bench.wait(ms(60));
    let mut want = claims([v6(1)]);
    for (minutes, interval) in [(61, INTERVAL), (62, ms(1_500))] {
        let it = want.claims.get_mut(&v6(1)).unwrap();
        (it.not_after, it.interval) = (T0 + Duration::from_mins(minutes), interval);
        assert_eq!(bench.want(want.clone()), [], "{minutes}");
    }
    let sent = bench.wait(ms(5_000));
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [150, 400, 1000, 2500, 4000]);
}

#[test]
fn a_shorter_interval_holds_from_the_last_announcement_on() {
    let mut bench = Bench::new();
    bench.want(claims([v6(1)]));
    bench.wait(ms(1_200));
    let mut want = claims([v6(1)]);
    want.claims.get_mut(&v6(1)).unwrap().interval = ms(500);
    bench.want(want);
    let sent = bench.wait(ms(900));
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [1500, 2000]);
}

#[test]
fn a_changed_link_layer_address_is_announced_like_a_new_claim() {
    let mut bench = Bench::new();
    bench.want(claims([v6(1)]));
    bench.wait(ms(2_000));
    let mut want = claims([v6(1)]);
    want.claims.get_mut(&v6(1)).unwrap().addr = OTHER;
    let mut sent = bench.want(want);
    sent.extend(bench.wait(ms(1_500)));
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [2000, 2050, 2150, 2400, 3000]);
}

#[test]
fn an_address_that_somebody_else_stopped_answering_for_is_announced_like_a_new_one_once() {
    for (at, kind) in [(v4(1), Kind::ArpRequest), (v6(1), Kind::Advertisement)] {
        let mut bench = Bench::new();
        bench.want(claims([at]));
        bench.wait(ms(20));
        let mut want = claims([at]);
        want.claims.get_mut(&at).unwrap().cleared = Some(T0 + ms(20));
        let mut sent = bench.want(want.clone());
        sent.extend(bench.wait(ms(60)));
        assert_eq!(times(&sent, kind, at), [20, 70], "{kind:?}");
        let not_after = &mut want.claims.get_mut(&at).unwrap().not_after;
        *not_after = *not_after + ms(1_000);
        let mut sent = bench.want(want);
        sent.extend(bench.wait(ms(4_000)));
        assert_eq!(times(&sent, kind, at), [170, 420, 1020, 4000], "{kind:?}");
    }
}

#[test]
fn addresses_that_came_at_different_times_are_repeated_together_and_not_later_than_wanted() {
    let mut bench = Bench::new();
    bench.want(claims([v6(1)]));
    bench.wait(ms(130));
    bench.want(claims([v6(1), v6(2)]));
    let sent = bench.wait(ms(9_000));
    let later =
        |at| times(&sent, Kind::Advertisement, at).into_iter().filter(|at| *at > 1_200).collect::<Vec<_>>();
    assert_eq!((later(v6(1)), later(v6(2))), (vec![4_000, 7_000], vec![4_000, 7_000]));
}

#[test]
fn what_nobody_has_heard_of_yet_goes_before_what_is_announced_again() {
    let mut bench = Bench::new();
    bench.want(claims([v6(1)]));
    bench.wait(ms(2_000));
    let mut want = claims([v6(1), v6(2)]);
    want.claims.get_mut(&v6(1)).unwrap().cleared = Some(bench.now);
    let sent = bench.want(want);
    let order: Vec<_> = sent.iter().map(|(_, _, at)| *at).collect();
    assert_eq!(order, [v6(2), v6(1)]);
}

#[test]
fn a_removed_claim_falls_silent_at_once_even_between_its_two_forms() {
    let mut bench = Bench::new();
    bench.announcer.want(T0, claims([v4(1)]));
    let first = bench.announcer.poll(T0).unwrap();
    assert_eq!(read(&first), (Kind::ArpRequest, v4(1)));
    assert_eq!(bench.want(AnnounceWant::default()), []);
    assert_eq!(bench.wait(ms(10_000)), []);
    assert_eq!(bench.announcer.deadline(), None);
}

#[test]
fn a_claim_is_silent_after_its_right_and_goes_on_when_it_is_refreshed() {
    let mut bench = Bench::new();
    let mut want = claims([v6(1)]);
    want.claims.get_mut(&v6(1)).unwrap().not_after = T0 + ms(200);
    bench.want(want.clone());
    let sent = bench.wait(ms(5_000));
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [50, 150]);
    assert_eq!(bench.announcer.deadline(), None, "nothing to come back for");
    want.claims.get_mut(&v6(1)).unwrap().not_after = T0 + ms(60_000);
    let mut sent = bench.want(want);
    sent.extend(bench.wait(ms(4_000)));
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [5000, 8000]);
}

#[test]
fn a_right_that_ended_between_the_two_forms_ends_the_second_too() {
    let mut announcer = Announcer::new();
    let mut want = claims([v4(1)]);
    want.claims.get_mut(&v4(1)).unwrap().not_after = T0;
    announcer.want(T0, want);
    assert!(announcer.poll(T0).is_some());
    assert_eq!(announcer.poll(T0 + ms(1)), None);
}

#[test]
fn a_late_turn_leaves_missed_steps_out_and_keeps_the_period() {
    let mut bench = Bench::new();
    bench.want(claims([v6(1)]));
    bench.now = T0 + ms(500);
    let mut sent = bench.wait(Duration::ZERO);
    sent.extend(bench.wait(ms(4_000)));
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [500, 1000, 4000]);
}

#[test]
fn announcements_keep_the_pace() {
    let mut bench = Bench::new();
    let mut sent = bench.want(claims((0..1_000).map(v4)));
    assert_eq!(sent.len(), FRAMES_AT_ONCE as usize);
    sent.extend(bench.wait(ms(10_000)));
    for window in 0..10 {
        let within = |it: &&(u64, Kind, ScopedAddr)| it.0 / 1_000 == window;
        let frames = sent.iter().filter(within).count();
        assert!(frames <= (FRAMES_PER_SECOND + FRAMES_AT_ONCE) as usize, "{frames} in second {window}");
    }
}

#[test]
fn first_announcements_go_before_repetitions() {
    let mut bench = Bench::new();
    let mut sent = bench.want(claims((0..5_000).map(v6)));
    sent.extend(bench.wait(ms(2_600)));
    let firsts: std::collections::BTreeSet<_> = sent.iter().take(5_000).map(|it| it.2).collect();
    assert_eq!(firsts.len(), 5_000, "each address once before any twice");
    assert!(sent[4_999].0 <= 2_500, "within 5,000 / 2,000 per second: {} ms", sent[4_999].0);
    // One more address does not wait for the repetitions of all others.
    let sent = bench.want(claims((0..5_001).map(v6)));
    let sent = if sent.is_empty() { bench.wait(ms(1)) } else { sent };
    assert_eq!(sent[0].2, v6(5_000));
}

#[test]
fn a_claim_with_addresses_of_two_kinds_of_link_is_counted_and_disturbs_nobody() {
    let mut bench = Bench::new();
    let mut want = claims([v4(1), v6(1), v6(2)]);
    for at in [v4(1), v6(1)] {
        want.claims.get_mut(&at).unwrap().addr = LinkAddr::Infiniband([7; 20]);
    }
    assert_eq!(bench.want(want), [(0, Kind::Advertisement, v6(2))]);
    assert_eq!(bench.announcer.counters().unwritable, 2);
}
