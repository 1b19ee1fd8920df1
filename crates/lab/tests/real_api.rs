//! The scenarios that matter most, over the real kube-apiserver and etcd instead of the lab's small server: three nodes,
//! this project's binary with the lab's manifest (lease 5/3/1 s, both families) and no other rights than `kube-vip
//! manifest rbac` gives. `make judges` builds the two programs; without them, or where namespaces are refused, the test
//! says SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

#[path = "contract/client.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod client;
#[path = "real_api/cluster.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod cluster;
#[path = "real_api/launch.rs"]
mod launch;
#[path = "real_api/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster::Judges;
use launch::launch;
use rig::{Rig, SETTLED};
use vip_lab::bench::Stamp;

/// Where the VIPs are when an act is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    SameNode,
    OtherNode,
}

/// One fault at the holder, and what clients may see of it. Two nodes never answer at once, so that has no figure.
struct Act {
    what: &'static str,
    /// Does it to the holder; gives the moment.
    fault: fn(&mut Rig, u8) -> Result<Stamp>,
    /// Lets this pass afterwards.
    pass: Duration,
    /// Longest time without an answer.
    silence: Duration,
    after: After,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// From the start of the agents to the first answer in both families.
const FIRST_UP: Duration = ms(300);

/// The limits are those of the lab's own table; the last act leaves a node without power.
const ACTS: [Act; 6] = [
    Act {
        what: "SIGTERM of the holder",
        fault: Rig::terminate,
        pass: SETTLED,
        silence: ms(100),
        after: After::OtherNode,
    },
    Act {
        what: "SIGKILL of the holder, back after 500 ms",
        fault: |rig, holder| {
            let at = rig.kill(holder)?;
            rig.pass(ms(500))?;
            rig.start(holder)?;
            Ok(at)
        },
        pass: ms(6000),
        silence: Duration::ZERO,
        after: After::SameNode,
    },
    Act {
        what: "SIGKILL of the holder for good",
        fault: Rig::kill,
        pass: ms(8000),
        silence: ms(2300),
        after: After::OtherNode,
    },
    Act {
        what: "IPv4 VIP removed by hand",
        fault: |rig, holder| rig.remove(holder, 0),
        pass: SETTLED,
        silence: ms(50),
        after: After::SameNode,
    },
    Act {
        what: "IPv6 VIP removed by hand",
        fault: |rig, holder| rig.remove(holder, 1),
        pass: SETTLED,
        silence: ms(50),
        after: After::SameNode,
    },
    Act {
        what: "power-off of the holder",
        fault: Rig::power_off,
        pass: ms(8000),
        silence: ms(5300),
        after: After::OtherNode,
    },
];

/// Compares what was seen since `at` with what may be.
fn judge(rig: &Rig, what: &str, at: Stamp, silence: Duration) -> Result<()> {
    let seen = rig.seen(at);
    let (nobody, two) = (seen.silence.as_millis(), seen.overlap.as_millis());
    let limit = silence.as_millis();
    println!("  {what}: nobody answered for {nobody} ms (at most {limit}), two for {two} ms (never)");
    ensure!(seen.overlap.is_zero(), "{what}: two nodes answered: {seen:?}");
    ensure!(seen.silence <= silence, "{what}: nobody answered for longer than {silence:?}: {seen:?}");
    Ok(())
}

fn first_up(rig: &mut Rig) -> Result<()> {
    let at = Stamp::now();
    rig.start_missing()?;
    let holder = rig.holder()?;
    rig.pass(ms(2000))?;
    judge(rig, "first VIP up", at, FIRST_UP)?;
    // From here on nothing happens, so nothing may be seen.
    judge(rig, "calm after it", at.after(ms(1000)), Duration::ZERO)?;
    ensure!(rig.holder()? == holder, "the first holder stays");
    Ok(())
}

fn play(rig: &mut Rig, act: &Act) -> Result<()> {
    rig.start_missing()?;
    let before = rig.holder()?;
    rig.pass(SETTLED)?;
    let at = (act.fault)(rig, before)?;
    rig.pass(act.pass)?;
    judge(rig, act.what, at, act.silence)?;
    let after = rig.holder()?;
    let same = (after == before) == (act.after == After::SameNode);
    ensure!(same, "{}: n{before} held before, n{after} after; wanted {:?}", act.what, act.after);
    Ok(())
}

/// All acts, also when one fails; each begins with all agents running.
fn play_all(judges: &Judges) {
    let mut rig = Rig::raise(judges).unwrap();
    let mut failed: Vec<String> =
        first_up(&mut rig).err().map(|why| format!("{why:#}")).into_iter().collect();
    for act in &ACTS {
        failed.extend(play(&mut rig, act).err().map(|why| format!("{why:#}")));
    }
    failed.extend(rig.check_rights().err().map(|why| format!("{why:#}")));
    assert!(failed.is_empty(), "{}\nthe logs are in {}", failed.join("\n"), rig.logs().display());
    std::fs::remove_dir_all(rig.logs()).unwrap();
}

#[test]
fn agents_keep_their_promises_over_the_real_api_server() {
    launch("agents_keep_their_promises_over_the_real_api_server", play_all);
}
