//! `kube-vip manifest` and `kube-vip kubeadm`: the Pod, the `DaemonSet` and the RBAC objects that run an agent, in the
//! shape that upstream prints. It is fed with the same settings as the agent, except the file, and gives back YAML.

use std::path::Path;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

use crate::cli;
use crate::settings::{self, FileUse, Machine, Sources, Values, effective, key};
use crate::version::VERSION;

mod environment;
mod object;
mod rbac;

/// The image without a tag; the tag is the version of this program.
const IMAGE: &str = "ghcr.io/kube-vip/kube-vip";

/// The namespace of everything, unless `svc_namespace` says otherwise.
const NAMESPACE: &str = "kube-system";

/// Where `kubeadm join` looks for the kubeconfig that the manifest will mount.
const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";

/// The command `manifest`.
pub(crate) fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_name("BOOL")
            .value_parser(|text: &str| settings::parse::boolean(text).ok_or(settings::parse::BOOLEANS))
    };
    let image = Arg::new("image")
        .long("image")
        .default_value(IMAGE)
        .help("Image; without a tag, that of this version");
    let inside = "Reach the API with a ServiceAccount instead of a kubeconfig of the host";
    let taint = switch("taint", "Run on control-plane nodes, and on nothing else");
    Command::new("manifest")
        .about("Print manifests that run an agent with these settings")
        .arg(switch("inCluster", inside).global(true))
        .arg(image.global(true))
        .subcommand(leaf("pod", "Print a static Pod"))
        .subcommand(leaf("daemonset", "Print a DaemonSet").arg(taint))
        .subcommand(
            leaf("rbac", "Print the ServiceAccount and its rights")
                .arg(switch("role", "Rights in one namespace only (Role and RoleBinding)"))
                .arg(switch("rolebinding", "Bind the ClusterRole in one namespace only (RoleBinding)")),
        )
}

/// The command `kubeadm`.
pub(crate) fn kubeadm_command() -> Command {
    let config = Arg::new("config").long("config").default_value(ADMIN_CONF).value_name("FILE");
    Command::new("kubeadm")
        .about("Print the static Pod for a kubeadm cluster")
        .subcommand(leaf("init", "For the first control-plane node"))
        .subcommand(
            leaf("join", "For further control-plane nodes")
                .arg(config.help("Kubeconfig that must be there already")),
        )
}

fn leaf(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).arg(Arg::new("extra").num_args(0..).hide(true))
}

/// Runs a command of either group; `matches` are those of the innermost command `name`.
pub(crate) fn run(name: &str, matches: &ArgMatches, sources: &Sources) -> anyhow::Result<String> {
    let sources = Sources { file: FileUse::Never, ..sources.clone() };
    let values = Values::read(&sources)?;
    let yes = |flag: &str| matches.get_one::<bool>(flag).copied().unwrap_or_default();
    let namespace = namespace(&values);
    let objects = match name {
        "rbac" => {
            let reach = match (yes("role"), yes("rolebinding")) {
                (true, _) => rbac::Reach::Namespace,
                (false, true) => rbac::Reach::Binding,
                (false, false) => rbac::Reach::Cluster,
            };
            let needs = rbac::Needs::of(&values, namespace)?;
            return rbac::documents(reach, namespace, &needs)
                .iter()
                .map(|document| Ok(format!("---\n{}", yaml(document)?)))
                .collect();
        }
        "init" => {
            require_kubeadm(&values)?;
            object::pod
        }
        "join" => {
            require_kubeadm(&values)?;
            require_file(matches)?;
            object::pod
        }
        "daemonset" => object::daemon_set,
        _ => object::pod,
    };
    require_address(&values)?;
    let image = matches.try_get_one::<String>("image").ok().flatten().map_or(IMAGE, String::as_str);
    let shape = object::Shape {
        image: tagged(image)?,
        environment: environment::list(&values)?,
        namespace: namespace.to_owned(),
        kubeconfig: (!matches.try_get_one::<bool>("inCluster").ok().flatten().copied().unwrap_or_default())
            .then(|| values.text(key::KUBECONFIG).to_owned()),
        keeps: if values.text(key::ELECTION_MODE) == "session" {
            object::Keeps::Session
        } else {
            object::Keeps::Nothing
        },
        rights: if values.text(key::BALANCE_METHOD) == "masquerade" {
            object::Rights::Privileged
        } else {
            object::Rights::Network
        },
        placement: if matches.try_get_one::<bool>("taint").ok().flatten().copied().unwrap_or_default() {
            object::Placement::ControlPlane
        } else {
            object::Placement::Anywhere
        },
    };
    warn(&sources, &values);
    yaml(&objects(&shape))
}

/// The namespace of the objects: upstream reads `svc_namespace` only where `svc_enable` is in the environment.
fn namespace(values: &Values) -> &str {
    let services = values.given(key::SERVICES).is_some_and(|given| given.spelled == key::SERVICES);
    values.set(key::SERVICES_NAMESPACE).filter(|_| services).unwrap_or(NAMESPACE)
}

fn require_address(values: &Values) -> anyhow::Result<()> {
    let address = [key::ADDRESS, key::VIP].iter().any(|key| values.set(key).is_some());
    if values.boolean(key::CONTROL_PLANE)? && !address && !values.boolean(key::DDNS)? {
        bail!("no address is specified for kube-vip to expose services on: give one with --address");
    }
    Ok(())
}

fn require_kubeadm(values: &Values) -> anyhow::Result<()> {
    if values.set(key::INTERFACE).is_none() {
        bail!("No interface is specified for kube-vip to bind to: give one with --interface");
    }
    if values.set(key::ADDRESS).or(values.set(key::VIP)).is_none() {
        bail!("No address is specified for kube-vip to expose services on: give one with --address");
    }
    Ok(())
}

fn require_file(matches: &ArgMatches) -> anyhow::Result<()> {
    let path = matches.get_one::<String>("config").map_or(ADMIN_CONF, String::as_str);
    if !Path::new(path).exists() {
        bail!("kubeConfig not found: {path} does not exist; give its path with --config");
    }
    Ok(())
}

/// Says what an agent with these settings would warn about, or that it would not start.
fn warn(sources: &Sources, values: &Values) {
    let machine = Machine { hostname: Some("node".to_owned()), service_account_namespace: None };
    match settings::look(sources, &machine) {
        Ok(effective) => cli::warn(&effective.warnings),
        Err(refusal) => {
            cli::warn(&effective::unbuilt(values));
            eprintln!("kube-vip: warning: an agent with these settings does not start: {refusal}");
        }
    }
}

/// The image with the version of this program as its tag, unless it has a tag or a digest.
fn tagged(image: &str) -> anyhow::Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@' | '+');
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || name.starts_with([':', '@']) || !image.chars().all(fits) {
        bail!(
            "unable to create manifest: --image={image:?} is no image reference; give registry/name or registry/name:tag"
        );
    }
    Ok(if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:{}", VERSION.number) })
}

fn yaml(value: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(value).context("writing YAML")
}
