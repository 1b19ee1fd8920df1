//! What the process says on standard error: one line per event in kube-vip's form,
//! `2026/01/02 15:04:05 INFO message key=value`, with times in UTC.
//!
//! Set up once by the program before anything can log; fed by `tracing`. Our own crates log from `vip_loglevel` on.
//! Libraries are heard from WARN on, and wholly at the lowest level only: a debug line of an HTTP client
//! is never what an operator looks for.

mod queue;

use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::LogLevel;

use self::queue::Queue;

/// Where lines wait for standard error, once logging was started.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Starts logging. A second call changes nothing. The error is that of a thread that cannot be had.
pub(crate) fn start(level: LogLevel) -> std::io::Result<()> {
    let queue = Queue::to_stderr()?;
    let queue = QUEUE.get_or_init(|| queue).clone();
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Line)
        .with_writer(queue)
        .with_filter(filter_fn(move |metadata| is_shown(metadata, level)));
    // Fails only when logging was started before.
    let _ = tracing_subscriber::registry().with(lines.with_filter(threshold(level))).try_init();
    Ok(())
}

/// Waits, for a moment at most, until everything that was logged is written. For the ends of the process.
pub(crate) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.wait_written();
    }
}

fn threshold(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}

fn is_shown(metadata: &Metadata<'_>, level: LogLevel) -> bool {
    let ours = metadata.target().starts_with("vip_") || metadata.target().starts_with("kube_vip");
    ours || *metadata.level() <= Level::WARN || level == LogLevel::Trace
}

/// One event as one line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = jiff::Timestamp::now().strftime("%Y/%m/%d %H:%M:%S");
        writeln!(writer, "{now} {} {}{}", event.metadata().level(), fields.message, fields.pairs)
    }
}

/// The message of an event, and its other fields as ` key=value`.
#[derive(Default)]
struct Fields {
    message: String,
    pairs: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = one_line(value);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(self.pairs, " {}={}", field.name(), quoted(value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// A message cannot forge a second log line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As Go's text handler: quoted when the plain text would be ambiguous.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(plain) { value.to_owned() } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, say: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Line)
            .with_writer(move || writer.clone())
            .with_filter(filter_fn(move |metadata| is_shown(metadata, level)));
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(threshold(level)));
        tracing::subscriber::with_default(subscriber, say);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_kube_vips_form() {
        let text = logged(LogLevel::Info, || {
            tracing::info!(lease = "kube-system/plndr-cp-lock", reason = %"n2 holds it", n = 3, "yielded");
        });
        let (time, rest) = text.split_at("2026/01/02 15:04:05".len());
        assert!(time.bytes().all(|b| b.is_ascii_digit() || b"/: ".contains(&b)), "{time}");
        assert_eq!(rest, " INFO yielded lease=kube-system/plndr-cp-lock reason=\"n2 holds it\" n=3\n");
    }

    #[test]
    fn the_level_decides_and_libraries_are_heard_only_when_they_warn() {
        let say = || {
            tracing::debug!("ours, low");
            tracing::info!(target: "hyper::client", "theirs");
            tracing::warn!(target: "kube_client", "theirs, grave");
            tracing::error!("ours, grave");
        };
        let at = |level| {
            let text = logged(level, say);
            text.lines().map(|line| line[20..].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(at(LogLevel::Error), ["ERROR ours, grave"]);
        assert_eq!(at(LogLevel::Info), ["WARN theirs, grave", "ERROR ours, grave"]);
        assert_eq!(at(LogLevel::Debug), ["DEBUG ours, low", "WARN theirs, grave", "ERROR ours, grave"]);
        assert_eq!(at(LogLevel::Trace).len(), 4);
    }

    #[test]
    fn nothing_that_is_logged_can_forge_a_line() {
        let text = logged(LogLevel::Info, || {
            tracing::info!(text = "a\n2026/01/02 00:00:00 ERROR b", "one\ntwo");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("one two text=\"a\\n2026"), "{text}");
    }
}
