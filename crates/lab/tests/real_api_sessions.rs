//! Mode `session` over the real kube-apiserver and three members of etcd: three nodes, this project's binary with no other
//! rights than `kube-vip manifest rbac` gives, both families. Without the real programs (`make judges`), or where namespaces
//! are refused, the test says SKIPPED and why.

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
use nix::sys::signal::Signal;
use rig::{Rig, SETTLED};
use vip_lab::bench::Stamp;

/// Members of etcd.
const MEMBERS: u16 = 3;

/// Where the VIPs are when an act is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    SameNode,
    OtherNode,
}

/// One fault, and what clients may see of it.
struct Act {
    what: &'static str,
    /// Does it, to the holder where it hits a node; gives the moment.
    fault: fn(&mut Rig, u8) -> Result<Stamp>,
    /// Lets this pass afterwards.
    pass: Duration,
    /// Longest time without an answer, and with two.
    silence: Duration,
    overlap: Duration,
    after: After,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Nothing may be seen.
const NOTHING: Duration = Duration::ZERO;

/// The limits are those of the lab's own table.
const ACTS: [Act; 7] = [
    Act {
        what: "power-off of the holder",
        fault: Rig::power_off,
        pass: SETTLED,
        silence: ms(200),
        overlap: NOTHING,
        after: After::OtherNode,
    },
    Act {
        what: "SIGTERM of the holder",
        fault: Rig::terminate,
        pass: SETTLED,
        silence: ms(10),
        overlap: ms(30),
        after: After::OtherNode,
    },
    Act {
        what: "SIGKILL of the holder for good",
        fault: Rig::kill,
        pass: ms(6000),
        silence: ms(100),
        overlap: NOTHING,
        after: After::OtherNode,
    },
    Act {
        what: "the API server hangs for 8 s",
        fault: |rig, _| {
            let at = Stamp::now();
            rig.cluster().signal_server(Signal::SIGSTOP)?;
            let passed = rig.pass(ms(8000));
            rig.cluster().signal_server(Signal::SIGCONT)?;
            passed.map(|()| at)
        },
        pass: ms(3000),
        silence: NOTHING,
        overlap: NOTHING,
        after: After::SameNode,
    },
    Act {
        what: "a member of etcd that does not lead is lost",
        fault: |rig, _| {
            let lost = (rig.cluster().leader()? + 1) % usize::from(MEMBERS);
            let at = Stamp::now();
            rig.cluster().kill_member(lost);
            Ok(at)
        },
        pass: ms(4000),
        silence: NOTHING,
        overlap: NOTHING,
        after: After::SameNode,
    },
    Act {
        what: "the leader of etcd is lost",
        fault: |rig, _| {
            let lost = rig.cluster().leader()?;
            let at = Stamp::now();
            rig.cluster().kill_member(lost);
            Ok(at)
        },
        pass: ms(8000),
        silence: NOTHING,
        overlap: NOTHING,
        after: After::SameNode,
    },
    Act {
        what: "power-off of the holder that takes the leader of etcd along",
        fault: |rig, holder| {
            let lost = rig.cluster().leader()?;
            rig.cluster().kill_member(lost);
            rig.power_off(holder)
        },
        pass: ms(8000),
        silence: ms(300),
        overlap: NOTHING,
        after: After::OtherNode,
    },
];

fn play(rig: &mut Rig, act: &Act) -> Result<()> {
    rig.repair()?;
    rig.start_missing()?;
    let before = rig.holder()?;
    rig.settle()?;
    rig.pass(SETTLED)?;
    let at = (act.fault)(rig, before)?;
    rig.pass(act.pass)?;
    let seen = rig.seen(at);
    let (nobody, two) = (seen.silence.as_millis(), seen.overlap.as_millis());
    let (silence, overlap) = (act.silence.as_millis(), act.overlap.as_millis());
    println!(
        "  {}: nobody answered for {nobody} ms (at most {silence}), two for {two} ms (at most {overlap})",
        act.what
    );
    ensure!(seen.silence <= act.silence && seen.overlap <= act.overlap, "{}: {seen:?}", act.what);
    let after = rig.holder()?;
    let same = (after == before) == (act.after == After::SameNode);
    ensure!(same, "{}: n{before} held before, n{after} after; wanted {:?}", act.what, act.after);
    Ok(())
}

/// All acts, also when one fails; each begins with all agents and members running.
fn play_all(judges: &Judges) {
    let mut rig = Rig::raise_with(MEMBERS, &[("election_mode", "session")], judges).unwrap();
    let mut failed: Vec<String> = Vec::new();
    for act in &ACTS {
        failed.extend(play(&mut rig, act).err().map(|why| format!("{}: {why:#}", act.what)));
    }
    failed.extend(rig.check_rights().err().map(|why| format!("{why:#}")));
    assert!(failed.is_empty(), "{}\nthe logs are in {}", failed.join("\n"), rig.logs().display());
    std::fs::remove_dir_all(rig.logs()).unwrap();
}

#[test]
fn sessions_keep_their_promises_over_the_real_api_server() {
    launch("sessions_keep_their_promises_over_the_real_api_server", play_all);
}
