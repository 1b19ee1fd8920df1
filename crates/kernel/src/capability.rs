//! Which rights the process lacks, for one clear sentence at start instead of an error in the middle of a fail-over.

/// Bits of `capabilities(7)` that the gateway needs: changing addresses, and raw frames.
const NEEDED: [(u32, &str); 2] = [(12, "NET_ADMIN"), (13, "NET_RAW")];

/// The capabilities that are needed and not in force, by the names that a pod manifest uses.
///
/// Read from `/proc/self/status`; empty when that file is not there, because then nothing can be said.
pub fn missing_capabilities() -> Vec<&'static str> {
    std::fs::read_to_string("/proc/self/status").map(|status| missing_in(&status)).unwrap_or_default()
}

fn missing_in(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(effective) = effective else { return Vec::new() };
    NEEDED.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_named() {
        let cases: [(&str, &[&str]); 5] = [
            ("Name:\tx\nCapEff:\t000001fffeffffff\n", &[]),
            ("CapEff:\t0000000000003000\n", &[]),
            ("CapEff:\t0000000000001000\n", &["NET_RAW"]),
            ("CapEff:\t0000000000000000\n", &["NET_ADMIN", "NET_RAW"]),
            ("CapEff:\tnonsense\n", &[]),
        ];
        for (status, expected) in cases {
            assert_eq!(missing_in(status), expected, "{status:?}");
        }
    }
}
