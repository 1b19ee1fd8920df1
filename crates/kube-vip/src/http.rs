//! The HTTP server: `/livez`, `/healthz`, `/readyz`, `/metrics` and a small page, read from the notice board. It
//! runs as tasks beside everything else; nothing ever waits for it, least of all the end of the process (kube-vip
//! could not exit while its health server ran).

mod metrics;
mod page;
mod proc;
mod server;

use std::sync::Arc;

use http::{Method, Response, StatusCode, header};
use vip_model::view::{Readiness, View};

use crate::board::{Board, boot_now};
use crate::settings::Listen;

pub(crate) use server::serve;

/// What a listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Health, metrics, and the page for people (`prometheus_server`).
    All,
    /// `/healthz`, `/livez`, `/readyz` only (`health_check_port`).
    Health,
}

/// One listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    /// The setting that asked for it, for messages.
    pub(crate) setting: &'static str,
    /// Where.
    pub(crate) listen: Listen,
    /// What it shows.
    pub(crate) pages: Pages,
}

/// The answer to one request.
fn answer(board: &Arc<Board>, pages: Pages, method: &Method, path: &str) -> Response<String> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n".to_owned());
    }
    match (path, pages) {
        // `/healthz` is what kube-vip's manifests probe; there it said OK whatever happened.
        ("/livez" | "/healthz", _) => live(board),
        ("/readyz", _) => ready(&board.view()),
        ("/metrics", Pages::All) => typed(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(board)),
        (_, Pages::All) => {
            typed(StatusCode::OK, "text/html; charset=utf-8", page::render(&board.view(), boot_now()))
        }
        (_, Pages::Health) => text(StatusCode::NOT_FOUND, "try /healthz, /livez or /readyz\n".to_owned()),
    }
}

fn live(board: &Board) -> Response<String> {
    match board.alive() {
        Ok(()) => text(StatusCode::OK, "OK".to_owned()),
        Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")),
    }
}

fn ready(view: &View) -> Response<String> {
    let unavailable = |what: &str| {
        let troubles = view.elections.iter().filter_map(|(lease, state)| {
            state.trouble.as_ref().map(|failure| format!("lease {lease}: {}\n", failure.text))
        });
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n{}", troubles.collect::<String>()))
    };
    match view.readiness {
        _ if view.stopping => unavailable("stopping"),
        Readiness::Ready => text(StatusCode::OK, "OK".to_owned()),
        Readiness::Starting => unavailable("starting: not everything that was asked for is known yet"),
        Readiness::Stale => unavailable("the Kubernetes API does not answer: what is known of it is stale"),
    }
}

fn text(status: StatusCode, body: String) -> Response<String> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
