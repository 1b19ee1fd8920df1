//! An election: the laws of every machine and its own hold on any walk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vip_proto::lease::laws::{BOUNDS, FROM, election, walk};
use vip_proto::rig::check_laws;

fuzz_target!(|bytes: &[u8]| {
    // A step takes two bytes or more; when they are used up, the walk throws zeroes.
    let steps = bytes.len() / 2;
    let mut tape = bytes.iter();
    let mut byte = || tape.next().copied().map_or(0, u64::from);
    let mut dice = |below: u64| {
        let number = if below > 256 { byte() << 8 | byte() } else { byte() };
        number % below
    };
    let script = walk(&mut dice, steps);
    check_laws(election, FROM, &script, BOUNDS);
});
