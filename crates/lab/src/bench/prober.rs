//! The prober: one thread in the client's namespace that sends a datagram to a VIP every 2 ms and notes who answered
//! (a node, or a pod behind a Service) and when, by the kernel's receive stamps. It uses the client's neighbour cache as any client does, so a missing
//! announcement shows as an outage. Right after each probe it asks the own address of the node that answered last: the
//! control, which tells a slow machine from a VIP that is not served. `trace()` gives what was seen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::echo::{self, PRIORITY};
use super::net::{self, ECHO_PORT};
use super::place::Place;
use super::trace::{Answer, Probe, Trace};
use super::{Error, Result, Stamp, socket, sys};

/// Set in the sequence number of a control.
const CONTROL: u64 = 1 << 63;

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
        // Questions to a dead node fill the buffer of their socket: controls have one of their own.
        let open = || Ok([open(target.ip())?, open(target.ip())?]);
        let sockets = client.within(open)??;
        let seen = Arc::new(Mutex::new(Trace { period: PERIOD, probes: Vec::new() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, ending) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name(format!("probe {}", target.ip()))
            .spawn(move || probe(&sockets, target, &theirs, &ending))
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

fn probe(links: &[UdpSocket; 2], to: SocketAddr, seen: &Mutex<Trace>, stop: &AtomicBool) {
    let _ = sys::real_time(PRIORITY); // refused in a user namespace; the lab says so once
    let mut next = Stamp::now();
    let mut answering = None;
    while !stop.load(Ordering::Relaxed) {
        let now = Stamp::now();
        if now >= next {
            send(links, to, answering, seen);
            // No catching up after a stall: a burst of probes would hide it.
            next = next.after(PERIOD).max(now);
        }
        socket::wait(links, next.since(Stamp::now()));
        answering = collect(links, seen).or(answering);
    }
    socket::wait(links, Duration::from_millis(20));
    collect(links, seen);
}

fn send([link, control]: &[UdpSocket; 2], to: SocketAddr, answering: Option<u8>, seen: &Mutex<Trace>) {
    let mut trace = lock(seen);
    let sequence = trace.probes.len() as u64;
    trace.probes.push(Probe { sent: Stamp::now(), answer: None, control: None });
    // "No route to host" is an answer that did not come: the probe stays unanswered.
    let _ = link.send_to(&echo::ask(sequence), to);
    if let Some(node) = answering {
        let number = net::NODES + node;
        let own: IpAddr = if to.is_ipv4() { net::v4(number).into() } else { net::v6(number).into() };
        let _ = control.send_to(&echo::ask(sequence | CONTROL), (own, ECHO_PORT));
    }
}

/// Takes what has come; gives the node that answered last.
fn collect(links: &[UdpSocket; 2], seen: &Mutex<Trace>) -> Option<u8> {
    let mut answering = None;
    let mut buffer = [0_u8; echo::LENGTH];
    let mut take = || links.iter().find_map(|link| socket::take(link, &mut buffer).map(|it| (it, buffer)));
    while let Some(((length, at), buffer)) = take() {
        let Some((sequence, who)) = echo::read_answer(&buffer[..length]) else { continue };
        let mut trace = lock(seen);
        let probe = usize::try_from(sequence & !CONTROL).ok().and_then(|index| trace.probes.get_mut(index));
        let Some(probe) = probe else { continue };
        if sequence & CONTROL != 0 {
            probe.control = probe.control.or(Some(at));
        } else if probe.answer.is_none() {
            probe.answer = Some(Answer { at, node: who.node, pod: who.pod });
            answering = Some(who.node);
        }
    }
    answering
}
