//! The page for people: the status table as HTML, with the way to the metrics. Nothing on it is active; every value
//! is escaped.

use vip_model::Instant;
use vip_model::view::View;

use crate::status::table;

/// The page.
pub(super) fn render(view: &View, now: Instant) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><title>kube-vip</title></head>\n<body>\n<h1>kube-vip Metrics</h1>\n\
         <p><a href=\"/metrics\">Metrics</a></p>\n<pre>\n{}</pre>\n</body></html>\n",
        escaped(&table::render(view, now))
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
