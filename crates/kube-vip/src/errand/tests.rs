use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use vip_model::QuestionId;

use super::*;

/// Answers each connection with the next of `replies` (after a full request head), then reports what it was asked
/// and whether the client hung up.
fn server(bind: &str, replies: Vec<String>) -> (u16, mpsc::Receiver<(String, bool)>) {
    let listener = TcpListener::bind(bind).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let head = read_head(&mut stream);
            stream.write_all(reply.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let hung_up = matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_));
            tell.send((head, hung_up)).unwrap();
        }
    });
    (port, told)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

async fn probe_with(url: &str, ca_path: Option<&str>, millis: u64) -> Result<(), String> {
    let (url, ca_path) = (url.to_owned(), ca_path.map(str::to_owned));
    let task = ErrandTask::HttpProbe { url, timeout: Duration::from_millis(millis), ca_path };
    let answer = Errands::new().run(Errand { id: QuestionId(7), task }).await;
    assert_eq!(answer.id, QuestionId(7));
    answer.result
}

async fn probe(url: &str) -> Result<(), String> {
    probe_with(url, None, 5_000).await
}

fn reply(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 1000000\r\n\r\npartial")
}

#[tokio::test]
async fn status_200_is_healthy_and_the_connection_ends_before_the_body() {
    let (port, told) = server("127.0.0.1:0", vec![reply("200 OK")]);
    let began = Instant::now();
    assert_eq!(probe(&format!("http://127.0.0.1:{port}/livez?verbose")).await, Ok(()));
    let (head, hung_up) = told.recv().unwrap();
    assert!(head.starts_with("GET /livez?verbose HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains(&format!("host: 127.0.0.1:{port}\r\n")), "{head}");
    assert!(hung_up && began.elapsed() < Duration::from_secs(4), "the client does not wait for the body");
}

#[tokio::test]
async fn an_ipv6_literal_is_reached() {
    let (port, told) = server("[::1]:0", vec![reply("200 OK")]);
    assert_eq!(probe(&format!("http://[::1]:{port}/")).await, Ok(()));
    assert!(told.recv().unwrap().0.to_lowercase().contains("host: [::1]:"));
}

#[tokio::test]
async fn any_other_status_is_named() {
    let (port, _told) = server("127.0.0.1:0", vec![reply("204 No Content"), reply("503 Nope")]);
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(probe(&url).await, Err(format!("{url}: status 204")));
    assert_eq!(probe(&url).await, Err(format!("{url}: status 503")));
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let away = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n");
    let (port, told) = server("127.0.0.1:0", vec![away("/healthz"), reply("200 OK")]);
    assert_eq!(probe(&format!("http://127.0.0.1:{port}/livez")).await, Ok(()));
    assert!(told.iter().any(|(head, _)| head.starts_with("GET /healthz ")));

    let (port, _told) = server("127.0.0.1:0", vec![away("/again"); 20]);
    let error = probe(&format!("http://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(error.contains("more than 10 redirects"), "{error}");
}

#[tokio::test]
async fn silence_ends_at_the_timeout_and_a_closed_port_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let began = Instant::now();
    let error = probe_with(&format!("http://127.0.0.1:{port}/"), None, 200).await.unwrap_err();
    assert!(error.contains("no answer within 200 ms"), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < Duration::from_secs(2));
    drop(silent);
    let error = probe(&format!("http://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_up_or_speaks_nonsense_is_unhealthy() {
    let (port, _told) = server("127.0.0.1:0", vec![String::new(), "SSH-2.0-x\r\n\r\n".to_owned()]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap().port();
    std::thread::spawn(move || drop(listener.accept()));
    assert!(probe(&format!("http://127.0.0.1:{closed}/")).await.is_err());
    assert!(probe_with(&format!("http://127.0.0.1:{port}/"), None, 300).await.is_err());
    assert!(probe(&format!("http://127.0.0.1:{port}/")).await.is_err());
}

/// A CA in a PEM file and a TLS server for 127.0.0.1 that it signed.
fn tls_server(folder: &std::path::Path) -> (u16, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_path = folder.join("ca.crt");
    std::fs::write(&ca_path, ca.self_signed(&ca_key).unwrap().pem()).unwrap();

    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(Vec::new()).unwrap();
    leaf.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let mut request = [0; 1024];
            if tls.read(&mut request).is_ok() {
                let _ = tls.write_all(reply("200 OK").as_bytes());
            }
        }
    });
    (port, ca_path.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn https_trusts_the_ca_file_and_nothing_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let (port, ca) = tls_server(folder.path());
    let url = format!("https://127.0.0.1:{port}/livez");
    assert_eq!(probe_with(&url, Some(&ca), 5_000).await, Ok(()));
    let error = probe(&url).await.unwrap_err();
    assert!(error.contains("TLS:") && error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_ca_file_that_is_missing_or_empty_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    let ca = path.to_str().unwrap();
    let url = "https://127.0.0.1:1/";
    let error = probe_with(url, Some(ca), 5_000).await.unwrap_err();
    assert!(error.contains("cannot read the CA file") && error.contains(ca), "{error}");
    std::fs::write(&path, "not a certificate").unwrap();
    let error = probe_with(url, Some(ca), 5_000).await.unwrap_err();
    assert!(error.contains("has no valid certificate") && error.contains(ca), "{error}");
}

#[tokio::test]
async fn a_replaced_ca_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (port, ca) = tls_server(folder.path());
    let errands = Errands::new();
    let ask = |ca_path: String| {
        let url = format!("https://127.0.0.1:{port}/");
        let task = ErrandTask::HttpProbe { url, timeout: Duration::from_secs(5), ca_path: Some(ca_path) };
        errands.run(Errand { id: QuestionId(1), task })
    };
    assert_eq!(ask(ca.clone()).await.result, Ok(()));
    let good = std::fs::read(&ca).unwrap();
    std::fs::write(&ca, "broken").unwrap();
    assert!(ask(ca.clone()).await.result.is_err());
    std::fs::write(&ca, good).unwrap();
    assert_eq!(ask(ca).await.result, Ok(()));
}

#[tokio::test]
async fn no_descriptor_is_left_after_many_probes() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let quiet = silent.local_addr().unwrap().port();
    let (port, _told) = server("127.0.0.1:0", vec![reply("200 OK"); 20]);
    let own = |port: u16| {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let peer = format!("0100007F:{port:04X}");
        table.lines().filter(|row| row.split_whitespace().nth(2) == Some(peer.as_str())).count()
    };
    for _ in 0..20 {
        assert_eq!(probe(&format!("http://127.0.0.1:{port}/")).await, Ok(()));
        assert!(probe_with(&format!("http://127.0.0.1:{quiet}/"), None, 5).await.is_err());
    }
    let established = |state: &str| {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let peer = format!("0100007F:{quiet:04X}");
        let fields = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        table.lines().map(fields).filter(|row| row.len() > 3 && row[2] == peer && row[3] == state).count()
    };
    assert!(own(port) <= 21, "at most what TCP itself still remembers");
    assert_eq!(established("01"), 0, "no connection to the silent server is still open");
}
