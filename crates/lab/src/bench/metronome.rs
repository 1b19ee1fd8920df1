//! Watches the machine itself: one thread per processor, pinned to it, wakes every 5 ms and notes when it was late. A
//! virtual machine whose processor is taken away for a second stops agents, API servers and instruments alike; what is
//! measured meanwhile says nothing about the VIP. `play` asks it after each run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::{Error, Result, Span, Stamp, echo, sys};

/// Time between two beats.
const BEAT: Duration = Duration::from_millis(5);
/// A beat that is later than this is noted.
const NOTED: Duration = Duration::from_millis(20);

/// A running watch over all processors that this process may use.
#[derive(Debug)]
pub struct Metronome {
    late: Arc<Mutex<Vec<Span>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Metronome {
    /// Starts one thread per processor.
    pub fn start() -> Result<Self> {
        let (late, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(Error::system("asking for processors"))?;
        let mut metronome = Self { late, stop, threads: Vec::new() };
        for cpu in (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)) {
            let (late, stop) = (Arc::clone(&metronome.late), Arc::clone(&metronome.stop));
            let thread = thread::Builder::new()
                .name(format!("metronome {cpu}"))
                .spawn(move || beat(cpu, &late, &stop))
                .map_err(Error::system("starting a metronome"))?;
            metronome.threads.push(thread);
        }
        Ok(metronome)
    }

    /// The longest time inside `window` in which a processor did not run its metronome; zero if none was noted.
    pub fn longest_stall(&self, window: Span) -> Duration {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let overlapping = late.iter().filter(|span| span.from <= window.until && window.from <= span.until);
        overlapping.map(|span| span.length()).max().unwrap_or_default()
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn beat(cpu: usize, late: &Mutex<Vec<Span>>, stop: &AtomicBool) {
    let mut only = CpuSet::new();
    // Without the pin it still watches some processor.
    let _ = only.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    let _ = sys::real_time(echo::PRIORITY); // refused in a user namespace; the lab says so once
    while !stop.load(Ordering::Relaxed) {
        let due = Stamp::now().after(BEAT);
        thread::sleep(BEAT);
        let now = Stamp::now();
        if now.since(due) > NOTED {
            late.lock().unwrap_or_else(PoisonError::into_inner).push(Span::new(due, now));
        }
    }
}
