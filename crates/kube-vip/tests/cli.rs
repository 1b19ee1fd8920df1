//! The command line through the real binary: commands, exit codes, manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use binary::Run;
use serde_json::{Value, json};

#[path = "support/binary.rs"]
mod binary;

fn run(arguments: &[&str]) -> Run {
    binary::run(arguments, &BTreeMap::new())
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    binary::run(arguments, &environment)
}

fn line(run: &Run) -> &str {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "one line: {}", run.stderr);
    run.stderr.trim_start_matches("kube-vip: error: ").trim_end()
}

fn documents(run: &Run) -> Vec<Value> {
    assert_eq!(run.code, 0, "{}", run.stderr);
    let parse = |part| serde_saphyr::from_str(part).expect("a YAML document");
    run.stdout.split("---\n").filter(|part| !part.is_empty()).map(parse).collect()
}

fn object(arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let mut documents = documents(&run_with(arguments, environment));
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// Variables of the only container, as `name=value`.
fn variables(spec: &Value) -> Vec<String> {
    let list = spec["containers"][0]["env"].as_array().expect("an environment");
    let text = |variable: &Value| {
        format!(
            "{}={}",
            variable["name"].as_str().unwrap_or_default(),
            variable["value"].as_str().unwrap_or("-")
        )
    };
    list.iter().map(text).collect()
}

const POD: [&str; 6] =
    ["manifest", "pod", "--arp", "--controlplane", "--address=192.0.2.1", "--interface=eth0"];

#[test]
fn without_a_command_the_help_is_printed() {
    for arguments in [&[][..], &["--help"], &["sample"], &["help"]] {
        let run = run(arguments);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{arguments:?}");
        for part in
            ["manager", "Control-plane address:", "[default: 15] [env: vip_leaseduration]", "vip_arpRate="]
        {
            assert!(run.stdout.contains(part), "{arguments:?}: no {part}");
        }
        assert!(!run.stdout.contains("--bgpRouterID"), "what is not built yet is not in the help");
    }
}

#[test]
fn groups_print_their_help() {
    for group in ["manifest", "kubeadm"] {
        let run = run(&[group]);
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains(&format!("Usage: kube-vip {group}")), "{}", run.stdout);
    }
}

#[test]
fn the_version_is_three_lines() {
    let run = run(&["version"]);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((run.code, lines.len(), lines[0]), (0, 3, "Kube-VIP Release Information"));
    assert!(lines[1].starts_with("Version:  v") && lines[2].starts_with("Build:    "), "{lines:?}");
}

#[test]
fn what_nobody_knows_is_refused_on_one_line() {
    assert_eq!(line(&run(&["manager", "--apr"])), "unknown flag --apr; did you mean --arp?");
    let unlike = run(&["manager", "--metal"]);
    assert_eq!(line(&unlike), "unknown flag --metal; kube-vip --help lists the flags");
    assert_eq!(line(&run(&["start"])), "unrecognized subcommand 'start'");
    assert!(line(&run(&["plan"])).contains("--cluster <FILE>"));
    assert!(line(&run(&["manager", "--address"])).contains("a value is required for '--address"));
}

#[test]
fn the_agent_refuses_to_start_without_a_mode_and_says_what_to_do() {
    for command in ["manager", "service"] {
        let refused = run(&[command]);
        assert_eq!(
            line(&refused),
            "no valid kube-vip mode detected, ensure a supported mode is configured: set vip_arp=true"
        );
    }
    let with_config_map = run(&["service", "-c", "plndr", "--arp"]);
    assert!(line(&with_config_map).starts_with("no features are enabled"));
}

#[test]
fn flags_are_taken_before_and_after_the_command_and_the_last_one_wins() {
    let given = ["--arp", "--controlplane", "--address", "192.0.2.7", "--nodeName=n1", "--log", "0"];
    let before: Vec<&str> = given.iter().copied().chain(["validate"]).collect();
    let after: Vec<&str> = ["validate", "--log", "4"].into_iter().chain(given).collect();
    let (before, after) = (run(&before), run(&after));
    assert_eq!((before.code, before.stderr.as_str()), (0, ""));
    assert_eq!(before.stdout, after.stdout);
    assert!(before.stdout.contains("- 192.0.2.7/32"), "{}", before.stdout);
}

