//! Many address groups in mode `session`: a node with dozens of them loses its power, one node follows it in all of them
//! at once, and then what is too much there moves on without a loss.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

#[path = "services/crowd.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod crowd;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lab::bench::Stamp;

use crowd::{ALL, LIMIT, create, drafts, servers, silence, silence_and_overlap, spread};
use rig::{Rig, play_bare};

const SETTINGS: &[(&str, &str)] = &[("svc_election", "true"), ("election_mode", "session")];
/// What a dead node costs with up to 50 address groups, and with 300.
const DEAD: Duration = Duration::from_millis(200);
const DEAD_WITH_MANY: Duration = Duration::from_millis(500);
/// Between two questions for one address of the node that dies, and for one of the others.
const ROUND: Duration = Duration::from_millis(5);
const SLOW_ROUND: Duration = Duration::from_millis(20);
/// A planned move loses less than what a question sees, and both answer for so long.
const MOVED: Duration = SLOW_ROUND;
const HANDED: Duration = Duration::from_millis(30);

/// Powers a node off that has a third of `count` Services, and gives the longest silence of one of them.
fn power_off(rig: &mut Rig, count: u16, bound: Duration) -> Result<()> {
    let drafts = drafts(count);
    let addrs: Vec<_> = drafts.iter().map(|draft| draft.addrs[0]).collect();
    create(rig, &drafts, SETTINGS)?;
    let before = rig.within(LIMIT, "all Services", |rig| servers(rig, &drafts))?;
    spread(&before, &ALL)?;
    let (moving, staying): (Vec<IpAddr>, Vec<IpAddr>) = addrs.iter().partition(|addr| before[*addr] == 2);

    // Sixty thousand questions a second would be the load that they measure.
    let (round, slow_round) = if count > 300 { (4 * ROUND, 5 * SLOW_ROUND) } else { (ROUND, SLOW_ROUND) };
    let (census, beside) = (rig.lab().count(&moving, round)?, rig.lab().count(&staying, slow_round)?);
    let quiet = Stamp::now();
    std::thread::sleep(Duration::from_secs(2));
    let calm = silence(&census, quiet, &moving)?;
    let at = rig.power_off(2)?;
    std::thread::sleep(Duration::from_secs(2));
    let (moved, stayed) = (silence(&census, at, &moving)?, silence(&beside, at, &staying)?);
    println!(
        "  power-off of n2: longest silence of its {} {moved:?}, of what stayed {stayed:?}",
        moving.len()
    );
    let bound = bound + calm; // what its own questions lose is no outage
    ensure!(moved + round <= bound, "{moved:?}, and up to {round:?} before the first question in vain");
    ensure!(stayed.is_zero(), "an address of a node with power was away for {stayed:?}");
    Ok(())
}

#[test]
fn a_dead_node_with_fifty_groups_is_followed_in_a_fifth_of_a_second_and_they_are_spread() {
    play_bare(
        "a_dead_node_with_fifty_groups_is_followed_in_a_fifth_of_a_second_and_they_are_spread",
        |rig| {
            power_off(rig, 150, DEAD)?;
            let drafts = drafts(150);
            let addrs: Vec<_> = drafts.iter().map(|draft| draft.addrs[0]).collect();
            let (census, since) = (rig.lab().count(&addrs, SLOW_ROUND)?, Stamp::now());
            rig.within(4 * LIMIT, "Services spread over two nodes", |rig| {
                servers(rig, &drafts).filter(|servers| spread(servers, &[1, 3]).is_ok())
            })?;
            println!("  spread {:?} after", Stamp::now().since(since));
            let (silence, overlap) = silence_and_overlap(&census, since, &addrs)?;
            println!(
                "  longest silence of what moved {silence:?}, two nodes answered for {overlap:?} at most"
            );
            ensure!(silence <= MOVED, "a planned move lost {silence:?}");
            ensure!(overlap <= HANDED, "both answered for {overlap:?}");
            Ok(())
        },
    );
}

#[test]
#[ignore = "nine hundred Services are for an optimised build: KUBE_VIP_BIN=... cargo test -- --ignored"]
fn a_dead_node_with_three_hundred_groups_is_followed_in_half_a_second() {
    play_bare("a_dead_node_with_three_hundred_groups_is_followed_in_half_a_second", |rig| {
        power_off(rig, 900, DEAD_WITH_MANY)
    });
}
