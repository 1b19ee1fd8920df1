//! From one HTTP request to one HTTP answer: who asks, what for, what the knobs say, whether it is allowed, then the
//! verb. Connections call it; everything that is missing is recorded here.

use super::access;
use super::credential::{Identity, Presented};
use super::failure::Failure;
use super::knob::{Effect, Health, Line};
use super::list;
use super::route::{Query, Route, Target, Verb, route};
use super::verb;
use super::watch;
use super::{Call, Shared};
use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch::Receiver;

/// What `/version` says; the version whose rules the server follows.
const GIT_VERSION: &str = "v1.34.4";

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where a request came in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Arc<str>,
    /// From the client certificate of the connection.
    pub(crate) presented: Presented,
    pub(crate) line: Receiver<Line>,
}

enum Reply {
    Json(u16, Arc<Value>),
    Text(u16, String),
    Watch(Box<watch::Follower>),
}

/// Answers one request. Never fails: a failure is an answer too.
pub(crate) async fn answer(door: Door, request: Request<Incoming>) -> Response<Body> {
    let reply = match respond(&door, request).await {
        Ok(reply) => reply,
        Err(failure) => {
            if failure.code == 501 {
                door.shared.note_missing(&failure.message);
            }
            return write_failure(&failure);
        }
    };
    match reply {
        Reply::Json(code, object) => write(code, "application/json", object.to_string()),
        Reply::Text(code, text) => write(code, "text/plain; charset=utf-8", text),
        Reply::Watch(follower) => {
            let frames = follower.stream().map(|line| Ok::<_, Infallible>(Frame::data(line)));
            let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
            response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            response
        }
    }
}

fn write(code: u16, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

fn write_failure(failure: &Failure) -> Response<Body> {
    if failure.reason.is_empty() && failure.code == 404 {
        return write(404, "text/plain; charset=utf-8", format!("{}\n", failure.message));
    }
    let mut response = write(failure.code, "application/json", failure.status().to_string());
    if let Some(seconds) = failure.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    response
}

async fn respond(door: &Door, request: Request<Incoming>) -> Result<Reply, Failure> {
    let (head, body) = request.into_parts();
    let who = identify(door, &head.headers)?;
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    let target = match route(head.method.as_str(), path, query)? {
        Route::Resource(target) => target,
        Route::Path(path, query) => {
            let (latency, effect) = meet(door, &who, Verb::Get, &path);
            tokio::time::sleep(latency).await;
            before(effect).await?;
            access::check_path(&who, &path)?;
            return plain(door, &path, &query);
        }
    };
    let (latency, effect) = meet(door, &who, target.verb, &target.resource());
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    before(effect.clone()).await?;
    access::check(&door.shared.store, &who, target.verb, &target)?;
    check_form(&target, &head.headers)?;
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(err) => return Err(Failure::bad_request(format!("the body broke off: {err}"))),
    };
    let reply = perform(door, &who, &target, (&head.headers, &body));
    match effect {
        Some(Effect::FailAfter(failure)) => Err(failure),
        Some(Effect::HangAfter) => std::future::pending().await,
        _ => reply,
    }
}

/// Counts a request and reads what the knobs have for it.
fn meet(door: &Door, who: &Identity, verb: Verb, resource: &str) -> (std::time::Duration, Option<Effect>) {
    door.shared.count(Call {
        endpoint: door.endpoint.to_string(),
        user: who.user.clone(),
        verb,
        resource: resource.to_owned(),
    });
    let weather = door.shared.panel.weather(&door.endpoint, verb, resource, &who.user);
    (weather.latency, weather.effect)
}

async fn before(effect: Option<Effect>) -> Result<(), Failure> {
    match effect {
        Some(Effect::Fail(failure)) => Err(failure),
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::TimeOut(time)) => {
            tokio::time::sleep(time).await;
            Err(Failure::timed_out())
        }
        Some(Effect::Delay(time)) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A token or a certificate that is not known is refused; no credential at all is the anonymous user, as in a kubeadm cluster.
fn identify(door: &Door, headers: &HeaderMap) -> Result<Identity, Failure> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let by_token = bearer.and_then(|token| door.shared.credentials.of_token(token));
    let mut who = match (&door.presented, by_token) {
        (Presented::Known(identity), _) => identity.clone(),
        (_, Some(identity)) => identity,
        (Presented::Nothing, None) if bearer.is_none() => {
            return Ok(Identity::new("system:anonymous", &["system:unauthenticated"]));
        }
        _ => return Err(Failure::unauthorized()),
    };
    who.groups.push("system:authenticated".to_owned());
    Ok(who)
}