#[test]
fn a_word_after_a_switch_is_ignored_aloud() {
    let run = run(&["validate", "--controlplane", "--arp", "false", "--address=192.0.2.7"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("the argument \"false\" is ignored"), "{}", run.stderr);
}

#[test]
fn a_pod_has_the_shape_that_kube_vip_prints() {
    let pod = object(&POD, &[]);
    assert_eq!((&pod["apiVersion"], &pod["kind"], &pod["status"]), (&json!("v1"), &json!("Pod"), &json!({})));
    assert_eq!(pod["metadata"], json!({"name": "kube-vip", "namespace": "kube-system"}));
    let spec = &pod["spec"];
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["hostAliases"], json!([{"ip": "127.0.0.1", "hostnames": ["kubernetes"]}]));
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "kubeconfig", "hostPath": {"path": "/etc/kubernetes/admin.conf"}},
            {"name": "run", "hostPath": {"path": "/run/kube-vip", "type": "DirectoryOrCreate"}},
        ])
    );
    let container = &spec["containers"][0];
    assert_eq!(container["args"], json!(["manager"]));
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["resources"], json!({}));
    let rights = json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}});
    assert_eq!(container["securityContext"], rights);
    let node = json!({"name": "vip_nodename", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}});
    assert_eq!(container["env"][2], node);
    assert_eq!(
        variables(spec),
        [
            "vip_arp=true",
            "port=6443",
            "vip_nodename=-",
            "vip_interface=eth0",
            "dns_mode=first",
            "dhcp_mode=ipv4",
            "cp_enable=true",
            "cp_namespace=kube-system",
            "address=192.0.2.1",
            "prometheus_server=:2112",
        ]
    );
}

#[test]
fn the_timeout_of_lost_leadership_has_its_own_name() {
    let arguments: Vec<&str> =
        POD.into_iter().chain(["--loseLeadership", "--loseLeadershiptTimeoutSeconds=7"]).collect();
    let variables = variables(&object(&arguments, &[])["spec"]);
    let of = |name: &str| variables.iter().filter(|text| text.starts_with(name)).cloned().collect::<Vec<_>>();
    assert_eq!(of("vip_loseleadership"), ["vip_loseleadership=true", "vip_loseleadership_timeout_seconds=7"]);
}

#[test]
fn every_part_of_the_environment_follows_its_switch() {
    let arguments: Vec<&str> = POD
        .into_iter()
        .chain([
            "--services",
            "--leaderElection",
            "--bgp",
            "--bgppeers=a,b",
            "--bgppeers=c",
            "--enableLoadBalancer",
        ])
        .chain([
            "--healthCheckPort=8080",
            "--debounceTime=1s",
            "--dnsMode=dual",
            "--controlPlaneHealthCheckAddress=http://h/",
        ])
        .collect();
    let run = run(&arguments);
    assert!(
        run.stderr.contains("an agent with these settings does not start: multiple kube-vip modes"),
        "{}",
        run.stderr
    );
    let variables = variables(&documents(&run)[0]["spec"]);
    for expected in [
        "svc_enable=true",
        "svc_leasename=plndr-svcs-lock",
        "vip_leaderelection=true",
        "vip_leasename=plndr-cp-lock",
        "vip_leaseduration=15",
        "bgp_enable=true",
        "bgp_routerid=-",
        "bgp_as=65000",
        "bgp_peers=a,b,c",
        "lb_enable=true",
        "lb_port=6443",
        "lb_fwdmethod=local",
        "health_check_port=8080",
        "debounce_time=1s",
        "dhcp_mode=dual",
        "control_plane_health_check_address=http://h/",
        "control_plane_health_check_period_seconds=5",
    ] {
        assert!(variables.iter().any(|variable| variable == expected), "no {expected} in {variables:?}");
    }
}

