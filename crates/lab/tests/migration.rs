//! From the Go program to this one and back, in one election: a contender that elects with client-go itself (`elector`,
//! see `judges/elector`) and treats the VIP as the Go program does in ARP mode, beside this project's real binary, lease
//! 5/3/1 s, both families. Where our agent is the one that leaves, two nodes never answer; where the elector leaves, its
//! own order decides (it releases first), and the time is measured. `make judges` builds the elector; without it, or
//! where namespaces are refused, each test says SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

#[path = "migration/history.rs"]
mod history;
#[path = "migration/rig.rs"]
mod rig;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rig::{Kind, Rig, Seen};
use vip_lab::bench::{Stamp, boot};

const LAB: &str = env!("CARGO_BIN_EXE_lab");

/// Two labs at once would disturb each other's figures, not each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A time after which everything that a take-over sets off has happened.
const SETTLED: Duration = Duration::from_millis(1500);
/// The elector looks at the Lease every retry period, with jitter up to 2.2 of it; and a reserve for a busy machine.
const ELECTOR_LOOKS: Duration = Duration::from_millis(2200 + 500);
/// Our agent takes what is released at once, and what is expired at its end; the same reserve as in the scenarios.
const PROMPT: Duration = Duration::from_millis(300);

/// Says something past the capture of the test runner: a skipped scenario must be seen.
fn tell(text: &str) {
    let mut stderr = std::io::stderr();
    stderr.write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The elector, from the folder that `KUBEBUILDER_ASSETS` names, else from `build/judges`.
fn elector() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/judges");
    let named = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    named.into_iter().chain([built]).find_map(|folder| folder.join("elector").canonicalize().ok())
}

