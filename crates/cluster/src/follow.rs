//! Following a collection: list it, then watch it, for ever.
//!
//! ```text
//!        ┌────────────────────── 410, overdue, failed ────────────────────────────┐
//!        ▼                                                                         │
//!      list ──ok──► watch from its version ──ended──► watch from the last version ─┘
//!        │ failed: wait 50 ms … 2 s (200 ms when refused), sooner when the API answers somebody else
//! ```
//! A list is a consistent read, so what it does not show does not exist. A watch ends by the server's clock after one
//! to two minutes; one that outlives that is cut.

use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};
use vip_model::Random;
use vip_model::store::{Failure, FailureClass, Version};

use crate::call::{Call, ReplyBody, Take};
use crate::classify::{self, Status};
use crate::gateway::{Gateway, Problem};
use crate::lane::Patience;

/// How long a list may take. An API that is slow is given time, an API that comes back is seen by the next hedge.
const LIST: Patience = Patience { whole: Duration::from_secs(6), hedge: Duration::from_millis(250) };
/// How long the head of a watch may take.
const OPEN: Patience = Patience { whole: Duration::from_secs(3), hedge: Duration::from_millis(700) };
/// The server ends a watch after this time and up to as much again.
const WATCH: u64 = 60;
/// How much longer it may live.
const GRACE: Duration = Duration::from_secs(15);
/// The longest line of a watch.
const LONGEST_LINE: usize = 8 * 1024 * 1024;
/// After a refused connection: an API that comes back must be noticed within 300 ms.
const REFUSED: Duration = Duration::from_millis(200);
/// The first and the longest wait after other failures.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// After 403 on something that no election needs.
const FORBIDDEN: Duration = Duration::from_secs(30);
/// Objects in one answer of a list that may be long: 500, as client-go has it.
pub(crate) const PAGE: u32 = 500;
/// A watch that ended sooner than this counts as failed.
const SHORT: Duration = Duration::from_secs(1);

/// A collection that is followed.
pub(crate) trait Collection: Send {
    /// What an object is read as.
    type Item: DeserializeOwned + Send;

    /// The resource as RBAC names it.
    fn resource(&self) -> &'static str;
    /// What is followed, for people.
    fn object(&self) -> String;
    /// Path and query of a list, ending in `?` or `&`, so that `key=value` can be added.
    fn query(&self) -> String;
    /// How many objects an answer of a list may hold.
    fn page(&self) -> u32 {
        100
    }
    /// A list starts, from the beginning.
    fn starts(&mut self) {}
    /// One more page of a list that began with [`Self::starts`].
    fn found(&mut self, items: Vec<Self::Item>);
    /// The list is over: the whole collection was seen, as of `version`.
    fn listed(&mut self, version: &Version);
    /// An object was added or changed.
    fn changed(&mut self, item: Self::Item);
    /// An object was deleted.
    fn deleted(&mut self, item: Self::Item);
    /// Returns when the collection must be listed again although its watch is alive.
    fn overdue(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
    /// A list or a watch failed; it is tried again.
    fn failed(&mut self, _failure: &Failure) {}
    /// What follows a watch that failed.
    fn recovery(&self) -> Recovery;
    /// How long to wait when a right is missing.
    fn wait_for_rights(&self) -> Duration {
        FORBIDDEN
    }
}

/// What follows a watch that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// A list: it tells those who wait that the API is back, even when nothing changed.
    List,
    /// A watch from the last version: for collections that are large.
    Resume,
}

#[derive(Deserialize)]
struct Listing<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Object<T> {
    object: T,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: ListMeta,
}

/// How a watch ended.
enum Ended {
    /// By the server, in good order.
    InOrder,
    /// The collection must be listed again.
    Stale,
    /// It failed.
    Failed(Failure),
}

/// Follows `collection` until the task is aborted.
pub(crate) async fn follow<C: Collection>(gateway: &Gateway, mut collection: C, seed: u64) {
    let mut pace = Pace { random: Random::new(seed), failures: 0 };
    loop {
        collection.starts();
        let mut version = match list(gateway, &mut collection).await {
            Ok(version) => version,
            Err(failure) => {
                collection.failed(&failure);
                pace.wait(gateway, &failure, collection.wait_for_rights()).await;
                continue;
            }
        };
        loop {
            let started = Instant::now();
            let ended = watch(gateway, &mut collection, &mut version, &mut pace).await;
            if started.elapsed() >= SHORT {
                pace.failures = 0;
            }
            let failure = match ended {
                Ended::Stale => break,
                Ended::InOrder if started.elapsed() >= SHORT => continue,
                Ended::InOrder => {
                    Failure { class: FailureClass::Server, text: "the watch ended at once".to_owned() }
                }
                Ended::Failed(failure) => failure,
            };
            collection.failed(&failure);
            if failure.class == FailureClass::Gone && pace.failures == 0 {
                pace.failures = 1;
                break;
            }
            pace.wait(gateway, &failure, collection.wait_for_rights()).await;
            let resumes = collection.recovery() == Recovery::Resume
                && matches!(
                    failure.class,
                    FailureClass::Unreachable | FailureClass::Timeout | FailureClass::Throttled
                );
            if !resumes {
                break;
            }
        }
    }
}