#[test]
fn inside_the_cluster_the_pod_runs_under_its_service_account() {
    let arguments: Vec<&str> = POD.into_iter().chain(["--inCluster", "--electionMode=lease"]).collect();
    let spec = object(&arguments, &[])["spec"].clone();
    assert_eq!(spec["serviceAccountName"], "kube-vip");
    assert!(spec.get("volumes").is_none() && spec.get("hostAliases").is_none());
    assert!(spec["containers"][0].get("volumeMounts").is_none());
}

#[test]
fn in_mode_session_a_pod_keeps_its_session_in_a_folder_of_the_node() {
    let mounted = |more: &[&'static str]| {
        let arguments: Vec<&str> = POD.iter().chain(more).copied().collect();
        let spec = object(&arguments, &[])["spec"].clone();
        let paths = |list: &Value, at: &str| -> Vec<String> {
            let list = list.as_array().into_iter().flatten();
            list.filter_map(|entry| entry.pointer(at)?.as_str().map(str::to_owned)).collect()
        };
        let mounts = paths(&spec["containers"][0]["volumeMounts"], "/mountPath");
        (mounts, paths(&spec["volumes"], "/hostPath/path"))
    };
    let (config, run) = ("/etc/kubernetes/admin.conf".to_owned(), "/run/kube-vip".to_owned());
    assert_eq!(mounted(&["--electionMode=lease"]), (vec![config.clone()], vec![config.clone()]));
    let both = vec![config, run.clone()];
    assert_eq!(mounted(&["--electionMode=session"]), (both.clone(), both.clone()));
    assert_eq!(mounted(&[]), (both.clone(), both), "session is the default");
    assert_eq!(mounted(&["--electionMode=session", "--inCluster"]), (vec![run.clone()], vec![run]));
}

#[test]
fn in_mode_session_the_policies_are_carried_into_the_pod() {
    let given = [
        "--peersPort=7000",
        "--peersInterval=20ms",
        "--apiLoss=hold",
        "--failback=10m",
        "--movePause=2s",
        "--preferredNodes=zone=a:10,ssd",
        "--onStop=stay",
    ];
    let arguments: Vec<&str> = POD.into_iter().chain(given).collect();
    let environment = object(&arguments, &[])["spec"]["containers"][0]["env"].clone();
    for (name, value) in [
        ("peers_port", "7000"),
        ("peers_interval", "20ms"),
        ("api_loss", "hold"),
        ("failback", "10m"),
        ("move_pause", "2s"),
        ("preferred_nodes", "zone=a:10,ssd"),
        ("on_stop", "stay"),
    ] {
        let variable = json!({"name": name, "value": value});
        assert!(environment.as_array().is_some_and(|list| list.contains(&variable)), "{name}: {environment}");
    }
    for default in ["address_lifetime", "election_mode"] {
        assert!(!environment.to_string().contains(default), "defaults are not spelled out: {environment}");
    }
}

#[test]
fn in_mode_session_the_right_to_the_keys_is_given_for_one_secret_in_one_namespace() {
    let run = run(&["manifest", "rbac"]);
    let documents = documents(&run);
    let (role, binding) = (&documents[3], &documents[4]);
    assert_eq!((&role["kind"], &binding["kind"]), (&json!("Role"), &json!("RoleBinding")));
    let metadata = json!({"name": "kube-vip-peers", "namespace": "kube-system"});
    assert_eq!((&role["metadata"], &binding["metadata"]), (&metadata, &metadata));
    assert_eq!(
        role["rules"],
        json!([
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": ["kube-vip-peers"],
                "verbs": ["list", "get", "watch", "update"],
            },
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        ])
    );
    assert_eq!(binding["roleRef"]["name"], "kube-vip-peers");
    assert_eq!(binding["subjects"], documents[2]["subjects"]);
}

#[test]
fn masquerading_needs_a_privileged_pod() {
    let arguments: Vec<&str> = POD.into_iter().chain(["--lbForwardingMethod=masquerade"]).collect();
    let pod = object(&arguments, &[]);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"], json!({"privileged": true}));
}

