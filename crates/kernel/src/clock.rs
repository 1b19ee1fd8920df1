//! The one clock of the program: `CLOCK_BOOTTIME`, which runs on while the machine is suspended.

use nix::time::{ClockId, clock_gettime};
use vip_model::Instant;

/// Now, on the boot-time clock (`clock_gettime(2)`, `CLOCK_BOOTTIME`, Linux ≥ 2.6.39).
pub fn boot_now() -> Instant {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every supported kernel has CLOCK_BOOTTIME");
    let secs = u64::try_from(now.tv_sec()).expect("the boot-time clock starts at zero");
    let nanos = u64::try_from(now.tv_nsec()).expect("nanoseconds are not negative");
    Instant::from_nanos(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_runs_at_the_pace_of_the_kernels_uptime() {
        let early = boot_now();
        std::thread::sleep(Duration::from_millis(20));
        let passed = boot_now() - early;
        assert!(passed >= Duration::from_millis(20), "{passed:?}");
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let ours = boot_now().as_nanos() as f64 / 1e9;
        assert!((ours - uptime).abs() < 1.0, "ours {ours}, /proc/uptime {uptime}");
    }
}
