//! Heartbeats on the wire: a [`Datagram`] to authenticated bytes and back, and the memory of what was already heard.
//! Fed by the door of the program with bytes that arrived; gives back what they say, or the reason why they are dropped.
//!
//! Version 2, big endian. Everything from the first byte to the last one before the code is authenticated.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |      'k'      |      'v'      |    version    |   instance    |
//! +---------------+---------------+---------------+---------------+
//! |           key: first four bytes of SHA-256(key)               |
//! +---------------------------------------------------------------+
//! |                      sequence, nanoseconds                  8 |
//! |                      session                                8 |
//! |                      echo: session (0 when none)            8 |
//! |                      echo: sequence (0 when none)           8 |
//! |                      echo: digest of groups (0 when none)   8 |
//! |                      age of the API, ns; all ones: none     8 |
//! +---------------+---------------+---------------+---------------+
//! |    fitness    |   echo: word  |     asks      |    grants     |   counts of the lists
//! +---------------+---------------+---------------+---------------+
//! |  successions  |    unseen     |    groups     |     kind      |
//! +---------------+---------------+---------------+---------------+
//! |                      generation of the jury                   |
//! +---------------------------------------------------------------+
//! | length, name of the sender's node | length, name of the receiver's node
//! | asks, grants:  of 8, generation 4, heir 8, attempt 4, rank 1
//! | successions:   id 8, 1 with an heir and 0 without, heir 8
//! | unseen:        group 8
//! | groups:        group 8, stage 1; when their count is 255: the digest of the list that was echoed 8
//! +---------------------------------------------------------------+
//! |                     HMAC-SHA-256 (RFC 2104)                32 |
//! +---------------------------------------------------------------+
//! ```

mod key;
mod repeat;
mod replay;
mod wire;

#[cfg(test)]
mod tests;

use vip_model::peers::{Datagram, KeyId};

pub use key::SealKey;
pub(crate) use repeat::repeats;
pub use replay::{Replay, Stale};
pub use wire::{
    ASKS_MOST, GRANTS_MOST, GROUPS_MOST, LONGEST, NAME_LONGEST, SUCCESSIONS_MOST, UNSEEN_MOST, decode, encode,
};

/// Why a datagram is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node name {0:?} has no place in a heartbeat: 1 to {NAME_LONGEST} bytes are accepted")]
pub struct Unsendable(pub String);

/// Why a datagram that arrived is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// Shorter than the shortest heartbeat, or longer than the longest.
    #[error("{0} bytes are no heartbeat")]
    Length(usize),
    /// It does not begin as a heartbeat does.
    #[error("it is no heartbeat")]
    Foreign,
    /// A layout that this version of kube-vip does not know.
    #[error("version {0} is not known here")]
    Version(u8),
    /// Sealed with a key that is not accepted: another cluster's, or one that has ended.
    #[error("key {:08x} is not accepted", .0.0)]
    Key(KeyId),
    /// The code does not belong to these bytes and this key.
    #[error("the authentication code is wrong")]
    Forged,
    /// Authentic, and not laid out as it says.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
}

impl Refused {
    /// The reason as one word, for counting.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Length(_) => "length",
            Self::Foreign => "foreign",
            Self::Version(_) => "version",
            Self::Key(_) => "key",
            Self::Forged => "forged",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// The bytes of a heartbeat, at most [`LONGEST`] of them, sealed with `key`.
///
/// Lists that are too long are cut: of asks, grants, successions and `unseen` the first ones go, of groups those that
/// matter first (see [`encode`]).
pub fn seal(key: &SealKey, datagram: &Datagram) -> Result<Vec<u8>, Unsendable> {
    let mut bytes = wire::header(key.id(), datagram.instance);
    encode(datagram, &mut bytes)?;
    let code = key.code(&bytes);
    bytes.extend_from_slice(&code);
    Ok(bytes)
}

/// What authentic bytes say. Nothing of the content is looked at before the code was checked with the key that the
/// header names; a datagram of a key that is not accepted costs one comparison.
pub fn admit(keys: &[SealKey], bytes: &[u8]) -> Result<Datagram, Refused> {
    let sealed = wire::Sealed::cut(bytes)?;
    let mut named = keys.iter().filter(|key| key.id() == sealed.key).peekable();
    if named.peek().is_none() {
        return Err(Refused::Key(sealed.key));
    }
    // More than one only when two keys have one fingerprint, which is a matter of one in four thousand million.
    if !named.any(|key| key.verifies(sealed.authenticated, sealed.code)) {
        return Err(Refused::Forged);
    }
    decode(sealed.instance, sealed.body)
}
