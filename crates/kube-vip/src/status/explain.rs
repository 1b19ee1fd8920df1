//! An explanation as text for people: the findings in their order, each with what it means, and what follows.

use std::fmt::Write as _;

use vip_model::Instant;
use vip_model::explanation::{Explanation, Outcome, Stage};
use vip_model::verdict::Verdict;

use super::table::{age, plain};

/// The explanation, as lines.
pub(crate) fn render(explanation: &Explanation, now: Instant) -> String {
    let Explanation { service, node, instance, findings, verdict, since } = explanation;
    let mut text = format!("Service:    {}\nAgent:      {instance} on {node}\n", plain(&service.to_string()));
    for finding in findings {
        let mark = match finding.outcome {
            Outcome::Passes => "ok   ",
            Outcome::Waits => "wait ",
            Outcome::Stops => "no   ",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<11} {mark} {}", name(finding.stage), plain(&finding.text));
    }
    let verdict = match verdict {
        Verdict::Announce => "this node answers for it".to_owned(),
        Verdict::Skip(reason) => format!("this node does not answer for it: {reason}"),
    };
    let since = since.map_or(String::new(), |since| format!(" (for {})", age(now.since(since))));
    let _ = writeln!(text, "Verdict:    {}{since}", plain(&verdict));
    text
}

const fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Selection => "Selection:",
        Stage::Addresses => "Addresses:",
        Stage::Endpoints => "Endpoints:",
        Stage::Sharing => "Sharing:",
        Stage::Election => "Election:",
        Stage::Kernel => "Kernel:",
        Stage::Writing => "Writing:",
    }
}

#[cfg(test)]
mod tests {
    use vip_model::explanation::Finding;
    use vip_model::service::ServiceName;
    use vip_model::verdict::Reason;

    use super::*;

    #[test]
    fn findings_stand_in_their_order_with_what_they_mean() {
        let finding = |stage, outcome, text: &str| Finding { stage, outcome, text: text.to_owned() };
        let explanation = Explanation {
            service: ServiceName::new("shop", "web"),
            node: "n1".to_owned(),
            instance: "services".to_owned(),
            findings: vec![
                finding(Stage::Selection, Outcome::Passes, "a load balancer with no class: it is ours"),
                finding(Stage::Election, Outcome::Stops, "shop/kubevip-web: n2\u{1b}[2J holds it"),
                finding(Stage::Kernel, Outcome::Waits, "10.0.0.1 is to be installed on eth0"),
            ],
            verdict: Verdict::Skip(Reason::HeldBy("n2".to_owned())),
            since: Some(Instant::from_millis(1000)),
        };
        let expected = "\
Service:    shop/web
Agent:      services on n1
Selection:  ok    a load balancer with no class: it is ours
Election:   no    shop/kubevip-web: n2 [2J holds it
Kernel:     wait  10.0.0.1 is to be installed on eth0
Verdict:    this node does not answer for it: n2 holds the Lease (for 5s)
";
        assert_eq!(render(&explanation, Instant::from_millis(6000)), expected);
    }
}
