//! The process as `/proc/self` shows it, for the `process_*` metrics. Read when somebody asks, kept nowhere.

use std::fs;

/// Ticks per second of the times in `/proc/self/stat`: `USER_HZ`, 100 in every Linux ABI that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    /// `VmRSS`.
    pub(super) resident_bytes: u64,
    /// User and system time.
    pub(super) cpu_seconds: f64,
    /// Open descriptors, the one that counts them included.
    pub(super) open_fds: usize,
    /// Seconds since the epoch.
    pub(super) start_time_seconds: f64,
}

/// The figures of this process; none where `/proc` is not mounted.
pub(super) fn read() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let (cpu_ticks, start_ticks) = times(&stat)?;
    Some(Process {
        resident_bytes: number_after(&status, "VmRSS:")? * 1024,
        cpu_seconds: cpu_ticks as f64 / TICKS_PER_SECOND,
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count(),
        start_time_seconds: number_after(&boot, "btime")? as f64 + start_ticks as f64 / TICKS_PER_SECOND,
    })
}

/// User plus system time and the start time, in ticks (proc(5): fields 14, 15 and 22). The name in field 2 may hold
/// anything, so fields are counted from its closing parenthesis, behind which field 3 begins.
fn times(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(22)?))
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_spaces_moves_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 90 0 0 0 12 30 0 0 20 0 3 0 4711 1 2";
        assert_eq!(times(stat), Some((42, 4711)));
        assert_eq!(times("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_descriptors_and_a_past() {
        let process = read().unwrap();
        assert!(process.resident_bytes > 100_000);
        assert!(process.open_fds >= 3);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((0.0..86_400.0).contains(&(now - process.start_time_seconds)), "{process:?}");
    }
}
