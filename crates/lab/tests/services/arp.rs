//! Upstream's end-to-end scenarios of Services in ARP mode (E-ARP-6 to E-ARP-15) with the real binary on three nodes: one
//! body, rows for the families and both traffic policies, one lab for each kind of election. Where upstream plays on one
//! node (E-ARP-13) or in one family (E-ARP-14), these play on three and in all.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lab::bench::Stamp;

use crate::rig::draft::{Draft, Policy, Stack};
use crate::rig::{Rig, gap};

/// Whatever is decided about a Service is done within this: a take-over of a free Lease with its probe of new addresses,
/// or a release. All rows of a lab begin at once, so it is that of the last one.
const SOON: Duration = Duration::from_secs(1);
/// The nodes of the lab.
const ALL: [u8; 3] = [1, 2, 3];
/// The last number of the first row's addresses.
const FIRST: u8 = 210;
/// The last number of the first address of a Service that is content with the global election.
const PLAIN: u8 = 230;
/// The name of the common Lease.
const COMMON: &str = "common";

/// Who decides about a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Court {
    /// One election for all.
    Global,
    /// One for each.
    PerService,
    /// One for all, and one for each Service that asks for it.
    OnDemand,
    /// One that several Services name.
    Common,
}

impl Court {
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Global => &[],
            Self::PerService | Self::Common => &[("svc_election", "true")],
            Self::OnDemand => &[("per_service_election_on_demand", "true")],
        }
    }

    fn summon(self, draft: Draft) -> Draft {
        match self {
            Self::Global | Self::PerService => draft,
            Self::OnDemand => draft.note("forcePerServiceElection", "true"),
            Self::Common => draft.note("leaseName", COMMON),
        }
    }

    /// The Lease whose holder has the Service's addresses.
    fn lease(self, draft: &Draft) -> String {
        match self {
            Self::Global => "kube-system/plndr-svcs-lock".to_owned(),
            Self::PerService | Self::OnDemand => draft.own_lease(),
            Self::Common => format!("{}/{COMMON}", draft.namespace),
        }
    }
}

/// One row: a Service of some families and a policy. The others of its row share its addresses.
struct Row {
    first: Draft,
    others: [Draft; 2],
    /// With elections on demand: one beside it that asks for none.
    plain: Option<Draft>,
}

/// All rows of an election. A common Lease is refused under policy `Local`, where each node serves its own pods.
fn rows(court: Court) -> Vec<Row> {
    let policies =
        Policy::ALL.into_iter().filter(|policy| court != Court::Common || *policy == Policy::Cluster);
    let pairs = policies.flat_map(|policy| Stack::ALL.map(|stack| (policy, stack)));
    let row = |((policy, stack), number): ((Policy, Stack), u8)| {
        let draft = |letter: &str, port| {
            let name = format!("{}-{}-{letter}", stack.word(), policy.word().to_lowercase());
            let draft = Draft::new(&name, stack).policy(policy).at(number).ports(&[("TCP", port)]);
            court.summon(draft)
        };
        let plain = || {
            let name = format!("{}-{}-plain", stack.word(), policy.word().to_lowercase());
            Draft::new(&name, stack).policy(policy).at(number - FIRST + PLAIN)
        };
        Row {
            first: draft("a", 80),
            others: [draft("b", 81), draft("c", 82)],
            plain: (court == Court::OnDemand).then(plain),
        }
    };
    pairs.zip(FIRST..).map(row).collect()
}

/// Waits until each of these Services is served by the holder of its Lease, and by nobody else.
fn served<'d>(rig: &Rig, court: Court, drafts: impl IntoIterator<Item = &'d Draft>) -> Result<()> {
    for draft in drafts {
        let lease = court.lease(draft);
        let what = format!("{} on the holder of {lease}", draft.title());
        rig.within(SOON, &what, |rig| {
            let server = rig.server(draft)?;
            (rig.holder(&lease) == Some(server)).then_some(())
        })?;
    }
    Ok(())
}

/// E-ARP-6, 7, 8, 12, 13, 14, 15: the addresses appear where the Lease is, and only there, for clients too.
fn they_appear_on_the_holder(rig: &Rig, court: Court, rows: &[Row]) -> Result<()> {
    for draft in rows.iter().flat_map(|row| row.plain.iter().chain([&row.first])) {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
    }
    served(rig, court, rows.iter().map(|row| &row.first))?;
    served(rig, Court::Global, rows.iter().filter_map(|row| row.plain.as_ref()))?;
    let mut holders = BTreeSet::new();
    for Row { first, .. } in rows {
        let holder = BTreeSet::from_iter(rig.holder(&court.lease(first)));
        for addr in &first.addrs {
            let answer = rig.answerers(*addr)?;
            ensure!(answer == holder, "{} {addr}: {answer:?} answer, {holder:?} hold", first.title());
        }
        holders.extend(holder);
    }
    // Elections of their own are spread over the nodes.
    let nodes = if matches!(court, Court::PerService | Court::OnDemand) { ALL.len() } else { 1 };
    ensure!(holders.len() == nodes, "{} Services are on {holders:?}", rows.len());
    Ok(())
}