#[test]
fn an_image_without_a_tag_gets_the_version() {
    let image = |flag: &str| {
        let arguments: Vec<&str> = POD.into_iter().chain([flag]).collect();
        object(&arguments, &[])["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned()
    };
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(image("--image=r.example:5000/kv"), format!("r.example:5000/kv:{version}"));
    assert_eq!(image("--image=r.example:5000/kv:main"), "r.example:5000/kv:main");
    assert_eq!(image("--image=kv@sha256:00"), "kv@sha256:00");
    let bad: Vec<&str> = POD.into_iter().chain(["--image=a b"]).collect();
    assert!(line(&run(&bad)).starts_with("unable to create manifest: "));
}

#[test]
fn the_namespace_of_objects_comes_from_svc_namespace_where_services_are_in_the_environment() {
    let namespace = |environment: &[(&str, &str)]| object(&POD, environment)["metadata"]["namespace"].clone();
    assert_eq!(namespace(&[("svc_namespace", "edge")]), "kube-system");
    assert_eq!(namespace(&[("svc_namespace", "edge"), ("svc_enable", "true")]), "edge");
}

#[test]
fn a_daemon_set_wraps_the_same_pod() {
    let arguments: Vec<&str> =
        POD.into_iter().map(|word| if word == "pod" { "daemonset" } else { word }).collect();
    let plain = object(&arguments, &[]);
    assert_eq!((&plain["apiVersion"], &plain["kind"]), (&json!("apps/v1"), &json!("DaemonSet")));
    assert_eq!(plain["metadata"]["name"], "kube-vip-ds");
    assert!(plain.get("status").is_none());
    assert_eq!(plain["spec"]["selector"]["matchLabels"], json!({"app.kubernetes.io/name": "kube-vip-ds"}));
    assert_eq!(plain["spec"]["template"]["metadata"]["labels"], plain["metadata"]["labels"]);
    assert_eq!(plain["spec"]["template"]["spec"], object(&POD, &[])["spec"]);
    let tainted: Vec<&str> = arguments.into_iter().chain(["--taint"]).collect();
    let spec = object(&tainted, &[])["spec"]["template"]["spec"].clone();
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    assert_eq!(terms[1]["matchExpressions"][0]["key"], "node-role.kubernetes.io/control-plane");
}

/// What the rules of a role allow: `resource verb`, each once, sorted; with the name where one limits it.
fn allowed(role: &Value) -> Vec<String> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut all = Vec::new();
    for rule in role["rules"].as_array().expect("rules") {
        let names = texts(&rule["resourceNames"]).join(",");
        for (resource, verb) in texts(&rule["resources"])
            .iter()
            .flat_map(|resource| texts(&rule["verbs"]).into_iter().map(move |verb| (resource.clone(), verb)))
        {
            all.push(format!("{resource} {verb} {names}").trim_end().to_owned());
        }
    }
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "a right is given twice: {all:?}");
    all
}

#[test]
fn without_settings_rights_are_given_for_all_that_an_agent_can_do_and_every_subject_has_its_namespace() {
    for (flags, kinds) in [
        (&[][..], ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]),
        (&["--rolebinding"], ["ServiceAccount", "ClusterRole", "RoleBinding"]),
        (&["--role"], ["ServiceAccount", "Role", "RoleBinding"]),
    ] {
        let arguments: Vec<&str> = ["manifest", "rbac"].iter().chain(flags).copied().collect();
        let run = run(&arguments);
        assert!(run.stdout.starts_with("---\n"));
        let documents = documents(&run);
        let seen: Vec<&str> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
        assert_eq!(seen[..3], kinds);
        // The API servers are in another namespace, and the keys of heartbeats one Secret in one.
        let more = if flags.is_empty() { 1 } else { 2 };
        assert_eq!(seen[3..], ["Role", "RoleBinding"].repeat(more));
        let subject = json!([{"kind": "ServiceAccount", "name": "kube-vip", "namespace": "kube-system"}]);
        assert_eq!(documents[2]["subjects"], subject);
        assert_eq!(documents[2]["roleRef"]["kind"], kinds[1]);
        assert_eq!(documents[2]["roleRef"]["name"], documents[1]["metadata"]["name"]);
        let expected = [
            "endpoints list",
            "endpoints watch",
            "endpointslices list",
            "endpointslices watch",
            "events create",
            "events patch",
            "leases create",
            "leases get",
            "leases list",
            "leases update",
            "leases watch",
            "nodes list",
            "nodes patch",
            "nodes watch",
            "services get",
            "services list",
            "services update",
            "services watch",
            "services/status update",
        ];
        assert_eq!(allowed(&documents[1]), expected);
    }
}

