//! A lane: connections of its own to every API server, and calls that do not wait for one that hangs.
//!
//! A call goes to the preferred server. When that fails, the next one is tried at once; when it is silent for the
//! hedge time, the next one is tried beside it, and the first answer counts. With one server known, the hedge is a
//! fresh connection to it. A call may therefore reach several servers: reads do not mind, writes are compare-and-swap
//! and [`Reply::sent`] tells that a conflict may be with ourselves.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vip_model::store::{Failure, FailureClass};

use crate::call::{Call, Reply, ReplyBody, Take};
use crate::classify;
use crate::connection::{self, BoxError, Sender};
use crate::directory::{Access, Directory, Endpoint};
use crate::endpoint::Dial;
use crate::health::Outcome;

/// The longest time before another server is asked beside a silent one.
const LONGEST_HEDGE: Duration = Duration::from_millis(700);
/// How many hedges of one call wait at the same time, beside the first attempt.
const HEDGES: u32 = 4;
/// So many calls have a connection each at once, and so many connections are opened at the same time. Whoever comes
/// later first waits for a connection that another call gives back: on a server that answers, hundreds of calls at the
/// same moment need no hundreds of TLS handshakes.
const FEW: usize = 16;
/// How long the next one waits before it opens a connection of its own after all. A server that is slow gets as many
/// connections as there are calls, soon: they must not wait for it one after the other.
const GROW: Duration = Duration::from_millis(20);
/// How many idle connections are kept for each server.
const IDLE: usize = FEW;
/// How long. One or two are enough for most of the time.
const KEPT: Duration = Duration::from_secs(30);
/// The largest answer that is read whole.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// In all.
    pub(crate) whole: Duration,
    /// Before the next server is asked beside a silent one.
    pub(crate) hedge: Duration,
}

impl Patience {
    /// For a call that must be answered in `whole`: the second server gets at least half of it.
    pub(crate) fn of(whole: Duration) -> Self {
        Self { whole, hedge: (whole / 2).min(LONGEST_HEDGE) }
    }
}

/// Connections that no other lane uses.
pub(crate) struct Lane {
    directory: Arc<Directory>,
    idle: Mutex<Idle>,
    busy: AtomicUsize,
    returned: Notify,
    opening: Semaphore,
}

/// Counts an exchange while it runs.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Idle {
    generation: u64,
    /// By server, with the time since which each is idle, the longest first.
    senders: BTreeMap<Dial, Vec<(Instant, Sender)>>,
}

/// The state of one call that is under way.
struct Race<'a> {
    call: &'a Call,
    take: Take,
    patience: Patience,
    started: Instant,
    access: Arc<Access>,
    sent: AtomicU32,
}

/// What one attempt came to.
struct Attempt {
    dial: Dial,
    started: Instant,
    result: Result<Reply, Failure>,
}

