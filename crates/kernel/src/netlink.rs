//! The netlink thread: applies batches, listens for changes, dumps, and gives reports and pictures to the sink.
//!
//! ```text
//!   batch ──────► apply ──► Report ──► dump ──► Actual{after: batch}
//!   notice ─► 5 ms ─────────────────► dump ──► Actual   (only when it differs)
//!   somebody changed nftables ─► is our table as it was? ─► if not, a notice
//! ```
//!
//! One thread does one thing at a time: at most one dump is under way, and what is heard meanwhile waits on the
//! socket and means one more. While nothing happens it sleeps without a timer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Moment};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use vip_model::kernel::{Actual, Batch, BatchId, Lifetime};

use crate::apply::{self, apply};
use crate::dump::dump;
use crate::filter::Filter;
use crate::frame;
use crate::gateway::{KernelEvent, Sink};
use crate::netlink_socket::NetlinkSocket;
use crate::watch::{Heard, Watch};
use crate::{Error, boot_now};

/// How long a burst of notifications is collected.
const COALESCE: Duration = Duration::from_millis(5);
/// After a dump, others that only notifications ask for wait this many times its duration: at most a fifth of a core
/// goes into dumps, however many addresses and notifications there are.
const REST: u32 = 4;
/// After a dump that failed.
const RETRY: Duration = Duration::from_millis(100);
/// Two expiries that differ by less are the same one: the kernel tells whole seconds.
const SAME_EXPIRY: Duration = Duration::from_millis(1100);

const WAKE: u64 = 0;
const NOTICE: u64 = 1;
const FILTER_NOTICE: u64 = 2;

/// The callers' side.
pub(crate) struct Netlink {
    batches: Mutex<Sender<Batch>>,
    shared: Arc<Shared>,
}

struct Shared {
    wake: EventFd,
    stop: AtomicBool,
    dumps: AtomicU64,
    dump_errors: AtomicU64,
    overruns: AtomicU64,
}

impl Netlink {
    /// Opens the sockets in the network namespace of the calling thread, and makes the loop for the thread.
    pub(crate) fn open(
        sink: Sink,
        frames: Arc<frame::Shared>,
    ) -> Result<(Self, impl FnOnce() + Send + 'static), Error> {
        let failed = |error: nix::Error| Error::Open {
            what: "an event descriptor",
            needs: "a free file descriptor (RLIMIT_NOFILE)",
            source: error.into(),
        };
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map_err(failed)?;
        let shared = Arc::new(Shared {
            wake,
            stop: AtomicBool::new(false),
            dumps: AtomicU64::new(0),
            dump_errors: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
        });
        let (batches, queue) = channel();
        let watch = Watch::open_route()?;
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?);
        epoll.add(&shared.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(failed)?;
        epoll.add(&watch, EpollEvent::new(EpollFlags::EPOLLIN, NOTICE)).map_err(failed)?;
        let worker = Worker {
            route: NetlinkSocket::open_route()?,
            filter: Filter::new(epoll.clone(), FILTER_NOTICE),
            watch,
            epoll,
            queue,
            sink,
            frames,
            shared: shared.clone(),
            last: None,
            after: BatchId(0),
            due: None,
            rested: Moment::now(),
        };
        Ok((Self { batches: Mutex::new(batches), shared }, move || worker.run()))
    }

    /// Queues a batch.
    pub(crate) fn apply(&self, batch: Batch) {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails only when the thread has ended, and then nobody waits for a report.
        batches.send(batch).ok();
        self.shared.wake.write(1).ok();
    }

    /// Dumps taken, dumps that failed, notifications lost.
    pub(crate) fn counters(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shared.dumps), read(&self.shared.dump_errors), read(&self.shared.overruns))
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.write(1).ok();
    }
}

