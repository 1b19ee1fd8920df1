use super::*;

/// A session Lease of a node: its number is its id.
fn lease(number: u64, jury: &[&str], renewed: &str) -> Value {
    let record = json!({
        "id": format!("{number:016x}"),
        "node": format!("n{number}"),
        "boot": "0000000000000001",
        "jury": {"generation": 1, "members": jury},
    });
    json!({
        "metadata": {
            "labels": {SESSION_LABEL: "control-plane"},
            "annotations": {SESSION: record.to_string()},
        },
        "spec": {"renewTime": renewed, "leaseDurationSeconds": 15},
    })
}

const NOW: &str = "2026-01-01T00:01:00.000000Z";

fn town() -> Vec<Value> {
    vec![
        lease(1, &["n2", "n3"], NOW),
        lease(2, &["n1", "n3"], NOW),
        lease(3, &[], "2026-01-01T00:00:58.000000Z"),
    ]
}

fn claim(notes: &Value) -> Value {
    let mut claim = json!({
        "metadata": {"annotations": {CLAIM: "0000000000000001"}},
        "spec": {"holderIdentity": "n1"},
    });
    for (key, value) in notes.as_object().unwrap() {
        claim["metadata"]["annotations"][key] = value.clone();
    }
    claim
}

fn drill(text: &str) -> Drill {
    text.parse().unwrap()
}

#[test]
fn all_other_living_agents_of_the_instance_look() {
    let seen = |claim: &Value, sessions: &[Value], asked: &str| {
        observers(claim, &sessions_in(sessions), &drill(asked))
            .map(|nodes| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(seen(&claim(&json!({})), &town(), "a crash asked -").unwrap(), "n2 n3");
    let mut town = town();
    town[2]["metadata"]["labels"][SESSION_LABEL] = json!("services");
    assert_eq!(seen(&claim(&json!({})), &town, "a planned asked n2").unwrap(), "n2");
}

#[test]
fn what_the_api_shows_to_be_unsafe_is_refused_with_a_reason() {
    let refusal = |claim: &Value, sessions: &[Value], asked: &str| {
        observers(claim, &sessions_in(sessions), &drill(asked)).unwrap_err()
    };
    let plain = claim(&json!({}));
    let few = [lease(1, &["n2"], NOW), lease(2, &["n1"], NOW)];
    assert!(refusal(&plain, &few, "a crash asked -").contains("n1 has 1 jurors; at least 2"));
    let mut late = town();
    late[1] = lease(2, &[], "2026-01-01T00:00:40.000000Z");
    assert!(refusal(&plain, &late, "a crash asked -").contains("the juror n2 is not renewed"));
    assert!(refusal(&plain, &town(), "a planned asked n9").contains("no agent lives on n9"));
    assert!(refusal(&plain, &town()[..1], "a planned asked -").contains("no other agent lives"));
    assert!(
        refusal(&plain, &town()[1..], "a planned asked -").contains("the session of n1 is not in the API")
    );
    let moving = claim(&json!({CLAIM_FROM: "0000000000000002"}));
    assert!(refusal(&moving, &town(), "a planned asked -").contains("another move is under way"));
    let asked = claim(&json!({DRILL: "b crash asked -"}));
    assert!(refusal(&asked, &town(), "a planned asked -").contains("drill b is asked for already"));
}

#[test]
fn the_report_tells_what_each_observer_saw_in_the_order_of_time() {
    use vip_model::drill::DrillEvent;
    let report = |gap: u64, events: &[(i64, DrillNotice)]| DrillReport {
        id: "a".to_owned(),
        answers: 100,
        gap: Duration::from_micros(gap),
        both: Duration::ZERO,
        owner: Some(NodeName::new("n2")),
        events: events.iter().map(|(micros, what)| DrillEvent { micros: *micros, what: *what }).collect(),
    };
    let reports = BTreeMap::from([
        (
            NodeName::new("n2"),
            report(139_000, &[(0, DrillNotice::LastAnswer), (139_000, DrillNotice::FirstAnswer)]),
        ),
        (
            NodeName::new("n3"),
            report(141_200, &[(-2_000, DrillNotice::LastHeartbeat), (120_500, DrillNotice::Granted)]),
        ),
    ]);
    let document = json!({"what": "control-plane", "after": "n2"});
    let expected = "\
control-plane: n1 → n2
OBSERVER  LONGEST SILENCE  BOTH ANSWERED  ANSWERS  OWNER AFTER
n2        139.0 ms         0.0 ms         100      n2
n3        141.2 ms         0.0 ms         100      n2

By each observer's own clock, from the last answer of n1; a look every 5 ms:
TIME       OBSERVER  WHAT
-2.0 ms    n3        the last heartbeat of n1's session
+0.0 ms    n2        n1 answers for the last time
+120.5 ms  n3        grants a follower
+139.0 ms  n2        n2 answers for the first time
";
    assert_eq!(table(&document, &reports, "n1"), expected);
}