/// Runs the test `name` in a lab of its own: outside it starts itself again, inside it plays `scenario`.
fn play(name: &str, nodes: u8, scenario: fn(&mut Rig) -> Result<()>) {
    let Some(elector) = elector() else {
        tell(&format!("SKIPPED {name}: there is no `elector` (run make judges or set KUBEBUILDER_ASSETS)"));
        return;
    };
    if boot::inside().is_some() {
        let mut rig = Rig::raise(nodes, &elector).unwrap();
        let played = scenario(&mut rig).and_then(|()| rig.finish());
        match played {
            Ok(history) => println!("  {history}"),
            Err(why) => panic!("{name}: {why:#}\nthe logs are in {}", rig.lab().logs().display()),
        }
        rig.drop_logs().unwrap();
        return;
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let done = Command::new(LAB)
        .arg("__boot")
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if err.contains("was refused") || err.contains("install the Debian package") {
        tell(&format!("SKIPPED {name}: {err}"));
        return;
    }
    assert!(done.status.success(), "{out}\n{err}");
    println!("{out}{err}");
}

/// One line of a report.
fn report(what: &str, took: Duration, seen: Seen) {
    let (took, nobody, two) = (took.as_millis(), seen.silence.as_millis(), seen.overlap.as_millis());
    println!("  {what}: taken after {took} ms, nobody answered for {nobody} ms, two for {two} ms");
}

/// Starts `first` on n1, waits until it holds, then the other kind on n2 and n3.
fn set(rig: &mut Rig, first: Kind) -> Result<()> {
    let second = if first == Kind::Elector { Kind::Ours } else { Kind::Elector };
    let at = rig.start(1, first)?;
    rig.wait_holder(at, |node| node == 1)?;
    rig.start(2, second)?;
    rig.start(3, second)?;
    rig.pass(SETTLED)?;
    ensure!(rig.holder() == Some(1), "a newcomer takes nothing from a holder: {:?}", rig.lease());
    let calm = rig.seen(at.after(SETTLED), Stamp::now());
    ensure!(calm.overlap.is_zero(), "while nothing happens: {calm:?}");
    Ok(())
}

#[test]
fn an_elector_that_is_told_to_stop_hands_over_to_our_agent() {
    play("an_elector_that_is_told_to_stop_hands_over_to_our_agent", 3, |rig| {
        set(rig, Kind::Elector)?;
        let end = rig.terminate(1)?;
        let (_, took) = rig.wait_holder(end.from, |node| node != 1)?;
        rig.pass(SETTLED)?;
        let seen = rig.seen(end.from, Stamp::now());
        report("SIGTERM of the elector", took.since(end.from), seen);
        println!("  it had removed the address {} ms after the signal", end.length().as_millis());
        // The elector's removal needs two programs; until then both answer. Nothing of that is left when it has ended.
        ensure!(rig.seen(end.until.after(ms(10)), Stamp::now()).overlap.is_zero(), "{seen:?}");
        ensure!(seen.overlap <= end.length() + ms(10), "no longer than the elector needs: {seen:?}");
        ensure!(took.since(end.from) <= PROMPT, "a release is taken at once");
        Ok(())
    });
}

#[test]
fn what_a_killed_elector_left_is_removed_by_our_agent_on_its_node() {
    play("what_a_killed_elector_left_is_removed_by_our_agent_on_its_node", 3, |rig| {
        set(rig, Kind::Elector)?;
        let renewed = rig.lease().unwrap().renewed;
        let at = rig.kill(1)?;
        let (holder, took) = rig.wait_holder(at, |node| node != 1)?;
        ensure!(took.since(renewed) >= Duration::from_secs(5), "not before the end of the Lease");
        ensure!(took.since(at) <= Duration::from_secs(5) + PROMPT, "soon after it");
        rig.pass(SETTLED)?;
        report("SIGKILL of the elector", took.since(at), rig.seen(at, Stamp::now()));
        ensure!(rig.addresses(1)?.contains("10.77.0.200/32"), "the leftover is what this is about");
        let started = rig.start(1, Kind::Ours)?;
        rig.pass(SETTLED)?;
        let swept = rig.seen(started, Stamp::now());
        println!(
            "  our agent on its node: two answered for {} ms more after its start",
            swept.overlap.as_millis()
        );
        ensure!(swept.overlap <= PROMPT, "a leftover goes at the start: {swept:?}");
        ensure!(rig.seen(started.after(PROMPT), Stamp::now()).overlap.is_zero(), "and stays away");
        let left = rig.addresses(1)?;
        ensure!(!left.contains("10.77.0.200") && !left.contains("fd77::200"), "nothing is left: {left}");
        ensure!(rig.holder() == Some(holder), "the holder stays");
        Ok(())
    });
}

#[test]
fn our_agent_goes_on_where_an_elector_was_killed_on_its_node() {
    play("our_agent_goes_on_where_an_elector_was_killed_on_its_node", 3, |rig| {
        set(rig, Kind::Elector)?;
        let before = rig.addresses(1)?;
        ensure!(
            before.matches("valid_lft forever").count() >= 4,
            "an elector's address stays for ever: {before}"
        );
        let at = rig.kill(1)?;
        rig.start(1, Kind::Ours)?;
        rig.pass(Duration::from_secs(8))?;
        let seen = rig.seen(at, Stamp::now());
        println!("  SIGKILL, then our agent under the same name: {seen:?}");
        ensure!(seen.overlap.is_zero() && seen.silence <= ms(20), "nothing moves: {seen:?}");
        ensure!(rig.holder() == Some(1), "{:?}", rig.lease());
        let adopted = rig.addresses(1)?;
        for vip in ["10.77.0.200/32", "fd77::200/128"] {
            let life = adopted.split_once(vip).and_then(|(_, rest)| rest.lines().nth(1)).unwrap_or_default();
            ensure!(
                life.contains("valid_lft") && !life.contains("forever"),
                "{vip} has a lifetime now: {adopted}"
            );
        }
        Ok(())
    });
}

#[test]
fn our_agent_hands_over_to_an_elector_without_overlap() {
    play("our_agent_hands_over_to_an_elector_without_overlap", 3, |rig| {
        set(rig, Kind::Ours)?;
        let end = rig.terminate(1)?;
        let (_, took) = rig.wait_holder(end.from, |node| node != 1)?;
        rig.pass(SETTLED)?;
        let seen = rig.seen(end.from, Stamp::now());
        report("SIGTERM of our agent", took.since(end.from), seen);
        ensure!(seen.overlap.is_zero(), "{seen:?}");
        ensure!(took.since(end.from) <= ELECTOR_LOOKS, "the elector sees the release when it looks");
        Ok(())
    });
}

#[test]
fn our_killed_agents_address_is_gone_before_an_elector_takes() {
    play("our_killed_agents_address_is_gone_before_an_elector_takes", 3, |rig| {
        set(rig, Kind::Ours)?;
        let at = rig.kill(1)?;
        let (_, took) = rig.wait_holder(at, |node| node != 1)?;
        rig.pass(SETTLED)?;
        let seen = rig.seen(at, Stamp::now());
        report("SIGKILL of our agent", took.since(at), seen);
        ensure!(seen.overlap.is_zero(), "{seen:?}");
        ensure!(
            took.since(at) <= Duration::from_secs(5) + ELECTOR_LOOKS,
            "the elector takes what is expired"
        );
        let left = rig.addresses(1)?;
        ensure!(!left.contains("10.77.0.200") && !left.contains("fd77::200"), "nothing is left: {left}");
        Ok(())
    });
}

#[test]
fn an_elector_goes_on_where_our_agent_was_killed_on_its_node() {
    play("an_elector_goes_on_where_our_agent_was_killed_on_its_node", 3, |rig| {
        set(rig, Kind::Ours)?;
        let at = rig.kill(1)?;
        let started = rig.start(1, Kind::Elector)?;
        rig.wait_holder(started, |node| node == 1)?;
        // Longer than the lifetime that our agent gave the address.
        rig.pass(Duration::from_secs(6))?;
        let seen = rig.seen(at, Stamp::now());
        println!("  SIGKILL, then an elector under the same name: {seen:?}");
        ensure!(
            seen.overlap.is_zero() && seen.silence <= PROMPT,
            "it takes the address away and adds it: {seen:?}"
        );
        ensure!(rig.holder() == Some(1), "{:?}", rig.lease());
        let left = rig.addresses(1)?;
        ensure!(left.matches("10.77.0.200").count() == 1 && left.matches("fd77::200").count() == 1, "{left}");
        Ok(())
    });
}

#[test]
fn both_kinds_contend_for_a_minute_and_one_holds() {
    play("both_kinds_contend_for_a_minute_and_one_holds", 4, |rig| {
        let begin = Instant::now();
        let mut since = Stamp::now();
        for (number, kind) in [(1, Kind::Elector), (2, Kind::Ours), (3, Kind::Elector), (4, Kind::Ours)] {
            rig.start(number, kind)?;
        }
        let (mut counts, mut down) = ([0_u32; 2], None);
        for round in 0_u32.. {
            let (holder, _) = rig.wait_holder(since, |_| true)?;
            // At another phase of the electors' looks each time.
            rig.pass(SETTLED + ms(u64::from(round) * 370 % 1000))?;
            if begin.elapsed() > Duration::from_secs(60) {
                break;
            }
            let kind = rig.kind(holder).unwrap();
            counts[usize::from(kind == Kind::Ours)] += 1;
            let killed = round % 4 == 3;
            since = if killed { rig.kill(holder)? } else { rig.terminate(holder)?.from };
            let (next, took) = rig.wait_holder(since, |_| true)?;
            ensure!(next != holder, "n{holder} is stopped");
            let (seen, signal) = (rig.seen(since, Stamp::now()), if killed { "SIGKILL" } else { "SIGTERM" });
            report(&format!("{signal} of {kind:?} on n{holder}, n{next} takes"), took.since(since), seen);
            ensure!(kind == Kind::Elector || seen.overlap.is_zero(), "our agent leaves nothing: {seen:?}");
            // Our agents are quicker than the electors, so a stopped one stays away for a round: all have a turn. But a
            // killed elector's address would stay, too.
            let back = if killed && kind == Kind::Elector {
                Some((holder, kind))
            } else {
                down.replace((holder, kind))
            };
            if let Some((number, kind)) = back {
                rig.start(number, kind)?;
            }
        }
        println!("  holders that were stopped: {} electors, {} of ours", counts[0], counts[1]);
        ensure!(counts.iter().all(|count| *count >= 3), "both kinds have held: {counts:?}");
        Ok(())
    });
}

/// Changes all nodes over to `kind` as docs/migrate.md says: first those that don't hold, one after the other, the
/// holder last. Gives what clients saw of the holder's change.
fn change_over(rig: &mut Rig, kind: Kind) -> Result<Seen> {
    let holder = rig.wait_holder(Stamp::now(), |_| true)?.0;
    let begin = Stamp::now();
    for number in rig.nodes().into_iter().filter(|number| *number != holder) {
        rig.terminate(number)?;
        rig.start(number, kind)?;
        rig.pass(SETTLED)?;
    }
    ensure!(rig.holder() == Some(holder), "the holder holds until its own turn: {:?}", rig.lease());
    let others = rig.seen(begin, Stamp::now());
    ensure!(others.overlap.is_zero() && others.silence <= ms(20), "nothing moves meanwhile: {others:?}");
    let end = rig.terminate(holder)?;
    rig.start(holder, kind)?;
    let (_, took) = rig.wait_holder(end.from, |_| true)?;
    rig.pass(SETTLED)?;
    let seen = rig.seen(end.from, Stamp::now());
    report(&format!("the holder n{holder} changes to {kind:?}"), took.since(end.from), seen);
    ensure!(rig.seen(end.until.after(ms(10)), Stamp::now()).overlap.is_zero(), "{seen:?}");
    ensure!(rig.nodes().iter().all(|number| rig.kind(*number) == Some(kind)), "all are changed");
    Ok(seen)
}

/// Three electors change over to `kind`, and back.
fn there_and_back(rig: &mut Rig, kind: Kind) -> Result<()> {
    for number in 1..=3 {
        rig.start(number, Kind::Elector)?;
    }
    change_over(rig, kind)?;
    let holder = rig.holder().unwrap();
    let said = rig.status(holder)?;
    ensure!(said.contains(&format!("n{holder}")), "`kube-vip status` shows the holder: {said}");
    let back = change_over(rig, Kind::Elector)?;
    ensure!(back.overlap.is_zero(), "our agent leaves nothing: {back:?}");
    ensure!(back.silence <= ELECTOR_LOOKS, "the elector sees the release when it looks: {back:?}");
    Ok(())
}

#[test]
fn three_nodes_change_to_our_agent_one_by_one_and_back() {
    let name = "three_nodes_change_to_our_agent_one_by_one_and_back";
    play(name, 3, |rig| there_and_back(rig, Kind::Ours));
}

#[test]
fn three_nodes_change_to_the_default_one_by_one_and_back() {
    let name = "three_nodes_change_to_the_default_one_by_one_and_back";
    play(name, 3, |rig| there_and_back(rig, Kind::OursInSession));
}

#[test]
fn mode_session_comes_and_goes_beside_an_elector() {
    play("mode_session_comes_and_goes_beside_an_elector", 3, |rig| {
        set(rig, Kind::Elector)?;
        let begin = Stamp::now();
        for number in [2, 3] {
            rig.terminate(number)?;
            rig.start(number, Kind::OursInSession)?;
            rig.pass(SETTLED)?;
        }
        let waited = rig.seen(begin, Stamp::now());
        ensure!(rig.holder() == Some(1), "who comes in mode session waits: {:?}", rig.lease());
        ensure!(waited.overlap.is_zero() && waited.silence <= ms(20), "nothing moves: {waited:?}");
        let end = rig.terminate(1)?;
        let (holder, took) = rig.wait_holder(end.from, |node| node != 1)?;
        rig.start(1, Kind::Elector)?;
        // Four times the duration that the elector has for its own Lease: it respects the one that the claim states.
        rig.pass(Duration::from_secs(20))?;
        let seen = rig.seen(end.from, Stamp::now());
        report("SIGTERM of the elector, mode session takes", took.since(end.from), seen);
        ensure!(rig.holder() == Some(holder), "the elector waits: {:?}", rig.lease());
        ensure!(took.since(end.from) <= PROMPT, "a release is taken at once");
        ensure!(rig.seen(end.until.after(ms(10)), Stamp::now()).overlap.is_zero(), "{seen:?}");
        // And back, the holder last: nobody of its own mode is left, so it lets go first.
        let back = Stamp::now();
        let other = 5 - holder;
        rig.terminate(other)?;
        rig.start(other, Kind::Ours)?;
        rig.pass(SETTLED)?;
        ensure!(rig.holder() == Some(holder), "mode lease waits: {:?}", rig.lease());
        let end = rig.terminate(holder)?;
        let (_, took) = rig.wait_holder(end.from, |node| node != holder)?;
        rig.start(holder, Kind::Ours)?;
        rig.pass(SETTLED)?;
        let seen = rig.seen(back, Stamp::now());
        report("SIGTERM of mode session", took.since(end.from), seen);
        ensure!(seen.overlap.is_zero(), "{seen:?}");
        ensure!(took.since(end.from) <= ELECTOR_LOOKS, "whoever is first takes what was released");
        Ok(())
    });
}

#[test]
fn what_the_last_agent_of_mode_session_held_waits_for_one_of_its_kind_or_for_hands() {
    play("what_the_last_agent_of_mode_session_held_waits_for_one_of_its_kind_or_for_hands", 3, |rig| {
        set(rig, Kind::OursInSession)?;
        let at = rig.kill(1)?;
        rig.pass(Duration::from_secs(12))?;
        ensure!(rig.holder() == Some(1), "electors wait for a claim without an end: {:?}", rig.lease());
        let left = rig.addresses(1)?;
        ensure!(!left.contains("10.77.0.200") && !left.contains("fd77::200"), "nothing is left: {left}");
        // What docs/migrate.md says.
        let deleted = Stamp::now();
        rig.delete_lease();
        let (_, took) = rig.wait_holder(deleted, |node| node != 1)?;
        rig.pass(SETTLED)?;
        let seen = rig.seen(at, Stamp::now());
        report("the Lease of a dead agent in mode session is deleted", took.since(deleted), seen);
        ensure!(seen.overlap.is_zero(), "{seen:?}");
        ensure!(took.since(deleted) <= ELECTOR_LOOKS, "an elector takes what is not there");
        Ok(())
    });
}
