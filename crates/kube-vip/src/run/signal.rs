//! Signals: SIGTERM and SIGINT stop the node in good order, a second one ends the process at once, SIGUSR1 writes
//! the dump. SIGHUP does nothing: configuration is read at start, and a closed terminal must not take a VIP along.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use vip_agent::Input;

use crate::board::{Board, boot_now};
use crate::settings::Effective;
use crate::{dump, log};

/// Exit code of a process that was told to stop twice, as a shell reports one that Ctrl-C ended.
const IMPATIENT: i32 = 130;

/// The signals that the process listens to. Made before the node starts, so that none is lost.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    dump: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on. Needs a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            dump: signal(SignalKind::user_defined1())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Obeys for ever.
    pub(crate) async fn obey(mut self, board: Arc<Board>, effective: Arc<Effective>) {
        let mut stopping = false;
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.dump.recv() => {
                    write_dump(&board, &effective);
                    continue;
                }
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP changes nothing: restart to read the configuration again");
                    continue;
                }
            };
            if stopping {
                tracing::warn!(signal = name, "told to stop a second time: ending at once");
                log::flush();
                std::process::exit(IMPATIENT);
            }
            stopping = true;
            tracing::info!(signal = name, "told to stop");
            board.inbox.post(Input::Stop);
        }
    }
}

/// Writes the dump from a thread of its own: whoever reads standard output may be slow.
fn write_dump(board: &Arc<Board>, effective: &Arc<Effective>) {
    let text = dump::render(effective, &board.view(), boot_now());
    let spawned = std::thread::Builder::new().name("dump".to_owned()).spawn(move || {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for the dump");
    }
}
