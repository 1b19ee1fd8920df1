//! Single stories, each one rule of Linux that hurts: told to both kernels, step by step.

use std::time::{Duration, Instant as Watch};

use vip_model::config::Scope;
use vip_model::kernel::{Dad, Lifetime, LinkState};
use vip_sim::kernel::{Duplicate, FakeKernel, Outside};
use vip_sim::{Moment, Secondaries};

use crate::pair::{
    Kind, Life, Pair, Place, Row, Step, TAG, WIRE, default_routes, del, in_namespace, ip, net_of, set,
    sysctl, undisturbed,
};

/// How late an address may go: `LATENESS` of the simulator, and a tenth for the way of the notification.
const LATEST: Duration = Duration::from_millis(1100);

fn scoped(net: &str, scope: Scope) -> Step {
    Step::Set { place: Place::Wire, net: net_of(net), scope, tag: TAG, life: Life::Seconds(60) }
}

fn find<'a>(rows: &'a [Row], net: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.link == WIRE && row.net == net_of(net))
}

fn nets(rows: &[Row]) -> Vec<String> {
    rows.iter().filter(|row| row.link == WIRE).map(|row| row.net.to_string()).collect()
}

#[test]
fn an_address_goes_at_its_end_or_up_to_a_second_later() {
    undisturbed(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        let mut due = Vec::new();
        for (number, life) in [1, 2, 1, 3, 2, 1].into_iter().enumerate() {
            let late = Duration::from_millis(number as u64 * 190);
            let net = if number % 2 == 0 {
                format!("192.0.2.{number}/32")
            } else {
                format!("2001:db8::{number}/128")
            };
            let began = pair.now();
            let (real, fake) = pair.apply(&[set(&net, Life::Seconds(life))], late);
            assert_eq!((real, fake), (vec![Kind::Done], vec![Kind::Done]));
            due.push((net_of(&net), began, pair.now(), Duration::from_secs(life), late));
        }
        pair.assert_same("all set");
        let (mut real, mut fake) = (Vec::new(), Vec::new());
        while !due.is_empty() {
            // The notification wakes at once; the simulated kernel is looked at every 10 ms.
            pair.hear(Duration::from_millis(10));
            let now = pair.now();
            pair.fake.purge(now);
            let (left, simulated) = (pair.real_rows(), pair.fake_rows());
            due.retain(|(net, began, ended, life, late)| {
                let gone = |rows: &[Row]| rows.iter().all(|row| row.net != *net);
                if gone(&simulated) && !fake.contains(net) {
                    assert!(now - *began >= *life, "{net}: simulated: {:?}", now - *began);
                    assert!(now - *ended <= *life + *late + Duration::from_millis(200), "{net} simulated");
                    fake.push(*net);
                }
                if gone(&left) && !real.contains(net) {
                    println!("{net}: {life:?} asked, gone after {:?}", now - *ended);
                    assert!(now - *began >= *life, "{net}: {:?}", now - *began);
                    assert!(now - *ended <= *life + LATEST, "{net}: {:?}", now - *ended);
                    real.push(*net);
                }
                let waiting = !(real.contains(net) && fake.contains(net));
                assert!(
                    !waiting || now - *ended <= *life + LATEST + Duration::from_secs(1),
                    "{net} never went"
                );
                waiting
            });
        }
        pair.assert_same("all gone");
    });
}

#[test]
fn a_grant_of_the_past_or_of_less_than_a_second_is_not_carried_out() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        let steps = [
            set("192.0.2.9/32", Life::Short),
            set("192.0.2.9/24", Life::Passed),
            set("2001:db8::9/128", Life::Short),
            set("2001:db8::9/64", Life::Passed),
        ];
        let outcomes = pair.apply(&steps, Duration::ZERO);
        assert_eq!(outcomes, (vec![Kind::TooLate; 4], vec![Kind::TooLate; 4]));
        pair.assert_same("nothing was set");
    });
}

