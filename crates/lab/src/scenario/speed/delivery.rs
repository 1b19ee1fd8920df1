//! What the lab itself costs the sender of a datagram. All nodes are one machine: `sendto` runs the switch, the receiver's
//! network stack and its wake-up before it returns. On a network that happens elsewhere. Measured by sending what a holder sends,
//! to nodes that get it and from a port that swallows it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use crate::bench::link::PortState;
use crate::bench::{Lab, Networks, Node, Shape};

/// A heartbeat in calm times is as long as this, and leaves as often, to two jurors.
const BYTES: usize = 130;
const INTERVAL: Duration = Duration::from_millis(50);
const ROUNDS: u32 = 100;
/// The port of those who listen; not that of heartbeats, so that nobody takes these for one.
const PORT: u16 = 7950;

/// Processor time that the delivery of one datagram costs its sender here.
pub(super) fn cost(logs: &Path) -> Result<Duration> {
    let lab = Lab::raise(&Shape { nodes: 3, networks: Networks::One, logs: logs.to_owned() })?;
    let (sender, jurors) = lab.nodes().split_first().context("there are nodes")?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for juror in jurors {
            scope.spawn(|| listen(juror, &done));
        }
        let to: Vec<SocketAddr> =
            jurors.iter().map(|juror| SocketAddr::new(juror.addresses()[0], PORT)).collect();
        let costs = (|| {
            let delivered = send(sender, &to)?;
            lab.switch().set_port(sender.name(), PortState::Disabled)?;
            let swallowed = send(sender, &to)?;
            Ok(delivered.saturating_sub(swallowed))
        })();
        done.store(true, Ordering::Relaxed);
        costs
    })
}

/// Sleeps until something comes, as an agent does.
fn listen(node: &Node, done: &AtomicBool) -> Result<()> {
    node.place()?.within(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        socket.set_read_timeout(Some(INTERVAL * 4))?;
        let mut buffer = [0; BYTES];
        while !done.load(Ordering::Relaxed) {
            let _ = socket.recv(&mut buffer); // nothing came: look whether it is over
        }
        Ok(())
    })?
}

/// Sends as a holder does; gives the mean processor time of one `sendto`.
fn send(node: &Node, to: &[SocketAddr]) -> Result<Duration> {
    node.place()?.within(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let mut sum = Duration::ZERO;
        // The first round finds the neighbours.
        for round in 0..=ROUNDS {
            std::thread::sleep(INTERVAL);
            for to in to {
                let before = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
                socket.send_to(&[0; BYTES], to)?;
                let after = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
                sum += if round == 0 { Duration::ZERO } else { after.saturating_sub(before) };
            }
        }
        Ok(sum / (ROUNDS * u32::try_from(to.len())?))
    })?
}
