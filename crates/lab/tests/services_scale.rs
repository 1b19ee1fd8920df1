//! Three hundred Services with an election each on three nodes: spread evenly, one node loses its power, every address is
//! answered for again within the bound of mode `lease`, and the node that returns changes nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

#[path = "services/crowd.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod crowd;

use std::time::Duration;

use anyhow::ensure;
use vip_lab::bench::Stamp;

use crowd::{ALL, LIMIT, create, drafts, servers, silence, spread};
use rig::play_bare;

const SERVICES: u16 = 300;
/// Between two questions for one address. Hundreds of them cost less than a detector with its 5 ms.
const ROUND: Duration = Duration::from_millis(100);
/// The bound of mode `lease` with timings 5/3/1 s: a dead node's Leases run out 5 s after their last renewal, and a
/// take-over takes 300 ms.
const EXPIRED: Duration = Duration::from_millis(5300);

#[test]
fn three_hundred_services_survive_a_power_failure() {
    play_bare("three_hundred_services_survive_a_power_failure", |rig| {
        let drafts = drafts(SERVICES);
        let addrs: Vec<_> = drafts.iter().map(|draft| draft.addrs[0]).collect();
        create(rig, &drafts, &[("svc_election", "true")])?;
        let before = rig.within(LIMIT, "all Services", |rig| servers(rig, &drafts))?;
        spread(&before, &ALL)?;

        let census = rig.lab().count(&addrs, ROUND)?;
        std::thread::sleep(Duration::from_secs(1));
        let at = rig.power_off(2)?;
        let after = rig.within(LIMIT, "all Services on two nodes", |rig| servers(rig, &drafts))?;
        println!("  power-off of n2: all named rightly after {:?}", Stamp::now().since(at));
        let (moved, stayed): (Vec<_>, Vec<_>) = addrs.iter().partition(|addr| before[*addr] == 2);
        let (moved, stayed) = (silence(&census, at, moved)?, silence(&census, at, stayed)?);
        println!("  longest silence of what moved {moved:?}, of what stayed {stayed:?}");
        ensure!(moved <= EXPIRED, "{moved:?}");
        ensure!(stayed.is_zero(), "an address of a node with power was away for {stayed:?}");
        ensure!(
            addrs.iter().all(|addr| before[addr] == 2 || before[addr] == after[addr]),
            "some moved for nothing"
        );
        spread(&after, &[1, 3])?;

        let back = rig.power_on(2)?;
        rig.ready(&[2])?;
        std::thread::sleep(Duration::from_secs(2));
        let still = rig.within(LIMIT, "all Services", |rig| servers(rig, &drafts))?;
        ensure!(still == after, "the node that returned moved some");
        let silence = silence(&census, back, &addrs)?;
        ensure!(silence.is_zero(), "an address was away for {silence:?} when the node returned");
        Ok(())
    });
}
