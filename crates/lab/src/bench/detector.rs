//! The overlap detector: a thread in a namespace of its own on the switch (so that the client's neighbour cache stays
//! undisturbed) that asks everybody for the VIP every 5 ms by broadcast ARP or multicast NS and notes each MAC that
//! answers; it also notes every announcement. Questions come from different sender addresses in turn, so that a late
//! answer is counted for its own question. `sightings()` gives what was seen so far.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};

use super::echo::PRIORITY;
use super::net::{self, Mac};
use super::place::Place;
use super::sightings::{Announcement, Question, Sightings};
use super::{Error, Result, Stamp, socket, sys, wire};

/// Time between two questions.
pub const PERIOD: Duration = Duration::from_millis(5);

/// A running detector of one VIP.
#[derive(Debug)]
pub struct Detector {
    seen: Arc<Mutex<Sightings>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Detector {
    /// Starts to ask for `vip` from `watch`.
    pub fn start(watch: &Place, vip: IpAddr) -> Result<Self> {
        let link = watch.link("eth0")?;
        let kind = if vip.is_ipv4() { wire::ARP } else { wire::IPV6 };
        let socket = watch
            .within(|| sys::packet_socket(link, kind))?
            .map_err(Error::system("opening a packet socket for the detector"))?;
        socket::stamp_arrivals(&socket)?;
        let seen = Arc::new(Mutex::new(Sightings { period: PERIOD, ..Sightings::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, ending) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name(format!("detect {vip}"))
            .spawn(move || detect(&socket, vip, &theirs, &ending))
            .map_err(Error::system("starting a detector"))?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    pub fn sightings(&self) -> Sightings {
        lock(&self.seen).clone()
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A poisoned lock still guards whole sightings: each entry is written in one step.
fn lock(seen: &Mutex<Sightings>) -> MutexGuard<'_, Sightings> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn detect(link: &OwnedFd, vip: IpAddr, seen: &Mutex<Sightings>, stop: &AtomicBool) {
    let _ = sys::real_time(PRIORITY); // refused in a user namespace; the lab says so once
    let questions: Vec<Vec<u8>> =
        (0..net::QUESTION_SLOTS).map(|slot| wire::question(vip, Mac::of(net::WATCH), slot)).collect();
    let mut next = Stamp::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Stamp::now();
        if now >= next {
            ask(link, &questions, seen);
            next = next.after(PERIOD).max(now);
        }
        socket::wait(&[link], next.since(Stamp::now()));
        collect(link, vip, seen);
    }
}

fn ask(link: &OwnedFd, questions: &[Vec<u8>], seen: &Mutex<Sightings>) {
    let mut seen = lock(seen);
    let frame = &questions[seen.questions.len() % questions.len()];
    seen.questions.push(Question { sent: Stamp::now(), answers: Vec::new() });
    // A question that could not be sent stays without answers.
    let _ = send(link.as_raw_fd(), frame, MsgFlags::empty());
}

fn collect(link: &OwnedFd, vip: IpAddr, seen: &Mutex<Sightings>) {
    let mut buffer = [0_u8; 256];
    while let Some((length, at)) = socket::take(link, &mut buffer) {
        let frame = &buffer[..length.min(buffer.len())];
        match wire::read(frame, vip) {
            Some(wire::Said::Answer { mac, slot }) => lock(seen).note((mac, at), slot),
            Some(wire::Said::Announcement { mac, form }) => {
                lock(seen).announcements.push(Announcement { at, mac, form, frame: frame.into() });
            }
            None => {}
        }
    }
}
