//! What users and the cluster do, and when: Services come, change and go, pods move, pools are edited, nodes are drained.
//! As text that a person can write (`20s service web ip=10.0.0.10 policy=local`) and the shrinker prints. Nothing here
//! is a fault: all of it must end in what was asked for.
//!
//! ```text
//! 5s   service web ip=10.0.0.10,fd00::10 families=46 ports=80,53u   made, or changed in what is named
//! 9s   pods web n1 n2? n3- @n1 none                 ready, not ready, terminating, by host name, no node; the whole set
//! 20s  again web ip=10.0.0.10                       deleted, and made again under the same name at once
//! 30s  linger web                                   deleted by a user, kept by a finalizer
//! 31s  delete web
//! 40s  pools range-global=10.0.0.110-10.0.0.113     the whole ConfigMap; nothing behind it: deleted
//! 50s  drain n1        60s  undrain n1
//! ```

mod edit;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use vip_model::service::{EndpointState, ServiceName};

pub use edit::{Edit, Key};

use crate::clock::Moment;
use crate::fault::{parse_seconds, seconds};

/// One thing that somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// When.
    pub at: Moment,
    /// What.
    pub act: Act,
}

/// What somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Makes a Service, or changes one.
    Apply(ServiceName, Vec<Edit>),
    /// Deletes a Service and makes it again at once.
    Again(ServiceName, Vec<Edit>),
    /// Deletes a Service that a finalizer keeps.
    Linger(ServiceName),
    /// Deletes a Service.
    Delete(ServiceName),
    /// Replaces what stands behind a Service.
    Pods(ServiceName, Vec<Pod>),
    /// Replaces the pools' `ConfigMap`.
    Pools(BTreeMap<String, String>),
    /// Takes a node out of load balancing.
    Drain(usize),
    /// Takes it back.
    Undrain(usize),
}

/// One pod behind a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What its endpoint says of its node.
    pub place: PodPlace,
    /// Its conditions.
    pub state: EndpointState,
}

/// What an endpoint says of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPlace {
    /// `nodeName`.
    Node(usize),
    /// Only a host name.
    HostName(usize),
    /// Nothing.
    Nowhere,
}

impl Deed {
    /// The Service that it is about.
    pub fn service(&self) -> Option<&ServiceName> {
        match &self.act {
            Act::Apply(name, _)
            | Act::Again(name, _)
            | Act::Linger(name)
            | Act::Delete(name)
            | Act::Pods(name, _) => Some(name),
            Act::Pools(_) | Act::Drain(_) | Act::Undrain(_) => None,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", seconds(self.at.since(Moment::START)))?;
        match &self.act {
            Act::Apply(name, edits) => with_words(f, "service", &short(name), edits),
            Act::Again(name, edits) => with_words(f, "again", &short(name), edits),
            Act::Linger(name) => write!(f, "linger {}", short(name)),
            Act::Delete(name) => write!(f, "delete {}", short(name)),
            Act::Pods(name, pods) => with_words(f, "pods", &short(name), pods),
            Act::Pools(pools) => {
                f.write_str("pools")?;
                // A value with blanks is written with `_`, which no value has.
                pools.iter().try_for_each(|(key, value)| write!(f, " {key}={}", value.replace(' ', "_")))
            }
            Act::Drain(node) => write!(f, "drain n{}", node + 1),
            Act::Undrain(node) => write!(f, "undrain n{}", node + 1),
        }
    }
}

fn with_words<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    name: &str,
    words: &[T],
) -> fmt::Result {
    write!(f, "{verb} {name}")?;
    words.iter().try_for_each(|word| write!(f, " {word}"))
}

/// The namespace of Services that name none.
const NAMESPACE: &str = "default";

fn short(name: &ServiceName) -> String {
    if name.namespace() == NAMESPACE { name.name().to_owned() } else { name.to_string() }
}

/// A Service by its name in a deed.
pub fn service(text: &str) -> ServiceName {
    let (namespace, name) = text.split_once('/').unwrap_or((NAMESPACE, text));
    ServiceName::new(namespace, name)
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            PodPlace::Node(node) => write!(f, "n{}", node + 1)?,
            PodPlace::HostName(node) => write!(f, "@n{}", node + 1)?,
            PodPlace::Nowhere => f.write_str("none")?,
        }
        f.write_str(match self.state {
            EndpointState::Ready => "",
            EndpointState::NotReady => "?",
            EndpointState::ServingTerminating => "-",
        })
    }
}

