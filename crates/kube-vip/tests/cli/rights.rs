//! The rights that `manifest rbac` gives.

use serde_json::Value;

use super::*;

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
