//! A flood of heartbeats that nobody should believe: what was recorded on the switch, sent again as it was and with one
//! byte changed, and noise. It knows no key, and has what anybody who listens has: the right fingerprint and length. Two
//! threads, one that records for a moment and one that sends at an even rate until its time is over or it is dropped.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket as open_socket,
};

use super::place::Place;
use super::{Error, Result};

/// How long the switch is listened to at most, and how many different heartbeats are enough.
const RECORDING: Duration = Duration::from_secs(2);
const RECORDED: usize = 64;
/// Heartbeats that go out together; then it waits for its rate.
const TOGETHER: u32 = 50;
/// Headers before the bytes of a UDP datagram over IPv4: Ethernet, IP without options, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// A running flood. It ends by itself.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    begun: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Records heartbeats to `port` in the namespace of the switch, and sends from `source` to `target`, `rate` a second for
    /// `length`.
    pub fn start(
        (switch, source): (&Place, &Place),
        target: SocketAddr,
        rate: u32,
        length: Duration,
    ) -> Result<Self> {
        let recorded = switch.within(|| record(target.port()))??;
        let what = "making a socket for a flood";
        let socket = source.within(|| UdpSocket::bind("0.0.0.0:0"))?.map_err(Error::system(what))?;
        socket.connect(target).map_err(Error::system(what))?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ending, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let begun = Instant::now();
        let pour = move || {
            let mut turn = 0;
            let pause = Duration::from_secs(1) * TOGETHER / rate;
            let mut next = Instant::now();
            while begun.elapsed() < length && !ending.load(Ordering::Relaxed) {
                for _ in 0..TOGETHER {
                    turn += 1;
                    // A full queue on the way is the flood's own loss.
                    if socket.send(&forged(&recorded, turn)).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                next += pause;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        let thread = thread::Builder::new()
            .name("flood".to_owned())
            .spawn(pour)
            .map_err(Error::system("starting a flood"))?;
        Ok(Self { stop, sent, begun, thread: Some(thread) })
    }

    /// Ends it. Gives how many datagrams were sent, and in which time.
    pub fn end(mut self) -> (u64, Duration) {
        self.halt();
        (self.sent.load(Ordering::Relaxed), self.begun.elapsed())
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.halt();
    }
}

/// In turn: a replay, a forgery that is right but for one bit of its content, and noise.
fn forged(recorded: &[Vec<u8>], turn: usize) -> Vec<u8> {
    let mut bytes = recorded[turn / 3 % recorded.len()].clone();
    match turn % 3 {
        0 => {}
        1 => {
            let at = 8 + turn % (bytes.len() - 8);
            bytes[at] ^= 1 << (turn % 8);
        }
        _ => bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (turn * 31 + at * 7) as u8),
    }
    bytes
}

/// Heartbeats on the switch.
fn record(port: u16) -> Result<Vec<Vec<u8>>> {
    let what = "recording heartbeats";
    let protocol = SockProtocol::EthAll;
    let socket = open_socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol)
        .map_err(Error::system(what))?;
    let (mut buffer, mut recorded) = ([0; 2048], Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < RECORDING && recorded.len() < RECORDED {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => recorded.extend(heartbeat(&buffer[..length], port)),
            Err(nix::errno::Errno::EAGAIN) => thread::sleep(Duration::from_millis(1)),
            Err(err) => return Err(Error::system(what)(err)),
        }
    }
    if recorded.is_empty() {
        let cause = std::io::Error::other(format!("no heartbeat to port {port} was seen in {RECORDING:?}"));
        return Err(Error::system(what)(cause));
    }
    Ok(recorded)
}

/// The bytes of a heartbeat in a frame.
fn heartbeat(frame: &[u8], port: u16) -> Option<Vec<u8>> {
    const UDP: u8 = 17;
    let is_ipv4_udp = frame.get(12..14)? == [0x08, 0x00] && *frame.get(14)? == 0x45 && *frame.get(23)? == UDP;
    let is_to_port = frame.get(36..38)? == port.to_be_bytes();
    (is_ipv4_udp && is_to_port && frame.len() > HEADERS).then(|| frame[HEADERS..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_is_replayed_a_third_differs_in_one_bit_and_a_third_is_noise() {
        let recorded = vec![vec![7; 120], vec![9; 130]];
        let bits = |one: &[u8], other: &[u8]| -> u32 {
            one.iter().zip(other).map(|(one, other)| (one ^ other).count_ones()).sum()
        };
        for turn in 0..300 {
            let (bytes, of) = (forged(&recorded, turn), &recorded[turn / 3 % 2]);
            let differ = bits(&bytes, of);
            match turn % 3 {
                0 => assert_eq!(differ, 0),
                1 => assert!(differ == 1 && bytes[..8] == of[..8], "the header stays, fingerprint and all"),
                _ => assert!(differ > 100),
            }
        }
    }

    #[test]
    fn only_what_goes_to_the_port_is_a_heartbeat() {
        let mut frame = vec![0; HEADERS];
        frame[12..14].copy_from_slice(&[8, 0]);
        (frame[14], frame[23]) = (0x45, 17);
        frame[36..38].copy_from_slice(&7949_u16.to_be_bytes());
        frame.extend(b"kv!");
        assert_eq!(heartbeat(&frame, 7949), Some(b"kv!".to_vec()));
        assert_eq!(heartbeat(&frame, 7950), None);
        assert_eq!(heartbeat(&frame[..30], 7949), None);
    }
}
