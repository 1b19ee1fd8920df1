//! The view as text for people: who holds what, since when, and why not. Used by `kube-vip status`, by the page and
//! by the dump.

use std::fmt::Write as _;
use std::time::Duration;

use vip_model::Instant;
use vip_model::members::{ElectionState, Role};
use vip_model::observed::Gate;
use vip_model::service::EndpointCount;
use vip_model::verdict::Verdict;
use vip_model::view::{Readiness, ServiceView, View, VipView};

/// Transitions that are shown; the view holds more.
const TRANSITIONS: usize = 10;

/// The whole picture, as lines.
pub(crate) fn render(view: &View, now: Instant) -> String {
    let mut text = head(view);
    if !view.verdicts.is_empty() {
        let rows: Vec<Vec<String>> = view.verdicts.iter().map(|vip| vip_row(vip, now)).collect();
        text.push('\n');
        text.push_str(&columns(&["VIP", "INTERFACE", "HOLDER", "SINCE", "STATE"], &rows));
    }
    if !view.services.is_empty() {
        text.push('\n');
        text.push_str(&services(view, now));
    }
    let rows: Vec<Vec<String>> =
        view.elections.iter().map(|(name, state)| lease_row(name.as_str(), state, now)).collect();
    text.push('\n');
    text.push_str(&columns(&["LEASE", "HOLDER", "ROLE", "SINCE", "API"], &rows));
    if let Some(session) = &view.session {
        text.push('\n');
        text.push_str(&super::session::render(session, now));
    }
    if !view.journal.is_empty() {
        let skipped = view.journal.len().saturating_sub(TRANSITIONS);
        let last = &view.journal[skipped..];
        let rows: Vec<Vec<String>> = last
            .iter()
            .map(|step| {
                vec![format!("{} ago", age(now.since(step.at))), step.subject.clone(), step.change.clone()]
            })
            .collect();
        text.push('\n');
        text.push_str(&columns(&["WHEN", "WHAT", "CHANGE"], &rows));
    }
    text
}

/// The Services of a view: one row each.
pub(crate) fn services(view: &View, now: Instant) -> String {
    let rows: Vec<Vec<String>> = view.services.iter().map(|service| service_row(service, now)).collect();
    columns(&["SERVICE", "ADDRESS", "HOLDER", "ENDPOINTS", "SINCE", "STATE"], &rows)
}

fn addresses(service: &ServiceView) -> String {
    if service.addrs.is_empty() {
        return "-".to_owned();
    }
    let addrs: Vec<String> = service.addrs.iter().map(ToString::to_string).collect();
    addrs.join(",")
}

/// How many take traffic, of how many, and how many of them are on this node.
fn endpoints(service: &ServiceView) -> String {
    let EndpointCount { all, taking, here } = service.endpoints;
    format!("{taking}/{all} ({here} here)")
}

fn service_row(service: &ServiceView, now: Instant) -> Vec<String> {
    let state = match &service.verdict {
        Verdict::Announce => "held by this node".to_owned(),
        Verdict::Skip(reason) => format!("not held: {reason}"),
    };
    vec![
        service.service.to_string(),
        addresses(service),
        service.holder.clone().unwrap_or_else(|| "-".to_owned()),
        endpoints(service),
        age(now.since(service.since)),
        state,
    ]
}

fn head(view: &View) -> String {
    let state = match view.readiness {
        _ if view.stopping => "stopping",
        Readiness::Ready => "ready",
        Readiness::Starting => "starting: not everything is known yet",
        Readiness::Stale => "the Kubernetes API does not answer: what is known of it is stale",
    };
    let gate = match &view.gate {
        Gate::Open => "open (no probe has decided)".to_owned(),
        Gate::Green => "green".to_owned(),
        Gate::Red { reason } => format!("red: {reason}"),
    };
    format!(
        "Node:         {}\nInstance:     {}\nAgent:        {state}\nHealth gate:  {}\n",
        view.node,
        view.instance,
        plain(&gate)
    )
}

fn vip_row(vip: &VipView, now: Instant) -> Vec<String> {
    let state = match &vip.verdict {
        Verdict::Announce => "held by this node".to_owned(),
        Verdict::Skip(reason) => format!("not held: {reason}"),
    };
    vec![
        vip.vip.to_string(),
        vip.interface.clone().unwrap_or_else(|| "-".to_owned()),
        vip.holder.clone().unwrap_or_else(|| "-".to_owned()),
        age(now.since(vip.since)),
        state,
    ]
}

