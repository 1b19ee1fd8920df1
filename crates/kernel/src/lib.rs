//! Linux as the node meets it: what is there (`Actual`), changes to it (`Batch` → `Report`), frames in and out.
//!
//! The program starts one [`Gateway`] and gives it a [`Sink`]; from then on two threads of the gateway's own wait on
//! sockets, one for netlink and one for frames, and give [`KernelEvent`]s to the sink. They sleep in `epoll` and
//! hold no timer while nothing happens. Nothing here decides anything: it dumps, applies and carries bytes.
//!
//! ```text
//!   program ── apply(Batch) ──► netlink thread ── Report, then Actual{after} ──► sink
//!              listen(links) ─► frames thread  ── Frame ──────────────────────► sink (may refuse)
//!              send(FrameOut)   in the caller's thread, never waits
//! ```

mod apply;
mod capability;
mod clock;
mod dump;
mod error;
mod filter;
mod frame;
mod gateway;
mod netlink;
mod netlink_socket;
mod sys;
mod watch;
mod wire;

pub use capability::missing_capabilities;
pub use clock::boot_now;
pub use error::Error;
pub use frame::{LinkFrames, Sent};
pub use gateway::{Accepted, Counters, Gateway, KernelEvent, Sink};
