//! What `manifest` prints: pods, and the sets that wrap them.

use serde_json::{Value, json};

use super::*;

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