#[test]
fn what_an_outsider_removes_or_replaces_is_seen_as_it_then_is() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        let vips = ["10.0.0.200/32", "10.0.0.201/24", "fd00::200/128", "2001:db8::9/64"];
        pair.apply_done(&vips.map(|net| set(net, Life::Seconds(60))));
        pair.assert_same("set");
        for net in ["10.0.0.200/32", "fd00::200/128"] {
            pair.outsider_removes(net);
            assert!(find(&pair.real_rows(), net).is_none());
        }
        for net in ["10.0.0.201/24", "2001:db8::9/64"] {
            pair.outsider_adds(net, "nodad");
            let rows = pair.real_rows();
            let row = find(&rows, net).unwrap();
            assert_eq!((row.tag, row.valid), (0, Lifetime::Forever), "{net} lost its tag and its end");
        }
        pair.apply_done(&vips.map(|net| set(net, Life::Seconds(60))));
        pair.assert_same("repaired");
        assert!(pair.real_rows().iter().filter(|row| row.tag == TAG).count() == 4);
    });
}

#[test]
fn a_link_that_is_set_down_loses_its_ipv6_addresses_and_keeps_the_ipv4_ones() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        let vips = ["10.0.0.200/32", "10.0.0.201/24", "fd00::200/128", "2001:db8::9/64"];
        pair.apply_done(&vips.map(|net| set(net, Life::Seconds(60))));
        ip("link set eth0 down");
        pair.fake.set_link(LinkState::Down);
        pair.fake.flush_v6();
        pair.settle();
        assert_eq!(nets(&pair.real_rows()), ["10.0.0.1/24", "10.0.0.200/32", "10.0.0.201/24"]);
        pair.apply_done(&[set("192.0.2.9/32", Life::Seconds(60)), set("fd00::200/128", Life::Seconds(60))]);
        pair.assert_same("addresses can be set on a link that is down");
        ip("link set eth0 up");
        pair.fake.set_link(LinkState::Up);
        pair.settle();
        assert!(find(&pair.real_rows(), "2001:db8::9/64").is_none(), "nobody puts them back");
        pair.apply_done(&vips.map(|net| set(net, Life::Seconds(60))));
        pair.assert_same("repaired");
    });
}

#[test]
fn a_link_without_carrier_keeps_all_its_addresses() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        let vips = ["10.0.0.200/32", "fd00::200/128"];
        pair.apply_done(&vips.map(|net| set(net, Life::Seconds(60))));
        for (words, state) in [("down", LinkState::Down), ("up", LinkState::Up)] {
            ip(&format!("link set far {words}"));
            pair.fake.set_link(state);
            pair.settle();
            assert_eq!(nets(&pair.real_rows()).len(), 4, "far {words}");
            pair.apply_done(&vips.map(|net| set(net, Life::Seconds(50))));
            pair.assert_same(words);
        }
    });
}

#[test]
fn a_default_route_outlives_the_nodes_own_address_and_goes_with_the_last_ipv4_address() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        pair.apply_done(&[set("10.0.0.200/32", Life::Seconds(60))]);
        pair.outsider_removes("10.0.0.1/24");
        assert_eq!(pair.actual.default_routes.len(), 2, "the VIP holds it");
        pair.apply_done(&[del("10.0.0.200/32")]);
        pair.settle();
        assert_eq!(pair.actual.default_routes.len(), 1, "only IPv6 is left");
        pair.apply_done(&[set("10.0.0.200/32", Life::Seconds(60))]);
        pair.assert_same("a VIP brings no route back");
        let now = pair.now();
        let own = Outside { net: net_of("10.0.0.1/24"), tag: 0 };
        pair.fake.outsider_adds(now, own, Duplicate::No);
        ip("address add 10.0.0.1/24 dev eth0");
        default_routes();
        pair.settle();
        assert_eq!(pair.actual.default_routes.len(), 2);
    });
}

