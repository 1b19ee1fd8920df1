//! The elections of this node, and which of them have something to do: there can be one for each of thousands of
//! Services, and a turn must not look at all of them. Fed with the planned elections, with inputs for single ones and with
//! the time; gives back questions, and whose state may have changed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use vip_model::plan::{ElectionWant, Footprint};
use vip_model::session::Sessions;
use vip_model::store::{Revision, Version};
use vip_model::{Instant, LeaseName, QuestionId, Walk};
use vip_proto::Machine;
use vip_proto::lease::{LeaseElection, LeaseInput, LeaseQuestion, Owners, Ventures};

/// So many new Leases may be asked for at a time for which other nodes come first. Two keep a node busy that is alone
/// with a store that answers in milliseconds, and leave the others their share when all are new and the store is slow.
const VENTURES: usize = 2;

type Planned = BTreeMap<LeaseName, ElectionWant>;

/// All elections.
#[derive(Debug, Default)]
pub(super) struct Elections {
    seats: BTreeMap<LeaseName, Seat>,
    queues: Queues,
    /// Those that would venture and have to wait.
    held_back: BTreeSet<LeaseName>,
    /// Those that were touched since their states were last looked at.
    stirred: BTreeSet<LeaseName>,
    /// Those whose Lease is a claim of the mode `session`, held by another node.
    claimed: BTreeSet<LeaseName>,
    /// The sessions that look after those.
    owners: Owners,
    /// How far this node has acted on the Services.
    acted: Option<Revision>,
}

#[derive(Debug, Default)]
struct Queues {
    /// Those that have a deadline, the earliest first.
    due: BTreeSet<(Instant, LeaseName)>,
    /// Those that venture now.
    venturing: BTreeSet<LeaseName>,
}

impl Queues {
    fn have_room(&self) -> bool {
        self.venturing.len() < VENTURES
    }

    fn forget(&mut self, lease: &LeaseName, due: Option<Instant>) {
        if let Some(at) = due {
            self.due.remove(&(at, lease.clone()));
        }
        self.venturing.remove(lease);
    }
}

#[derive(Debug)]
struct Seat {
    election: LeaseElection,
    /// Its deadline, as it stands in `due`.
    due: Option<Instant>,
    /// The question that it waits for.
    question: Option<QuestionId>,
}

impl Elections {
    /// The election of a Lease.
    pub(super) fn get(&self, lease: &LeaseName) -> Option<&LeaseElection> {
        self.seats.get(lease).map(|seat| &seat.election)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether nothing is left to do for a node that stops.
    pub(super) fn are_finished(&self) -> bool {
        self.seats.values().all(|seat| seat.election.is_finished())
    }

    /// When the first of them has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queues.due.first().map(|(at, _)| *at)
    }

    /// Those whose state may have changed since the last call.
    pub(super) fn take_stirred(&mut self) -> BTreeSet<LeaseName> {
        std::mem::take(&mut self.stirred)
    }

    /// Tells each of the planned ones what is wanted of it. `begin` makes those that are new.
    pub(super) fn want(
        &mut self,
        now: Instant,
        planned: &Planned,
        mut begin: impl FnMut(&LeaseName, &ElectionWant) -> LeaseElection,
    ) {
        let mut seats = Walk::new(&self.seats);
        let is_news = |(lease, want): &(&LeaseName, &ElectionWant)| {
            seats.find(lease).is_none_or(|seat| !seat.election.is_wanted(want))
        };
        let news: Vec<_> = planned.iter().filter(is_news).collect();
        for (lease, want) in news {
            let seat = match self.seats.entry(lease.clone()) {
                Entry::Vacant(vacant) => vacant.insert(Seat::new(begin(lease, want))),
                Entry::Occupied(occupied) => {
                    let seat = occupied.into_mut();
                    seat.election.want(now, want.clone());
                    seat
                }
            };
            seat.file(lease, &mut self.queues);
            self.stirred.insert(lease.clone());
        }
    }

    /// Whether there is one that is not planned.
    pub(super) fn has_other(&self, planned: &Planned) -> bool {
        let mut planned = Walk::new(planned);
        self.seats.keys().any(|lease| planned.find(lease).is_none())
    }

