//! A drill: a fail-over that somebody asks for on a living cluster, to see what it costs. It is asked for by an annotation of a
//! claim, which the claim's owner accepts or refuses by its next write; the other members look at the addresses, and each
//! says what it saw in its session Lease.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::NodeName;
use crate::store::LeaseRecord;

/// The annotation of a claim: a [`Drill`] as text.
pub const DRILL: &str = "kube-vip.io/drill";

/// A drill, as text `ID KIND STAGE TO [REASON]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// Names it: up to 32 letters and digits.
    pub id: String,
    /// What happens.
    pub kind: DrillKind,
    /// How far it is.
    pub stage: DrillStage,
    /// Who shall have the address; else the owner chooses. A crash asks nobody.
    pub to: Option<NodeName>,
}

/// What happens in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    /// The owner hands the claim over, make before break.
    Planned,
    /// The owner takes all its addresses away and falls silent for three seconds, as if its power had gone.
    Crash,
}

impl DrillKind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Crash => "crash",
        }
    }
}

/// How far a drill is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillStage {
    /// Somebody asks for it.
    Asked,
    /// The owner carries it out.
    Begun,
    /// The owner does not, and says why.
    Refused(String),
}

/// A text that is no drill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no drill: ID planned|crash asked|begun|refused NODE|- [REASON] is accepted")]
pub struct NotADrill(pub String);

impl Drill {
    /// The longest id.
    const LONGEST: usize = 32;

    /// The drill that a claim speaks of.
    pub fn of(record: &LeaseRecord) -> Option<Self> {
        record.annotations.get(DRILL)?.parse().ok()
    }

    /// The same drill at another stage.
    #[must_use]
    pub fn at(&self, stage: DrillStage) -> Self {
        Self { stage, ..self.clone() }
    }
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        let (stage, reason) = match &self.stage {
            DrillStage::Asked => ("asked", None),
            DrillStage::Begun => ("begun", None),
            DrillStage::Refused(reason) => ("refused", Some(reason)),
        };
        let to = self.to.as_ref().map_or("-", NodeName::as_str);
        write!(f, "{} {kind} {stage} {to}", self.id)?;
        reason.map_or(Ok(()), |reason| write!(f, " {reason}"))
    }
}

impl FromStr for Drill {
    type Err = NotADrill;

    fn from_str(text: &str) -> Result<Self, NotADrill> {
        let bad = || NotADrill(text.to_owned());
        let mut words = text.splitn(5, ' ');
        let mut word = || words.next().filter(|word| !word.is_empty()).ok_or_else(bad);
        let (id, kind, stage, to) = (word()?, word()?, word()?, word()?);
        let kind = match kind {
            "planned" => DrillKind::Planned,
            "crash" => DrillKind::Crash,
            _ => return Err(bad()),
        };
        let stage = match stage {
            "asked" => DrillStage::Asked,
            "begun" => DrillStage::Begun,
            "refused" => DrillStage::Refused(words.next().unwrap_or_default().to_owned()),
            _ => return Err(bad()),
        };
        if id.len() > Self::LONGEST || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(bad());
        }
        Ok(Self { id: id.to_owned(), kind, stage, to: (to != "-").then(|| NodeName::new(to)) })
    }
}

/// What one member saw of a drill by its own looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReport {
    /// The drill.
    pub id: String,
    /// How many looks were answered.
    pub answers: u32,
    /// The longest time without an answer for one of the addresses, whoever would have answered.
    pub gap: Duration,
    /// For how long the former and the new owner both answered.
    pub both: Duration,
    /// Who answered at the end.
    pub owner: Option<NodeName>,
    /// What happened, by the time since the former owner's last answer, in the order of time.
    pub events: Vec<DrillEvent>,
}

/// One thing that a member noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DrillEvent {
    /// Microseconds since the former owner's last answer; negative before it.
    pub micros: i64,
    /// What it was.
    pub what: DrillNotice,
}

/// What a member notices of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillNotice {
    /// The owner's acceptance was seen in the store.
    Begun,
    /// The former owner's last heartbeat came.
    LastHeartbeat,
    /// The former owner answered for the last time.
    LastAnswer,
    /// The member granted somebody to follow.
    Granted,
    /// The new owner answered for the first time; or began to announce, when it is the member itself.
    FirstAnswer,
    /// The claim or the former owner's session names another owner, in the store or in a heartbeat.
    Named,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_reads_as_it_is_written() {
        for text in ["4f2a planned asked n3", "4f2a crash begun -", "4f2a crash refused - n1 is in doubt"] {
            assert_eq!(text.parse::<Drill>().unwrap().to_string(), text);
        }
        for bad in
            ["", "4f2a", "4f2a crash asked", "4f2a melt asked -", "4f-2 crash asked -", "a crash soon -"]
        {
            assert!(bad.parse::<Drill>().is_err(), "{bad}");
        }
    }
}