/// The roles that are printed, each with its rights.
fn rights(flags: &[&str], environment: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
    let arguments: Vec<&str> = ["manifest", "rbac"].iter().chain(flags).copied().collect();
    let run = run_with(&arguments, environment);
    let roles = documents(&run);
    let of = |role: &Value| {
        let place = role["metadata"]["namespace"].as_str().unwrap_or("everywhere");
        let name = role["metadata"]["name"].as_str().expect("a name");
        (format!("{name} in {place}"), allowed(role))
    };
    roles.iter().filter(|it| it["rules"].is_array()).map(of).collect()
}

const LEASES: [&str; 5] = ["leases create", "leases get", "leases list", "leases update", "leases watch"];

fn role(name: &str, place: &str, texts: &[&str]) -> (String, Vec<String>) {
    (format!("{name} in {place}"), texts.iter().map(|text| (*text).to_owned()).collect())
}

fn everywhere(texts: &[&str]) -> (String, Vec<String>) {
    role("system:kube-vip-role", "everywhere", texts)
}

fn leases() -> (String, Vec<String>) {
    role("kube-vip-leases", "kube-system", &LEASES)
}

fn servers() -> (String, Vec<String>) {
    role("kube-vip-servers", "default", &["endpoints get kubernetes", "endpointslices list"])
}

/// The key of heartbeats.
fn peers(place: &str) -> (String, Vec<String>) {
    let rights = [
        "secrets create",
        "secrets get kube-vip-peers",
        "secrets list kube-vip-peers",
        "secrets update kube-vip-peers",
        "secrets watch kube-vip-peers",
    ];
    role("kube-vip-peers", place, &rights)
}

#[test]
fn rights_are_those_that_the_settings_need_where_they_need_them() {
    assert_eq!(
        rights(&["--controlplane", "--address=192.0.2.1"], &[]),
        [everywhere(&["nodes list", "nodes watch"]), servers(), leases(), peers("kube-system")]
    );
    assert_eq!(
        rights(&["--controlplane", "--address=192.0.2.1", "--electionMode=lease"], &[]),
        [everywhere(&["nodes list", "nodes watch"]), servers(), leases()]
    );
    assert_eq!(
        rights(&["--services", "--enableEndpoints", "--disableServiceUpdates"], &[]),
        [
            everywhere(&[
                "endpoints list",
                "endpoints watch",
                "nodes list",
                "nodes watch",
                "services list",
                "services watch",
            ]),
            servers(),
            leases(),
            peers("kube-system"),
        ]
    );
}

#[test]
fn rights_of_agents_of_services_are_those_that_their_settings_need() {
    let services = ["endpointslices list", "endpointslices watch"];
    let seen = ["nodes list", "nodes watch", "services list", "services watch"];
    let only_seen: Vec<&str> = services.iter().chain(&seen).copied().collect();
    assert_eq!(
        rights(&["--services", "--disableServiceUpdates"], &[]),
        [everywhere(&only_seen), leases(), peers("kube-system")]
    );
    let mut each: Vec<&str> = only_seen.iter().chain(&LEASES).copied().collect();
    each.extend([
        "events create",
        "events patch",
        "services get",
        "services update",
        "services/status update",
    ]);
    each.sort_unstable();
    assert_eq!(rights(&["--services", "--servicesElection"], &[]), [everywhere(&each), peers("kube-system")]);
    let pools = role("kube-vip-pools", "edge", &["configmaps list pools", "configmaps watch pools"]);
    let with_pools = rights(
        &["--services", "--servicesElection", "--servicesIpam"],
        &[("KUBEVIP_NAMESPACE", "edge"), ("KUBEVIP_CONFIG_MAP", "pools")],
    );
    assert_eq!(with_pools, [everywhere(&each), pools, peers("kube-system")]);
    let elsewhere = rights(&["--services", "--servicesLeaseName=edge/lock"], &[]);
    assert_eq!(elsewhere, [everywhere(&each), peers("edge")], "a Lease of another namespace");
}

