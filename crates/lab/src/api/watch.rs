//! Watches: a stream of ADDED, MODIFIED, DELETED, BOOKMARK and ERROR events, one JSON object per line. A watch keeps
//! only the version it has come to; it reads the store's history whenever the version moves, so that no queue can
//! overflow. The knobs of its endpoint can close it or make it go silent.

use super::failure::{Cause, Failure};
use super::kind::Kind;
use super::knob::{Line, Watches};
use super::list;
use super::object::set_meta;
use super::route::Target;
use super::select::Selector;
use super::store::{Change, Memory, Store};
use futures::Stream;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

/// A bookmark is due this often; the real server's figure.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// The last bookmark comes this long before the end of a watch; the real server's figure.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How long a watch lasts that names no timeout. The real server picks 30 to 60 minutes.
const DEFAULT_LIFE: Duration = Duration::from_secs(1800);

/// One watch.
pub(crate) struct Follower {
    store: Arc<Store>,
    kind: &'static Kind,
    namespace: String,
    selector: Selector,
    /// Everything up to this version was looked at.
    position: u64,
    /// The client knows of this version; a bookmark comes only with a newer one.
    told: u64,
    ready: VecDeque<Bytes>,
    /// After an ERROR event nothing more comes.
    is_broken: bool,
    ends: Instant,
    next_bookmark: Option<Instant>,
    moved: Receiver<u64>,
    line: Receiver<Line>,
    born: Line,
}

/// Opens a watch, or says why not. `line` is what the knobs say about this endpoint.
pub(crate) fn open(store: &Arc<Store>, target: &Target, line: Receiver<Line>) -> Result<Follower, Failure> {
    let query = &target.query;
    let selector = list::selector(target)?;
    let version = list::version(query).map_err(Failure::internal)?;
    let wants_initial = query.is_set("sendInitialEvents");
    check_match(query.text("resourceVersionMatch"), query.has("sendInitialEvents"))?;
    let life = query.text("timeoutSeconds").parse().map_or(DEFAULT_LIFE, Duration::from_secs);
    let ends = Instant::now() + if life.is_zero() { DEFAULT_LIFE } else { life };
    let bookmarks = query.is_set("allowWatchBookmarks");
    let born = line.borrow().clone();
    let mut follower = Follower {
        moved: store.subscribe(),
        store: Arc::clone(store),
        kind: target.kind,
        namespace: target.namespace.clone(),
        selector,
        position: 0,
        told: 0,
        ready: VecDeque::new(),
        is_broken: false,
        ends,
        next_bookmark: bookmarks.then(|| next_bookmark(ends)).flatten(),
        line,
        born,
    };
    let from_now = wants_initial || matches!(version, None | Some(0));
    let skips_initial = query.has("sendInitialEvents") && !wants_initial;
    let store = Arc::clone(store);
    store.read(|memory| {
        match version {
            Some(version) if !from_now => follower.position = version,
            _ => follower.position = memory.version(),
        }
        follower.told = follower.position;
        if from_now && !skips_initial {
            follower.initial(memory);
        }
    });
    if wants_initial && bookmarks {
        follower.bookmark(Some(json!({"k8s.io/initial-events-end": "true"})));
    }
    Ok(follower)
}

fn check_match(wanted: &str, has_initial: bool) -> Result<(), Failure> {
    let why = match (wanted, has_initial) {
        ("", false) | ("NotOlderThan", true) => return Ok(()),
        (_, true) => "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        (_, false) => "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    };
    Err(Failure::invalid_options(&[Cause::forbidden("resourceVersionMatch", why)]))
}

fn next_bookmark(ends: Instant) -> Option<Instant> {
    let now = Instant::now();
    let last = ends.checked_sub(BOOKMARK_BEFORE_END)?;
    (last > now).then(|| last.min(now + BOOKMARK_EVERY))
}

impl Follower {
    /// The events as the body of an answer.
    pub(crate) fn stream(self) -> impl Stream<Item = Bytes> + Send {
        futures::stream::unfold(self, |mut follower| async move {
            let next = follower.next().await?;
            Some((next, follower))
        })
    }

    fn is_mine(&self, change: &Change) -> bool {
        self.namespace.is_empty() || change.key.namespace == self.namespace
    }

    fn initial(&mut self, memory: &Memory) {
        let mine: Vec<Arc<Value>> = memory
            .of_kind(self.kind)
            .filter(|(key, _)| self.namespace.is_empty() || key.namespace == self.namespace)
            .map(|(_, object)| Arc::clone(object))
            .filter(|object| self.selector.matches(object))
            .collect();
        for object in mine {
            self.push("ADDED", &object);
        }
    }

    fn push(&mut self, event: &str, object: &Value) {
        let mut line = json!({"type": event, "object": object}).to_string();
        line.push('\n');
        self.ready.push_back(Bytes::from(line));
    }

    fn bookmark(&mut self, annotations: Option<Value>) {
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let object =
            json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
        self.push("BOOKMARK", &object);
        self.told = self.position;
    }

    /// Reads the history up to now.
    fn catch_up(&mut self) {
        let store = Arc::clone(&self.store);
        store.read(|memory| {
            if self.position < memory.compacted() {
                let failure = Failure::expired(self.position, memory.compacted());
                self.push("ERROR", &failure.status());
                self.is_broken = true;
                return;
            }
            for change in memory.changes_after(self.kind, self.position) {
                if self.is_mine(change) {
                    self.see(change);
                }
            }
            self.position = self.position.max(memory.version());
        });
    }

    /// An object that leaves or enters the selection looks deleted or added, in its last selected form.
    fn see(&mut self, change: &Change) {
        let selected = |object: &Option<Arc<Value>>| {
            object.as_ref().filter(|object| self.selector.matches(object)).map(Arc::clone)
        };
        let (before, after) = (selected(&change.before), selected(&change.after));
        if before.is_some() || after.is_some() {
            self.told = change.version;
        }
        match (before, after) {
            (None, None) => {}
            (None, Some(after)) => self.push("ADDED", &after),
            (Some(_), Some(after)) => self.push("MODIFIED", &after),
            (Some(before), None) => {
                let mut gone = Value::clone(&before);
                set_meta(&mut gone, "resourceVersion", Some(json!(change.version.to_string())));
                self.push("DELETED", &gone);
            }
        }
    }

    /// The next line; none when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let line = self.line.borrow_and_update().clone();
            if line.watches_dropped != self.born.watches_dropped {
                return None;
            }
            if line.watches == Watches::Frozen {
                self.line.changed().await.ok()?;
                continue;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_broken || Instant::now() >= self.ends {
                return None;
            }
            self.moved.mark_unchanged();
            self.catch_up();
            if self.ready.is_empty() {
                self.wait().await?;
            }
        }
    }

    /// Waits until something may have changed; none when the server is gone.
    async fn wait(&mut self) -> Option<()> {
        let bookmark_at = self.next_bookmark.unwrap_or(self.ends);
        tokio::select! {
            moved = self.moved.changed() => moved.ok(),
            turned = self.line.changed() => turned.ok(),
            () = tokio::time::sleep_until(self.ends) => Some(()),
            () = tokio::time::sleep_until(bookmark_at), if self.next_bookmark.is_some() => {
                if self.position > self.told {
                    self.bookmark(None);
                }
                self.next_bookmark = next_bookmark(self.ends);
                Some(())
            }
        }
    }
}
