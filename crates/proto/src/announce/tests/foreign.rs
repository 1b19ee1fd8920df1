//! What happens when somebody else claims an address.

use super::*;

fn steady(at: ScopedAddr) -> Bench {
    let mut bench = Bench::new();
    bench.want(claims([at]));
    bench.wait(ms(2_000));
    bench
}

fn report(at: ScopedAddr, from: LinkAddr) -> ForeignClaim {
    ForeignClaim { at, from }
}

#[test]
fn a_foreign_claim_is_counted_reported_once_and_answered_at_once() {
    for (at, kind) in [(v4(1), Kind::ArpRequest), (v6(1), Kind::Advertisement)] {
        let mut bench = steady(at);
        let sent = bench.hear(claim_by(&OTHER, at));
        assert_eq!(times(&sent, kind, at), [2000]);
        bench.wait(ms(1_000));
        bench.hear(claim_by(&OTHER, at));
        assert_eq!(bench.announcer.take_foreign(), [report(at, OTHER)]);
        assert_eq!(bench.announcer.take_foreign(), []);
        assert_eq!(bench.announcer.foreign().collect::<Vec<_>>(), [(at, 2)]);
        assert_eq!(bench.announcer.counters().foreign, 2);
    }
}

#[test]
fn a_claimant_is_reported_again_after_a_quiet_minute() {
    let mut bench = steady(v6(1));
    let mut reports = Vec::new();
    for pause in [0, 59_000, 59_000, 60_000, 59_000] {
        bench.wait(ms(pause));
        bench.hear(claim_by(&OTHER, v6(1)));
        reports.push(bench.announcer.take_foreign().len());
    }
    assert_eq!(reports, [1, 0, 0, 1, 0]);
}

#[test]
fn two_holders_do_not_storm() {
    let mut bench = steady(v6(1));
    let mut sent = Sent::new();
    for _ in 0..100 {
        sent.extend(bench.hear(claim_by(&OTHER, v6(1))));
        sent.extend(bench.wait(ms(5)));
    }
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [2000, 2100, 2200, 2300, 2400, 2500]);
}

#[test]
fn the_last_word_is_ours_after_the_least_time() {
    let mut bench = steady(v6(1));
    bench.hear(claim_by(&OTHER, v6(1)));
    bench.wait(ms(40));
    bench.hear(claim_by(&OTHER, v6(1)));
    let sent = bench.wait(ms(4_000));
    assert_eq!(times(&sent, Kind::Advertisement, v6(1)), [2100, 5100], "and the interval counts from there");
}

#[test]
fn what_is_not_claimed_is_left_alone() {
    let mut bench = steady(v6(1));
    assert_eq!(bench.hear(claim_by(&OTHER, v6(2))), []);
    let elsewhere = ScopedAddr { link: LinkIndex(9), ..v6(1) };
    assert_eq!(bench.hear(claim_by(&OTHER, elsewhere)), [], "the same address on another link");
    bench.want(AnnounceWant::default());
    assert_eq!(bench.hear(claim_by(&OTHER, v6(1))), []);
    assert_eq!(bench.announcer.take_foreign(), []);
    assert_eq!(bench.announcer.counters().foreign, 0);
}

#[test]
fn after_our_right_has_ended_we_do_not_contest() {
    let mut bench = Bench::new();
    let mut want = claims([v6(1)]);
    want.claims.get_mut(&v6(1)).unwrap().not_after = T0 + ms(500);
    bench.want(want);
    bench.wait(ms(501));
    assert_eq!(bench.hear(claim_by(&OTHER, v6(1))), []);
    assert_eq!(bench.announcer.take_foreign(), []);
}

