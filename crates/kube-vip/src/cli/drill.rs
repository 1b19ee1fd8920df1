//! `kube-vip drill`: a fail-over on a living cluster, planned or as if the owner's power had gone, and what it cost by the looks
//! of the other nodes. It speaks to the API alone: it asks the claim's owner by an annotation, and reads what the others
//! saw from their session Leases.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};
use jiff::Timestamp;
use serde_json::{Value, json};
use vip_cluster::{Console, Target};
use vip_model::NodeName;
use vip_model::drill::{DRILL, Drill, DrillKind, DrillNotice, DrillReport, DrillStage};
use vip_model::session::{CLAIM, CLAIM_FROM, HAND_OVER_TO, SESSION, SESSION_LABEL, SessionRecord};

use super::operate::{LOOK_AGAIN, claim_of, held_by, leases_of, settings, some_of, text};
use crate::status::table::columns;

/// How long the owner may take to accept or refuse.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(10);
/// How long the others may take to report: they look for ten seconds at most.
const REPORTED_WITHIN: Duration = Duration::from_secs(20);

/// With so many other agents the jurors alone look.
const TOWN: usize = 6;

/// The command.
pub(super) fn command() -> Command {
    Command::new("drill")
        .about("Fail a VIP over on the running cluster and report what the other nodes saw (election_mode=session)")
        .arg(
            Arg::new("what")
                .required(true)
                .value_name("control-plane|NAMESPACE/NAME")
                .help("The control plane's VIP, or a Service"),
        )
        .arg(
            Arg::new("kind")
                .long("kind")
                .value_name("KIND")
                .default_value("planned")
                .value_parser(["planned", "crash"])
                .help("planned: a hand-over; crash: the owner plays dead for 3 s, with all that it holds"),
        )
        .arg(Arg::new("to").long("to").value_name("NODE").help("Who shall have it after a planned one"))
        .arg(
            Arg::new("lease")
                .long("lease")
                .value_name("NAMESPACE/NAME")
                .help("The claim's Lease, when it is not the usual one"),
        )
        .arg(super::output())
        .arg(super::operate::kubeconfig())
        .after_help(
            "It refuses when it would be unsafe, and says why. Nothing is moved back afterwards: `kube-vip handover` does.",
        )
}

/// One drill, from the question to the reports.
struct Play<'a> {
    console: Console,
    what: &'a str,
    target: Target,
    drill: Drill,
    /// The owner's node.
    before: String,
    /// Who will report.
    observers: Vec<NodeName>,
}

/// Runs it.
pub(super) fn run(matches: &ArgMatches, out: &mut impl Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let given = |key: &str| matches.get_one::<String>(key).map(String::as_str);
        let what = given("what").unwrap_or_default();
        let crash = given("kind") == Some("crash");
        let kind = if crash { DrillKind::Crash } else { DrillKind::Planned };
        let to = given("to").map(NodeName::new);
        if to.is_some() && kind == DrillKind::Crash {
            bail!("--to is for --kind planned: after a crash the jurors decide who follows");
        }
        let console = Console::new(settings(matches));
        let (target, claim) = claim_of(&console, what, &leases_of(what, given("lease"))?).await?;
        let drill = Drill { id: new_id(), kind, stage: DrillStage::Asked, to };
        let sessions = sessions(&console).await?;
        let observers = observers(&claim, &sessions, &drill)
            .map_err(|reason| anyhow::anyhow!("{what}: no drill: {reason}"))?;
        let before = text(&claim["spec"]["holderIdentity"]).to_owned();
        let play = Play { console, what, target, drill, before, observers };
        let json = matches.get_one::<crate::status::Format>("output").copied().unwrap_or_default();
        let result = play.carry_out(out, json).await;
        // Whatever became of it, the claim says nothing of it any more.
        let clean = json!({"metadata": {"annotations": {DRILL: null}}});
        let cleaned = play.console.merge(&play.target, &clean).await;
        result?;
        cleaned.map(drop).map_err(|failure| anyhow::anyhow!("{}", failure.text))
    })
}

fn new_id() -> String {
    format!("{:x}", Timestamp::now().as_nanosecond())
}

/// A session as the API shows it.
#[derive(Clone, Debug)]
struct Session {
    record: SessionRecord,
    instance: String,
    /// Whether it was renewed within its duration, by the clock of whoever renewed last.
    lives: bool,
}

async fn sessions(console: &Console) -> anyhow::Result<Vec<Session>> {
    let list = console.get(&Target::leases()).await.map_err(|failure| anyhow::anyhow!("{}", failure.text))?;
    Ok(sessions_in(list["items"].as_array().map(Vec::as_slice).unwrap_or_default()))
}

