//! The folders of logs: one per run of the lab, in `lab-runs` beside the profile folders of the build. They are the only
//! thing that a lab leaves; the oldest go when there are many.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::boot;

/// How many folders of former runs stay.
const KEPT: usize = 12;

/// Makes the folder of this run, named after its kind and the launcher's process id.
pub fn make(kind: &str) -> Result<PathBuf> {
    let named = std::env::var_os("LAB_RUNS").map(PathBuf::from);
    let beside = || boot::exe().parent().and_then(Path::parent).map(|build| build.join("lab-runs"));
    // A build folder of somebody else: the folder for temporary files must do.
    let fallback = std::env::temp_dir().join("kube-vip-lab-runs");
    let parents = named.or_else(beside).into_iter().chain([fallback]);
    let seconds = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let name = format!("{seconds}-{kind}-{}", boot::launcher());
    let mut refused = None;
    for parent in parents {
        let folder = parent.join(&name);
        match fs::create_dir_all(&folder) {
            Ok(()) => {
                drop_oldest(&parent);
                return Ok(folder);
            }
            Err(cause) => refused = Some((folder, cause)),
        }
    }
    let (folder, cause) = refused.context("a folder for logs")?;
    Err(cause).with_context(|| format!("making the folder for logs {}", folder.display()))
}

/// Names begin with the time, so the smallest are the oldest.
fn drop_oldest(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let surplus = folders.len().saturating_sub(KEPT);
    for folder in &folders[..surplus] {
        // Somebody may look into it; it goes next time.
        let _ = fs::remove_dir_all(folder);
    }
}