    /// Those that are not planned leave, and are forgotten when they have left and wait for no answer: it would reach the
    /// one that is made when the Lease is wanted again, beside the question of that one.
    pub(super) fn leave_others(
        &mut self,
        now: Instant,
        planned: &Planned,
        (footprint, at): (Footprint, &Version),
    ) {
        let (queues, stirred, claimed) = (&mut self.queues, &mut self.stirred, &mut self.claimed);
        self.seats.retain(|lease, seat| {
            if planned.contains_key(lease) {
                return true;
            }
            seat.election.leave(now, footprint, at);
            seat.file(lease, queues);
            stirred.insert(lease.clone());
            let has_left = seat.election.is_finished() && !seat.election.is_asking();
            if has_left {
                claimed.remove(lease);
                queues.forget(lease, seat.due);
            }
            !has_left
        });
    }

    /// Something happened to one of them.
    pub(super) fn handle(&mut self, now: Instant, lease: &LeaseName, input: LeaseInput) {
        let Some(seat) = self.seats.get_mut(lease) else { return };
        if matches!(input, LeaseInput::Answer(_)) {
            seat.question = None;
        }
        seat.election.handle(now, input);
        match seat.election.claim_of() {
            Some(session) => {
                seat.election.claim_is_free(self.owners.free_at(session));
                self.claimed.insert(lease.clone());
            }
            None => {
                self.claimed.remove(lease);
            }
        }
        seat.file(lease, &mut self.queues);
        self.stirred.insert(lease.clone());
    }

    /// Whether one of them is a claim of the mode `session`: then the sessions are watched.
    pub(super) fn have_claims(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// The sessions in the store, as a whole.
    pub(super) fn saw_sessions(&mut self, now: Instant, sessions: &Sessions) {
        self.owners.saw(now, sessions);
        for lease in &self.claimed {
            let Some(seat) = self.seats.get_mut(lease) else { continue };
            let free_at = seat.election.claim_of().and_then(|session| self.owners.free_at(session));
            seat.election.claim_is_free(free_at);
            seat.file(lease, &mut self.queues);
        }
    }

    /// Lets those that are due act on the time.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<(LeaseName, LeaseQuestion)> {
        let due = self.queues.due.iter().take_while(|(at, _)| *at <= now).map(|(_, lease)| lease.clone());
        let due: Vec<_> = due.collect();
        let mut asked = Vec::new();
        for lease in due {
            self.poll_one(now, lease, &mut asked);
        }
        while self.queues.have_room()
            && let Some(lease) = self.held_back.pop_first()
        {
            self.poll_one(now, lease, &mut asked);
        }
        asked
    }

    fn poll_one(&mut self, now: Instant, lease: LeaseName, asked: &mut Vec<(LeaseName, LeaseQuestion)>) {
        let Some(seat) = self.seats.get_mut(&lease) else { return };
        seat.election.has_acted(self.acted);
        seat.election.allow(Ventures::Allowed);
        if !self.queues.have_room() && seat.election.would_venture(now) {
            seat.election.allow(Ventures::HeldBack);
            self.held_back.insert(lease.clone());
        }
        while let Some(question) = seat.election.poll(now) {
            asked.push((lease.clone(), question));
        }
        seat.file(&lease, &mut self.queues);
        self.stirred.insert(lease);
    }

    /// Whether the store gives no answer about a Lease.
    pub(super) fn is_in_trouble(&self, lease: &LeaseName) -> bool {
        self.get(lease).is_some_and(|election| election.state().trouble.is_some())
    }

    /// How far this node has acted on the Services: the next renewal of each Lease says so.
    pub(super) const fn have_acted(&mut self, at: Option<Revision>) {
        self.acted = at;
    }

    /// Remembers the question that an election waits for. Gives back the one that it waited for until now.
    pub(super) fn asks(&mut self, lease: &LeaseName, id: QuestionId) -> Option<QuestionId> {
        self.seats.get_mut(lease).and_then(|seat| seat.question.replace(id))
    }
}

impl Seat {
    const fn new(election: LeaseElection) -> Self {
        Self { election, due: None, question: None }
    }

    /// Puts the election where it belongs.
    fn file(&mut self, lease: &LeaseName, queues: &mut Queues) {
        if self.election.is_venturing() {
            queues.venturing.insert(lease.clone());
        } else {
            queues.venturing.remove(lease);
        }
        let deadline = self.election.deadline();
        if deadline == self.due {
            return;
        }
        if let Some(at) = self.due {
            queues.due.remove(&(at, lease.clone()));
        }
        self.due = deadline;
        if let Some(at) = deadline {
            queues.due.insert((at, lease.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
