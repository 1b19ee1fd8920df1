//! From text to the effective configuration: which mode, which features, which instance, and everything around the
//! control plane and the Services, which have their own modules. Values of features that are not built yet are warned about here.

use vip_model::config::{Advertise, Config, Layer2};
use vip_model::{InstanceName, NodeName};

use super::refusal::Refusal;
use super::source::Values;
use super::table::{self, Kind, Setting, Status};
use super::{ApiSettings, Effective, Listen, LocalApi, Machine, Warning, Weight};
use super::{control_plane, key, parse, placement, services, session, warning};

/// Bytes that an instance name may have: 255 of nftables less `kube_vip_` and `_v4`.
const LONGEST_INSTANCE: usize = 243;

/// Announcements closer together than this are taken for a mistake, as upstream does.
const FASTEST_ANNOUNCEMENT: i64 = 500;

/// Builds the effective configuration.
pub(super) fn build(values: &Values, machine: &Machine) -> Result<Effective, Refusal> {
    let mut warnings = values.warnings.clone();
    require_arp(values)?;
    let features = Features::read(values)?;
    features.require_any()?;
    let node = node_name(values, machine)?;
    let instance = instance_name(values, features)?;
    let announce_interval = announce_interval(values, &mut warnings)?;
    let mut control_plane = None;
    if features.control_plane() {
        control_plane = Some(control_plane::build(values, machine, &mut warnings)?);
    }
    let mut services = None;
    if features.services() {
        services = Some(services::build(values, machine, &mut warnings)?);
    }
    let advertise =
        Advertise::Arp(Layer2 { announce_interval, skip_conflict_probe: values.boolean(key::SKIP_DAD)? });
    let preferred = placement::preferred(values)?;
    let election_mode = session::mode(values, machine, features, &mut warnings)?;
    warnings.extend(unbuilt(values));
    let effective = Effective {
        api: api(values)?,
        log: parse::log_level(log_number(values)?),
        prometheus_server: prometheus_server(values, &mut warnings),
        health_check_port: health_check_port(values)?,
        config: Config { node, instance, advertise, control_plane, services, election_mode, preferred },
        warnings,
    };
    Ok(effective)
}

/// Refuses what there would be a warning about, when `strict_config` is on.
pub(super) fn strict(values: &Values, effective: Effective) -> Result<Effective, Refusal> {
    if !values.boolean(key::STRICT)? {
        return Ok(effective);
    }
    let heavy: Vec<String> = effective
        .warnings
        .iter()
        .filter(|warning| warning.weight == Weight::Warning)
        .map(ToString::to_string)
        .collect();
    if heavy.is_empty() { Ok(effective) } else { Err(Refusal::Strict(heavy)) }
}

