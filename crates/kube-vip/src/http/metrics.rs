//! `/metrics`: the published view and the program's own measurements as Prometheus text, version 0.0.4. Names and
//! labels are a contract with users' dashboards and are written here literally; see `docs/decisions` for why the
//! text is our own and not a library's.

mod service;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use vip_model::LeaseName;
use vip_model::members::{ElectionState, Role};
use vip_model::store::FailureClass;
use vip_model::verdict::Verdict;
use vip_model::view::View;

use super::proc;
use crate::board::{Board, Histogram};
use crate::version::VERSION;

/// `Content-Type` of the text format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of `kube_vip_takeover_seconds`: from a hand-over (milliseconds) to an expiry.
const TAKEOVER_BOUNDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// How many Leases have series of their own: those of the control plane first, then by name. With one for each Service
/// there may be thousands.
const LEASES_LIMIT: usize = 1_000;

/// Everything there is to say, now.
pub(crate) fn render(board: &Board) -> String {
    let view = board.view();
    let mut page = Exposition::default();
    write_node(&mut page, &view);
    service::write_services(&mut page, &view);
    write_counters(&mut page, &view);
    write_timings(&mut page, board, &view);
    page.family(
        "kube_vip_frames_dropped_total",
        Kind::Counter,
        "Received frames that found no place in the queue.",
    );
    page.sample(&[], board.inbox.frames_dropped() as f64);
    write_peers(&mut page, board);
    write_left_out(&mut page, &view);
    write_process(&mut page);
    page.text
}

fn write_node(page: &mut Exposition, view: &View) {
    page.family("kube_vip_build_info", Kind::Gauge, "Constant 1; the build is in the labels.");
    let labels = [("version", VERSION.number), ("build", VERSION.build), ("node", view.node.as_str())];
    page.sample(&labels, 1.0);

    page.family("kube_vip_is_leader", Kind::Gauge, "1 when this node holds the lease, else 0.");
    let labels = LeaseLabels::new(view);
    for lease in listed_leases(view) {
        let held = flag(view.elections.get(lease).is_some_and(holds));
        page.sample(&[("node", &view.node), ("lease_name", labels.of(lease))], held);
    }
    page.family(
        "kube_vip_vip_held",
        Kind::Gauge,
        "1 when this node holds the address and answers for it, else 0.",
    );
    for vip in &view.verdicts {
        let interface = vip.interface.as_deref().unwrap_or("");
        let held = vip.verdict == Verdict::Announce;
        page.sample(&[("vip", &vip.vip.to_string()), ("interface", interface)], flag(held));
    }
}

fn write_counters(page: &mut Exposition, view: &View) {
    let counters = &view.counters;
    page.family(
        "kube_vip_leader_election_transitions_total",
        Kind::Counter,
        "Times that this node became the holder of the lease.",
    );
    let labels = LeaseLabels::new(view);
    for lease in listed_leases(view) {
        let count = counters.transitions.get(lease).copied().unwrap_or(0);
        page.sample(&[("lease_name", labels.of(lease))], count as f64);
    }
    page.family(
        "kube_vip_foreign_claims_total",
        Kind::Counter,
        "Frames of others that claim one of our addresses.",
    );
    for vip in &view.verdicts {
        let vip = vip.vip.to_string();
        let count = counters.foreign_claims.get(&vip).copied().unwrap_or(0);
        page.sample(&[("vip", &vip)], count as f64);
    }
    page.family(
        "kube_vip_api_errors_total",
        Kind::Counter,
        "Failed requests to the Kubernetes API by class.",
    );
    for class in FailureClass::ALL.map(FailureClass::as_str) {
        page.sample(&[("class", class)], counters.failures.get(class).copied().unwrap_or(0) as f64);
    }
    page.family("kube_vip_api_requests_total", Kind::Counter, "Requests to the Kubernetes API by kind.");
    for (kind, count) in &counters.questions {
        page.sample(&[("kind", kind)], *count as f64);
    }
    page.family(
        "kube_vip_announcements_total",
        Kind::Counter,
        "Gratuitous ARP and neighbour advertisements sent.",
    );
    page.sample(&[], counters.announcements as f64);
    page.family("kube_vip_kernel_changes_total", Kind::Counter, "Changes to kernel objects by outcome.");
    for outcome in ["done", "too_late", "failed"] {
        page.sample(&[("outcome", outcome)], counters.changes.get(outcome).copied().unwrap_or(0) as f64);
    }
}

