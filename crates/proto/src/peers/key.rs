//! A key for heartbeats and the code that it makes. Comes from a Secret or from the memory of an earlier life; is shown
//! to nobody.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use vip_model::peers::KeyId;

/// Bytes of a key: as many as the hash gives, the length that RFC 2104 §3 recommends.
pub const KEY_LENGTH: usize = 32;

/// Bytes of the authentication code.
pub(super) const CODE_LENGTH: usize = 32;

/// A key for heartbeats. Whoever has it is a member of the cluster.
#[derive(Clone)]
pub struct PeerKey {
    id: KeyId,
    bytes: [u8; KEY_LENGTH],
    /// With the key already mixed in, which saves a third of the work for a short datagram.
    begun: Hmac<Sha256>,
}

impl PeerKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        let digest = Sha256::digest(bytes);
        let id = KeyId(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]));
        let begun = Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        Self { id, bytes, begun }
    }

    /// Its fingerprint: the first four bytes of its SHA-256.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, for keeping it where only this process's user can read it.
    pub const fn reveal(&self) -> &[u8; KEY_LENGTH] {
        &self.bytes
    }

    /// HMAC-SHA-256 of `message`.
    pub(super) fn code(&self, message: &[u8]) -> [u8; CODE_LENGTH] {
        self.begun.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// Whether `code` is that of `message`; takes as long for a wrong code as for the right one.
    pub(super) fn verifies(&self, message: &[u8], code: &[u8]) -> bool {
        self.begun.clone().chain_update(message).verify_slice(code).is_ok()
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({:08x}, …)", self.id.0)
    }
}

impl PartialEq for PeerKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PeerKey {}
