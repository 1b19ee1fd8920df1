//! Heartbeats: any bytes are admitted or refused without a panic; bytes without the code never come in; what was read
//! goes out and comes in as the same.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vip_model::peers::{GroupList, InstanceTag, PeerKey};
use vip_proto::peers::{LONGEST, SealKey, admit, decode, seal};

static KEY: LazyLock<SealKey> = LazyLock::new(|| SealKey::new(PeerKey::new([7; 32])));

fuzz_target!(|bytes: &[u8]| {
    let keys = std::slice::from_ref(&*KEY);
    assert!(admit(keys, bytes).is_err(), "nobody guesses a code");
    let Ok(mut datagram) = decode(InstanceTag(7), bytes) else { return };
    let Ok(sealed) = seal(&KEY, &datagram) else { panic!("{datagram:?} was read and cannot be written") };
    assert!(sealed.len() <= LONGEST);
    let again = admit(keys, &sealed).expect("what is sealed is admitted");
    // A list that is too long for one datagram is cut, and never becomes another kind of word.
    if let (GroupList::Listed(some), GroupList::Listed(all)) = (&again.groups, &datagram.groups)
        && some.len() < all.len()
    {
        datagram.groups.clone_from(&again.groups);
    }
    assert_eq!(again, datagram);
});
