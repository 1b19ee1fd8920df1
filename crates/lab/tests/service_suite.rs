//! Upstream's Service suite by its ids, pods that move a hundred times and rolling updates, with the real binary over the
//! lab's API server; clients' requests reach pods. Each raises a bench of its own; without the rights for it, it says
//! SKIPPED by name.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "services/suite.rs"]
mod suite;

use rig::play;
use suite::{fault, moving};

/// A test per scenario.
macro_rules! scenarios {
    ($($name:ident = $scenario:expr;)+) => {
        $(#[test]
        fn $name() {
            play(stringify!($name), $scenario);
        })+
    };
}

scenarios! {
    s_1_a_service_with_a_deployment_is_reachable = suite::s_1_simple;
    s_2_four_services_lead_to_their_own_pods = suite::s_2_several;
    s_3_the_address_follows_a_killed_pod_under_policy_local = suite::s_3_failover;
    s_4_each_address_is_on_a_node_with_its_pod = suite::s_4_spread;
    s_5_a_dual_stack_service_works_in_both_families = suite::s_5_dual_stack;
    s_9_endpoints_flap_five_times = fault::s_9_flapping;
    s_10_the_endpoint_slice_is_deleted = fault::s_10_slice_deleted;
    s_11_the_lease_is_deleted_and_its_holder_cleared = fault::s_11_lease_deleted;
    s_12_the_leader_is_cut_from_the_api_for_20_s = fault::s_12_leader_cut;
    s_13_the_policy_is_flipped = fault::s_13_policy_flipped;
    s_14_a_storm_of_fifteen_annotation_updates = fault::s_14_storm;
    s_15_a_sibling_of_a_common_lease_is_deleted = fault::s_15_sibling_deleted;
    s_16_a_follower_is_partitioned_for_25_s = fault::s_16_follower_partitioned;
    a_pod_moves_a_hundred_times_under_policy_local = |rig| moving::pod_moves(rig, 100);
    a_rolling_update_under_policy_cluster = moving::rolling_update_cluster;
    a_rolling_update_under_policy_local = moving::rolling_update_local;
}
