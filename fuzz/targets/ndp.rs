//! Neighbour discovery: any bytes are read or refused without a panic; what was read comes back from what is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vip_proto::ndp;

/// The bytes with a right ICMPv6 checksum, which no fuzzer would find (RFC 1071).
fn with_checksum(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]));
    let mut bytes = bytes.get(..40 + length)?.to_vec();
    bytes.get_mut(42..44)?.fill(0);
    let mut pseudo = (length as u32).to_be_bytes().to_vec();
    pseudo.extend([0, 0, 0, 58]);
    pseudo.extend(&bytes[8..]);
    let mut sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[42..44].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    Some(bytes)
}

fn check(bytes: &[u8]) {
    if let Ok(message) = ndp::decode(bytes) {
        let again = ndp::decode(&ndp::encode(&message));
        assert_eq!(again.as_ref(), Ok(&message), "written and read again");
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some(bytes) = with_checksum(bytes) {
        assert_ne!(ndp::decode(&bytes), Err(ndp::Ignored::Checksum));
        check(&bytes);
    }
});
