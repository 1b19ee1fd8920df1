//! What a cluster in mode `session` asks of the API: so many nodes and Services, each Service with an election of its own,
//! watched while nothing happens and while the node with the most claims loses its power. No faults, no checkers; gives
//! back counts. The program prints them as a table and says whether they are within the budget.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use vip_model::Family;
use vip_model::service::{EndpointState, Service};
use vip_model::session::CLAIM;
use vip_model::store::{Ask, Purpose};

use crate::clock::{Drift, Moment};
use crate::deed::{Pod, PodPlace, service};
use crate::run::Case;
use crate::setup::{
    AgentSetup, Endpoints, ServicesElection, ServicesSetup, SessionSetup, Setup, Writes, service_address_v6,
};
use crate::trace::{Lines, Trace};
use crate::world::World;

/// The longest time that elections may take at the beginning.
const BEGINNING: Duration = Duration::from_secs(120);
/// For so long a start is counted: one renewal a second, and a burst.
const START: Duration = Duration::from_secs(10);
/// Renewals of one node in that time.
const STARTING: u32 = 10 + 4;
/// How long nothing has to be asked but for renewals before it counts as quiet.
const CALM: Duration = Duration::from_secs(5);
/// How long a quiet cluster is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// For so many seconds it is counted after a death, each for itself. Moves that spread what was inherited come later.
const AFTERMATH: u32 = 4;
/// Claims that a node rewrites within a second, after a death, whatever it inherited.
const REWRITES: u32 = 10;

/// What an agent has asked the API for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Reads: there are watches, so that in quiet times nobody needs any.
    pub reads: u32,
    /// Renewals of its session.
    pub renewals: u32,
    /// Sessions of other nodes that it ended.
    pub deposals: u32,
    /// All other writes: claims that change hands.
    pub claims: u32,
}

impl Asks {
    /// One more.
    pub(crate) fn count(&mut self, ask: &Ask) {
        match ask {
            Ask::ReadLease(_) | Ask::ReadSession(_) => self.reads += 1,
            Ask::WriteSession(write) if write.purpose == Purpose::Renew => self.renewals += 1,
            Ask::WriteSession(write) if write.purpose == Purpose::Depose => self.deposals += 1,
            _ => self.claims += 1,
        }
    }

    fn since(self, former: Self) -> Self {
        Self {
            reads: self.reads - former.reads,
            renewals: self.renewals - former.renewals,
            deposals: self.deposals - former.deposals,
            claims: self.claims - former.claims,
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            reads: self.reads + other.reads,
            renewals: self.renewals + other.renewals,
            deposals: self.deposals + other.deposals,
            claims: self.claims + other.claims,
        }
    }
}

/// What one cluster cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// How many nodes.
    pub nodes: usize,
    /// How many Services.
    pub services: u16,
    /// Renewals in the first ten seconds of the node that renewed most.
    pub start: u32,
    /// Writes per second of the node that wrote most, in quiet times.
    pub writes: f64,
    /// The mean of all nodes.
    pub mean: f64,
    /// Writes in quiet times that are no renewals, of all nodes together.
    pub others: u32,
    /// Reads in quiet times, of all nodes together.
    pub reads: u32,
    /// The claims of the node that died.
    pub lost: usize,
    /// Writes that end its session: nobody waits for any other.
    pub deposals: u32,
    /// Claims that are written within four seconds, so that they name the new owner.
    pub rewritten: u32,
    /// The most of them within one second.
    pub pace: u32,
    /// Reads.
    pub death_reads: u32,
}

impl Cost {
    /// What exceeds the budget: a write per node and second, no reads, one write for a death, claims at their pace.
    pub fn excess(&self) -> Option<String> {
        // 20 s hold one renewal more than there are seconds, when they begin right before one.
        let most = 1.0 + 1.0 / WATCHED.as_secs_f64();
        let (nodes, services) = (self.nodes, self.services);
        let found = [
            (self.start > STARTING, format!("{} renewals of a node in the first ten seconds", self.start)),
            (self.writes > most, format!("{:.2} writes per node and second", self.writes)),
            (self.others > 0, format!("{} writes that renew nothing", self.others)),
            (self.reads > 0, format!("{} reads", self.reads)),
            (self.lost > 0 && self.deposals != 1, format!("a death costs {} writes", self.deposals)),
            (
                u64::from(self.rewritten) > self.lost as u64,
                format!("{} claims are written for a death that cost {}", self.rewritten, self.lost),
            ),
            (
                self.pace > REWRITES + 1, // a second that begins right before one holds one more
                format!("{} claims are written within a second", self.pace),
            ),
            (self.death_reads > 0, format!("{} reads after a death", self.death_reads)),
        ];
        let wrong: Vec<String> =
            found.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, it)| it).collect();
        (!wrong.is_empty()).then(|| format!("{nodes} nodes, {services} Services: {}", wrong.join(", ")))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, services, start, writes, mean, others, reads, lost, .. } = self;
        let Self { deposals, rewritten, pace, death_reads, .. } = self;
        write!(
            f,
            "| {nodes} | {services} | {start} | {writes:.2} ({mean:.2}) | {others} | {reads} | {lost} | {deposals} | {rewritten} | {pace} | {death_reads} |"
        )
    }
}

/// The head of a table of costs.
pub const HEAD: &str = "| nodes | Services | renewals of a node in its first ten seconds | writes per node and second: most (mean) | other writes | reads | \
                        claims of the node that dies | writes for its death | claims written in the four seconds after it | most in a second | reads |\n|---|---|---|---|---|---|---|---|---|---|---|";