fn sessions_in(leases: &[Value]) -> Vec<Session> {
    let renewed = |lease: &Value| text(&lease["spec"]["renewTime"]).parse::<Timestamp>().ok();
    let newest = leases.iter().filter_map(renewed).max();
    let read = |lease: &Value| {
        let record = serde_json::from_str(text(&lease["metadata"]["annotations"][SESSION])).ok()?;
        let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or_default();
        let age = newest?.duration_since(renewed(lease)?);
        let instance = text(&lease["metadata"]["labels"][SESSION_LABEL]).to_owned();
        Some(Session { record, instance, lives: age.as_secs() <= seconds })
    };
    leases.iter().filter_map(read).collect()
}

/// Who will look at the drill; or why it would be unsafe, as far as the API shows. The owner looks again.
fn observers(claim: &Value, sessions: &[Session], drill: &Drill) -> Result<Vec<NodeName>, String> {
    let note = |key: &str| text(&claim["metadata"]["annotations"][key]);
    if !note(CLAIM_FROM).is_empty() || !note(HAND_OVER_TO).is_empty() {
        return Err("another move is under way".to_owned());
    }
    if let Ok(Drill { id, stage: DrillStage::Asked, .. }) = note(DRILL).parse() {
        return Err(format!(
            "drill {id} is asked for already; if nobody runs it, remove the annotation {DRILL}"
        ));
    }
    let holder = text(&claim["spec"]["holderIdentity"]);
    let owns = |session: &&Session| session.record.id.to_string() == note(CLAIM);
    let owner = sessions
        .iter()
        .find(owns)
        .ok_or_else(|| format!("the session of {holder} is not in the API: a take-over is under way"))?;
    if owner.record.end.is_some() || !owner.lives {
        return Err(format!("the session of {holder} has ended or is not renewed: a take-over is under way"));
    }
    let jury = &owner.record.jury.members;
    let lives = |session: &&Session| {
        session.instance == owner.instance && session.lives && session.record.end.is_none()
    };
    let others: Vec<&Session> =
        sessions.iter().filter(lives).filter(|it| it.record.node != owner.record.node).collect();
    let is_there = |node: &NodeName| others.iter().any(|session| session.record.node == *node);
    if others.is_empty() {
        return Err("no other agent lives".to_owned());
    }
    if let Some(to) = drill.to.as_ref().filter(|to| !is_there(to)) {
        return Err(format!("no agent lives on {to}"));
    }
    if drill.kind == DrillKind::Crash {
        if jury.len() < 2 {
            return Err(format!("{holder} has {} jurors; at least 2 are needed (three nodes)", jury.len()));
        }
        if let Some(node) = jury.iter().find(|node| !is_there(node)) {
            return Err(format!("the juror {node} is not renewed"));
        }
    }
    let all = others.iter().map(|session| session.record.node.clone());
    Ok(all.filter(|node| others.len() < TOWN || jury.contains(node)).collect())
}

