//! `kube-vip manager`: the program around the node. It starts the threads, carries what the node says into the world
//! and what the world says back, and ends when the node is done.
//!
//! ```text
//!   main thread      drive(): inbox and heartbeats → node → outputs; never waits for anything but its alarm and its door
//!   io thread        one tokio runtime: signals, http, status socket, cluster gateway, errands
//!   netlink, frames  the kernel gateway's own threads
//! ```

pub(crate) mod alarm;
pub(crate) mod inbox;
mod memory;
pub(crate) mod peers;
pub(crate) mod pulse;
mod session;
mod signal;
mod turn;
mod world;

use std::collections::BTreeSet;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::runtime::{Builder, Handle};
use vip_agent::Agent;

use crate::board::{Board, boot_now};
use crate::http::{self, Listener, Pages};
use crate::log;
use crate::settings::{Effective, Listen, Weight};
use crate::status::socket::{self, StatusSocket};
use crate::version::VERSION;

use self::inbox::Inbox;
use self::signal::Signals;
use self::turn::Ended;
use self::world::World;
pub(crate) use self::world::kubernetes_service;

/// Threads for what blocks inside the runtime: name look-ups. Each costs memory, and each look-up has a time limit.
const BLOCKING_THREADS: usize = 4;

/// Time between two attempts to open the status socket, after a first one that failed.
const SOCKET_AGAIN: Duration = Duration::from_secs(30);

/// Runs the agent until it is stopped.
pub(crate) fn manager(effective: Effective) -> anyhow::Result<()> {
    log::start(effective.log).context("starting the thread for the log")?;
    end_on_panic();
    let outcome = run(effective);
    log::flush();
    outcome
}

fn run(effective: Effective) -> anyhow::Result<()> {
    greet(&effective);
    let missing = vip_kernel::missing_capabilities();
    if !missing.is_empty() {
        bail!(
            "the process lacks {}: add them to securityContext.capabilities.add of the container, or run as root",
            missing.join(" and ")
        );
    }
    let inbox = Inbox::new().context("opening the timer and the wake-up of the loop")?;
    let board = Arc::new(Board::new(Arc::new(inbox)));
    let effective = Arc::new(effective);
    let status_path = Arc::new(OnceLock::new());
    let io = start_io(&effective, &board, &status_path)?;

    let _context = io.enter();
    let mut world = World::open(&effective, &board, &io)?;
    let agent = Agent::new(boot_now(), seed(), effective.config.clone());
    let ended = turn::drive(agent, &board, &mut world).context("the loop's timer failed")?;
    if ended == Ended::GaveUp {
        tracing::warn!("not everything could be let go in time: lifetimes end what is left");
    }
    if let Some(path) = status_path.get() {
        // What stays behind is replaced at the next start.
        let _ = std::fs::remove_file(path);
    }
    world.flush();
    // The end of the process closes everything; waiting for threads here could only keep it from ending.
    std::mem::forget(world);
    Ok(())
}

/// One line of who we are, and one for each thing that the user should know of the settings.
fn greet(effective: &Effective) {
    let config = &effective.config;
    tracing::info!(
        version = VERSION.number,
        build = VERSION.build,
        node = %config.node,
        instance = %config.instance,
        "starting kube-vip"
    );
    for warning in &effective.warnings {
        match warning.weight {
            Weight::Notice => tracing::info!(setting = warning.key, "{}", warning.text),
            Weight::Warning => tracing::warn!(setting = warning.key, "{}", warning.text),
        }
    }
}

/// A thread that died would leave a process that looks alive. Lifetimes fence, the supervisor restarts.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(thread = thread.name().unwrap_or("?"), %panic, "a defect ends the process");
        log::flush();
        std::process::abort();
    }));
}

/// Feeds the jitter of the elections: two nodes that start together must not stay in step.
fn seed() -> u64 {
    RandomState::new().hash_one(boot_now().as_nanos())
}

/// Starts the io thread with everything that has no need of the node.
fn start_io(
    effective: &Arc<Effective>,
    board: &Arc<Board>,
    status_path: &Arc<OnceLock<PathBuf>>,
) -> anyhow::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("starting the runtime for sockets")?;
    let handle = runtime.handle().clone();
    let context = handle.enter();
    let signals = Signals::listen().context("listening to signals")?;
    handle.spawn(signals.obey(Arc::clone(board), Arc::clone(effective)));
    for listener in listeners(effective) {
        handle.spawn(http::serve(listener, Arc::clone(board)));
    }
    let instance = effective.config.instance.as_str().to_owned();
    handle.spawn(keep_status_socket(instance, Arc::clone(board), Arc::clone(status_path)));
    drop(context);
    std::thread::Builder::new()
        .name("io".to_owned())
        .spawn(move || runtime.block_on(pending::<()>()))
        .context("starting the thread for sockets")?;
    Ok(handle)
}

/// The http listeners that the settings ask for. One that both settings name is opened once, with all pages.
fn listeners(effective: &Effective) -> Vec<Listener> {
    let all = effective.prometheus_server.map(|listen| Listener {
        setting: "prometheus_server",
        listen,
        pages: Pages::All,
    });
    let health = effective.health_check_port.map(|port| Listener {
        setting: "health_check_port",
        listen: Listen::AnyAddress { port },
        pages: Pages::Health,
    });
    let taken: BTreeSet<u16> = all
        .iter()
        .filter_map(|listener| match listener.listen {
            Listen::AnyAddress { port } => Some(port),
            Listen::At(_) => None,
        })
        .collect();
    let health = health.filter(|_| !effective.health_check_port.is_some_and(|port| taken.contains(&port)));
    all.into_iter().chain(health).collect()
}

/// Opens the status socket, when it can be had, and answers on it.
async fn keep_status_socket(instance: String, board: Arc<Board>, path: Arc<OnceLock<PathBuf>>) {
    let mut complained = false;
    let socket = loop {
        match StatusSocket::open(&socket::folders(), &instance) {
            Ok(socket) => break socket,
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(%error, "no status socket: `kube-vip status` will not find this agent");
            }
            Err(_) => {}
        }
        tokio::time::sleep(SOCKET_AGAIN).await;
    };
    // Set once: this task opens one socket in its life.
    let _ = path.set(socket.path().to_owned());
    if let Err(error) = socket.serve(board).await {
        tracing::warn!(%error, "the status socket failed");
    }
}

#[cfg(test)]
mod tests;