fn lease_row(name: &str, state: &ElectionState, now: Instant) -> Vec<String> {
    let (role, since) = match state.role {
        Role::Undecided => ("not seen yet", None),
        Role::Follower => ("follower", None),
        Role::Holder { since, .. } => ("holder", Some(since)),
        Role::Leaving => ("letting go", None),
    };
    vec![
        name.to_owned(),
        state.holder.clone().unwrap_or_else(|| "-".to_owned()),
        role.to_owned(),
        since.map_or("-".to_owned(), |at| age(now.since(at))),
        state.trouble.as_ref().map_or("ok".to_owned(), |failure| failure.text.clone()),
    ]
}

/// Columns that line up; the last one is as wide as it likes.
pub(crate) fn columns(titles: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&titles)
        .chain(rows)
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let width = |at: usize| lines.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut text = String::new();
    for row in &lines {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names come from outside: none of them may move a terminal's cursor or break a line.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An age in its two largest units, as kubectl shows it.
pub(crate) fn age(span: Duration) -> String {
    let secs = span.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, _) => format!("{minutes}m{}s", secs % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vip_model::LeaseName;
    use vip_model::store::{Failure, FailureClass};
    use vip_model::verdict::{Reason, Subject};
    use vip_model::view::Transition;

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    fn vip(text: &str, verdict: Verdict) -> VipView {
        let vip = text.parse().unwrap();
        VipView {
            subject: Subject::ControlPlane(vip),
            vip,
            interface: Some("eth0".to_owned()),
            verdict,
            lease: LeaseName::new("kube-system", "plndr-cp-lock"),
            holder: Some("n2".to_owned()),
            since: at(100),
        }
    }

    fn view() -> View {
        let trouble = Failure { class: FailureClass::Timeout, text: "127.0.0.1:6443: no answer".to_owned() };
        let state = ElectionState {
            role: Role::Follower,
            holder: Some("n2".to_owned()),
            trouble: Some(trouble),
            ..ElectionState::default()
        };
        let step = |secs, change: &str| Transition {
            at: at(secs),
            subject: "lease".to_owned(),
            change: change.to_owned(),
        };
        View {
            node: "n1".to_owned(),
            instance: "control-plane".to_owned(),
            readiness: Readiness::Ready,
            verdicts: vec![
                vip("192.0.2.1", Verdict::Announce),
                vip("2001:db8::1", Verdict::Skip(Reason::HeldBy("n2".to_owned()))),
            ],
            elections: Arc::new([(LeaseName::new("kube-system", "plndr-cp-lock"), state)].into()),
            journal: vec![step(90, "lost"), step(185, "n2 holds it")].into(),
            ..View::default()
        }
    }

    #[test]
    fn the_table_lines_up_and_says_who_since_when_and_why() {
        let expected = "\
Node:         n1
Instance:     control-plane
Agent:        ready
Health gate:  open (no probe has decided)

VIP          INTERFACE  HOLDER  SINCE  STATE
192.0.2.1    eth0       n2      1m30s  held by this node
2001:db8::1  eth0       n2      1m30s  not held: n2 holds the Lease

LEASE                      HOLDER  ROLE      SINCE  API
kube-system/plndr-cp-lock  n2      follower  -      127.0.0.1:6443: no answer

WHEN       WHAT   CHANGE
1m40s ago  lease  lost
5s ago     lease  n2 holds it
";
        assert_eq!(render(&view(), at(190)), expected);
    }

    #[test]
    fn a_service_is_a_row_with_its_endpoints() {
        let service = ServiceView {
            service: vip_model::service::ServiceName::new("shop", "web"),
            addrs: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            verdict: Verdict::Announce,
            lease: None,
            holder: Some("n2".to_owned()),
            since: at(100),
            endpoints: EndpointCount { all: 3, taking: 2, here: 1 },
        };
        let view = View { services: [service].into(), ..View::default() };
        let expected = "\
SERVICE   ADDRESS           HOLDER  ENDPOINTS     SINCE  STATE
shop/web  10.0.0.1,fd00::1  n2      2/3 (1 here)  1m30s  held by this node
";
        assert_eq!(services(&view, at(190)), expected);
    }

    #[test]
    fn only_the_last_transitions_are_shown() {
        let mut view = view();
        let step = |n| Transition { at: at(n), subject: "lease".to_owned(), change: format!("step {n}") };
        view.journal = (0..30).map(step).collect();
        let text = render(&view, at(60));
        assert!(
            !text.contains("step 19\n") && text.contains("step 20\n") && text.contains("step 29\n"),
            "{text}"
        );
    }

    #[test]
    fn a_name_from_outside_cannot_move_the_cursor() {
        let mut view = view();
        view.verdicts[0].holder = Some("\u{1b}[2Jn3\n".to_owned());
        let text = render(&view, at(190));
        assert!(!text.contains('\u{1b}') && text.contains(" [2Jn3 "), "{text}");
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [59, 60, 3599, 3600, 90_000].map(|secs| age(Duration::from_secs(secs)));
        assert_eq!(ages, ["59s", "1m0s", "59m59s", "1h0m", "1d1h"]);
    }
}
