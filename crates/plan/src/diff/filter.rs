//! The packet filter: replaced whole when it is not as planned.

use vip_model::InstanceName;
use vip_model::kernel::{Change, FilterState};
use vip_model::plan::PacketFilter;

/// The change that makes the packet filter what the plan says, if one is needed: the plan differs from what this process
/// set last, or somebody touched it. A filter that was never wanted is never looked for.
pub fn filter(
    want: Option<&PacketFilter>,
    state: Option<&FilterState>,
    last: Option<&PacketFilter>,
    instance: &InstanceName,
) -> Option<Change> {
    let is_touched = want.is_some() && matches!(state, Some(FilterState::Absent | FilterState::Foreign));
    (want != last || is_touched)
        .then(|| Change::SetFilter { instance: instance.clone(), filter: want.cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_set_when_it_differs_or_was_touched_and_otherwise_left_alone() {
        let instance = InstanceName::new("services");
        let some = PacketFilter::default();
        let set = |want, state, last| filter(want, state, last, &instance).is_some();
        assert!(!set(None, None, None));
        assert!(set(Some(&some), None, None));
        assert!(!set(Some(&some), Some(&FilterState::AsSet), Some(&some)));
        assert!(set(Some(&some), Some(&FilterState::Absent), Some(&some)));
        assert!(set(Some(&some), Some(&FilterState::Foreign), Some(&some)));
        assert!(set(None, Some(&FilterState::AsSet), Some(&some)));
    }
}
