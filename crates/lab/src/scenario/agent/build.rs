//! Which build of `kube-vip` the lab runs when nobody names one: of all that cargo has left in its target folders the
//! newest, and only while no source is newer than that. A stale build that wins by its place passes and fails for code
//! that is not there any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail};

/// Where cargo leaves a build, below a target folder.
const PROFILES: [&str; 3] = ["release", "x86_64-unknown-linux-gnu/release", "debug"];
const BUILD: &str = "build one with `cargo build --release -p kube-vip`, or name one with KUBE_VIP_BIN";

/// The build to run, of those below these target folders.
pub(super) fn find(folders: impl IntoIterator<Item = PathBuf>) -> Result<PathBuf> {
    let places = folders.into_iter().flat_map(|folder| PROFILES.map(|profile| folder.join(profile)));
    let dated = places.filter_map(|place| {
        let build = place.join("kube-vip").canonicalize().ok()?;
        Some((written(&build)?, build))
    });
    let Some((at, build)) = dated.max_by(|(one, _), (other, _)| one.cmp(other)) else {
        bail!("there is no kube-vip binary: {BUILD}");
    };
    if let Some(source) = newer_source(&build, at) {
        bail!("{} is older than its source {}: {BUILD}", build.display(), source.display());
    }
    Ok(build)
}

/// A source that was written after the build, of those that cargo noted beside it (`kube-vip.d`, as for make).
fn newer_source(build: &Path, at: SystemTime) -> Option<PathBuf> {
    let rule = fs::read_to_string(build.with_extension("d")).ok()?;
    let (_, sources) = rule.split_once(": ")?;
    let mut sources = sources.split_whitespace().map(PathBuf::from);
    sources.find(|source| written(source).is_some_and(|later| later > at))
}

fn written(file: &Path) -> Option<SystemTime> {
    file.metadata().ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Writes a file of this age in seconds.
    fn write(file: &Path, text: &str, age: u64) {
        fs::create_dir_all(file.parent().expect("it has a folder")).expect("a folder");
        fs::write(file, text).expect("a file");
        let at = SystemTime::now() - Duration::from_secs(age);
        fs::File::options().write(true).open(file).and_then(|file| file.set_modified(at)).expect("its age");
    }

    #[test]
    fn the_newest_build_is_run_wherever_it_is() {
        let target = tempfile::tempdir().expect("a folder");
        for [old, new] in [[0, 1], [1, 0], [0, 2], [2, 1]] {
            let build = |at: usize| target.path().join(PROFILES[at]).join("kube-vip");
            write(&build(old), "", 60);
            write(&build(new), "", 30);
            let found = find([target.path().join("nowhere"), target.path().to_owned()]).expect("a build");
            assert_eq!(found, build(new).canonicalize().expect("it is there"));
            fs::remove_file(build(old)).expect("it goes");
            fs::remove_file(build(new)).expect("it goes");
        }
        let text = find([target.path().to_owned()]).expect_err("there is none").to_string();
        assert!(text.contains("there is no kube-vip binary"), "{text}");
    }

    #[test]
    fn a_build_that_is_older_than_its_source_is_refused() {
        let target = tempfile::tempdir().expect("a folder");
        let (build, source) = (target.path().join("debug/kube-vip"), target.path().join("main.rs"));
        write(&build, "", 30);
        let rule = format!(
            "{}: {} {}\n",
            build.display(),
            target.path().join("gone.rs").display(),
            source.display()
        );
        write(&target.path().join("debug/kube-vip.d"), &rule, 30);
        write(&source, "", 40);
        assert!(find([target.path().to_owned()]).is_ok());
        write(&source, "", 20);
        let text = find([target.path().to_owned()]).expect_err("it is stale").to_string();
        assert!(text.contains("is older than its source") && text.contains("main.rs"), "{text}");
    }
}
