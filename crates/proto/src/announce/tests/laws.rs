//! The laws of every machine, on random scripts; and what a turn costs.

use vip_model::Random;

use super::*;
use crate::rig::check_laws;

fn want(random: &mut Random) -> AnnounceWant {
    let mut want = AnnounceWant::default();
    let mac = |random: &mut Random| LinkAddr::Ethernet([2, 0, 0, 0, 0, random.below(3) as u8]);
    for n in 0..4 {
        for at in [v4(n), v6(n)] {
            if random.chance(0.6) {
                let interval = ms(random.below(4) * 300);
                let not_after = T0 + ms(random.below(20_000));
                want.claims.insert(at, Claim { addr: mac(random), interval, not_after, ..claim() });
            }
            if random.chance(0.3) {
                want.probes.insert(at, asked_by(mac(random)));
            }
        }
    }
    if random.chance(0.2) {
        want.claims.values_mut().for_each(|it| it.broadcast = LinkAddr::Infiniband([3; 20]));
    }
    want
}

fn input(random: &mut Random) -> FrameIn {
    let n = random.below(5) as u16;
    let at = if random.chance(0.5) { v4(n) } else { v6(n) };
    let from = LinkAddr::Ethernet([2, 0, 0, 0, 0, random.below(6) as u8]);
    let mut frame = if random.chance(0.8) { claim_by(&from, at) } else { probe_by(&from, at) };
    if random.chance(0.3) {
        let byte = random.below(frame.payload.len() as u64) as usize;
        frame.payload[byte] = random.below(256) as u8;
    }
    if random.chance(0.2) {
        frame.payload.truncate(random.below(80) as usize);
    }
    frame
}

fn script(seed: u64) -> Script<Announcer> {
    let mut random = Random::new(seed);
    let step = |random: &mut Random| match random.below(10) {
        0..2 => Step::Want(want(random)),
        2..6 => Step::Input(input(random)),
        6..9 => Step::Wait(Duration::from_micros(random.below(30_000))),
        _ => Step::Wait(ms(random.below(3_000))),
    };
    (0..80).map(|_| step(&mut random)).collect()
}

#[test]
fn the_laws_of_every_machine_hold_on_random_scripts() {
    for seed in 0..300 {
        let script = script(seed);
        check_laws(Announcer::new, T0, &script, BOUNDS);
    }
}

#[test]
fn no_frame_leaves_after_its_right_or_for_what_is_not_wanted() {
    for seed in 300..500 {
        let mut bench = Bench::new();
        let mut wanted = AnnounceWant::default();
        for step in script(seed) {
            if let Step::Want(want) = &step {
                wanted = want.clone();
            }
            for (when, frame) in bench.frames(step) {
                assert!(when <= frame.not_after, "seed {seed}");
                let (kind, at) = read(&frame);
                match kind {
                    Kind::ArpProbe | Kind::NdpProbe => {
                        assert!(wanted.probes.contains_key(&at), "seed {seed}");
                    }
                    _ => assert_eq!(frame.not_after, wanted.claims[&at].not_after, "seed {seed}"),
                }
            }
            assert!(bench.announcer.probes().keys().eq(wanted.probes.keys()), "seed {seed}");
        }
    }
}
