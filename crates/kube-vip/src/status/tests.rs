use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::board::Board;
use crate::run::inbox::Inbox;
use crate::status::socket::StatusSocket;

/// An agent's half: answers on the socket of `instance` in `folder` until the test ends.
fn agent(folder: &std::path::Path, instance: &str) -> PathBuf {
    let board = Arc::new(Board::new(Arc::new(Inbox::new().unwrap())));
    let view = View { node: "n1".to_owned(), instance: instance.to_owned(), ..View::default() };
    board.publish(Arc::new(view));
    let socket = StatusSocket::open(&[folder.to_owned()], instance).unwrap();
    let path = socket.path().to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(socket.serve(board))
    });
    path
}

fn shown(folder: &std::path::Path, instance: Option<&str>, format: Format) -> anyhow::Result<String> {
    let mut out = Vec::new();
    show_from(&[folder.to_owned()], Part::Whole, Wish { instance, format }, &mut out)?;
    Ok(String::from_utf8(out)?)
}

#[test]
fn the_command_shows_what_the_agent_published() {
    let folder = tempfile::tempdir().unwrap();
    agent(folder.path(), "control-plane");
    let table = shown(folder.path(), None, Format::Table).unwrap();
    assert!(table.starts_with("Node:         n1\nInstance:     control-plane\n"), "{table}");
    let json = shown(folder.path(), None, Format::Json).unwrap();
    let view: View = serde_json::from_str(&json).unwrap();
    assert_eq!(view.instance, "control-plane");
}

#[test]
fn two_agents_are_both_shown_and_json_asks_for_one() {
    let folder = tempfile::tempdir().unwrap();
    agent(folder.path(), "services");
    agent(folder.path(), "control-plane");
    let table = shown(folder.path(), None, Format::Table).unwrap();
    let first = table.find("control-plane").unwrap();
    assert!(first < table.find("services").unwrap(), "{table}");
    let error = shown(folder.path(), None, Format::Json).unwrap_err().to_string();
    assert!(error.contains("control-plane, services") && error.contains("--instance"), "{error}");
    assert!(shown(folder.path(), Some("services"), Format::Json).unwrap().contains("\"services\""));
}

#[test]
fn without_an_agent_the_command_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let error = shown(folder.path(), None, Format::Table).unwrap_err().to_string();
    assert!(
        error.contains("no kube-vip agent") && error.contains(folder.path().to_str().unwrap()),
        "{error}"
    );
    let error = shown(folder.path(), Some("blue"), Format::Table).unwrap_err().to_string();
    assert!(error.contains("\"blue\""), "{error}");
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = StatusSocket::open(&[folder.path().to_owned()], "a/b c").unwrap();
    let path = socket.path().to_owned();
    assert_eq!(path.file_name().unwrap(), "a_b_c.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_killed_agents_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket::path_in(folder.path(), "control-plane");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dropped listener leaves its file");
    assert!(shown(folder.path(), None, Format::Table).is_err(), "what is left behind is no agent");
    agent(folder.path(), "control-plane");
    let error = StatusSocket::open(&[folder.path().to_owned()], "control-plane").err().unwrap().to_string();
    assert!(error.contains("another agent of this instance"), "{error}");
    assert!(shown(folder.path(), None, Format::Table).is_ok(), "the living one still answers");
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let fallback = folder.path().join("fallback");
    let socket = StatusSocket::open(&[open, fallback.clone()], "x").unwrap();
    assert!(socket.path().starts_with(fallback));
}

#[test]
fn a_long_instance_name_still_fits_a_socket_address() {
    let folder = tempfile::tempdir().unwrap();
    assert!(StatusSocket::open(&[folder.path().to_owned()], &"n".repeat(300)).is_ok());
}

/// An agent's half that knows the Service `shop/web`.
fn explaining_agent(folder: &std::path::Path, instance: &'static str) {
    let board = Arc::new(Board::new(Arc::new(Inbox::new().unwrap())));
    let socket = StatusSocket::open(&[folder.to_owned()], instance).unwrap();
    let theirs = Arc::clone(&board);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(socket.serve(theirs))
    });
    std::thread::spawn(move || {
        loop {
            board.inbox.wait(None, None).unwrap();
            for inquiry in board.inbox.take_inquiries() {
                let is_known = inquiry.service == ServiceName::new("shop", "web");
                let explanation = is_known.then(|| Explanation {
                    service: inquiry.service,
                    node: "n1".to_owned(),
                    instance: instance.to_owned(),
                    findings: Vec::new(),
                    verdict: vip_model::verdict::Verdict::Announce,
                    since: None,
                });
                let _ = inquiry.answer.send(explanation);
            }
        }
    });
}

#[test]
fn explain_asks_the_loop_and_shows_text_or_json() {
    let folder = tempfile::tempdir().unwrap();
    explaining_agent(folder.path(), "services");
    let said = |service: &str, format| {
        let mut out = Vec::new();
        let wish = Wish { instance: None, format };
        explain_from(&[folder.path().to_owned()], service, wish, &mut out)?;
        anyhow::Ok(String::from_utf8(out)?)
    };
    let text = said("shop/web", Format::Table).unwrap();
    assert!(text.contains("Service:    shop/web") && text.contains("this node answers for it"), "{text}");
    let json: Explanation = serde_json::from_str(&said("shop/web", Format::Json).unwrap()).unwrap();
    assert_eq!(json.node, "n1");
    let unknown = said("shop/other", Format::Table).unwrap_err().to_string();
    assert!(unknown.contains("shop/other") && unknown.contains("status services"), "{unknown}");
    assert!(said("web", Format::Table).unwrap_err().to_string().contains("NAMESPACE/NAME"));
}

#[test]
fn a_reader_that_says_nothing_and_keeps_its_side_open_gets_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let path = agent(folder.path(), "services");
    let mut stream = UnixStream::connect(path).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<View>(&text).unwrap().instance, "services");
}