async fn list<C: Collection>(gateway: &Gateway, collection: &mut C) -> Result<Version, Failure> {
    let mut next = String::new();
    loop {
        let page = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let call = Call {
            verb: "list",
            resource: collection.resource(),
            object: collection.object(),
            path: format!("{}limit={}{page}", collection.query(), collection.page()),
            body: None,
        };
        let reply = gateway
            .call(&gateway.background, &call, Take::Whole, LIST)
            .await
            .map_err(Problem::into_failure)?;
        let listing: Listing<C::Item> = serde_json::from_slice(reply.whole())
            .map_err(|error| classify::nonsense(&call, &reply.server, &error))?;
        collection.found(listing.items);
        next = listing.metadata.next;
        if next.is_empty() {
            let version = Version(listing.metadata.resource_version);
            collection.listed(&version);
            return Ok(version);
        }
    }
}

async fn watch<C: Collection>(
    gateway: &Gateway,
    collection: &mut C,
    version: &mut Version,
    pace: &mut Pace,
) -> Ended {
    let seconds = WATCH + pace.random.below(WATCH);
    let call = Call {
        verb: "watch",
        resource: collection.resource(),
        object: collection.object(),
        path: format!(
            "{}watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={seconds}",
            collection.query(),
            version.0
        ),
        body: None,
    };
    let reply = match gateway.call(&gateway.background, &call, Take::Head, OPEN).await {
        Ok(reply) => reply,
        Err(problem) => return Ended::Failed(problem.into_failure()),
    };
    let server = reply.server;
    let ReplyBody::Coming(body) = reply.body else { return Ended::InOrder };
    let mut lines = Lines { body, pending: Vec::new() };
    let end = Instant::now() + Duration::from_secs(seconds) + GRACE;
    loop {
        let line = {
            let next = pin!(timeout_at(end, lines.next()));
            tokio::select! {
                line = next => line,
                () = collection.overdue() => return Ended::Stale,
            }
        };
        let line = match line {
            Err(_) => {
                return Ended::Failed(classify::timeout(
                    &call,
                    &server,
                    Duration::from_secs(seconds) + GRACE,
                ));
            }
            Ok(None) => return Ended::InOrder,
            Ok(Some(Err(error))) => {
                return Ended::Failed(classify::transport_failure(&call, &server, &*error));
            }
            Ok(Some(Ok(line))) => line,
        };
        match event(&call, &server, &line, collection) {
            Ok(Some(newer)) => *version = newer,
            Ok(None) => {}
            Err(failure) => return Ended::Failed(failure),
        }
    }
}

/// Hands one event over. Gives back the version up to which the collection was now seen.
fn event<C: Collection>(
    call: &Call,
    server: &str,
    line: &[u8],
    collection: &mut C,
) -> Result<Option<Version>, Failure> {
    let nonsense = |error: serde_json::Error| classify::nonsense(call, server, &error);
    let Kind { kind } = serde_json::from_slice(line).map_err(nonsense)?;
    if kind == "ERROR" {
        let Object { object } = serde_json::from_slice::<Object<Status>>(line).map_err(nonsense)?;
        return Err(classify::event_failure(call, server, &object));
    }
    let Object { object } = serde_json::from_slice::<Object<Bookmark>>(line).map_err(nonsense)?;
    let item = || serde_json::from_slice::<Object<C::Item>>(line).map(|line| line.object).map_err(nonsense);
    match kind.as_str() {
        "ADDED" | "MODIFIED" => collection.changed(item()?),
        "DELETED" => collection.deleted(item()?),
        _ => {} // BOOKMARK: only the version is news
    }
    let version = object.metadata.resource_version;
    Ok((!version.is_empty()).then_some(Version(version)))
}

/// A body as lines.
struct Lines {
    body: Incoming,
    pending: Vec<u8>,
}

impl Lines {
    /// The next line that is not empty; none at the end. Cancelling loses nothing.
    async fn next(&mut self) -> Option<Result<Bytes, crate::connection::BoxError>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let line = std::mem::replace(&mut self.pending, rest);
                if line.len() > 1 {
                    return Some(Ok(Bytes::from(line)));
                }
                continue;
            }
            if self.pending.len() > LONGEST_LINE {
                return Some(Err(format!("a watch event is longer than {LONGEST_LINE} bytes").into()));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.pending.extend_from_slice(&bytes);
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// How fast to try again.
struct Pace {
    random: Random,
    failures: u32,
}

impl Pace {
    async fn wait(&mut self, gateway: &Gateway, failure: &Failure, for_rights: Duration) {
        let (first, longest) = BACKOFF;
        let grown = first.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let wait = match failure.class {
            FailureClass::Unreachable => REFUSED,
            FailureClass::Timeout => grown.min(REFUSED),
            FailureClass::Forbidden => for_rights,
            _ => grown,
        };
        let wait = wait.mul_f64(0.9 + 0.2 * self.random.unit());
        tokio::select! {
            () = sleep(wait) => {}
            () = gateway.back.notified() => {}
        }
    }
}
