//! What probes find.

use super::*;

fn state(bench: &Bench, at: ScopedAddr) -> Option<ProbeState> {
    bench.announcer.probes().get(&at).cloned()
}

#[test]
fn silence_after_two_frames_and_twenty_milliseconds_means_that_nobody_has_it() {
    for (at, kind) in [(v4(1), Kind::ArpProbe), (v6(1), Kind::NdpProbe)] {
        let mut bench = Bench::new();
        let mut sent = bench.want(probes([at]));
        sent.extend(bench.wait(Duration::from_micros(19_999)));
        assert_eq!(sent, [(0, kind, at), (8, kind, at)]);
        assert_eq!(state(&bench, at), Some(ProbeState::Asking));
        assert_eq!(bench.wait(Duration::from_micros(1)), []);
        assert_eq!(state(&bench, at), Some(ProbeState::Silent));
        assert_eq!(bench.wait(ms(10_000)), [], "asked once for all");
        bench.hear(claim_by(&OTHER, at));
        assert_eq!(state(&bench, at), Some(ProbeState::Silent), "who comes later came later");
    }
}

#[test]
fn an_answer_is_believed_and_asked_for_again_each_second_until_it_stays_out() {
    for (at, kind) in [(v4(1), Kind::ArpProbe), (v6(1), Kind::NdpProbe)] {
        let mut bench = Bench::new();
        bench.want(probes([at]));
        bench.wait(ms(3));
        assert_eq!(bench.hear(claim_by(&OTHER, at)), []);
        assert_eq!(state(&bench, at), Some(ProbeState::Answered(OTHER)));
        assert_eq!(bench.wait(ms(999)), [], "no second frame after an answer");
        assert_eq!(bench.wait(ms(1)), [(1003, kind, at)]);
        assert_eq!(state(&bench, at), Some(ProbeState::Answered(OTHER)), "true until it is found not to be");
        bench.hear(claim_by(&OTHER, at));
        let sent = bench.wait(ms(1_019));
        assert_eq!(times(&sent, kind, at), [2003, 2011]);
        assert_eq!(state(&bench, at), Some(ProbeState::Answered(OTHER)));
        bench.wait(ms(1));
        assert_eq!(state(&bench, at), Some(ProbeState::Silent));
        assert_eq!(bench.announcer.deadline(), None);
    }
}

#[test]
fn a_probe_spoils_no_cache_and_goes_to_who_must_hear_it() {
    let frames = Bench::new().frames(Step::Want(probes([v4(1), v6(0x1234)])));
    let to: Vec<_> = frames.iter().map(|(_, frame)| frame.to.to_string()).collect();
    assert_eq!(to, ["ff:ff:ff:ff:ff:ff", "33:33:ff:00:12:34"]);
    assert!(frames.iter().all(|(when, frame)| frame.not_after == *when + PROBE_LISTEN));
}

#[test]
fn another_probe_and_our_own_echo_are_no_answer() {
    let mut bench = Bench::new();
    bench.want(probes([v4(1)]));
    bench.hear(probe_by(&OTHER, v4(1)));
    bench.hear(claim_by(&MAC, v4(1)));
    assert_eq!(state(&bench, v4(1)), Some(ProbeState::Asking));
}

#[test]
fn what_is_no_longer_wanted_is_forgotten_and_asked_anew() {
    let mut bench = Bench::new();
    bench.want(probes([v4(1)]));
    bench.wait(ms(30));
    assert_eq!(bench.want(AnnounceWant::default()), []);
    assert_eq!(state(&bench, v4(1)), None);
    assert_eq!(bench.want(probes([v4(1)])), [(30, Kind::ArpProbe, v4(1))]);
    assert_eq!(state(&bench, v4(1)), Some(ProbeState::Asking));
}

#[test]
fn a_probe_beside_its_claim_hears_the_other_holder() {
    let mut bench = Bench::new();
    bench.want(AnnounceWant { probes: probes([v6(1)]).probes, ..claims([v6(1)]) });
    bench.hear(claim_by(&OTHER, v6(1)));
    assert_eq!(state(&bench, v6(1)), Some(ProbeState::Answered(OTHER)));
    assert_eq!(bench.announcer.take_foreign().len(), 1);
    assert_eq!(bench.announcer.links(), [LINK].into());
}

#[test]
fn probes_that_wait_for_their_pace_have_their_whole_time_and_hold_up_no_announcement() {
    let mut bench = Bench::new();
    let last = v6(10_999);
    let want = AnnounceWant { probes: probes((10_000..11_000).map(v6)).probes, ..claims((0..2_000).map(v6)) };
    let mut sent = bench.want(want);
    sent.extend(bench.wait(ms(450)));
    assert_eq!(
        times(&sent, Kind::NdpProbe, last),
        Vec::<u64>::new(),
        "a thousand are asked in half a second"
    );
    assert_eq!(state(&bench, last), Some(ProbeState::Asking));
    sent.extend(bench.wait(ms(570)));
    let asked = times(&sent, Kind::NdpProbe, last);
    assert_eq!(asked.len(), 2);
    assert!(asked[1] - asked[0] >= 8);
    assert_eq!(state(&bench, last), Some(ProbeState::Silent));
    let told: std::collections::BTreeSet<_> =
        sent.iter().filter(|it| it.1 == Kind::Advertisement).map(|it| it.2).collect();
    assert_eq!(told.len(), 2_000, "each address is announced once in the same second");
}

#[test]
fn a_former_holder_that_is_about_to_let_go_is_asked_again_soon_and_then_less_often() {
    let mut bench = Bench::new();
    let target = ProbeTarget::Station {
        addr: MAC,
        broadcast: LinkAddr::BROADCAST,
        repeat: PROBE_REPEAT,
        until: Some(T0 + ms(400)),
    };
    bench.want(AnnounceWant { probes: [(v4(1), target)].into(), ..AnnounceWant::default() });
    let mut asked = Vec::new();
    for _ in 0..4 {
        bench.hear(claim_by(&OTHER, v4(1)));
        assert_eq!(state(&bench, v4(1)), Some(ProbeState::Answered(OTHER)));
        let begun = bench.now;
        while bench.wait(ms(1)).is_empty() {}
        asked.push(bench.now.since(begun).as_millis());
    }
    assert_eq!(asked, [50, 100, 200, 400]);
    bench.hear(claim_by(&OTHER, v4(1)));
    assert_eq!(state(&bench, v4(1)), Some(ProbeState::Silent), "who answers now is none of ours");
}

#[test]
fn where_nobody_can_be_asked_time_decides() {
    let mut bench = Bench::new();
    let probes = [(v4(1), ProbeTarget::Time(T0 + ms(500)))].into();
    assert_eq!(bench.want(AnnounceWant { probes, ..AnnounceWant::default() }), []);
    bench.hear(claim_by(&OTHER, v4(1)));
    assert_eq!(bench.wait(ms(499)), []);
    assert_eq!(state(&bench, v4(1)), Some(ProbeState::Asking));
    bench.wait(ms(1));
    assert_eq!(state(&bench, v4(1)), Some(ProbeState::Silent));
}
