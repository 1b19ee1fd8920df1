//! What a named world says of an address at a moment, so that a story contains what it tells:
//! `66s answers 10.0.0.10 n2`. The world looks when the moment comes, and objects when it is not so.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::check::nodes_of;
use crate::client::Mask;
use crate::clock::Moment;
use crate::fault::{parse_seconds, seconds};

/// One look at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub at: Moment,
    /// At which address.
    pub addr: IpAddr,
    /// Who answers for it.
    pub who: Who,
}

/// Who answers for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody.
    Nobody,
    /// This node, and no other.
    Node(usize),
    /// One node, whichever.
    One,
    /// The node that the look before found, and no other.
    Same,
    /// One node, another one than the look before found.
    Another,
}

impl Look {
    /// Whether it is so: `now` answers, `before` was found by the last look at an address.
    pub(crate) fn judge(self, before: Mask, now: Mask) -> Result<(), String> {
        let is_so = match self.who {
            Who::Nobody => now == 0,
            Who::Node(node) => now == 1 << node,
            Who::One => now.is_power_of_two(),
            Who::Same => now.is_power_of_two() && now == before,
            Who::Another => now.is_power_of_two() && now != before,
        };
        if is_so {
            return Ok(());
        }
        let (found, before) = (nodes_of(now), nodes_of(before));
        Err(format!("{found} answers for {}, told was: {} (before: {before})", self.addr, self.who))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Node(node) => write!(f, "n{}", node + 1),
            Self::One => f.write_str("one"),
            Self::Same => f.write_str("same"),
            Self::Another => f.write_str("another"),
        }
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers {} {}", seconds(self.at.since(Moment::START)), self.addr, self.who)
    }
}

impl FromStr for Look {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [at, "answers", addr, who] = words[..] else {
            return Err("a look reads `66s answers 10.0.0.10 n2`");
        };
        let who = match who {
            "nobody" => Who::Nobody,
            "one" => Who::One,
            "same" => Who::Same,
            "another" => Who::Another,
            node => {
                let number: Option<usize> = node.strip_prefix('n').and_then(|number| number.parse().ok());
                let number = number.and_then(|number| number.checked_sub(1));
                Who::Node(number.ok_or("who answers is one of n1, n2 and so on, nobody, one, same, another")?)
            }
        };
        let at = Moment::START + parse_seconds(at).ok_or("no time at the start")?;
        Ok(Self { at, addr: addr.parse().map_err(|_| "no address")?, who })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_reads_as_it_is_written_and_finds_what_is_told() {
        for line in ["66s answers 10.0.0.10 n2", "1.500s answers fd00::1 nobody", "2s answers 10.0.0.10 same"]
        {
            assert_eq!(line.parse::<Look>().unwrap().to_string(), line);
        }
        assert!("66s answers 10.0.0.10 n0".parse::<Look>().is_err());
        let judge = |who: &str, before, now| {
            format!("1s answers 10.0.0.10 {who}").parse::<Look>().unwrap().judge(before, now).is_ok()
        };
        assert!(judge("n2", 0, 0b10) && !judge("n2", 0, 0b11) && !judge("n2", 0, 0));
        assert!(judge("nobody", 1, 0) && !judge("nobody", 1, 1));
        assert!(judge("one", 0, 0b100) && !judge("one", 0, 0b101) && !judge("one", 0, 0));
        assert!(judge("same", 0b10, 0b10) && !judge("same", 0b10, 0b1) && !judge("same", 0, 0));
        assert!(judge("another", 0b10, 0b1) && !judge("another", 0b10, 0b10) && !judge("another", 1, 0));
    }
}