#[test]
fn secondaries_go_with_a_foreign_primary_or_the_first_of_them_is_promoted() {
    for secondaries in [Secondaries::Go, Secondaries::Promoted] {
        in_namespace(move || {
            let mut pair = Pair::boot(secondaries);
            pair.outsider_adds("198.51.100.1/25", "");
            let vips = ["198.51.100.130/25", "198.51.100.9/25", "198.51.100.10/25", "198.51.100.11/32"];
            pair.apply_done(&vips.map(|net| set(net, Life::Forever)));
            let rows = pair.real_rows();
            let secondary = vips.map(|net| find(&rows, net).unwrap().secondary);
            assert_eq!(secondary, [false, true, true, false], "{rows:#?}");
            pair.assert_same("secondaries");
            pair.outsider_removes("198.51.100.1/25");
            let rows = pair.real_rows();
            let left = vips.map(|net| find(&rows, net).map(|row| row.secondary));
            let expected = match secondaries {
                Secondaries::Go => [Some(false), None, None, Some(false)],
                Secondaries::Promoted => [Some(false), Some(false), Some(true), Some(false)],
            };
            assert_eq!(left, expected);
            // The agent's own removal of a primary does the same to what is left.
            pair.apply_done(&[del("198.51.100.9/25")]);
            pair.assert_same("removed by us");
            pair.apply_done(&vips.map(|net| set(net, Life::Seconds(60))));
            pair.assert_same("repaired");
        });
    }
}

#[test]
fn a_secondary_without_an_end_goes_with_a_primary_that_ends() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        pair.apply_done(&[set("198.51.100.1/25", Life::Seconds(1)), set("198.51.100.2/25", Life::Forever)]);
        assert!(find(&pair.real_rows(), "198.51.100.2/25").unwrap().secondary);
        pair.assert_same("set");
        pair.await_picture(|actual| {
            actual.addresses.iter().all(|held| held.net != net_of("198.51.100.2/25"))
        });
        let end = pair.now() + LATEST;
        pair.fake.purge(end);
        pair.settle();
        assert_eq!(nets(&pair.real_rows()), ["10.0.0.1/24", "fd00::1/64"]);
    });
}

#[test]
fn steps_are_carried_out_in_order_and_a_failure_stops_nothing() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        let long = Life::Seconds(60);
        let nowhere = |net| Step::Set {
            place: Place::Nowhere,
            net: net_of(net),
            scope: Scope::Global,
            tag: TAG,
            life: long,
        };
        let steps = [
            set("192.0.2.9/32", long),
            del("192.0.2.9/32"),
            nowhere("192.0.2.10/32"),
            del("192.0.2.11/32"),
            set("192.0.2.11/32", long),
            set("192.0.2.12/32", Life::Short),
            nowhere("2001:db8::10/128"),
            Step::Del { place: Place::Nowhere, net: net_of("2001:db8::10/128") },
            set("2001:db8::9/128", long),
            del("2001:db8::9/64"),
        ];
        let (real, fake) = pair.apply(&steps, Duration::ZERO);
        let expected = [
            Kind::Done,
            Kind::Done,
            Kind::Failed(libc::ENODEV),
            Kind::Done,
            Kind::Done,
            Kind::TooLate,
            Kind::Failed(libc::ENODEV),
            Kind::Done,
            Kind::Done,
            Kind::Done,
        ];
        assert_eq!((&real[..], &fake[..]), (&expected[..], &expected[..]));
        pair.assert_same("in order");
        let expected = ["10.0.0.1/24", "192.0.2.11/32", "2001:db8::9/128", "fd00::1/64"];
        assert_eq!(nets(&pair.real_rows()), expected);
        // The order decides who is secondary: first the primary goes, then the secondary is set anew.
        pair.apply_done(&[set("198.51.100.1/25", long), set("198.51.100.2/25", long)]);
        pair.apply_done(&[del("198.51.100.1/25"), set("198.51.100.2/25", long)]);
        pair.assert_same("the primary went first");
        assert!(!find(&pair.real_rows(), "198.51.100.2/25").unwrap().secondary);
    });
}

#[test]
fn a_scope_is_changed_by_going_to_the_end_of_the_order_and_refused_in_a_network_of_another_scope() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        let global = ["192.0.2.9/32", "192.0.2.10/32", "192.0.2.11/32", "2001:db8::9/128", "10.0.0.200/24"];
        pair.apply_done(&global.map(|net| scoped(net, Scope::Global)));
        pair.apply_done(&[scoped("192.0.2.9/32", Scope::Link), scoped("2001:db8::9/128", Scope::Link)]);
        pair.assert_same("narrower: to the front of IPv4; no change for IPv6");
        assert_eq!(nets(&pair.real_rows())[0], "192.0.2.9/32");
        pair.apply_done(&[scoped("192.0.2.9/32", Scope::Global)]);
        pair.assert_same("and back: the last of the primaries");
        let order = nets(&pair.real_rows());
        assert_eq!(order[1..5], ["192.0.2.10/32", "192.0.2.11/32", "192.0.2.9/32", "10.0.0.200/24"]);
        let outcomes = pair.apply(&[scoped("10.0.0.200/24", Scope::Host)], Duration::ZERO);
        let refused = vec![Kind::Failed(libc::EINVAL)];
        assert_eq!(outcomes, (refused.clone(), refused));
        pair.assert_same("refused, and the address is lost");
        assert!(find(&pair.real_rows(), "10.0.0.200/24").is_none());
    });
}