impl FromStr for Pod {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, &'static str> {
        let (word, state) = if let Some(word) = word.strip_suffix('?') {
            (word, EndpointState::NotReady)
        } else if let Some(word) = word.strip_suffix('-') {
            (word, EndpointState::ServingTerminating)
        } else {
            (word, EndpointState::Ready)
        };
        let place = match word.strip_prefix('@') {
            Some(host) => PodPlace::HostName(node(host)?),
            None if word == "none" => PodPlace::Nowhere,
            None => PodPlace::Node(node(word)?),
        };
        Ok(Self { place, state })
    }
}

/// The number of a node by its name.
fn node(word: &str) -> Result<usize, &'static str> {
    let number: Option<usize> = word.strip_prefix('n').and_then(|number| number.parse().ok());
    number.and_then(|number| number.checked_sub(1)).ok_or("no such node; nodes count from n1")
}

/// A line that is no deed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line:?}: {why}; a deed reads `20s service web ip=10.0.0.10`")]
pub struct NotADeed {
    /// The line.
    pub line: String,
    /// What is wrong with it.
    pub why: String,
}

impl FromStr for Deed {
    type Err = NotADeed;

    fn from_str(line: &str) -> Result<Self, NotADeed> {
        let parsed = || -> Result<Self, String> {
            let mut words = line.split_whitespace();
            let at = words.next().and_then(parse_seconds).ok_or("no time at the start")?;
            let verb = words.next().ok_or("no verb")?;
            let rest: Vec<&str> = words.collect();
            Ok(Self { at: Moment::START + at, act: act(verb, &rest)? })
        };
        parsed().map_err(|why| NotADeed { line: line.to_owned(), why })
    }
}

fn act(verb: &str, rest: &[&str]) -> Result<Act, String> {
    if verb == "pools" {
        let entry = |word: &&str| -> Result<(String, String), String> {
            let (key, value) = word.split_once('=').ok_or("a pool reads key=value")?;
            Ok((key.to_owned(), value.replace('_', " ")))
        };
        return Ok(Act::Pools(rest.iter().map(entry).collect::<Result<_, _>>()?));
    }
    let (first, rest) = rest.split_first().ok_or("it does not say to what")?;
    match verb {
        "service" => Ok(Act::Apply(service(first), words(rest)?)),
        "again" => Ok(Act::Again(service(first), words(rest)?)),
        "linger" => Ok(Act::Linger(service(first))),
        "delete" => Ok(Act::Delete(service(first))),
        "pods" => Ok(Act::Pods(service(first), words(rest)?)),
        "drain" => Ok(Act::Drain(node(first)?)),
        "undrain" => Ok(Act::Undrain(node(first)?)),
        _ => Err("unknown verb".to_owned()),
    }
}

fn words<T: FromStr<Err: Into<String>>>(words: &[&str]) -> Result<Vec<T>, String> {
    words.iter().map(|word| word.parse::<T>().map_err(Into::into)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_reads_as_it_is_written() {
        for line in [
            "5s service web ip=10.0.0.10,fd00::10 families=46 ports=80,53u",
            "5.250s service shop/web policy=local class=- ignore=yes lease=common force=yes type=other",
            "20s again web spec-ip=10.0.0.10 stack=require empty=yes interface=eth9",
            "30s linger web",
            "31s delete shop/web",
            "9s pods web n1 n2? n3- @n1 none",
            "9s pods web",
            "40s pools allow-share-global=true range-global=10.0.0.110-10.0.0.113",
            "40s pools",
            "50s drain n1",
            "60s undrain n2",
        ] {
            assert_eq!(line.parse::<Deed>().unwrap().to_string(), line);
        }
        assert_eq!("5s melt web".parse::<Deed>().unwrap_err().why, "unknown verb");
        assert_eq!("5s service web ip".parse::<Deed>().unwrap_err().why, "an edit reads key=value");
        assert_eq!("5s drain n0".parse::<Deed>().unwrap_err().why, "no such node; nodes count from n1");
    }
}
