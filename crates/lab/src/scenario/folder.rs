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
    let parent = match std::env::var_os("LAB_RUNS") {
        Some(named) => PathBuf::from(named),
        None => boot::exe()
            .parent()
            .and_then(Path::parent)
            .map_or_else(std::env::temp_dir, Path::to_owned)
            .join("lab-runs"),
    };
    fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
    drop_oldest(&parent);
    let seconds = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let folder = parent.join(format!("{seconds}-{kind}-{}", boot::launcher()));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
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