impl Lane {
    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        let (busy, opening) = (AtomicUsize::new(0), Semaphore::new(FEW));
        Self { directory, idle: Mutex::default(), busy, returned: Notify::new(), opening }
    }

    /// Sends `call` and gives back the first answer that is worth something, or the failure that says most, within
    /// `patience`.
    pub(crate) async fn send(&self, call: &Call, take: Take, patience: Patience) -> Result<Reply, Failure> {
        let Patience { whole, hedge } = patience;
        let started = Instant::now();
        let deadline = started + whole;
        let (access, order) = self.directory.access()?;
        let race = Race { call, take, patience, started, access, sent: AtomicU32::new(0) };
        let mut hedge_at = started + hedge;
        let mut waiting = FuturesUnordered::new();
        let mut asked: Vec<(Dial, Instant)> = Vec::new();
        let mut next = 0;
        let mut worst = None;
        loop {
            if waiting.is_empty() {
                let Some(endpoint) = order.get(next) else {
                    return worst.unwrap_or_else(|| Err(nobody(call)));
                };
                next += 1;
                let started = Instant::now();
                asked.push((endpoint.dial.clone(), started));
                waiting.push(self.attempt(&race, Arc::clone(endpoint), (started, Reuse::Idle)));
                hedge_at = started + hedge;
            }
            tokio::select! {
                Some(attempt) = waiting.next() => {
                    let Attempt { dial, started, result } = attempt;
                    if result.as_ref().is_ok_and(|reply| !reply.status.is_server_error()) {
                        self.directory.note(&dial, Outcome::Answered);
                        self.note_silent(&asked, &dial, started);
                        return result;
                    }
                    asked.retain(|(other, at)| *other != dial || *at != started);
                    self.directory.note(&dial, outcome(&result));
                    if next < order.len() {
                        hedge_at = Instant::now();
                    }
                    // A server's own word says more than a broken connection.
                    if result.is_ok() || !matches!(worst, Some(Ok(_))) {
                        worst = Some(result);
                    }
                }
                () = sleep_until(hedge_at), if waiting.len() <= HEDGES as usize => {
                    let endpoint = &order[next % order.len()];
                    let started = Instant::now();
                    next += 1;
                    asked.push((endpoint.dial.clone(), started));
                    waiting.push(self.attempt(&race, Arc::clone(endpoint), (started, Reuse::Never)));
                    hedge_at = started + hedge;
                }
                () = sleep_until(deadline) => {
                    for (dial, _) in &asked {
                        self.directory.note(dial, Outcome::Silent);
                    }
                    let servers = asked.iter().map(|(dial, _)| dial.to_string()).collect::<Vec<_>>().join(", ");
                    return Err(classify::timeout(call, &servers, whole));
                }
            }
        }
    }

    /// The servers that were asked before the one that answered, and are still silent, hang.
    fn note_silent(&self, asked: &[(Dial, Instant)], answered: &Dial, started: Instant) {
        for (dial, at) in asked {
            if dial != answered && *at < started {
                self.directory.note(dial, Outcome::Silent);
            }
        }
    }

    async fn attempt(&self, race: &Race<'_>, endpoint: Arc<Endpoint>, how: (Instant, Reuse)) -> Attempt {
        let (started, reuse) = how;
        let dial = endpoint.dial.clone();
        // On a path that was cut and heals only a fresh connection gets through, so hedges give way to newer ones; on a
        // slow server only an old one is answered, so the first stays and later ones are given more time.
        let limit = match reuse {
            Reuse::Idle => race.patience.whole,
            Reuse::Never => race.patience.hedge.saturating_mul(HEDGES).max((started - race.started) / 2),
        };
        let result = match timeout(limit, self.exchange(race, &endpoint, reuse)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(classify::transport_failure(race.call, &dial.to_string(), &*error)),
            Err(_) => Err(classify::timeout(race.call, &dial.to_string(), limit)),
        };
        Attempt { dial, started, result }
    }

    async fn exchange(&self, race: &Race<'_>, endpoint: &Endpoint, reuse: Reuse) -> Result<Reply, BoxError> {
        let leave = match reuse {
            Reuse::Idle => self.find(race.access.generation, &endpoint.dial).await,
            Reuse::Never => Leave::OpenNow,
        };
        let _busy = Busy::new(&self.busy);
        let opening = match leave {
            Leave::Use(mut sender) => {
                // The server may have closed it while it was idle: then a fresh one serves.
                if let Ok(response) = send_on(race, &mut sender).await {
                    return self.read(race, endpoint, sender, response).await;
                }
                None
            }
            Leave::Open(permit) => Some(permit),
            Leave::OpenNow => None,
        };
        let mut sender = connection::open(endpoint, &self.directory.settings().vips).await?;
        drop(opening);
        let response = send_on(race, &mut sender).await?;
        self.read(race, endpoint, sender, response).await
    }

    async fn read(
        &self,
        race: &Race<'_>,
        endpoint: &Endpoint,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Result<Reply, BoxError> {
        let status = response.status();
        let body = response.into_body();
        let body = if race.take == Take::Head && status.is_success() {
            ReplyBody::Coming(body)
        } else {
            let bytes = Limited::new(body, LARGEST).collect().await?.to_bytes();
            self.put_idle(race.access.generation, &endpoint.dial, sender);
            ReplyBody::Whole(bytes)
        };
        let (server, access) = (endpoint.dial.to_string(), Arc::clone(&race.access));
        Ok(Reply { status, body, server, sent: race.sent.load(Ordering::Relaxed), access })
    }

    /// An idle connection, now or in a moment, or the leave to open one.
    async fn find(&self, generation: u64, dial: &Dial) -> Leave<'_> {
        let mut grow = pin!(async {
            let permit = self.opening.acquire().await.expect("the semaphore is never closed");
            sleep(GROW).await;
            permit
        });
        loop {
            let returned = self.returned.notified();
            if let Some(sender) = self.take_idle(generation, dial) {
                return Leave::Use(sender);
            }
            if self.busy.load(Ordering::Relaxed) < FEW
                && let Ok(permit) = self.opening.try_acquire()
            {
                return Leave::Open(permit);
            }
            tokio::select! {
                () = returned => {}
                permit = &mut grow => return Leave::Open(permit),
            }
        }
    }

    fn take_idle(&self, generation: u64, dial: &Dial) -> Option<Sender> {
        let mut idle = self.lock();
        if idle.generation != generation {
            *idle = Idle { generation, senders: BTreeMap::new() };
        }
        let senders = idle.senders.get_mut(dial)?;
        senders.retain(|(_, sender)| !sender.is_closed());
        senders.pop().map(|(_, sender)| sender)
    }

    fn put_idle(&self, generation: u64, dial: &Dial, sender: Sender) {
        let now = Instant::now();
        let mut idle = self.lock();
        if idle.generation == generation && !sender.is_closed() {
            let senders = idle.senders.entry(dial.clone()).or_default();
            senders.retain(|(since, _)| now < *since + KEPT);
            senders.push((now, sender));
            if senders.len() > IDLE {
                senders.remove(0);
            }
        }
        drop(idle);
        self.returned.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an attempt gets its connection.
enum Leave<'a> {
    /// This one was used before.
    Use(Sender),
    /// A fresh one; others wait for their turn to open one.
    Open(SemaphorePermit<'a>),
    /// A fresh one, whoever else opens one.
    OpenNow,
}

/// Whether an attempt may use a connection that was used before.
#[derive(Clone, Copy)]
enum Reuse {
    Idle,
    Never,
}

async fn send_on(race: &Race<'_>, sender: &mut Sender) -> Result<Response<Incoming>, BoxError> {
    sender.ready().await?;
    let request = request(race.call, &race.access)?;
    race.sent.fetch_add(1, Ordering::Relaxed);
    Ok(sender.send_request(request).await?)
}

/// A call as HTTP says it.
pub(crate) fn request(call: &Call, access: &Access) -> Result<Request<Full<Bytes>>, BoxError> {
    let mut builder = Request::builder()
        .method(call.method())
        .uri(format!("{}{}", access.base, call.path))
        .header(header::HOST, access.host.clone())
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("kube-vip/", env!("CARGO_PKG_VERSION"))),
        );
    if let Some(authorization) = &access.authorization {
        builder = builder.header(header::AUTHORIZATION, authorization.clone());
    }
    let body = match &call.body {
        None => Bytes::new(),
        Some((bytes, media_type)) => {
            builder = builder.header(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
            bytes.clone()
        }
    };
    Ok(builder.body(Full::new(body))?)
}

/// What a failed attempt shows of its server.
fn outcome(result: &Result<Reply, Failure>) -> Outcome {
    match result {
        Err(failure) if failure.class == FailureClass::Timeout => Outcome::Silent,
        _ => Outcome::Refused,
    }
}

fn nobody(call: &Call) -> Failure {
    Failure {
        class: FailureClass::Unreachable,
        text: format!("{call}: no API server is known that is not a VIP of this agent"),
    }
}
