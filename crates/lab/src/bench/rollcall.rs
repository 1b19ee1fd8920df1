//! The roll call: one thread in the watcher's namespace that asks for many IPv4 addresses at once, each again and again until
//! somebody answers, and notes when that was. For Services by the hundred, where a `Detector` for each would drown the
//! bench in questions.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};

use super::echo::PRIORITY;
use super::net::{self, Mac};
use super::place::Place;
use super::{Error, Result, Stamp, socket, sys, wire};

/// Questions between two looks at what came back.
const AT_ONCE: usize = 64;

/// A running census.
#[derive(Debug)]
pub struct RollCall {
    list: Arc<Mutex<List>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct List {
    /// Not answered yet.
    open: Vec<Ipv4Addr>,
    /// When each was answered first.
    answered: BTreeMap<Ipv4Addr, Stamp>,
}

impl RollCall {
    /// Starts to ask from `watch`: each address once in every `pace`.
    pub fn start(watch: &Place, pace: Duration) -> Result<Self> {
        let link = watch.link("eth0")?;
        let socket = watch
            .within(|| sys::packet_socket(link, wire::ARP))?
            .map_err(Error::system("opening a packet socket for the roll call"))?;
        socket::stamp_arrivals(&socket)?;
        let (list, stop) = (Arc::<Mutex<List>>::default(), Arc::new(AtomicBool::new(false)));
        let (theirs, ending) = (Arc::clone(&list), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("roll call".to_owned())
            .spawn(move || count(&socket, pace, &theirs, &ending))
            .map_err(Error::system("starting a roll call"))?;
        Ok(Self { list, stop, thread: Some(thread) })
    }

    /// Asks for these, too, from now on.
    pub fn ask(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        lock(&self.list).open.extend(addresses);
    }

    /// When an address was answered first.
    pub fn answered(&self, address: Ipv4Addr) -> Option<Stamp> {
        lock(&self.list).answered.get(&address).copied()
    }

    /// Waits until everything that was asked for is answered; gives the last of these moments.
    pub fn wait(&self, limit: Duration) -> Result<Stamp> {
        let begin = Instant::now();
        loop {
            let list = lock(&self.list);
            let (left, all) = (list.open.len(), list.open.len() + list.answered.len());
            if let (0, Some(last)) = (left, list.answered.values().max()) {
                return Ok(*last);
            }
            drop(list);
            if begin.elapsed() > limit {
                return Err(Error::Timeout { what: format!("an answer for {left} of {all}"), waited: limit });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for RollCall {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A poisoned lock still guards a whole list: each entry is written in one step.
fn lock(list: &Mutex<List>) -> MutexGuard<'_, List> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(link: &OwnedFd, pace: Duration, list: &Mutex<List>, stop: &AtomicBool) {
    let _ = sys::real_time(PRIORITY); // refused in a user namespace; the lab says so once
    let mut next = Stamp::now();
    for slot in (0..net::QUESTION_SLOTS).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let open = lock(list).open.clone();
        for some in open.chunks(AT_ONCE) {
            for address in some {
                let question = wire::question((*address).into(), Mac::of(net::WATCH), slot);
                // A question that could not be sent is sent again.
                let _ = send(link.as_raw_fd(), &question, MsgFlags::empty());
            }
            collect(link, list);
        }
        next = next.after(pace).max(Stamp::now());
        while Stamp::now() < next {
            socket::wait(&[link], next.since(Stamp::now()));
            collect(link, list);
        }
    }
}

fn collect(link: &OwnedFd, list: &Mutex<List>) {
    let mut buffer = [0_u8; 256];
    while let Some((length, at)) = socket::take(link, &mut buffer) {
        let Some(address) = wire::answered(&buffer[..length.min(buffer.len())]) else { continue };
        let mut list = lock(list);
        let List { open, answered } = &mut *list;
        if let Some(index) = open.iter().position(|open| *open == address) {
            open.swap_remove(index);
            answered.insert(address, at);
        }
    }
}