/// Exactly one mode, and that one built.
fn require_arp(values: &Values) -> Result<(), Refusal> {
    let mut on = Vec::new();
    for mode in [key::ARP, key::BGP, key::TABLE, key::WIREGUARD] {
        if values.boolean(mode)? {
            on.push(mode);
        }
    }
    match on.as_slice() {
        [key::ARP] => Ok(()),
        [] => Err(Refusal::Combination(
            "no valid kube-vip mode detected, ensure a supported mode is configured: set vip_arp=true".into(),
        )),
        [one] => Err(not_built(values, one, "the mode that works is ARP and NDP (vip_arp=true)")),
        many => Err(Refusal::Combination(format!(
            "multiple kube-vip modes detected, ensure only one mode is configured: {} are all true",
            many.iter().map(|mode| values.spelled(mode)).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn not_built(values: &Values, key: &str, instead: &str) -> Refusal {
    let feature = match table::setting(key).status {
        Status::NotYet(feature) => feature,
        _ => "this",
    };
    let asked = format!("{feature} ({}={})", values.spelled(key), values.text(key));
    Refusal::NotBuilt { asked, instead: instead.to_owned() }
}

/// What this agent is asked to hold addresses for.
#[derive(Clone, Copy)]
pub(super) enum Features {
    Nothing,
    ControlPlane,
    Services,
    Both,
}

impl Features {
    fn read(values: &Values) -> Result<Self, Refusal> {
        Ok(match (values.boolean(key::CONTROL_PLANE)?, values.boolean(key::SERVICES)?) {
            (false, false) => Self::Nothing,
            (true, false) => Self::ControlPlane,
            (false, true) => Self::Services,
            (true, true) => Self::Both,
        })
    }

    fn require_any(self) -> Result<(), Refusal> {
        match self {
            Self::ControlPlane | Self::Services | Self::Both => Ok(()),
            Self::Nothing => Err(Refusal::Combination(
                "no features are enabled: set cp_enable=true to hold the control plane's address, svc_enable=true to \
                 hold those of Services"
                    .into(),
            )),
        }
    }

    pub(super) const fn control_plane(self) -> bool {
        matches!(self, Self::ControlPlane | Self::Both)
    }

    const fn services(self) -> bool {
        matches!(self, Self::Services | Self::Both)
    }

    /// The name of an agent without `instance_name`: what it does. It counts what is asked for, not what is built,
    /// so that an agent keeps its name (and the tag of its addresses) when more gets built.
    const fn instance(self) -> &'static str {
        match self {
            Self::Nothing | Self::ControlPlane => "control-plane",
            Self::Services => "services",
            Self::Both => "all",
        }
    }
}

fn node_name(values: &Values, machine: &Machine) -> Result<NodeName, Refusal> {
    let name = values.set(key::NODE).or(machine.hostname.as_deref()).unwrap_or_default().trim();
    if parse::is_object_name(&name.to_lowercase()) {
        return Ok(NodeName::new(name));
    }
    let spelled =
        values.given(key::NODE).map_or_else(|| "the host name".to_owned(), |given| given.spelled.clone());
    Err(Refusal::value(spelled, name, "give the name of this Kubernetes node in vip_nodename"))
}

/// The name of this agent: given and checked as upstream does, else derived.
fn instance_name(values: &Values, features: Features) -> Result<InstanceName, Refusal> {
    let Some(name) = values.set(key::INSTANCE) else { return Ok(InstanceName::new(features.instance())) };
    if name.len() > LONGEST_INSTANCE {
        return Err(Refusal::Combination(format!(
            "{} is {} bytes, must not exceed {LONGEST_INSTANCE} bytes so the \"kube_vip_\" prefix and \"_v4\" or \"_v6\" \
             suffix fit within the nftables 255-byte name limit",
            values.spelled(key::INSTANCE),
            name.len()
        )));
    }
    let strange = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    match name.char_indices().find(|(_, c)| strange(c)) {
        None => Ok(InstanceName::new(name)),
        Some((at, c)) => Err(Refusal::Combination(format!(
            "{} {name:?} contains invalid character {c:?} at byte {at}; only ASCII letters, digits, '.', '-' and '_' \
             are allowed",
            values.spelled(key::INSTANCE)
        ))),
    }
}

fn announce_interval(values: &Values, warnings: &mut Vec<Warning>) -> Result<std::time::Duration, Refusal> {
    let millis = values.number(key::ARP_RATE, &(i64::MIN..=i64::from(i32::MAX)))?;
    if millis >= FASTEST_ANNOUNCEMENT {
        return Ok(std::time::Duration::from_millis(millis.unsigned_abs()));
    }
    let default = table::setting(key::ARP_RATE).default;
    warnings.push(warning(
        Weight::Warning,
        values.spelled(key::ARP_RATE),
        format!("{millis} ms is below {FASTEST_ANNOUNCEMENT} ms; {default} ms is used"),
    ));
    Ok(std::time::Duration::from_millis(default.parse().expect("the default of the table is a number")))
}

fn api(values: &Values) -> Result<ApiSettings, Refusal> {
    Ok(ApiSettings {
        kubeconfig: values.text(key::KUBECONFIG).into(),
        server: values.set(key::API_SERVER).map(str::to_owned),
        port: values.port(key::PORT)?,
        local: if values.boolean(key::DETECT)? { LocalApi::Certificate } else { LocalApi::HostAlias },
    })
}

fn log_number(values: &Values) -> Result<i64, Refusal> {
    values.text(key::LOG_LEVEL).parse().map_err(|_| {
        values.refuse(key::LOG_LEVEL, "should be int: -4 is debug, 0 is info, 4 is warnings, 8 is errors")
    })
}

/// A listener that cannot be is not worth a stop: upstream logs and goes on.
fn prometheus_server(values: &Values, warnings: &mut Vec<Warning>) -> Option<Listen> {
    let text = values.set(key::PROMETHEUS)?;
    let listen = parse::listen(text);
    if listen.is_none() {
        warnings.push(warning(
            Weight::Warning,
            values.spelled(key::PROMETHEUS),
            format!(
                "{text:?} is no address to listen on (give :2112 or 192.0.2.1:2112); metrics are not served"
            ),
        ));
    }
    listen
}

fn health_check_port(values: &Values) -> Result<Option<u16>, Refusal> {
    let port = values.number(key::HEALTH_PORT, &(i64::MIN..=i64::MAX))?;
    match u16::try_from(port) {
        Ok(0) => Ok(None),
        Ok(port) if port >= 1024 => Ok(Some(port)),
        _ => Err(values.refuse(
            key::HEALTH_PORT,
            "health check port should be > 1024: give a port from 1024 to 65535, or 0 for none",
        )),
    }
}

/// Warnings about settings that are given, say something else than their default, and do nothing here.
pub(crate) fn unbuilt(values: &Values) -> Vec<Warning> {
    table::settings().filter_map(|setting| unbuilt_setting(values, setting)).collect()
}

fn unbuilt_setting(values: &Values, setting: &Setting) -> Option<Warning> {
    let given = values.given(&setting.key())?;
    if is_default(setting, &given.text) {
        return None;
    }
    let (weight, text) = match setting.status {
        Status::Built => return None,
        Status::NotYet(feature) => (Weight::Warning, format!("set but not supported yet: {feature}")),
        Status::Retired(why) => (Weight::Warning, format!("has no effect: {why}")),
        Status::NotNeeded(_) if setting.kind == Kind::Bool && parse::boolean(&given.text).is_none() => {
            let text = format!(
                "{:?} is no boolean; it has no effect here (older kube-vip manifests carry the name twice, the second \
                 time with the seconds of vip_loseleadership_timeout_seconds)",
                given.text
            );
            (Weight::Notice, text)
        }
        Status::NotNeeded(why) => (Weight::Notice, format!("not needed here: {why}")),
    };
    Some(warning(weight, given.spelled.clone(), text))
}

/// Whether a text says the same as the default.
pub(super) fn is_default(setting: &Setting, text: &str) -> bool {
    match setting.kind {
        Kind::Bool => {
            parse::boolean(text).is_some_and(|given| Some(given) == parse::boolean(setting.default))
        }
        Kind::Number | Kind::Port | Kind::Seconds | Kind::Millis => {
            text.parse::<i64>().is_ok_and(|given| Ok(given) == setting.default.parse())
        }
        Kind::Span => parse::span(text) == parse::span(setting.default),
        Kind::Text | Kind::List | Kind::Object => text == setting.default,
    }
}
