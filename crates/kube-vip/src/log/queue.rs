//! The way of a log line to standard error, without making anybody wait: a bounded queue and a thread that writes.
//!
//! Whoever reads our standard error can stall (a full disk under a container runtime is enough). A write would then
//! block, and if the loop did it, no lease would be renewed because nobody reads the log. Lines that find no place are
//! lost and counted, and the next line that gets through says how many.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait. Transitions come singly; this is minutes of the worst hour.
const LINES: usize = 512;

/// How long the end of the process waits for the last lines.
const FLUSH_WITHIN: Duration = Duration::from_millis(200);

/// The writing end.
#[derive(Clone)]
pub(super) struct Queue {
    lines: SyncSender<Vec<u8>>,
    tally: Arc<Tally>,
}

/// What the two ends share.
#[derive(Default)]
struct Tally {
    /// Lines that were queued and not yet written.
    waiting: AtomicUsize,
    /// Lines that found no place since the last one that did.
    lost: AtomicU64,
}

impl Queue {
    /// A queue of `room` lines and its reading end.
    fn new(room: usize) -> (Self, Outlet) {
        let (sender, receiver) = sync_channel(room);
        let tally = Arc::<Tally>::default();
        (Self { lines: sender, tally: Arc::clone(&tally) }, Outlet { lines: receiver, tally })
    }

    /// A queue that a thread of its own writes to standard error.
    pub(super) fn to_stderr() -> io::Result<Self> {
        let (queue, outlet) = Self::new(LINES);
        thread::Builder::new().name("log".to_owned()).spawn(move || outlet.drain(&mut io::stderr()))?;
        Ok(queue)
    }

    fn offer(&self, line: &[u8]) {
        self.tally.waiting.fetch_add(1, Ordering::AcqRel);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.tally.waiting.fetch_sub(1, Ordering::AcqRel);
            self.tally.lost.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Waits until everything is written, but not for long.
    pub(super) fn wait_written(&self) {
        const STEP: Duration = Duration::from_millis(1);
        let mut left = FLUSH_WITHIN;
        while self.tally.waiting.load(Ordering::Acquire) > 0 && !left.is_zero() {
            thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
    }
}

impl Write for Queue {
    /// Takes one line: an event is written in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.offer(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The reading end.
struct Outlet {
    lines: Receiver<Vec<u8>>,
    tally: Arc<Tally>,
}

impl Outlet {
    /// Writes lines to `out` until all writing ends are gone.
    fn drain(self, out: &mut dyn Write) {
        for line in self.lines {
            // A closed standard error loses the log, not the agent.
            let _ = out.write_all(&line);
            let lost = self.tally.lost.swap(0, Ordering::AcqRel);
            if lost > 0 {
                let _ = writeln!(out, "({lost} log lines were lost here: nobody read them in time)");
            }
            self.tally.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_nobody_reads_makes_nobody_wait_and_the_loss_is_told() {
        let (mut queue, outlet) = Queue::new(2);
        for n in 1..=5 {
            queue.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        drop(queue);
        let mut out = Vec::new();
        outlet.drain(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "line 1\n(3 log lines were lost here: nobody read them in time)\nline 2\n");
    }

    #[test]
    fn the_last_lines_are_written_before_the_end_but_not_at_any_price() {
        let (mut queue, outlet) = Queue::new(8);
        queue.write_all(b"last words\n").unwrap();
        let began = std::time::Instant::now();
        queue.wait_written();
        assert!(began.elapsed() >= FLUSH_WITHIN, "nobody writes: the wait ends by itself");
        let writer = thread::spawn(move || {
            let mut out = Vec::new();
            outlet.drain(&mut out);
            out
        });
        queue.wait_written();
        assert_eq!(queue.tally.waiting.load(Ordering::Acquire), 0);
        drop(queue);
        assert_eq!(writer.join().unwrap(), b"last words\n");
    }
}
