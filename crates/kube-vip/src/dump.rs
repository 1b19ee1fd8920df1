//! What SIGUSR1 writes to standard output: the effective settings and the state, in the sections of kube-vip's dump,
//! for the parts that exist; then the view as JSON. Credentials are not in it, because none of its sources holds any.

use std::fmt::Write as _;

use vip_model::Instant;
use vip_model::config::{Advertise, Config, ControlPlane, InterfaceChoice, NodeLabel};
use vip_model::view::View;

use crate::settings::{Effective, Listen};
use crate::status::table;
use crate::version::VERSION;

/// Width of the header's and footer's lines.
const RULE: usize = 80;

/// The dump.
pub(crate) fn render(effective: &Effective, view: &View, now: Instant) -> String {
    let mut text = Text::default();
    text.rule("KUBE-VIP CONFIGURATION DUMP");
    text.line("Timestamp", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"));
    text.line("Node Name", &effective.config.node);
    text.line("Process ID", std::process::id());
    basic(&mut text, effective);
    arp(&mut text, &effective.config);
    if let Some(control_plane) = &effective.config.control_plane {
        election(&mut text, control_plane);
    }
    text.section("RUNTIME STATISTICS");
    text.line("Turns", view.counters.turns);
    text.line("Plans", view.counters.plans);
    text.line("Announcements", view.counters.announcements);
    text.section("STATUS");
    text.0.push_str(&table::render(view, now));
    text.section("VIEW");
    // The view is made of maps with text keys and plain values: it always has a JSON form.
    text.0.push_str(&serde_json::to_string_pretty(view).unwrap_or_default());
    text.0.push('\n');
    text.rule("END OF CONFIGURATION DUMP");
    text.0
}

fn basic(text: &mut Text, effective: &Effective) {
    text.section("BASIC CONFIGURATION");
    text.line("Version", VERSION.number);
    text.line("Instance", &effective.config.instance);
    if let Some(control_plane) = &effective.config.control_plane {
        let join = |parts: Vec<String>| parts.join(",");
        text.line("VIP", join(control_plane.vips.iter().map(|vip| vip.addr().to_string()).collect()));
        text.line(
            "VIP Subnet",
            join(control_plane.vips.iter().map(|vip| vip.0.prefix_len().to_string()).collect()),
        );
        text.line("Port", control_plane.port);
        match &control_plane.interface {
            InterfaceChoice::Named(name) => text.line("Interface", name),
            InterfaceChoice::Auto => text.line("Interface", "auto"),
        }
        text.line("Node Labeling", control_plane.node_label == NodeLabel::HasIp);
        if let Some(health) = &control_plane.health {
            text.line("Health Check", &health.url);
        }
    }
    text.line("Enable Control Plane", effective.config.control_plane.is_some());
    text.line("Log Level", format_args!("{:?}", effective.log));
    let listen = |listen: &Listen| match listen {
        Listen::AnyAddress { port } => format!(":{port}"),
        Listen::At(addr) => addr.to_string(),
    };
    text.line("Prometheus Server", effective.prometheus_server.as_ref().map_or("off".to_owned(), listen));
    let port = effective.health_check_port.map_or("off".to_owned(), |port| port.to_string());
    text.line("Health Check Port", port);
    text.line("Kubernetes Config File", effective.api.kubeconfig.display());
}

fn arp(text: &mut Text, config: &Config) {
    let Advertise::Arp(layer2) = &config.advertise;
    text.section("ARP/NDP CONFIGURATION");
    text.line("ARP Enabled", true);
    text.line("ARP Broadcast Rate", format_args!("{} ms", layer2.announce_interval.as_millis()));
    text.line("Skip DAD", layer2.skip_conflict_probe);
}

fn election(text: &mut Text, control_plane: &ControlPlane) {
    let election = &control_plane.election;
    text.section("LEADER ELECTION CONFIGURATION");
    text.line("Lease Namespace", election.lease.namespace());
    text.line("Lease Name", election.lease.name());
    text.line("Lease Duration", format_args!("{} seconds", election.timings.duration.as_secs()));
    text.line("Renew Deadline", format_args!("{} seconds", election.timings.renew_deadline.as_secs()));
    text.line("Retry Period", format_args!("{} seconds", election.timings.retry_period.as_secs()));
}

/// The dump under construction. Writing to a `String` cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn rule(&mut self, title: &str) {
        let rule = "=".repeat(RULE);
        let _ = writeln!(self.0, "{rule}\n{title}\n{rule}");
    }

    fn section(&mut self, title: &str) {
        let _ = writeln!(self.0, "\n--- {title} ---");
    }

    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key}: {value}");
    }
}

#[cfg(test)]
pub(crate) mod tests;
