//! Commands for a running cluster: take everything off a node, give it back, hand a VIP over. They speak to the API with
//! the user's own credentials; the agents see what is asked of them there.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use vip_cluster::{ApiSettings, Console, LocalApi, Target};
use vip_model::NodeName;
use vip_model::session::{CLAIM, CLAIM_FROM, HAND_OVER_TO};
use vip_model::store::DRAIN;

/// Time between two looks at what happens.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a hand-over may take.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);
/// The control plane's Lease, unless another one is named.
const CONTROL_PLANE: &str = "kube-system/plndr-cp-lock";
/// The Lease of a global election for Services.
const SERVICES: &str = "kube-system/plndr-svcs-lock";

/// `drain`, `undrain` and `handover`.
pub(super) fn commands() -> [Command; 3] {
    let node = || Arg::new("node").required(true).value_name("NODE").help("The node's name");
    let drain = Command::new("drain")
        .about("Move every VIP off a node and keep it empty, until undrain")
        .arg(node())
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .default_value("60")
                .value_parser(clap::value_parser!(u64))
                .help("How long to wait until it is empty; 0 does not wait"),
        )
        .arg(kubeconfig())
        .after_help(
            "Sets the annotation kube-vip.io/drain on the Node. In mode session VIPs move make before break.",
        );
    let undrain = Command::new("undrain")
        .about("Let a drained node hold VIPs again; none moves back by itself")
        .arg(node())
        .arg(kubeconfig());
    let handover = Command::new("handover")
        .about("Hand a VIP over to another node, make before break (election_mode=session)")
        .arg(
            Arg::new("what")
                .required(true)
                .value_name("control-plane|NAMESPACE/NAME")
                .help("The control plane's VIP, or a Service"),
        )
        .arg(Arg::new("to").long("to").value_name("NODE").help("Who shall have it; else the owner chooses"))
        .arg(
            Arg::new("lease")
                .long("lease")
                .value_name("NAMESPACE/NAME")
                .help("The claim's Lease, when it is not the usual one"),
        )
        .arg(kubeconfig());
    [drain, undrain, handover]
}

pub(super) fn kubeconfig() -> Arg {
    Arg::new("kubeconfig")
        .long("kubeconfig")
        .value_name("FILE")
        .help("Credentials; else $KUBECONFIG, ~/.kube/config, the pod's")
}

/// Runs one of them.
pub(super) fn run(name: &str, matches: &ArgMatches, out: &mut impl Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let console = Console::new(settings(matches));
        let text = |key: &str| matches.get_one::<String>(key).map(String::as_str);
        match name {
            "drain" => {
                let limit = Duration::from_secs(matches.get_one("timeout").copied().unwrap_or(60));
                drain(&console, text("node").unwrap_or_default(), limit, out).await
            }
            "undrain" => undrain(&console, text("node").unwrap_or_default(), out).await,
            _ => {
                let what = text("what").unwrap_or_default();
                let leases = leases_of(what, text("lease"))?;
                hand_over(&console, (what, &leases), text("to"), out).await
            }
        }
    })
}

/// Where credentials are: the flag, else what kubectl would use, else a pod's.
pub(super) fn settings(matches: &ArgMatches) -> ApiSettings {
    let named = matches.get_one::<String>("kubeconfig").map(PathBuf::from);
    let from_environment = || std::env::var_os("KUBECONFIG").map(PathBuf::from);
    ApiSettings {
        kubeconfig: named.or_else(from_environment).unwrap_or_default(),
        kubernetes_dir: PathBuf::from("/etc/kubernetes"),
        home: std::env::var_os("HOME").map(PathBuf::from),
        service_account: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount"),
        service: crate::run::kubernetes_service(),
        server: None,
        local: LocalApi::NotOurs,
        port: 6443,
        node: NodeName::new(""),
        vips: std::collections::BTreeSet::new(),
        traits: std::collections::BTreeSet::new(),
    }
}

