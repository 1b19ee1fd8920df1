//! Which API servers answer: the order in which they are tried. Fed with the outcome of every attempt, gives back the
//! servers, those that work first, in the order of preference among them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::Dial;

/// How long a server that refused is not preferred. Short: a refusal costs nothing on the next try.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// How long a server that hung is not preferred, at first. Each try of a hanging server costs a hedge.
const AFTER_SILENCE: Duration = Duration::from_secs(5);
/// How long at most.
const LONGEST: Duration = Duration::from_secs(30);

/// What an attempt showed of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answers.
    Answered,
    /// It said no at once: connection refused, reset, an untrusted certificate, 5xx.
    Refused,
    /// It said nothing while another one did, or until the end.
    Silent,
}

/// The servers that are known not to work.
#[derive(Debug, Default)]
pub(crate) struct Health(BTreeMap<Dial, Bad>);

#[derive(Debug)]
struct Bad {
    silences: u32,
    until: Instant,
}

impl Health {
    /// Takes note of an attempt.
    pub(crate) fn note(&mut self, now: Instant, dial: &Dial, outcome: Outcome) {
        let silences = self.0.get(dial).map_or(0, |bad| bad.silences);
        match outcome {
            Outcome::Answered => {
                self.0.remove(dial);
            }
            Outcome::Refused => {
                self.0.insert(dial.clone(), Bad { silences: 0, until: now + AFTER_REFUSAL });
            }
            Outcome::Silent => {
                let rest = AFTER_SILENCE.saturating_mul(1 << silences.min(3)).min(LONGEST);
                let bad = Bad { silences: silences.saturating_add(1), until: now + rest };
                self.0.insert(dial.clone(), bad);
            }
        }
    }

    /// Sorts `servers`: first those that are not known to be bad, as they stand; then the others, the one that may be
    /// well again soonest first.
    pub(crate) fn sort<T>(&self, now: Instant, servers: &mut [T], dial: impl Fn(&T) -> &Dial) {
        servers
            .sort_by_key(|server| self.0.get(dial(server)).map(|bad| bad.until).filter(|until| *until > now));
    }

    /// Forgets servers that are not in the list any more.
    pub(crate) fn keep_only<'a>(&mut self, dials: impl Iterator<Item = &'a Dial>) {
        let known: std::collections::BTreeSet<_> = dials.collect();
        self.0.retain(|dial, _| known.contains(dial));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(health: &Health, now: Instant) -> Vec<String> {
        let mut dials: Vec<Dial> = ["a", "b", "c"].iter().map(|host| Dial::new(host, 1)).collect();
        health.sort(now, &mut dials, |dial| dial);
        dials.iter().map(Dial::host).collect()
    }

    #[test]
    fn a_bad_server_comes_last_until_its_time_is_over() {
        let now = Instant::now();
        let mut health = Health::default();
        let a = Dial::new("a", 1);
        health.note(now, &a, Outcome::Refused);
        assert_eq!(order(&health, now), ["b", "c", "a"]);
        assert_eq!(order(&health, now + AFTER_REFUSAL), ["a", "b", "c"]);
        health.note(now, &a, Outcome::Silent);
        assert_eq!(order(&health, now + AFTER_REFUSAL), ["b", "c", "a"]);
        health.note(now, &a, Outcome::Answered);
        assert_eq!(order(&health, now), ["a", "b", "c"]);
    }

    #[test]
    fn silence_is_remembered_longer_each_time_and_never_longer_than_half_a_minute() {
        let now = Instant::now();
        let mut health = Health::default();
        let a = Dial::new("a", 1);
        for _ in 0..10 {
            health.note(now, &a, Outcome::Silent);
        }
        assert_eq!(order(&health, now + LONGEST.mul_f64(0.9)), ["b", "c", "a"]);
        assert_eq!(order(&health, now + LONGEST), ["a", "b", "c"]);
    }
}
