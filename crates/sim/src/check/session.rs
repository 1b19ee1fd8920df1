//! The rules of the mode `session`, where they are others than those of the mode `lease`: one file each.

mod api_budget;
mod drills;
mod handed_over;
mod liveness;
mod one_owner;
mod quiet;
mod reasons;
mod replays;

pub(super) use api_budget::ApiBudget;
pub(super) use drills::Drills;
pub(super) use handed_over::HandedOver;
pub(super) use liveness::Liveness;
pub(super) use one_owner::OneOwner;
pub(super) use quiet::Quiet;
pub(super) use reasons::Reasons;
pub(super) use replays::Replays;