async fn drain(console: &Console, node: &str, limit: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    annotate_node(console, node, Some("true")).await?;
    writeln!(out, "{node} is drained: its agents give away what they hold and take nothing")?;
    let begin = Instant::now();
    let mut before = None;
    while begin.elapsed() < limit {
        let left = held_by(console, node).await?;
        if before.as_ref() != Some(&left) {
            match left.len() {
                0 => writeln!(out, "{node} holds no VIP any more ({:.1} s)", begin.elapsed().as_secs_f64())?,
                count => writeln!(out, "{count} Leases still name it: {}", some_of(&left))?,
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        before = Some(left);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if limit.is_zero() {
        return Ok(());
    }
    bail!(
        "{node} still holds {} after {} s; `kube-vip status` on it says why. It stays drained; `kube-vip undrain {node}` ends that",
        some_of(&before.unwrap_or_default()),
        limit.as_secs()
    )
}

async fn undrain(console: &Console, node: &str, out: &mut impl Write) -> anyhow::Result<()> {
    annotate_node(console, node, None).await?;
    writeln!(out, "{node} may hold VIPs again")?;
    Ok(())
}

async fn annotate_node(console: &Console, node: &str, value: Option<&str>) -> anyhow::Result<()> {
    let patch = json!({"metadata": {"annotations": {DRAIN: value}}});
    let answer = console.merge(&Target::node(node), &patch).await;
    answer.map(|_| ()).map_err(|failure| anyhow::anyhow!("{}", failure.text))
}

/// The Leases of kube-vip that name a node, in order.
pub(super) async fn held_by(console: &Console, node: &str) -> anyhow::Result<Vec<String>> {
    let list = console.get(&Target::leases()).await.map_err(|failure| anyhow::anyhow!("{}", failure.text))?;
    let mut held: Vec<String> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|lease| lease["spec"]["holderIdentity"] == node && is_ours(lease))
        .map(|lease| {
            format!("{}/{}", text(&lease["metadata"]["namespace"]), text(&lease["metadata"]["name"]))
        })
        .collect();
    held.sort_unstable();
    Ok(held)
}

/// Whether a Lease decides about VIPs: a claim, or one of upstream's names.
fn is_ours(lease: &Value) -> bool {
    let name = text(&lease["metadata"]["name"]);
    let is_claim = !text(&lease["metadata"]["annotations"][CLAIM]).is_empty();
    is_claim || name.starts_with("plndr-") || name.starts_with("kubevip-")
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// The Leases that may be the claim of what is asked for, the likeliest first.
pub(super) fn leases_of(what: &str, named: Option<&str>) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &str| {
        let (namespace, name) = text.split_once('/')?;
        (!namespace.is_empty() && !name.is_empty()).then(|| (namespace.to_owned(), name.to_owned()))
    };
    if let Some(named) = named {
        let lease = pair(named).with_context(|| format!("--lease {named} is no NAMESPACE/NAME"))?;
        return Ok(vec![lease]);
    }
    if what == "control-plane" {
        return Ok(pair(CONTROL_PLANE).into_iter().collect());
    }
    let (namespace, name) = pair(what)
        .with_context(|| format!("`{what}` is neither control-plane nor NAMESPACE/NAME of a Service"))?;
    Ok(vec![(namespace, format!("kubevip-{name}"))].into_iter().chain(pair(SERVICES)).collect())
}

async fn hand_over(
    console: &Console,
    (what, leases): (&str, &[(String, String)]),
    to: Option<&str>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (target, claim) = claim_of(console, what, leases).await?;
    let holder = text(&claim["spec"]["holderIdentity"]).to_owned();
    if to == Some(holder.as_str()) {
        writeln!(out, "{what}: {holder} has it already")?;
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {HAND_OVER_TO: to.unwrap_or("*")}}});
    let begin = Instant::now();
    console.merge(&target, &patch).await.map_err(|failure| anyhow::anyhow!("{}", failure.text))?;
    let mut swapped = None;
    while begin.elapsed() < HAND_OVER_WITHIN {
        let claim = console.get(&target).await.map_err(|failure| anyhow::anyhow!("{}", failure.text))?;
        let now = text(&claim["spec"]["holderIdentity"]);
        let note = |key: &str| text(&claim["metadata"]["annotations"][key]).to_owned();
        if now != holder && swapped.is_none() {
            swapped = Some(begin.elapsed());
        }
        if now != holder && note(CLAIM_FROM).is_empty() {
            let swapped = swapped.unwrap_or_default().as_millis();
            let done = begin.elapsed().as_millis();
            writeln!(
                out,
                "{what}: {holder} → {now}; named after {swapped} ms, {holder} withdrew within {done} ms"
            )?;
            return Ok(());
        }
        if now == holder && note(HAND_OVER_TO).is_empty() {
            bail!(
                "{what} stays on {holder}: {} can't have it (not heard, not fit, drained, or without an endpoint under policy Local); `kube-vip status` on {holder} shows its peers",
                to.unwrap_or("no other node")
            );
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bail!(
        "{what}: nothing happened within {} s; is the agent on {holder} running?",
        HAND_OVER_WITHIN.as_secs()
    )
}

/// The first of the Leases that exists and is a claim.
pub(super) async fn claim_of(
    console: &Console,
    what: &str,
    leases: &[(String, String)],
) -> anyhow::Result<(Target, Value)> {
    let mut tried = Vec::new();
    for (namespace, name) in leases {
        let target = Target::lease(namespace, name);
        match console.get(&target).await {
            Ok(lease) if !text(&lease["metadata"]["annotations"][CLAIM]).is_empty() => {
                return Ok((target, lease));
            }
            Ok(_) => {
                tried.push(format!("{namespace}/{name} is held in mode lease, where nobody can be named"));
            }
            Err(failure) => tried.push(failure.text),
        }
    }
    bail!("{what} has no claim to hand over: {}", tried.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_of_a_service_is_its_own_lease_or_the_global_one() {
        let names = |what: &str| -> Vec<String> {
            leases_of(what, None).unwrap().into_iter().map(|(a, b)| format!("{a}/{b}")).collect()
        };
        assert_eq!(names("control-plane"), [CONTROL_PLANE]);
        assert_eq!(names("shop/web"), ["shop/kubevip-web", SERVICES]);
        assert_eq!(leases_of("x", Some("a/b")).unwrap(), [("a".to_owned(), "b".to_owned())]);
        assert!(leases_of("web", None).unwrap_err().to_string().contains("NAMESPACE/NAME"));
    }

    #[test]
    fn only_leases_about_vips_count_as_held() {
        let lease = |name: &str, claim: Option<&str>| json!({"metadata": {"name": name, "annotations": {CLAIM: claim}}, "spec": {}});
        assert!(is_ours(&lease("plndr-cp-lock", None)));
        assert!(is_ours(&lease("kubevip-web", None)));
        assert!(is_ours(&lease("mine", Some("0123456789abcdef"))));
        assert!(!is_ours(&lease("kube-scheduler", None)));
    }
}
