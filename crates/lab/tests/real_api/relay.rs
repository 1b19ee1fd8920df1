//! A relay before the real API server: agents connect to it, it connects to the server, and passes on what both say. Fed
//! with what the path between them is like now; the server and its administrator notice nothing of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use vip_lab::bench::{Error, Place};

/// More than a request of an agent.
const PIECE: usize = 64 * 1024;

/// What the path is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Everything passes.
    Open,
    /// What agents say takes so much longer.
    Slow(Duration),
    /// Connections are made, and nothing passes until it is open again.
    Held,
    /// All connections are reset, and none is made.
    Refused,
}

/// A running relay.
pub(crate) struct Relay(watch::Sender<Path>);

impl Relay {
    /// Listens at `from`, which is in this place, and connects to `to`.
    pub(crate) fn start(place: &Place, from: SocketAddr, to: SocketAddr) -> Result<Self> {
        let (sender, path) = watch::channel(Path::Open);
        let place = place.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            place.move_in()?;
            runtime.block_on(run(from, to, path)).map_err(Error::system("relaying to the API server"))
        };
        let say = move || {
            if let Err(why) = run() {
                eprintln!("lab: the relay has ended: {why:?}");
            }
        };
        std::thread::Builder::new().name("relay".to_owned()).spawn(say).context("starting the relay")?;
        Ok(Self(sender))
    }

    /// Changes the path.
    pub(crate) fn set(&self, path: Path) {
        self.0.send_replace(path);
    }
}

/// Until the relay is dropped.
async fn run(from: SocketAddr, to: SocketAddr, mut path: watch::Receiver<Path>) -> std::io::Result<()> {
    while path.wait_for(|path| *path != Path::Refused).await.is_ok() {
        let listener = TcpListener::bind(from).await?;
        // Dropped with all connections, which resets them.
        let (mut connections, mut until) = (JoinSet::new(), path.clone());
        loop {
            tokio::select! {
                refused = until.wait_for(|path| *path == Path::Refused) => match refused {
                    Ok(_) => break,
                    Err(_) => return Ok(()),
                },
                accepted = listener.accept() => drop(connections.spawn(carry(accepted?.0, to, path.clone()))),
                Some(_) = connections.join_next() => {}
            }
        }
    }
    Ok(())
}

/// One connection, until one side ends it. An error is the end of it, too: each side sees it as its own.
async fn carry(agent: TcpStream, to: SocketAddr, mut path: watch::Receiver<Path>) -> std::io::Result<()> {
    if path.wait_for(|path| *path != Path::Held).await.is_err() {
        return Ok(());
    }
    let server = TcpStream::connect(to).await?;
    for stream in [&agent, &server] {
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
    }
    let ((said, answers), (answered, asks)) = (agent.into_split(), server.into_split());
    tokio::select! {
        ended = pass(said, asks, path.clone(), Way::Asking) => ended,
        ended = pass(answered, answers, path, Way::Answering) => ended,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Asking,
    Answering,
}

/// What was read, and when it may pass.
type Due = (Instant, Vec<u8>);

/// One direction of a connection, until it ends.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    path: watch::Receiver<Path>,
    way: Way,
) -> std::io::Result<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::try_join!(take(from, sender, path.clone(), way), give(to, receiver, path)).map(drop)
}

/// Each piece has its own time on the way: those that come together go together.
async fn take(
    mut from: OwnedReadHalf,
    to: mpsc::UnboundedSender<Due>,
    path: watch::Receiver<Path>,
    way: Way,
) -> std::io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let size = from.read(&mut piece).await?;
        piece.truncate(size);
        let now = *path.borrow();
        let late = if let (Path::Slow(time), Way::Asking) = (now, way) { time } else { Duration::ZERO };
        if size == 0 || to.send((Instant::now() + late, piece)).is_err() {
            return Ok(());
        }
    }
}

async fn give(
    mut to: OwnedWriteHalf,
    mut from: mpsc::UnboundedReceiver<Due>,
    mut path: watch::Receiver<Path>,
) -> std::io::Result<()> {
    while let Some((due, piece)) = from.recv().await {
        tokio::time::sleep_until(due).await;
        if path.wait_for(|path| *path != Path::Held).await.is_err() {
            return Ok(());
        }
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}