/// E-ARP-9: of several Services on one address the last one takes it away; the others leave without a word to clients.
fn the_last_sharer_takes_the_address_away(rig: &Rig, court: Court, rows: &[Row]) -> Result<()> {
    for draft in rows.iter().flat_map(|row| &row.others) {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
    }
    let authority = |row: &Row| court.lease(&row.first);
    for row in rows {
        for draft in &row.others {
            let what = format!("{} beside {}", draft.title(), row.first.title());
            rig.within(SOON, &what, |rig| {
                (rig.server(draft)? == rig.holder(&authority(row))?).then_some(())
            })?;
        }
    }
    // The first one leaves: with an election of its own it is the one that decided.
    let watches: Vec<_> =
        rows.iter().map(|row| rig.watch(&row.first.addrs[0].to_string())).collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_millis(50));
    let at = Stamp::now();
    for row in rows {
        rig.remove(&row.first);
    }
    std::thread::sleep(SOON);
    for row in rows {
        rig.remove(&row.others[0]);
    }
    std::thread::sleep(SOON / 4);
    for (row, watch) in rows.iter().zip(&watches) {
        let (silence, overlap) = gap(watch, at, Duration::ZERO);
        let title = row.first.title();
        ensure!(silence.is_zero() && overlap.is_zero(), "{title} left: gap {silence:?}, overlap {overlap:?}");
        ensure!(rig.server(&row.others[1]).is_some(), "{} is not served alone", row.others[1].title());
    }
    for row in rows {
        rig.remove(&row.others[1]);
    }
    for row in rows {
        rig.within(SOON, &format!("no address of {}", row.first.title()), |rig| {
            rig.is_away(&row.first).then_some(())
        })?;
    }
    Ok(())
}

/// E-ARP-10: without endpoints no address, with them again the address; whether the slices are empty or gone.
fn addresses_follow_their_endpoints(rig: &Rig, court: Court, rows: &[Row]) -> Result<()> {
    let drafts = || rows.iter().map(|row| &row.first);
    for draft in drafts() {
        rig.write(draft)?;
    }
    served(rig, court, drafts())?;
    let empty = |rig: &Rig, draft: &Draft| rig.back(draft, &[]).map(drop);
    let gone = |rig: &Rig, draft: &Draft| {
        rig.unback(draft);
        Ok(())
    };
    for take in [empty, gone] {
        drafts().try_for_each(|draft| take(rig, draft))?;
        for draft in drafts() {
            rig.within(SOON, &format!("{} without endpoints", draft.title()), |rig| {
                rig.is_away(draft).then_some(())
            })?;
        }
        drafts().try_for_each(|draft| rig.back(draft, &ALL).map(drop))?;
        served(rig, court, drafts())?;
    }
    for draft in drafts() {
        rig.remove(draft);
    }
    Ok(())
}

/// E-ARP-11: what a user says about DHCP stays, on a Service that is served and on one that is not.
fn annotations_for_dhcp_stay(rig: &Rig) -> Result<()> {
    let draft = |name: &str| Draft::new(name, Stack::V4).note("dhcp-broadcast", "true");
    let (served, refused) = (draft("broadcast").at(FIRST), draft("dhcp").on(vec!["0.0.0.0".parse()?]));
    for draft in [&served, &refused] {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
    }
    rig.within(SOON, "the Service with an address", |rig| rig.server(&served))?;
    rig.within(SOON, "a word about DHCP", |rig| {
        let condition = rig.condition(&refused, "Announced")?;
        (condition["status"] == "False" && condition["reason"] == "NotSupported").then_some(())
    })?;
    for draft in [&served, &refused] {
        let service = rig.service(draft).unwrap_or_default();
        let said = &service["metadata"]["annotations"]["kube-vip.io/dhcp-broadcast"];
        ensure!(*said == "true", "{}: {said}", draft.title());
        rig.remove(draft);
    }
    Ok(())
}

/// All bodies over all rows of one kind of election.
fn play_all(rig: &mut Rig, court: Court) -> Result<()> {
    rig.start_all(court.settings())?;
    rig.ready(&ALL)?;
    let rows = rows(court);
    they_appear_on_the_holder(rig, court, &rows)?;
    the_last_sharer_takes_the_address_away(rig, court, &rows)?;
    addresses_follow_their_endpoints(rig, court, &rows)
}

/// E-ARP-6 to E-ARP-11.
pub(crate) fn global(rig: &mut Rig) -> Result<()> {
    play_all(rig, Court::Global)?;
    annotations_for_dhcp_stay(rig)
}

/// E-ARP-12, with E-ARP-9 and E-ARP-10.
pub(crate) fn per_service(rig: &mut Rig) -> Result<()> {
    play_all(rig, Court::PerService)
}

/// E-ARP-13, with E-ARP-9 and E-ARP-10.
pub(crate) fn on_demand(rig: &mut Rig) -> Result<()> {
    play_all(rig, Court::OnDemand)
}

/// E-ARP-14 and E-ARP-15, with E-ARP-9 and E-ARP-10.
pub(crate) fn common(rig: &mut Rig) -> Result<()> {
    play_all(rig, Court::Common)
}