impl Play<'_> {
    async fn carry_out(&self, out: &mut impl Write, format: crate::status::Format) -> anyhow::Result<()> {
        let held = held_by(&self.console, &self.before).await?;
        let is_text = format == crate::status::Format::Table;
        if is_text && self.drill.kind == DrillKind::Crash {
            writeln!(out, "{} plays dead for 3 s; it holds {}", self.before, some_of(&held))?;
        }
        self.ask().await?;
        let reports = self.reports().await?;
        let claim = self.get().await?;
        let after = text(&claim["spec"]["holderIdentity"]).to_owned();
        let document = self.document(&after, &reports);
        if is_text {
            out.write_all(table(&document, &reports, &self.before).as_bytes())?;
        } else {
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
        let missing: Vec<String> = self
            .observers
            .iter()
            .filter(|node| !reports.contains_key(*node))
            .map(ToString::to_string)
            .collect();
        if !missing.is_empty() {
            bail!("{}: no report came from {}", self.what, some_of(&missing));
        }
        if reports.values().any(|report| report.owner.is_none()) {
            bail!("{}: nobody else was seen to answer", self.what);
        }
        Ok(())
    }

    async fn get(&self) -> anyhow::Result<Value> {
        self.console.get(&self.target).await.map_err(|failure| anyhow::anyhow!("{}", failure.text))
    }

    /// Asks the owner, and waits for its word.
    async fn ask(&self) -> anyhow::Result<()> {
        let patch = json!({"metadata": {"annotations": {DRILL: self.drill.to_string()}}});
        self.console
            .merge(&self.target, &patch)
            .await
            .map_err(|failure| anyhow::anyhow!("{}", failure.text))?;
        let begin = Instant::now();
        while begin.elapsed() < ACCEPTED_WITHIN {
            let claim = self.get().await?;
            let said = text(&claim["metadata"]["annotations"][DRILL]);
            let drill: Drill =
                said.parse().with_context(|| format!("the claim says {said:?} of the drill"))?;
            match drill.stage {
                DrillStage::Refused(reason) => bail!("{}: {} refuses: {reason}", self.what, self.before),
                DrillStage::Begun => return Ok(()),
                DrillStage::Asked => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
        bail!(
            "{}: {} did not answer within {} s; is its agent running, and in mode session?",
            self.what,
            self.before,
            ACCEPTED_WITHIN.as_secs()
        )
    }

    /// What the observers saw: those that say it in time.
    async fn reports(&self) -> anyhow::Result<BTreeMap<NodeName, DrillReport>> {
        let begin = Instant::now();
        loop {
            let seen = sessions(&self.console).await?.into_iter();
            let of = |session: Session| Some((session.record.node, session.record.drill?));
            let reports: BTreeMap<NodeName, DrillReport> =
                seen.filter_map(of).filter(|(_, report)| report.id == self.drill.id).collect();
            let are_all = self.observers.iter().all(|node| reports.contains_key(node));
            if are_all || begin.elapsed() >= REPORTED_WITHIN {
                return Ok(reports);
            }
            tokio::time::sleep(LOOK_AGAIN * 4).await;
        }
    }

    fn document(&self, after: &str, reports: &BTreeMap<NodeName, DrillReport>) -> Value {
        let millis = |span: Duration| span.as_micros() as f64 / 1000.0;
        let of = |(node, report): (&NodeName, &DrillReport)| {
            json!({
                "node": node,
                "gap_ms": millis(report.gap),
                "both_answered_ms": millis(report.both),
                "answers": report.answers,
                "owner_after": report.owner,
                "events": report.events,
            })
        };
        json!({
            "drill": self.drill.id,
            "kind": self.drill.kind,
            "what": self.what,
            "lease": self.target.object,
            "before": self.before,
            "after": after,
            "observers": reports.iter().map(of).collect::<Vec<_>>(),
        })
    }
}

/// The report for people: a row for each observer, then what happened in the order of time.
fn table(document: &Value, reports: &BTreeMap<NodeName, DrillReport>, before: &str) -> String {
    let millis = |micros: f64| format!("{:.1} ms", micros / 1000.0);
    let after = text(&document["after"]);
    let mut shown = format!("{}: {before} → {after}\n", text(&document["what"]));
    let row = |(node, report): (&NodeName, &DrillReport)| {
        vec![
            node.to_string(),
            millis(report.gap.as_micros() as f64),
            millis(report.both.as_micros() as f64),
            report.answers.to_string(),
            report.owner.as_ref().map_or("nobody".to_owned(), ToString::to_string),
        ]
    };
    let rows: Vec<Vec<String>> = reports.iter().map(row).collect();
    shown.push_str(&columns(
        &["OBSERVER", "LONGEST SILENCE", "BOTH ANSWERED", "ANSWERS", "OWNER AFTER"],
        &rows,
    ));
    let mut events: Vec<(i64, &NodeName, String)> = Vec::new();
    for (node, report) in reports {
        let other = report.owner.as_ref().map_or("nobody", NodeName::as_str);
        let of =
            |event: &vip_model::drill::DrillEvent| (event.micros, node, words(event.what, before, other));
        events.extend(report.events.iter().map(of));
    }
    events.sort_unstable();
    let row = |(micros, node, what): (i64, &NodeName, String)| {
        vec![format!("{:+.1} ms", micros as f64 / 1000.0), node.to_string(), what]
    };
    let _ = writeln!(
        shown,
        "\nBy each observer's own clock, from the last answer of {before}; a look every 5 ms:"
    );
    shown.push_str(&columns(&["TIME", "OBSERVER", "WHAT"], &events.into_iter().map(row).collect::<Vec<_>>()));
    shown
}

fn words(what: DrillNotice, before: &str, after: &str) -> String {
    match what {
        DrillNotice::Begun => format!("the API shows that {before} begins"),
        DrillNotice::LastHeartbeat => format!("the last heartbeat of {before}'s session"),
        DrillNotice::LastAnswer => format!("{before} answers for the last time"),
        DrillNotice::Granted => "grants a follower".to_owned(),
        DrillNotice::FirstAnswer => format!("{after} answers for the first time"),
        DrillNotice::Named => "another owner is named".to_owned(),
    }
}

#[cfg(test)]
mod tests;
