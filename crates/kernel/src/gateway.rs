//! The door: one handle for the program, one stream of events to its sink.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;

use vip_model::LinkIndex;
use vip_model::kernel::{Actual, Batch, FrameIn, FrameOut, Report};

use crate::Error;
use crate::frame::{Frames, LinkFrames, Sent};
use crate::netlink::Netlink;

/// What comes from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A new picture of the kernel; it replaces every older one. Comes at start, after every report, and when
    /// something changed. Must not be refused.
    Actual(Actual),
    /// What became of a batch; the picture that shows it follows. Must not be refused.
    Report(Report),
    /// A frame arrived. May be refused when nobody has room for it.
    Frame(FrameIn),
}

/// Whether a sink took an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It did.
    Yes,
    /// It had no room; counted.
    No,
}

/// Where events go. It is called from two threads of the gateway and must not wait: put the event into a bounded
/// queue (frames) or a latest-value cell (pictures) and wake the loop.
pub type Sink = Arc<dyn Fn(KernelEvent) -> Accepted + Send + Sync>;

/// What the gateway counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Dumps taken.
    pub dumps: u64,
    /// Dumps that failed; each was tried again.
    pub dump_errors: u64,
    /// Times when the kernel lost notifications (`ENOBUFS`); each was answered by a dump.
    pub overruns: u64,
    /// Frames by link.
    pub frames: BTreeMap<LinkIndex, LinkFrames>,
}

/// The gateway to the kernel of one network namespace: that of the thread that started it.
///
/// Dropping it ends its threads. What was installed stays: addresses end with their lifetimes.
pub struct Gateway {
    netlink: Netlink,
    frames: Frames,
    threads: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Opens all sockets and starts the two threads. The first event is a picture.
    pub fn start(sink: Sink) -> Result<Self, Error> {
        let (frames, listen) = Frames::open(sink.clone())?;
        let (netlink, work) = Netlink::open(sink, frames.shared())?;
        let mut gateway = Self { netlink, frames, threads: Vec::new() };
        gateway.spawn("frames", listen)?;
        gateway.spawn("netlink", work)?;
        Ok(gateway)
    }

    /// Hands over a batch; its report and a picture with `after` equal to its id follow. At most one batch should be
    /// under way (architecture: law 4).
    pub fn apply(&self, batch: Batch) {
        self.netlink.apply(batch);
    }

    /// The whole set of links on which ARP and neighbour discovery shall be heard. Links may come and go.
    pub fn listen(&self, links: BTreeSet<LinkIndex>) {
        self.frames.listen(links);
    }

    /// Sends a frame in the calling thread, without waiting, unless its time has passed.
    pub fn send(&self, frame: &FrameOut) -> Sent {
        self.frames.send(frame)
    }

    /// The counters as they stand.
    pub fn counters(&self) -> Counters {
        let (dumps, dump_errors, overruns) = self.netlink.counters();
        Counters { dumps, dump_errors, overruns, frames: self.frames.counters() }
    }

    fn spawn(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.push(thread.map_err(|source| Error::Thread { name, source })?);
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.frames.stop();
        self.netlink.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to add.
            thread.join().ok();
        }
    }
}