fn setup(nodes: usize) -> Setup {
    let services = ServicesSetup {
        election: ServicesElection::PerService,
        updates: Writes::Off,
        ..ServicesSetup::plain()
    };
    let agent = AgentSetup { name: "services".to_owned(), vips: Vec::new(), services: Some(services) };
    Setup {
        drifts: vec![Drift(0); nodes],
        agents: vec![agent],
        session: Some(SessionSetup::plain()),
        endpoints: Endpoints::All,
        ..Setup::plain(1)
    }
}

/// Services that are there from the beginning, each with an address and a pod.
fn fill(world: &mut World, count: u16) {
    let (mut services, mut pods) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..count {
        let address = service_address_v6(number).to_string();
        let annotations = BTreeMap::from([("kube-vip.io/loadbalancerIPs".to_owned(), address)]);
        let one = Service { families: vec![Family::V6], annotations, ..world.new_service() };
        let name = service(&format!("s{number:04}"));
        pods.insert(name.clone(), vec![Pod { place: PodPlace::Node(0), state: EndpointState::Ready }]);
        services.insert(name, std::sync::Arc::new(one));
    }
    let version = world.store.next_version();
    world.store.objects.fill((services, version), pods);
}

fn all(world: &World) -> Asks {
    world.asks.iter().fold(Asks::default(), |sum, asks| sum.with(*asks))
}

/// The claims of each node: the sessions that the Leases name.
fn claims(world: &World) -> BTreeMap<String, usize> {
    let mut claims = BTreeMap::new();
    for record in world.store.records().filter(|record| record.annotations.contains_key(CLAIM)) {
        if let Some(holder) = &record.holder {
            *claims.entry(holder.clone()).or_insert(0) += 1;
        }
    }
    claims
}

/// Lets the world run until nothing but renewals is written any more.
fn begin(world: &mut World, services: u16, tell: &mut dyn FnMut(&str)) -> Result<(), String> {
    let mut calm = Duration::ZERO;
    let mut former = all(world);
    while calm < CALM {
        if world.now.since(Moment::START) > BEGINNING {
            let held: usize = claims(world).values().sum();
            return Err(format!("{held} of {services} Services have an owner after {BEGINNING:?}"));
        }
        let step = Duration::from_secs(1);
        world.run_on(world.now + step);
        let asks = all(world);
        let held = claims(world).values().sum::<usize>();
        let is_held = held >= usize::from(services);
        let news = asks.since(former);
        let is_calm = is_held && news.deposals + news.claims == 0;
        calm = if is_calm { calm + step } else { Duration::ZERO };
        former = asks;
        tell(&format!(
            "{}: {held} of {services} Services have an owner, {} writes",
            world.now,
            news.deposals + news.claims
        ));
    }
    Ok(())
}

/// Plays a cluster. `tell` takes a line for each phase, and for each second of those that last.
///
/// # Errors
/// Where not every Service gets an owner.
pub fn measure(nodes: usize, services: u16, tell: &mut dyn FnMut(&str)) -> Result<Cost, String> {
    let case = Case::new(setup(nodes), Vec::new());
    let mut world = World::unjudged(&case, Trace::new(Lines::None, Vec::new()));
    fill(&mut world, services);
    for _ in 0..START.as_secs() {
        world.run_on(world.now + Duration::from_secs(1));
        let held = claims(&world).values().sum::<usize>();
        tell(&format!("{}: {held} of {services} Services have an owner", world.now));
    }
    let start = world.asks.iter().map(|asks| asks.renewals).max().unwrap_or(0);
    begin(&mut world, services, tell)?;
    let before = world.asks.clone();
    for _ in 0..WATCHED.as_secs() {
        world.run_on(world.now + Duration::from_secs(1));
        tell(&format!("{}: quiet", world.now));
    }
    let quiet: Vec<Asks> = world.asks.iter().zip(&before).map(|(asks, former)| asks.since(*former)).collect();
    let writes = |asks: &Asks| f64::from(asks.renewals + asks.deposals + asks.claims) / WATCHED.as_secs_f64();
    let (fullest, lost) =
        claims(&world).into_iter().max_by_key(|(_, count)| *count).unwrap_or((String::new(), 0));
    let former = all(&world);
    if let Some(node) = crate::setup::node_number(&fullest) {
        world.power_off(node);
    }
    let mut paces = Vec::new();
    for _ in 0..AFTERMATH {
        let before = all(&world);
        world.run_on(world.now + Duration::from_secs(1));
        paces.push(all(&world).since(before).claims);
        tell(&format!("{}: {lost} claims lost their owner", world.now));
    }
    let death = all(&world).since(former);
    Ok(Cost {
        nodes,
        services,
        start,
        writes: quiet.iter().map(writes).fold(0.0, f64::max),
        mean: quiet.iter().map(writes).sum::<f64>() / quiet.len() as f64,
        others: quiet.iter().map(|asks| asks.deposals + asks.claims).sum(),
        reads: quiet.iter().map(|asks| asks.reads).sum(),
        lost,
        deposals: death.deposals,
        rewritten: death.claims,
        pace: paces.into_iter().max().unwrap_or(0),
        death_reads: death.reads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_cluster_writes_once_per_node_and_second_and_one_write_is_all_that_a_death_needs() {
        for services in [1, 24] {
            let cost = measure(3, services, &mut |_| {}).expect("every Service has an owner");
            assert_eq!(cost.excess(), None, "{cost:?}");
            assert!(cost.lost > 0 && cost.mean > 0.9, "{cost:?}");
        }
    }
}
