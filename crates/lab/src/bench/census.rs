//! The census: like the overlap detector, for hundreds of IPv4 addresses at once. A thread in the watcher's namespace asks
//! everybody for each of them in every round, spread over the round, and notes each MAC that answers. `sightings()`
//! gives, for each address, what was seen so far, with a round as the time between two questions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};

use super::net::{self, Mac};
use super::place::Place;
use super::sightings::{Question, Sightings};
use super::{Error, Result, Stamp, socket, sys, wire};

/// Addresses that are asked for in one go; the pauses between them keep every queue short.
const CHUNK: usize = 16;

type Seen = BTreeMap<IpAddr, Sightings>;

/// A running census.
#[derive(Debug)]
pub struct Census {
    round: Duration,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Census {
    /// Starts to ask for these IPv4 addresses from `watch`, for each of them once in every `round`.
    pub fn start(watch: &Place, addrs: &[IpAddr], round: Duration) -> Result<Self> {
        let link = watch.link("eth0")?;
        let socket = watch
            .within(|| sys::packet_socket(link, wire::ARP))?
            .map_err(Error::system("opening a packet socket for the census"))?;
        socket::stamp_arrivals(&socket)?;
        let fresh = || Sightings { period: round, ..Sightings::default() };
        let seen = Arc::new(Mutex::new(addrs.iter().map(|addr| (*addr, fresh())).collect::<Seen>()));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, ending, addrs) = (Arc::clone(&seen), Arc::clone(&stop), addrs.to_vec());
        let thread = thread::Builder::new()
            .name("census".to_owned())
            .spawn(move || count(&socket, (&addrs, round), &theirs, &ending))
            .map_err(Error::system("starting a census"))?;
        Ok(Self { round, seen, stop, thread: Some(thread) })
    }

    /// Time between two questions for one address.
    pub const fn round(&self) -> Duration {
        self.round
    }

    /// What was seen so far.
    pub fn sightings(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A poisoned lock still guards whole sightings: each entry is written in one step.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(link: &OwnedFd, (addrs, round): (&[IpAddr], Duration), seen: &Mutex<Seen>, stop: &AtomicBool) {
    let chunks: Vec<_> = addrs.chunks(CHUNK).collect();
    let pause = round / u32::try_from(chunks.len().max(1)).unwrap_or(u32::MAX);
    let mut due = Stamp::now();
    for chunk in chunks.iter().cycle() {
        while Stamp::now() < due {
            socket::wait(&[link], due.since(Stamp::now()));
            collect(link, seen);
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        for addr in *chunk {
            ask(link, *addr, seen);
        }
        due = due.after(pause).max(Stamp::now());
    }
}

fn ask(link: &OwnedFd, addr: IpAddr, seen: &Mutex<Seen>) {
    let mut seen = lock(seen);
    let Some(sightings) = seen.get_mut(&addr) else { return };
    let slot = (sightings.questions.len() % usize::from(net::QUESTION_SLOTS)) as u8;
    sightings.questions.push(Question { sent: Stamp::now(), answers: Vec::new() });
    // A question that could not be sent stays without answers.
    let frame = wire::question(addr, Mac::of(net::WATCH), slot);
    let _ = send(link.as_raw_fd(), &frame, MsgFlags::empty());
}

fn collect(link: &OwnedFd, seen: &Mutex<Seen>) {
    let mut buffer = [0_u8; 256];
    while let Some((length, at)) = socket::take(link, &mut buffer) {
        let frame = &buffer[..length.min(buffer.len())];
        let Some(addr) = wire::sender(frame) else { continue };
        if let Some(wire::Said::Answer { mac, slot }) = wire::read(frame, addr)
            && let Some(sightings) = lock(seen).get_mut(&addr)
        {
            sightings.note((mac, at), slot);
        }
    }
}