struct Worker {
    route: NetlinkSocket,
    filter: Filter,
    watch: Watch,
    epoll: Arc<Epoll>,
    queue: Receiver<Batch>,
    sink: Sink,
    frames: Arc<frame::Shared>,
    shared: Arc<Shared>,
    /// The last picture that was published.
    last: Option<Actual>,
    /// The last batch that was applied.
    after: BatchId,
    /// When the next dump is due.
    due: Option<Moment>,
    /// When a dump for notifications may come at the earliest.
    rested: Moment,
}

impl Worker {
    fn run(mut self) {
        self.take_picture();
        let mut events = [EpollEvent::empty(); 3];
        while !self.shared.stop.load(Ordering::Acquire) {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => unreachable!("epoll_wait on valid descriptors and a valid buffer: {error}"),
            };
            let came = |token| events[..count].iter().any(|event| event.data() == token);
            if came(WAKE) {
                self.shared.wake.read().ok();
                self.apply_queued();
            }
            if (came(NOTICE) && self.drain()) | (came(FILTER_NOTICE) && self.filter_differs()) {
                let soon = (Moment::now() + COALESCE).max(self.rested);
                self.due.get_or_insert(soon);
            }
            if self.due.is_some_and(|due| due <= Moment::now()) {
                self.take_picture();
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(due) = self.due else { return EpollTimeout::NONE };
        let left = due.saturating_duration_since(Moment::now());
        u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX).into()
    }

    fn apply_queued(&mut self) {
        while let Ok(batch) = self.queue.try_recv() {
            let nothing = Actual::default();
            let report = {
                let actual = self.last.as_ref().unwrap_or(&nothing);
                let moment = apply::Moment { actual, clock: &boot_now };
                apply(&mut self.route, &mut self.filter, &batch, moment)
            };
            self.after = batch.id;
            (self.sink)(KernelEvent::Report(report));
            self.take_picture();
        }
    }

    /// Whether anything was heard about links, addresses and routes.
    fn drain(&self) -> bool {
        self.heard(self.watch.drain())
    }

    /// Whether the packet filter is not any more what the last picture shows. Others may change tables of their own
    /// many times in a second, and that shall not cost a dump each time.
    fn filter_differs(&mut self) -> bool {
        let heard = self.filter.drain();
        self.heard(heard) && self.last.as_ref().is_some_and(|last| last.filter != self.filter.look())
    }

    fn heard(&self, heard: io::Result<Heard>) -> bool {
        match heard {
            Ok(Heard::Nothing) => false,
            Ok(Heard::Change) => true,
            Ok(Heard::Overrun) => {
                self.shared.overruns.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read netlink notifications, dumping instead");
                true
            }
        }
    }

    fn take_picture(&mut self) {
        // What was heard before the dump begins is answered by it.
        self.drain();
        let began = Moment::now();
        let result = dump(&mut self.route, self.after).map(|mut actual| {
            actual.filter = self.filter.look();
            actual
        });
        let ended = Moment::now();
        self.rested = ended + (ended - began) * REST;
        self.shared.dumps.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(actual) => {
                self.due = None;
                // A receiving socket may have failed because of what caused this dump.
                self.frames.wake();
                if !self.last.as_ref().is_some_and(|last| same(last, &actual)) {
                    (self.sink)(KernelEvent::Actual(actual.clone()));
                    self.last = Some(actual);
                }
            }
            Err(error) => {
                if self.shared.dump_errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, "no picture of the kernel");
                }
                self.due = Some(ended + RETRY);
            }
        }
    }
}

/// Whether two pictures show the same, apart from expiries that cannot be told apart.
fn same(one: &Actual, other: &Actual) -> bool {
    one.after == other.after
        && one.links == other.links
        && one.default_routes == other.default_routes
        && one.filter == other.filter
        && one.addresses.len() == other.addresses.len()
        && one.addresses.iter().zip(&other.addresses).all(|(a, b)| {
            let expiry_is_same = match (a.valid, b.valid) {
                (Lifetime::Until(a), Lifetime::Until(b)) => a.since(b).max(b.since(a)) < SAME_EXPIRY,
                (a, b) => a == b,
            };
            let mut a = a.clone();
            a.valid = b.valid;
            expiry_is_same && a == *b
        })
}