fn write_timings(page: &mut Exposition, board: &Board, view: &View) {
    page.family("kube_vip_turn_seconds", Kind::Histogram, "How long a turn of the agent loop takes.");
    page.histogram(&board.turns);
    page.family(
        "kube_vip_takeover_seconds",
        Kind::Histogram,
        "From the lease found takeable to the address installed.",
    );
    let takeovers = Histogram::new(TAKEOVER_BOUNDS);
    for seconds in &view.counters.takeover_seconds {
        takeovers.observe(Duration::try_from_secs_f64(*seconds).unwrap_or_default());
    }
    page.histogram(&takeovers);
}

fn write_peers(page: &mut Exposition, board: &Board) {
    page.family("kube_vip_heartbeats_sent_total", Kind::Counter, "Heartbeats to other agents by outcome.");
    for (outcome, count) in board.peers.sent() {
        page.sample(&[("outcome", outcome)], count as f64);
    }
    page.family(
        "kube_vip_heartbeats_received_total",
        Kind::Counter,
        "Datagrams on the port for heartbeats by outcome.",
    );
    for (outcome, count) in board.peers.heard() {
        page.sample(&[("outcome", outcome)], count as f64);
    }
}

fn write_process(page: &mut Exposition) {
    let Some(process) = proc::read() else { return };
    page.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.");
    page.sample(&[], process.resident_bytes as f64);
    page.family("process_cpu_seconds_total", Kind::Counter, "User and system CPU time spent in seconds.");
    page.sample(&[], process.cpu_seconds);
    page.family("process_open_fds", Kind::Gauge, "Number of open file descriptors.");
    page.sample(&[], process.open_fds as f64);
    page.family(
        "process_start_time_seconds",
        Kind::Gauge,
        "Start time of the process since the epoch in seconds.",
    );
    page.sample(&[], process.start_time_seconds);
}

/// The Leases that have series of their own.
fn listed_leases(view: &View) -> impl Iterator<Item = &LeaseName> {
    let of_vips = || view.verdicts.iter().map(|vip| &vip.lease);
    let first = view.elections.keys().filter(move |lease| of_vips().any(|of_vip| of_vip == *lease));
    let others = view.elections.keys().filter(move |lease| of_vips().all(|of_vip| of_vip != *lease));
    first.chain(others).take(LEASES_LIMIT)
}

fn write_left_out(page: &mut Exposition, view: &View) {
    page.family(
        "kube_vip_series_left_out",
        Kind::Gauge,
        "Leases and Services beyond the limit, which have no series of their own.",
    );
    let leases = view.elections.len().saturating_sub(LEASES_LIMIT);
    for (what, count) in [("leases", leases), ("services", service::left_out(view))] {
        page.sample(&[("of", what)], count as f64);
    }
}

/// The labels of Leases: the bare name, as kube-vip has it; with the namespace where two share a name.
struct LeaseLabels<'a> {
    /// How many Leases have each name.
    names: BTreeMap<&'a str, usize>,
}

impl<'a> LeaseLabels<'a> {
    fn new(view: &'a View) -> Self {
        let mut names = BTreeMap::new();
        for lease in view.elections.keys() {
            *names.entry(lease.name()).or_default() += 1;
        }
        Self { names }
    }

    fn of<'l>(&self, lease: &'l LeaseName) -> &'l str {
        let is_shared = self.names.get(lease.name()).is_some_and(|count| *count > 1);
        if is_shared { lease.as_str() } else { lease.name() }
    }
}

fn holds(state: &ElectionState) -> bool {
    matches!(state.role, Role::Holder { .. } | Role::Leaving)
}

fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// The type of a metric family.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The text under construction: a family, then its samples. Writing to a `String` cannot fail.
#[derive(Default)]
struct Exposition {
    text: String,
    name: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, value);
    }

    fn histogram<const N: usize>(&mut self, histogram: &Histogram<N>) {
        let (buckets, total, sum) = histogram.read();
        for (bound, count) in buckets {
            self.line("_bucket", &[("le", &bound.to_string())], count as f64);
        }
        self.line("_bucket", &[("le", "+Inf")], total as f64);
        self.line("_sum", &[], sum);
        self.line("_count", &[], total as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (at, (key, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{key}=\"{}\"", escaped(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
