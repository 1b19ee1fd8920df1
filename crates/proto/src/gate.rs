//! A health gate: asks for probes of one URL and decides, from failures in a row, whether the thing behind it works.
//!
//! Fed with the wanted check and the results of probes; gives back probes to run, and a `Gate` that the plan reads.
//! Etcd's own readiness is left out of the check: while etcd elects a leader every API server shows red, and a VIP
//! that moves then helps nobody.

use vip_model::Instant;
use vip_model::config::HealthCheck;
use vip_model::observed::{ErrandTask, Gate};

use crate::Machine;

/// The gate of one health check.
#[derive(Clone, Debug, Default)]
pub struct HealthGate {
    check: Option<HealthCheck>,
    state: Gate,
    failures: u32,
    next: Option<Instant>,
    running: Option<Instant>,
}

impl HealthGate {
    /// What the plan reads.
    pub const fn state(&self) -> &Gate {
        &self.state
    }
}

/// The URL that is really fetched: the API server's own readiness paths get etcd excluded.
fn without_etcd(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let is_own_path = ["/readyz", "/livez", "/healthz"].iter().any(|path| base.ends_with(path));
    match query {
        None if is_own_path => format!("{base}?exclude=etcd&exclude=etcd-readiness"),
        _ => url.to_owned(),
    }
}

impl Machine for HealthGate {
    type Want = Option<HealthCheck>;
    type Input = Result<(), String>;
    type Output = ErrandTask;

    fn want(&mut self, now: Instant, want: Option<HealthCheck>) {
        if self.check != want {
            *self = Self { next: want.is_some().then_some(now), check: want, ..Self::default() };
        }
    }

    fn handle(&mut self, _now: Instant, result: Result<(), String>) {
        let Some(check) = self.check.as_ref().filter(|_| self.running.is_some()) else { return };
        self.running = None;
        match result {
            Ok(()) => {
                self.failures = 0;
                self.state = Gate::Green;
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= check.failure_threshold {
                    self.state = Gate::Red { reason };
                }
            }
        }
    }

    fn poll(&mut self, now: Instant) -> Option<ErrandTask> {
        let check = self.check.as_ref()?;
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        // A probe that is still under way when the next is due counts on; its own timeout ends it.
        self.next = Some(now + check.period);
        if self.running.is_some_and(|since| now < since + check.timeout + check.period) {
            return None;
        }
        self.running = Some(now);
        Some(ErrandTask::HttpProbe {
            url: without_etcd(&check.url),
            timeout: check.timeout,
            ca_path: check.ca_path.clone(),
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vip_model::Random;

    use super::*;
    use crate::rig::{Bounds, Script, Step, check_laws};

    fn check() -> HealthCheck {
        HealthCheck {
            url: "https://127.0.0.1:6443/readyz".into(),
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(3),
            failure_threshold: 3,
            ca_path: None,
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn the_gate_closes_after_the_threshold_and_opens_on_the_first_success() {
        let mut gate = HealthGate::default();
        gate.want(at(0), Some(check()));
        for second in 0..3 {
            assert_eq!(gate.state(), &Gate::Open);
            assert!(gate.poll(at(second * 1000)).is_some());
            assert!(gate.poll(at(second * 1000)).is_none(), "one probe at a time");
            gate.handle(at(second * 1000 + 5), Err("refused".into()));
        }
        assert_eq!(gate.state(), &Gate::Red { reason: "refused".into() });
        assert!(gate.poll(at(3000)).is_some());
        gate.handle(at(3005), Ok(()));
        assert_eq!(gate.state(), &Gate::Green);
    }

    #[test]
    fn a_result_that_nobody_asked_for_is_ignored() {
        let mut gate = HealthGate::default();
        gate.handle(at(0), Err("late".into()));
        gate.want(at(0), Some(HealthCheck { failure_threshold: 1, ..check() }));
        gate.handle(at(1), Err("late".into()));
        assert_eq!(gate.state(), &Gate::Open);
    }

    #[test]
    fn etcd_is_left_out_of_the_api_servers_own_paths_only() {
        let fetched = |url: &str| without_etcd(url);
        assert_eq!(
            fetched("https://a:6443/livez"),
            "https://a:6443/livez?exclude=etcd&exclude=etcd-readiness"
        );
        assert_eq!(fetched("https://a:6443/readyz?verbose"), "https://a:6443/readyz?verbose");
        assert_eq!(fetched("https://a:6443/ping"), "https://a:6443/ping");
    }

    fn script(seed: u64) -> Script<HealthGate> {
        let mut random = Random::new(seed);
        let step = |random: &mut Random| match random.below(8) {
            0 if random.chance(0.3) => Step::Want(None),
            0 => Step::Want(Some(HealthCheck {
                period: Duration::from_millis(100 + random.below(3) * 900),
                failure_threshold: 1 + random.below(3) as u32,
                ..check()
            })),
            1..5 => Step::Input(if random.chance(0.3) { Ok(()) } else { Err(random.below(3).to_string()) }),
            _ => Step::Wait(Duration::from_millis(random.below(2000))),
        };
        (0..60).map(|_| step(&mut random)).collect()
    }

    #[test]
    fn the_laws_of_every_machine_hold_on_random_scripts() {
        let bounds = Bounds { outputs_per_turn: 1, turns_per_wait: 50 };
        for seed in 0..300 {
            check_laws(HealthGate::default, at(0), &script(seed), bounds);
        }
    }

    #[test]
    fn the_gate_is_red_exactly_after_as_many_failures_of_its_own_probes_as_the_threshold_says() {
        let (mut reds, mut probes) = (0, 0);
        for seed in 300..500 {
            let mut gate = HealthGate::default();
            let (mut now, mut wanted, mut failures, mut asked) = (at(0), None, 0, None);
            for step in script(seed) {
                match step {
                    Step::Want(want) => {
                        if want != wanted {
                            (failures, asked) = (0, None);
                        }
                        wanted.clone_from(&want);
                        gate.want(now, want);
                    }
                    Step::Input(result) => {
                        let is_own = asked.take().is_some();
                        let is_red = matches!(gate.state(), Gate::Red { .. });
                        gate.handle(now, result.clone());
                        match (is_own, result) {
                            (false, _) => {
                                assert_eq!(matches!(gate.state(), Gate::Red { .. }), is_red, "seed {seed}");
                            }
                            (true, Ok(())) => failures = 0,
                            (true, Err(_)) => failures += 1,
                        }
                    }
                    Step::Wait(span) => now = now + span,
                }
                let threshold = wanted.as_ref().map_or(u32::MAX, |check| check.failure_threshold);
                assert_eq!(matches!(gate.state(), Gate::Red { .. }), failures >= threshold, "seed {seed}");
                if gate.poll(now).is_some() {
                    let check = wanted.as_ref().expect("nothing is probed without a check");
                    let pause = check.timeout + check.period;
                    assert!(asked.is_none_or(|since| now >= since + pause), "seed {seed}: two at once");
                    asked = Some(now);
                    probes += 1;
                }
                reds += usize::from(matches!(gate.state(), Gate::Red { .. }));
            }
        }
        assert!(reds > 500 && probes > 1000, "{reds} {probes}");
    }
}
