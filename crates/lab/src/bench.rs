//! The bench: a switch, nodes, a client and faults, made of nothing but kernel namespaces, and the instruments that
//! look at it. `boot` puts the whole program into private namespaces of its own (so that a killed lab leaves nothing
//! behind), `Lab` builds the topology, `Node` runs programs and takes faults, `Prober` and `Detector` measure what a
//! client sees; scenarios drive all of them.
//!
//! ```text
//!   launcher (host) ── pid 1 of the lab: switch `br0`, instruments, API servers
//!                        ├── n1 … nN   own PID, mount, UTS and network namespace; eth0 .11 … ; default route .1;
//!                        │     │         where a scenario wants a network for nodes, eth1 on `br1` of the switch
//!                        │     └── pods   network namespaces behind their node, where a scenario wants some
//!                        ├── client    network namespace, eth0 .100    (Prober)
//!                        ├── watch     network namespace, eth0 .101    (Detector)
//!                        └── router    network namespace, eth0 .1
//! ```

pub mod boot;
pub mod census;
pub mod detector;
pub mod echo;
pub mod flood;
pub mod init;
pub mod link;
pub mod metronome;
pub mod net;
pub(crate) mod netlink;
pub mod node;
pub mod place;
pub mod pod;
pub mod prober;
pub mod program;
pub mod rollcall;
pub mod sightings;
mod socket;
pub mod stamp;
mod sys;
pub mod topology;
pub mod trace;
pub mod watcher;
pub mod wire;

pub use census::Census;
pub use detector::Detector;
pub use echo::Responder;
pub use link::Networks;
pub use metronome::Metronome;
pub use net::Mac;
pub use node::Node;
pub use place::Place;
pub use pod::Pod;
pub use prober::Prober;
pub use program::{Program, Spawn};
pub use rollcall::RollCall;
pub use sightings::{Overlap, Sightings};
pub use stamp::{Span, Stamp};
pub use topology::{Lab, Shape};
pub use trace::{Answer, Gap, Trace};

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What can go wrong on the bench.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}")]
    System {
        /// What was being done, and to what.
        what: String,
        /// The kernel's answer.
        #[source]
        cause: io::Error,
    },
    /// A command ended with an error.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command line.
        command: String,
        /// What it wrote to standard error, or its exit code.
        said: String,
    },
    /// A program that the lab needs is not installed.
    #[error("`{program}` is missing; install the Debian package `{package}`")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that carries it.
        package: &'static str,
    },
    /// This user, container or kernel does not let us make namespaces.
    #[error("the lab needs {what} and was refused; run it as root, or allow unprivileged user namespaces")]
    Rights {
        /// The refused thing.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        cause: io::Error,
    },
    /// A name that is no node of this lab.
    #[error("no node is called `{name}`; this lab has {known}")]
    NoNode {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {waited:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
}

impl Error {
    /// For `map_err`: names what was being done when the kernel refused.
    pub fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |cause| Self::System { what, cause: cause.into() }
    }
}

/// The result of everything on the bench.
pub type Result<T> = std::result::Result<T, Error>;

/// Sends one whole Ethernet frame out of `eth0` of a place.
pub fn send_frame(place: &Place, frame: &[u8]) -> Result<()> {
    let link = place.link("eth0")?;
    place.within(|| {
        let socket = sys::packet_socket(link, 0).map_err(Error::system("opening a packet socket"))?;
        let sent = nix::sys::socket::send(socket.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty());
        sent.map(drop).map_err(Error::system("sending a frame"))
    })?
}
