//! How often people are told.

use vip_model::store::EventWeight;

use super::*;

fn post(service: &str, uid: &str, message: &str) -> EventPost {
    EventPost {
        service: ServiceName::new("default", service),
        uid: uid.to_owned(),
        weight: EventWeight::Normal,
        reason: "Announced".to_owned(),
        message: message.to_owned(),
        count: 1,
    }
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// The counts with which these texts about `web` are told at a moment; none where nothing is.
fn tell(bulletin: &mut Bulletin, seconds: u64, texts: &[&str]) -> Vec<Option<u32>> {
    let one = |text: &&str| bulletin.admit(at(seconds), post("web", "1", text)).map(|post| post.count);
    texts.iter().map(one).collect()
}

#[test]
fn the_same_is_told_with_its_count() {
    let mut bulletin = Bulletin::default();
    assert_eq!(tell(&mut bulletin, 0, &["up", "down", "up", "up"]), [Some(1), Some(1), Some(2), Some(3)]);
}

#[test]
fn a_service_that_flaps_is_told_of_ten_times_and_then_twice_a_minute_and_counted_all_the_time() {
    let mut bulletin = Bulletin::default();
    let all = tell(&mut bulletin, 0, &["up"; 50]);
    assert_eq!(all.iter().flatten().count(), 10);
    assert_eq!(tell(&mut bulletin, 29, &["up"]), [None]);
    assert_eq!(tell(&mut bulletin, 30, &["up", "up"]), [Some(52), None]);
    // An hour without a word: as much as in the beginning, and not more.
    let later = tell(&mut bulletin, 3_700, &["up"; 50]);
    assert_eq!(later.iter().flatten().count(), 10);
}

#[test]
fn one_service_costs_another_one_nothing() {
    let mut bulletin = Bulletin::default();
    tell(&mut bulletin, 0, &["up"; 50]);
    assert_eq!(bulletin.admit(at(0), post("db", "2", "up")).map(|post| post.count), Some(1));
}

#[test]
fn another_life_under_the_name_begins_anew() {
    let mut bulletin = Bulletin::default();
    tell(&mut bulletin, 0, &["up"; 50]);
    assert_eq!(bulletin.admit(at(0), post("web", "2", "up")).map(|post| post.count), Some(1));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut bulletin = Bulletin::default();
    for turn in 0..1_000 {
        tell(&mut bulletin, turn, &[&turn.to_string()]);
    }
    assert_eq!(bulletin.pages[&ServiceName::new("default", "web")].said.len(), TEXTS);
    bulletin.forget_others(&BTreeMap::new());
    assert!(bulletin.pages.is_empty());
}