#[test]
fn an_ipv6_address_of_another_prefix_length_is_replaced_by_us_and_kept_by_an_outsider() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        pair.outsider_adds("2001:db8::9/64", "nodad");
        pair.apply_done(&[set("2001:db8::9/128", Life::Seconds(60))]);
        pair.assert_same("replaced");
        assert!(find(&pair.real_rows(), "2001:db8::9/64").is_none());
        pair.apply_done(&[del("2001:db8::9/64")]);
        pair.assert_same("removing the old form does not hurt the new one");
        assert_eq!(find(&pair.real_rows(), "2001:db8::9/128").unwrap().tag, TAG);
        pair.outsider_adds("2001:db8::9/96", "nodad");
        assert_eq!(find(&pair.real_rows(), "2001:db8::9/128").unwrap().tag, 0);
    });
}

#[test]
fn an_address_of_an_outsider_whose_duplicate_detection_runs_or_failed() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        for link in [WIRE, "far"] {
            sysctl(&format!("ipv6/conf/{link}/accept_dad"), "1");
        }
        ip("address add 2001:db8::9/128 dev far nodad");
        ip("address add 2001:db8::9/128 dev eth0");
        let outside = |kernel: &mut FakeKernel, now: Moment, net: &str, duplicate| {
            kernel.outsider_adds(now, Outside { net: net_of(net), tag: 0 }, duplicate);
        };
        let now = pair.now();
        outside(&mut pair.fake, now, "2001:db8::9/128", Duplicate::Yes);
        pair.settle();
        assert_eq!(find(&pair.real_rows(), "2001:db8::9/128").unwrap().dad, Dad::Failed);
        pair.apply_done(&[set("2001:db8::9/128", Life::Seconds(60))]);
        pair.assert_same("made anew, and usable at once");
        assert_eq!(find(&pair.real_rows(), "2001:db8::9/128").unwrap().dad, Dad::Ready);
        // While the detection runs, setting it gives it a tag and an end, and does not end the detection.
        pair.outsider_adds("2001:db8::a/128", "");
        assert_eq!(find(&pair.real_rows(), "2001:db8::a/128").unwrap().dad, Dad::Tentative);
        pair.apply_done(&[set("2001:db8::a/128", Life::Seconds(60))]);
        pair.assert_same("set while tentative");
        let began = Watch::now();
        while find(&pair.real_rows(), "2001:db8::a/128").unwrap().dad != Dad::Ready {
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", pair.real_rows());
            pair.hear(Duration::from_millis(100));
        }
        println!("the detection took {:?}", began.elapsed());
        // The kernel waits up to a second before it begins to ask; the simulator does not.
        while began.elapsed() < Duration::from_millis(1100) {
            pair.hear(Duration::from_millis(100));
        }
        pair.assert_same("detected");
    });
}

#[test]
fn a_picture_says_after_which_batch_it_was_taken_and_never_an_older_one() {
    in_namespace(|| {
        let mut pair = Pair::boot(Secondaries::Go);
        assert_eq!(pair.actual.after.0, 0, "no batch yet");
        for number in 1..=5_u64 {
            let net = format!("192.0.2.{number}/32");
            pair.apply_done(&[set(&net, Life::Seconds(60))]);
            assert_eq!(pair.actual.after.0, number);
            pair.assert_same("the picture after a batch shows it");
            // What an outsider does between two batches comes in a picture that belongs to the first of them, and
            // `Pair` refuses one that goes back.
            let before = pair.actual.clone();
            pair.outsider_removes(&net);
            assert_eq!(pair.actual.after, before.after);
            assert!(pair.actual.addresses.len() < before.addresses.len());
        }
    });
}
