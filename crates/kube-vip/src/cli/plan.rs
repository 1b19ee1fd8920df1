//! `kube-vip plan`: what an agent with these settings would do in the world of a dump. Nothing is touched.
//!
//! The dump is YAML with the parts of the plan's world, each as the agent itself sees it; what is left out is unknown
//! or empty: `kernel` (links, addresses, default routes), `members` (elections), `observed` (health gate, probes),
//! `snapshot` (Nodes).

use anyhow::Context;
use clap::ArgMatches;
use serde::Deserialize;
use vip_model::Known;
use vip_model::kernel::{Actual, Lifetime};
use vip_model::members::Members;
use vip_model::observed::Observed;
use vip_model::store::Snapshot;
use vip_plan::{KernelWork, Life, World};

use crate::settings::{self, Machine, Sources, key, table};

/// The dump, for people who write one.
pub(super) const DUMP: &str = "The dump has these parts; what is left out is unknown or empty:
  kernel     links, addresses and default routes of this node
  members    elections: by namespace/name of the Lease, this node's role
  observed   the health gate and the conflict probes
  snapshot   the Nodes of the cluster
Points in time are nanoseconds since the machine started.";

/// The world at one moment.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Dump {
    kernel: Option<Actual>,
    members: Members,
    observed: Observed,
    snapshot: Snapshot,
}

/// Runs the command.
pub(super) fn run(matches: &ArgMatches, mut sources: Sources) -> anyhow::Result<()> {
    if let Some(path) = matches.get_one::<String>("config") {
        sources.flags.insert(table::setting(key::CONFIG_FILE).flag, path.clone());
        sources.environment.remove(key::CONFIG_FILE);
    }
    let effective = settings::load(&sources, &Machine::read())?;
    super::warn(&effective.warnings);
    let path = matches.get_one::<String>("cluster").expect("the argument is required");
    let text = std::fs::read_to_string(path).with_context(|| format!("reading the dump {path}"))?;
    let dump: Dump = serde_saphyr::from_str(&text)
        .map_err(|error| {
            anyhow::anyhow!("{}", error.to_string().lines().next().unwrap_or_default().to_owned())
        })
        .with_context(|| format!("the dump {path} is not understood"))?;
    let plan = plan(&effective, dump);
    super::print(&serde_saphyr::to_string(&plan)?);
    Ok(())
}

/// The plan of a running agent that waits for nothing.
fn plan(effective: &settings::Effective, dump: Dump) -> vip_model::plan::NodePlan {
    let actual = dump.kernel.map_or(Known::Unknown, Known::Known);
    vip_plan::plan(&World {
        config: &effective.config,
        life: Life::Running,
        snapshot: &dump.snapshot,
        members: &dump.members,
        observed: &dump.observed,
        actual: &actual,
        kernel_work: KernelWork::Settled,
        former: None,
        adopt_until: Lifetime::Forever,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worlds_of_the_plans_golden_files_are_dumps() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../plan/tests");
        let cases = std::fs::read_dir(folder).expect("the plan's tests are beside us");
        let mut count = 0;
        for world in cases.map(|case| case.expect("a readable folder").path().join("world.yaml")) {
            let Ok(text) = std::fs::read_to_string(&world) else { continue };
            let dump: Dump =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", world.display()));
            assert!(dump.kernel.is_some(), "{}", world.display());
            count += 1;
        }
        assert!(count >= 9, "{count} worlds in {folder}");
    }
}