#[test]
fn generators_refuse_with_exit_code_1_and_nothing_on_standard_output() {
    let refusals: [(&[&str], &str); 5] = [
        (
            &["manifest", "pod", "--arp", "--controlplane"],
            "no address is specified for kube-vip to expose services on",
        ),
        (&["manifest", "daemonset", "--arp=x"], "--arp=\"x\" is not accepted"),
        (&["kubeadm", "init", "--address=192.0.2.1"], "No interface is specified for kube-vip to bind to"),
        (
            &["kubeadm", "init", "--interface=eth0"],
            "No address is specified for kube-vip to expose services on",
        ),
        (
            &["kubeadm", "join", "--interface=eth0", "--vip=192.0.2.1", "--config=/no/admin.conf"],
            "kubeConfig not found: /no/admin.conf",
        ),
    ];
    for (arguments, says) in refusals {
        let refused = run(arguments);
        assert!(line(&refused).starts_with(says), "{arguments:?}: {}", refused.stderr);
    }
}

#[test]
fn kubeadm_prints_the_same_pod() {
    let settings = &POD[2..];
    let with = |words: &[&'static str]| -> Vec<&str> { words.iter().chain(settings).copied().collect() };
    let pod = object(&POD, &[]);
    assert_eq!(object(&with(&["kubeadm", "init"]), &[]), pod);
    assert_eq!(object(&with(&["kubeadm", "join", "--config=/dev/null"]), &[]), pod);
}

#[test]
fn a_generated_pod_is_valid_for_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments: Vec<&str> = POD.into_iter().chain(["--leaderElection", "--vipSubnet=24"]).collect();
    let spec = object(&arguments, &[])["spec"].clone();
    let environment: BTreeMap<String, String> = variables(&spec)
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), if value == "-" { "n1".to_owned() } else { value.to_owned() }))
        .collect();
    let validate = binary::run(&["validate"], &environment);
    assert_eq!((validate.code, validate.stderr.as_str()), (0, ""), "{}", folder.path().display());
    assert!(validate.stdout.contains("- 192.0.2.1/24"), "{}", validate.stdout);
}

#[test]
fn plan_shows_what_a_holder_would_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let run = run(&["plan", "--config", &file("settings.yaml"), "--cluster", &file("dump.yaml")]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let golden = folder.join("plan.golden.yaml");
    if std::env::var("BLESS").is_ok_and(|bless| bless == "1") {
        fs::write(&golden, &run.stdout).expect("writing the golden file");
    }
    assert_eq!(run.stdout, fs::read_to_string(&golden).unwrap_or_default());
    assert!(run.stdout.contains("192.0.2.10%2:\n"), "the holder wants its address: {}", run.stdout);
}

#[test]
fn plan_refuses_a_dump_that_it_does_not_understand() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("dump.yaml");
    fs::write(&dump, "kernal: {}\n").expect("a file");
    let refused = run(&[
        "plan",
        "--arp",
        "--controlplane",
        "--address=192.0.2.1",
        "--cluster",
        &dump.to_string_lossy(),
    ]);
    assert!(
        line(&refused).contains("is not understood") && line(&refused).contains("kernal"),
        "{}",
        refused.stderr
    );
}

#[test]
fn completions_name_the_flags() {
    let run = run(&["completion", "bash"]);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("--vipSubnet"));
    assert!(line(&self::run(&["completion", "dos"])).contains("invalid value 'dos'"));
}