/// Refuses forms of requests and answers that only the real server knows.
fn check_form(target: &Target, headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accept = text(ACCEPT);
    let takes_json = accept.is_empty()
        || accept.split(',').map(str::trim).any(|kind| {
            let plain = kind.split(';').next().unwrap_or_default();
            ["application/json", "application/*", "*/*"].contains(&plain) && !kind.contains("as=")
        });
    if !takes_json {
        return Err(Failure::not_implemented(&format!("answers of type {accept}")));
    }
    let content = text(CONTENT_TYPE);
    let is_write = matches!(target.verb, Verb::Create | Verb::Update);
    if is_write && !content.is_empty() && !content.starts_with("application/json") {
        return Err(Failure::not_implemented(&format!("bodies of type {content}")));
    }
    if target.query.has("dryRun") {
        return Err(Failure::not_implemented("dryRun"));
    }
    if target.query.text("fieldValidation") == "Strict" {
        return Err(Failure::not_implemented("fieldValidation=Strict"));
    }
    Ok(())
}

fn perform(
    door: &Door,
    who: &Identity,
    target: &Target,
    input: (&HeaderMap, &[u8]),
) -> Result<Reply, Failure> {
    let store = &door.shared.store;
    let (headers, body) = input;
    let (code, object) = match target.verb {
        Verb::Get => verb::get(store, target)?,
        Verb::List => (200, Arc::new(list::list(store, target)?)),
        Verb::Watch => {
            let follower = watch::open(store, target, door.line.clone())?;
            return Ok(Reply::Watch(Box::new(follower)));
        }
        Verb::Create => verb::create(store, target, body)?,
        Verb::Update => {
            let may_create = access::check(store, who, Verb::Create, target);
            verb::update(store, target, body, may_create)?
        }
        Verb::Patch => {
            let content = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let content = content.split(';').next().unwrap_or_default().trim();
            verb::patch(store, target, content, body)?
        }
        Verb::Delete => verb::delete(store, target, body)?,
        Verb::DeleteCollection => return Err(Failure::not_implemented("deletecollection")),
    };
    Ok(Reply::Json(code, object))
}

fn plain(door: &Door, path: &str, query: &Query) -> Result<Reply, Failure> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("version", None) => Ok(Reply::Json(200, Arc::new(version()))),
        (root @ ("healthz" | "livez" | "readyz"), None) => {
            Ok(health(root, door.shared.panel.health(&door.endpoint), query))
        }
        ("healthz" | "livez" | "readyz", Some(check)) => {
            let red = failing(door.shared.panel.health(&door.endpoint));
            Ok(if red.contains(&check) {
                Reply::Text(500, format!("internal server error: {check} failed: reason withheld\n"))
            } else {
                Reply::Text(200, "ok".to_owned())
            })
        }
        ("" | "api" | "apis" | "openapi" | "metrics" | "debug" | "logs", _) => {
            Err(Failure::not_implemented(&format!("the path {path}")))
        }
        _ => Err(Failure::new(404, "", "404 page not found")),
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

fn failing(health: Health) -> &'static [&'static str] {
    match health {
        Health::Green => &[],
        Health::EtcdRed => &["etcd", "etcd-readiness"],
        Health::Red => &["ping", "etcd", "etcd-readiness"],
    }
}

fn health(root: &str, health: Health, query: &Query) -> Reply {
    let checks: &[&str] =
        if root == "readyz" { &["ping", "etcd", "etcd-readiness"] } else { &["ping", "etcd"] };
    let red = failing(health);
    let mut text = String::new();
    let mut is_red = false;
    for check in checks {
        let mark = match (query.all("exclude").any(|name| name == *check), red.contains(check)) {
            (true, _) => format!("[+]{check} excluded: ok\n"),
            (false, false) => format!("[+]{check} ok\n"),
            (false, true) => {
                is_red = true;
                format!("[-]{check} failed: reason withheld\n")
            }
        };
        text.push_str(&mark);
    }
    match (is_red, query.has("verbose")) {
        (true, _) => Reply::Text(500, format!("{text}{root} check failed\n")),
        (false, true) => Reply::Text(200, format!("{text}{root} check passed\n")),
        (false, false) => Reply::Text(200, "ok".to_owned()),
    }
}
