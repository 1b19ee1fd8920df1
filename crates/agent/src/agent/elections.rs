//! The elections of this node, and which of them have something to do: there can be one for each of thousands of
//! Services, and a turn must not look at all of them. Fed with the planned elections, with inputs for single ones and with
//! the time; gives back questions, and whose state may have changed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use vip_model::plan::{ElectionWant, Footprint};
use vip_model::{Instant, LeaseName, QuestionId, Walk};
use vip_proto::Machine;
use vip_proto::lease::{LeaseElection, LeaseInput, LeaseQuestion};

type Planned = BTreeMap<LeaseName, ElectionWant>;

/// All elections.
#[derive(Debug, Default)]
pub(super) struct Elections {
    seats: BTreeMap<LeaseName, Seat>,
    /// Those that have a deadline, the earliest first.
    due: BTreeSet<(Instant, LeaseName)>,
    /// Those that were touched since their states were last looked at.
    stirred: BTreeSet<LeaseName>,
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
        self.due.first().map(|(at, _)| *at)
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
            seat.file(lease, &mut self.due);
            self.stirred.insert(lease.clone());
        }
    }

    /// Whether there is one that is not planned.
    pub(super) fn has_other(&self, planned: &Planned) -> bool {
        let mut planned = Walk::new(planned);
        self.seats.keys().any(|lease| planned.find(lease).is_none())
    }

    /// Those that are not planned leave, and are forgotten when they have left.
    pub(super) fn leave_others(&mut self, now: Instant, planned: &Planned, footprint: Footprint) {
        let (due, stirred) = (&mut self.due, &mut self.stirred);
        self.seats.retain(|lease, seat| {
            if planned.contains_key(lease) {
                return true;
            }
            seat.election.leave(now, footprint);
            seat.file(lease, due);
            stirred.insert(lease.clone());
            let has_left = seat.election.is_finished();
            if has_left && let Some(at) = seat.due {
                due.remove(&(at, lease.clone()));
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
        seat.file(lease, &mut self.due);
        self.stirred.insert(lease.clone());
    }

    /// Lets those that are due act on the time.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<(LeaseName, LeaseQuestion)> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, lease)| lease.clone());
        let due: Vec<_> = due.collect();
        let mut asked = Vec::new();
        for lease in due {
            let Some(seat) = self.seats.get_mut(&lease) else { continue };
            while let Some(question) = seat.election.poll(now) {
                asked.push((lease.clone(), question));
            }
            seat.file(&lease, &mut self.due);
            self.stirred.insert(lease);
        }
        asked
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

    /// Puts the election where its deadline belongs.
    fn file(&mut self, lease: &LeaseName, due: &mut BTreeSet<(Instant, LeaseName)>) {
        let deadline = self.election.deadline();
        if deadline == self.due {
            return;
        }
        if let Some(at) = self.due {
            due.remove(&(at, lease.clone()));
        }
        self.due = deadline;
        if let Some(at) = deadline {
            due.insert((at, lease.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
