//! ARP: any bytes are read or refused without a panic; what was read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vip_proto::arp;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = arp::decode(bytes) {
        let written = arp::encode(&packet);
        assert!(bytes.starts_with(&written), "{packet:?} is not written as it was read");
    }
});
