//! What can go wrong at the door to the kernel. A single change that fails is an `Outcome`, not an error.

use std::io;

/// Why the gateway could not start, or a picture of the kernel could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be made or set up.
    #[error("cannot open {what}: {source}; it needs {needs}")]
    Open {
        /// Which socket.
        what: &'static str,
        /// What is needed, for people.
        needs: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A worker thread could not be started.
    #[error(
        "cannot start the thread {name}: {source}; the process limit (RLIMIT_NPROC, pids cgroup) must allow it"
    )]
    Thread {
        /// Its name.
        name: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A dump failed.
    #[error("cannot list {what} by netlink: {source}; it is tried again")]
    Dump {
        /// What was listed: links, addresses, IPv4 routes, IPv6 routes.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The kernel said that its tables changed while it listed them (`NLM_F_DUMP_INTR`), several times in a row.
    #[error("the list of {what} changed {tries} times while it was read; it is tried again")]
    Unsettled {
        /// What was listed.
        what: &'static str,
        /// How often it was tried.
        tries: u32,
    },
}
