use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vip_model::Instant;
use vip_model::members::ElectionState;
use vip_model::store::{Failure, FailureClass};

use super::*;
use crate::run::inbox::Inbox;

fn board() -> Arc<Board> {
    Arc::new(Board::new(Arc::new(Inbox::new().unwrap())))
}

fn get(board: &Arc<Board>, pages: Pages, path: &str) -> (u16, String) {
    let response = answer(board, pages, &Method::GET, path);
    (response.status().as_u16(), response.into_body())
}

#[test]
fn livez_fails_when_turns_stop_and_says_why() {
    let board = board();
    assert_eq!(get(&board, Pages::All, "/livez"), (200, "OK".to_owned()));
    board.pulse.begin(boot_now().before(std::time::Duration::from_secs(7)));
    for path in ["/livez", "/healthz"] {
        let (status, body) = get(&board, Pages::Health, path);
        assert_eq!(status, 500);
        assert!(body.contains("began 7 s ago"), "{body}");
    }
    board.pulse.end(None);
    assert_eq!(get(&board, Pages::All, "/livez").0, 200);
}

#[test]
fn readyz_follows_the_view_and_names_the_trouble() {
    let board = board();
    assert_eq!(get(&board, Pages::All, "/readyz").0, 503, "nothing is known at the start");
    board.publish(Arc::new(View { readiness: Readiness::Ready, ..View::default() }));
    assert_eq!(get(&board, Pages::All, "/readyz"), (200, "OK".to_owned()));

    let failure = Failure { class: FailureClass::Unreachable, text: "127.0.0.1:6443 refused".to_owned() };
    let state = ElectionState { trouble: Some(failure), ..ElectionState::default() };
    let lease = vip_model::LeaseName::new("kube-system", "plndr-cp-lock");
    let elections = Arc::new([(lease, state)].into());
    board.publish(Arc::new(View { readiness: Readiness::Stale, elections, ..View::default() }));
    let (status, body) = get(&board, Pages::All, "/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("kube-system/plndr-cp-lock: 127.0.0.1:6443 refused"), "{body}");

    board.publish(Arc::new(View { readiness: Readiness::Ready, stopping: true, ..View::default() }));
    assert_eq!(get(&board, Pages::All, "/readyz").0, 503, "a stopping agent is not ready");
}

#[test]
fn the_health_port_shows_no_metrics_and_no_page() {
    let board = board();
    assert_eq!(get(&board, Pages::Health, "/metrics").0, 404);
    assert_eq!(get(&board, Pages::Health, "/").0, 404);
    assert!(get(&board, Pages::All, "/metrics").1.contains("kube_vip_build_info"));
    let (status, page) = get(&board, Pages::All, "/");
    assert_eq!(status, 200);
    assert!(page.contains("<title>kube-vip</title>") && page.contains("href=\"/metrics\""), "{page}");
}

#[test]
fn names_on_the_page_are_escaped_and_only_reading_is_answered() {
    let board = board();
    board.publish(Arc::new(View { node: "<script>&".to_owned(), taken: Instant::ZERO, ..View::default() }));
    let page = get(&board, Pages::All, "/").1;
    assert!(page.contains("&lt;script&gt;&amp;") && !page.contains("<script>"), "{page}");
    assert_eq!(answer(&board, Pages::All, &Method::POST, "/metrics").status(), 405);
}

/// Binds a port that is free at the moment.
async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

async fn fetch(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: n1\r\n\r\n").as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

fn listener(port: u16) -> Listener {
    let listen = Listen::At(([127, 0, 0, 1], port).into());
    Listener { setting: "prometheus_server", listen, pages: Pages::All }
}

#[tokio::test]
async fn one_socket_answers_ipv4_and_ipv6_and_closes_after_the_answer() {
    let port = free_port().await;
    let listen = Listen::AnyAddress { port };
    tokio::spawn(serve(Listener { listen, ..listener(port) }, board()));
    tokio::task::yield_now().await;
    let reply = fetch(port, "/metrics").await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("content-type: text/plain; version=0.0.4"), "{reply}");
    TcpStream::connect(("::1", port)).await.expect("the same port answers on IPv6");
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_lock_others_out() {
    let port = free_port().await;
    tokio::spawn(serve(listener(port), board()));
    tokio::task::yield_now().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    assert!(fetch(port, "/livez").await.unwrap().ends_with("OK"));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_is_bound_when_it_is_free() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    tokio::spawn(serve(listener(port), board()));
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    drop(holder);
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert!(fetch(port, "/livez").await.unwrap().ends_with("OK"));
}
