//! Where the lab writes to: standard output, and the same lines into `timeline.log` of the run's folder. Standard output
//! may go away (a lab that stays up after its terminal closed); that is no error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use crate::bench::Stamp;

/// The screen of one lab.
#[derive(Debug, Default)]
pub struct Screen {
    copy: Option<Mutex<File>>,
}

impl Screen {
    /// A screen that keeps a copy of its lines in `folder`.
    pub fn with_copy(folder: &Path) -> Self {
        let opened = OpenOptions::new().create(true).append(true).open(folder.join("timeline.log"));
        Self { copy: opened.ok().map(Mutex::new) }
    }

    /// One line.
    pub fn say(&self, line: &str) {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
        if let Some(mut file) = self.copy.as_ref().and_then(|file| file.lock().ok()) {
            let _ = writeln!(file, "{line}");
        }
    }

    /// One line of a timeline that began at `begin`.
    pub fn at(&self, begin: Stamp, moment: Stamp, line: &str) {
        let seconds = moment.since(begin).as_secs_f64();
        self.say(&format!("  {seconds:8.3} s  {line}"));
    }
}