#[test]
fn our_own_link_layer_addresses_are_not_foreign() {
    let mut bench = Bench::new();
    let mut want = claims([v4(1)]);
    want.own.insert(OTHER);
    bench.want(want);
    bench.wait(ms(2_000));
    assert_eq!(bench.hear(claim_by(&OTHER, v4(1))), [], "another link of this host, on the same switch");
    assert_eq!(bench.hear(claim_by(&MAC, v4(1))), [], "our own frame, reflected");
    assert_eq!(bench.announcer.counters().foreign, 0);
}

#[test]
fn who_merely_asks_claims_nothing() {
    for at in [v4(1), v6(1)] {
        let mut bench = steady(at);
        assert_eq!(bench.hear(probe_by(&OTHER, at)), []);
        assert_eq!(bench.announcer.counters().foreign, 0);
    }
    // A request for the VIP by a neighbour with an address of its own.
    let mut bench = steady(v4(1));
    let mut asks = claim_by(&OTHER, v4(2));
    asks.payload[24..28].copy_from_slice(&[10, 0, 0, 1]);
    assert_eq!(arp::decode(&asks.payload).unwrap().target_ip, Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(bench.hear(asks), []);
    assert_eq!(bench.announcer.counters().foreign, 0);
}

#[test]
fn an_advertisement_without_address_option_counts_for_its_link_layer_source() {
    let mut bench = steady(v6(1));
    let std::net::IpAddr::V6(vip) = v6(1).addr else { panic!("IPv6") };
    let bare = ndp::Advertisement { addr: None, ..ndp::Advertisement::announcement(&OTHER, vip) };
    let payload = ndp::encode(&ndp::Message::Advertisement(bare));
    let frame = FrameIn { link: LINK, from: Some(OTHER), ethertype: ETHERTYPE_IPV6, payload };
    bench.hear(FrameIn { from: None, ..frame.clone() });
    assert_eq!(bench.announcer.take_foreign(), [], "nobody to name");
    bench.hear(frame);
    assert_eq!(bench.announcer.take_foreign(), [report(v6(1), OTHER)]);
}

#[test]
fn a_sender_that_is_no_station_is_ignored() {
    let mut bench = steady(v4(1));
    for sender in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        assert_eq!(bench.hear(claim_by(&LinkAddr::Ethernet(sender), v4(1))), []);
    }
    assert_eq!(bench.announcer.counters().ignored, 3);
    assert_eq!(bench.announcer.take_foreign(), []);
}

#[test]
fn frames_that_say_nothing_are_counted() {
    let mut bench = steady(v4(1));
    for ethertype in [ETHERTYPE_ARP, ETHERTYPE_IPV6, 0x0800] {
        bench.hear(FrameIn { link: LINK, from: Some(OTHER), ethertype, payload: vec![1, 2, 3] });
    }
    assert_eq!(bench.announcer.counters().ignored, 3);
}

#[test]
fn the_memory_of_claimants_and_of_reports_is_bounded() {
    let mut bench = steady(v6(1));
    for n in 0..200 {
        bench.hear(claim_by(&LinkAddr::Ethernet([2, 0, 0, 0, 1, n]), v6(1)));
    }
    assert_eq!(bench.announcer.take_foreign().len(), FOREIGN_PER_ADDRESS);
    assert_eq!(bench.announcer.counters().foreign, 200);
    bench.wait(FOREIGN_QUIET);
    bench.hear(claim_by(&LinkAddr::Ethernet([2, 0, 0, 0, 1, 199]), v6(1)));
    assert_eq!(bench.announcer.take_foreign().len(), 1, "there is room again");

    let mut bench = Bench::new();
    bench.want(claims((0..1_100).map(v6)));
    for n in 0..1_100 {
        bench.announcer.handle(bench.now, claim_by(&OTHER, v6(n)));
    }
    assert_eq!(bench.announcer.take_foreign().len(), FOREIGN_REPORTS);
    for n in 0..1_100 {
        bench.announcer.handle(bench.now, claim_by(&OTHER, v6(n)));
    }
    assert_eq!(bench.announcer.take_foreign().len(), 1_100 - FOREIGN_REPORTS, "the others come later");
}
