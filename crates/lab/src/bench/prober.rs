//! The prober: one thread in the client's namespace that sends a datagram to a VIP every 2 ms and notes who answered
//! (a node, or a pod behind a Service) and when, by the kernel's receive stamps. It uses the client's neighbour cache as any client does, so a missing
//! announcement shows as an outage. `trace()` gives what was seen so far.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::echo::{self, PRIORITY};
use super::place::Place;
use super::trace::{Answer, Probe, Trace};
use super::{Error, Result, Stamp, socket, sys};

/// Time between two probes.
pub const PERIOD: Duration = Duration::from_millis(2);

/// A running prober of one VIP and port.
#[derive(Debug)]
pub struct Prober {
    target: SocketAddr,
    seen: Arc<Mutex<Trace>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts to probe an address and port from `client`.
    pub fn start(client: &Place, target: SocketAddr) -> Result<Self> {
        let socket = client.within(|| open(target.ip()))??;
        let seen = Arc::new(Mutex::new(Trace { period: PERIOD, probes: Vec::new() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, ending) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name(format!("probe {}", target.ip()))
            .spawn(move || probe(&socket, target, &theirs, &ending))
            .map_err(Error::system("starting a prober"))?;
        Ok(Self { target, seen, stop, thread: Some(thread) })
    }

    /// The probed address.
    pub fn vip(&self) -> IpAddr {
        self.target.ip()
    }

    /// What was seen so far.
    pub fn trace(&self) -> Trace {
        lock(&self.seen).clone()
    }

    /// The last answer so far.
    pub fn last_answer(&self) -> Option<Answer> {
        lock(&self.seen).last_answer()
    }

    /// Waits until an answer received after `since` satisfies `wanted`; gives that answer.
    pub fn wait_answer(
        &self,
        since: Stamp,
        limit: Duration,
        wanted: impl Fn(Answer) -> bool,
    ) -> Result<Answer> {
        let begin = Instant::now();
        loop {
            if let Some(answer) = self.last_answer().filter(|answer| answer.at >= since && wanted(*answer)) {
                return Ok(answer);
            }
            if begin.elapsed() > limit {
                return Err(Error::Timeout {
                    what: format!("an answer from {}", self.target),
                    waited: limit,
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A poisoned lock still guards a whole trace: each entry is written in one step.
fn lock(seen: &Mutex<Trace>) -> MutexGuard<'_, Trace> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(vip: IpAddr) -> Result<UdpSocket> {
    let any: IpAddr = if vip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let opened = UdpSocket::bind((any, 0)).map_err(Error::system("opening a prober's socket"))?;
    opened.set_nonblocking(true).map_err(Error::system("opening a prober's socket"))?;
    socket::stamp_arrivals(&opened)?;
    Ok(opened)
}

fn probe(link: &UdpSocket, to: SocketAddr, seen: &Mutex<Trace>, stop: &AtomicBool) {
    let _ = sys::real_time(PRIORITY); // refused in a user namespace; the lab says so once
    let mut next = Stamp::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Stamp::now();
        if now >= next {
            send(link, to, seen);
            // No catching up after a stall: a burst of probes would hide it.
            next = next.after(PERIOD).max(now);
        }
        socket::wait(&[link], next.since(Stamp::now()));
        collect(link, seen);
    }
    socket::wait(&[link], Duration::from_millis(20));
    collect(link, seen);
}

fn send(link: &UdpSocket, to: SocketAddr, seen: &Mutex<Trace>) {
    let mut trace = lock(seen);
    let sequence = trace.probes.len() as u64;
    trace.probes.push(Probe { sent: Stamp::now(), answer: None });
    // "No route to host" is an answer that did not come: the probe stays unanswered.
    let _ = link.send_to(&echo::ask(sequence), to);
}

fn collect(link: &UdpSocket, seen: &Mutex<Trace>) {
    let mut buffer = [0_u8; echo::LENGTH];
    while let Some((length, at)) = socket::take(link, &mut buffer) {
        let Some((sequence, who)) = echo::read_answer(&buffer[..length]) else { continue };
        let mut trace = lock(seen);
        let probe = usize::try_from(sequence).ok().and_then(|index| trace.probes.get_mut(index));
        if let Some(probe) = probe.filter(|probe| probe.answer.is_none()) {
            probe.answer = Some(Answer { at, node: who.node, pod: who.pod });
        }
    }
}
