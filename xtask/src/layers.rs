//! The border check: reads `cargo metadata` and fails with the sentence that is broken. The table is the one of
//! ARCHITECTURE.md; development dependencies are free, because a test may look across borders.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What one crate may and must not use.
struct Border {
    package: &'static str,
    /// Crates of ours that it may use.
    ours: &'static [&'static str],
    /// Other crates that it must never see, directly or through others.
    never: &'static [&'static str],
}

const PURE: &[&str] =
    &["tokio", "libc", "nix", "socket2", "kube", "k8s-openapi", "rtnetlink", "tracing-subscriber"];
/// `tracing` and the codec crates are pure; the C library is not, whoever brings it.
const BORDERS: &[Border] = &[
    Border { package: "vip-model", ours: &[], never: PURE },
    Border { package: "vip-proto", ours: &["vip-model"], never: PURE },
    Border { package: "vip-plan", ours: &["vip-model"], never: PURE },
    Border { package: "vip-agent", ours: &["vip-model", "vip-proto", "vip-plan"], never: PURE },
    Border { package: "vip-kernel", ours: &["vip-model"], never: &["kube", "k8s-openapi"] },
    Border { package: "vip-cluster", ours: &["vip-model"], never: &["rtnetlink", "netlink-proto"] },
    Border {
        package: "kube-vip",
        ours: &["vip-model", "vip-proto", "vip-plan", "vip-agent", "vip-kernel", "vip-cluster"],
        never: &[],
    },
    Border { package: "vip-sim", ours: &["vip-model", "vip-proto", "vip-plan", "vip-agent"], never: PURE },
    Border { package: "vip-lab", ours: &["vip-model", "vip-kernel", "vip-sim"], never: &[] },
];

/// What may use the C library below a pure crate. `cpufeatures` asks it, on ARM, which instructions the processor has, and
/// gives nothing else of it away.
const ASKS_THE_PROCESSOR: &str = "cpufeatures";

/// The graph of normal dependencies: package name to the names that it uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Checks every border and reports all that are broken.
pub(crate) fn check() -> Result<()> {
    let graph = graph()?;
    let broken: Vec<String> = BORDERS.iter().flat_map(|border| breaches(border, &graph)).collect();
    if !broken.is_empty() {
        bail!("borders are broken (see ARCHITECTURE.md):\n  {}", broken.join("\n  "));
    }
    println_ok(BORDERS.len());
    Ok(())
}

#[allow(clippy::print_stdout)] // a command's answer
fn println_ok(count: usize) {
    println!("layers: {count} borders hold");
}

fn breaches(border: &Border, graph: &Graph) -> Vec<String> {
    let Some(direct) = graph.get(border.package) else {
        return vec![format!("{} is in the table but not in the workspace", border.package)];
    };
    let is_ours = |name: &&String| BORDERS.iter().any(|other| other.package == name.as_str());
    let foreign = direct.iter().filter(is_ours).filter(|name| !border.ours.contains(&name.as_str()));
    let mut broken: Vec<String> = foreign
        .map(|name| format!("{} uses {name}; of ours it may use: {:?}", border.package, border.ours))
        .collect();
    for name in reachable(border.package, graph) {
        if border.never.contains(&name.as_str()) {
            broken.push(format!("{} reaches {name}, which it must never see", border.package));
        }
    }
    broken
}

fn reachable(package: &str, graph: &Graph) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![package.to_owned()];
    while let Some(name) = open.pop() {
        if name == ASKS_THE_PROCESSOR {
            continue;
        }
        for next in graph.get(&name).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

fn graph() -> Result<Graph> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let mut graph = Graph::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let name = names.get(&text(&node["id"])).cloned().unwrap_or_default();
        let uses = list(&node["deps"]).into_iter().filter(|dep| {
            // Normal dependencies have kind null; build and dev dependencies do not run in the program.
            list(&dep["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null() && !text(&kind["target"]).contains("windows"))
        });
        let uses = uses.filter_map(|dep| names.get(&text(&dep["pkg"])).cloned());
        graph.entry(name).or_default().extend(uses);
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    }

    #[test]
    fn a_pure_crate_that_reaches_tokio_through_another_breaks_its_border() {
        let border = &BORDERS[2];
        assert!(breaches(border, &graph(&[("vip-plan", "vip-model")])).is_empty());
        let broken = breaches(border, &graph(&[("vip-plan", "x"), ("x", "tokio")]));
        assert_eq!(broken, ["vip-plan reaches tokio, which it must never see"]);
        assert_eq!(breaches(border, &graph(&[("vip-plan", "vip-proto")])).len(), 1);
    }

    #[test]
    fn the_c_library_is_seen_through_everything_but_the_question_for_the_processor() {
        let border = &BORDERS[2];
        assert_eq!(breaches(border, &graph(&[("vip-plan", "x"), ("x", "libc")])).len(), 1);
        let through = graph(&[("vip-plan", "sha2"), ("sha2", "cpufeatures"), ("cpufeatures", "libc")]);
        assert_eq!(breaches(border, &through), Vec::<String>::new());
    }
}
