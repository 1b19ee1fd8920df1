//! One contract for two API servers: the rows in `tests/contract/*.yaml` say which request gets which answer, and are
//! run against the lab's own small server and against the real kube-apiserver over etcd. Both must give every row its
//! answer, so a row that passes twice is a fact and no opinion. The real ones are taken from the folder that
//! `KUBEBUILDER_ASSETS` names, else from `build/judges` (`make judges`); when both are absent, that half is skipped
//! aloud.

#[path = "contract/client.rs"]
mod client;
#[path = "contract/judge.rs"]
mod judge;
#[path = "contract/row.rs"]
mod row;

use client::Client;
use row::{Row, Run};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use vip_lab::api::{Credentials, Endpoint, Identity, Server};

/// Which of the two servers answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Real,
}

/// The users of the rows, by the name that a row's `as` gives; `carol` comes with a client certificate.
fn users() -> BTreeMap<&'static str, Identity> {
    BTreeMap::from([
        ("admin", Identity::new("admin", &["system:masters"])),
        ("bob", Identity::new("bob", &["team"])),
        ("dave", Identity::new("dave", &[])),
        ("carol", Identity::new("carol", &["team"])),
    ])
}

/// Says something past the capture of the test runner: a skipped judge must be seen.
fn tell(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("stderr is open");
}

/// Runs one file of rows: how many got their answer, and which did not.
async fn run_file(side: Side, client: &Client, file: &Path) -> (usize, Vec<String>) {
    let text = std::fs::read_to_string(file).expect("a file of rows can be read");
    let name = file.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    let rows: Vec<Row> =
        serde_saphyr::from_str(&text).unwrap_or_else(|err| panic!("{} holds no rows: {err}", file.display()));
    let mut run = Run::new(client, &name).await;
    let (mut passed, mut failed) = (0, Vec::new());
    for row in &rows {
        if side == Side::Real && row.ours_only.is_some() {
            continue;
        }
        match run.row(row).await {
            Ok(()) => passed += 1,
            Err(why) => failed.push(format!("{name}: {}\n    {why}", row.sentence)),
        }
    }
    (passed, failed)
}

/// Runs every file of rows, side by side, and fails with all rows that got another answer.
async fn run_all(side: Side, client: &Client) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of rows is there")
        .map(|entry| entry.expect("a folder entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let runs = futures::future::join_all(files.iter().map(|file| run_file(side, client, file))).await;
    let passed: usize = runs.iter().map(|(passed, _)| passed).sum();
    let failed: Vec<String> = runs.into_iter().flat_map(|(_, failed)| failed).collect();
    assert!(passed > 0, "no rows were run");
    tell(&format!("{side:?}: {passed} rows have the answer of the contract"));
    assert!(failed.is_empty(), "{side:?}: {} rows have another answer\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn our_api_server_answers_as_the_contract_says() {
    let server = Server::new().expect("a server can be made");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    let endpoint = Endpoint { name: "n1".into(), listener, addresses: vec![address.ip()], rebind: None };
    server.serve(endpoint).expect("the endpoint can be served");
    let client = Client::new(address, server.credentials(), &users());
    run_all(Side::Ours, &client).await;
    let missing = server.not_implemented();
    let only_on_purpose =
        missing.iter().all(|what| what.contains("server-side apply") || what.contains("deployments"));
    assert!(only_on_purpose, "the rows ask for what is not built: {missing:?}");
}

#[tokio::test]
async fn the_real_api_server_answers_as_the_contract_says() {
    let Some(binaries) = judge::binaries() else {
        tell(
            "SKIPPED: the_real_api_server_answers_as_the_contract_says (set KUBEBUILDER_ASSETS or run make judges)",
        );
        return;
    };
    let credentials = Credentials::new().expect("a certificate authority can be made");
    let users = users();
    let tokens = users.keys().map(|&name| (name, credentials.token(&users[name]))).collect();
    let mut judge = judge::Judge::start(&binaries, &credentials, &users, &tokens).await;
    let client = Client::with_tokens(judge.address, &credentials, tokens);
    judge.ready(&client).await;
    run_all(Side::Real, &client).await;
}
