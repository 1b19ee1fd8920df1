//! Rest: a machine that has just found nothing to do is not asked again before something happens or its deadline comes.
//! Kept by whoever polls; a wrong `Until` would be a machine that sleeps too long.

use vip_model::Instant;

/// Whether a machine has anything to do before something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// It may have.
    #[default]
    No,
    /// Nothing until then; nothing at all, if that is none.
    Until(Option<Instant>),
}

impl Rest {
    /// Whether nothing is to be done at this moment.
    pub fn lasts(self, now: Instant) -> bool {
        match self {
            Self::No => false,
            Self::Until(due) => due.is_none_or(|due| now < due),
        }
    }
}
