//! Values of Node labels that name addresses.

use std::net::IpAddr;

/// The most characters of a label's value, and of its key behind the slash.
pub(crate) const LABEL_LIMIT: usize = 63;

/// The addresses as a legal label value: IPv4 as it is, IPv6 as 32 hex digits (as upstream does for a single one),
/// joined by `_` (upstream's comma is not legal). A dual-stack pair takes at most 48 characters; what does not fit into
/// a label is left out, whole addresses only.
pub(crate) fn label_value(addrs: impl IntoIterator<Item = IpAddr>) -> String {
    let mut value = String::new();
    for addr in addrs {
        let text = match addr {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("{:032x}", u128::from(v6)),
        };
        let joint = usize::from(!value.is_empty());
        if value.len() + joint + text.len() > LABEL_LIMIT {
            break;
        }
        if joint == 1 {
            value.push('_');
        }
        value.push_str(&text);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_a_label_is_left_out_as_a_whole() {
        let v6: IpAddr = "fd00::1".parse().unwrap();
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(label_value([v4, v6]), "10.0.0.1_fd000000000000000000000000000001");
        assert_eq!(label_value([v6, v6]), "fd000000000000000000000000000001");
        assert_eq!(label_value([]), "");
    }
}
