//! A call that proves that this node reaches others: it goes to API servers on other nodes only, each over a connection
//! made for it. Up to three are asked side by side, one a moment after the other, and the first answer counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, sleep_until};
use vip_model::store::Failure;

use crate::call::{Call, Reply, ReplyBody};
use crate::classify;
use crate::connection::{self, BoxError};
use crate::directory::{Access, Directory, Endpoint};
use crate::health::Outcome;
use crate::lane::{LARGEST, request};

/// How many servers are asked at the same time. A holder in doubt has little time, and of three members one is dead.
const MOST: usize = 3;
/// How long one is waited for before the next is asked too. A server that is well mostly answers sooner, so that most
/// writes reach one server only; three that are silent cost two of these.
const NEXT: Duration = Duration::from_millis(15);

/// Sends `call` and gives back the first answer that is worth something, or the failure that says most, within `whole`;
/// at once when no server on another node is known.
pub(crate) async fn send(directory: &Directory, call: &Call, whole: Duration) -> Result<Reply, Failure> {
    let started = Instant::now();
    let (access, servers) = directory.elsewhere(call)?;
    let way = OneCall { directory, call, access, sent: AtomicU32::new(0) };
    let names = servers.iter().map(|server| server.dial.to_string()).collect::<Vec<_>>().join(", ");
    let mut rest = servers.into_iter();
    let mut waiting = FuturesUnordered::new();
    let mut next_at = started;
    let mut worst: Option<Result<Reply, Failure>> = None;
    loop {
        if waiting.is_empty() && rest.len() == 0 {
            return worst.unwrap_or_else(|| Err(classify::timeout(call, &names, whole)));
        }
        tokio::select! {
            Some(result) = waiting.next() => {
                let result: Result<Reply, Failure> = result;
                match result {
                    Ok(reply) if !reply.status.is_server_error() => return Ok(reply),
                    // A server's own word says more than a broken connection.
                    result if result.is_ok() || !matches!(worst, Some(Ok(_))) => worst = Some(result),
                    _ => {}
                }
                next_at = Instant::now();
            }
            () = sleep_until(next_at), if waiting.len() < MOST && rest.len() > 0 => {
                waiting.extend(rest.next().map(|server| way.attempt(server)));
                next_at = Instant::now() + NEXT;
            }
            () = sleep_until(started + whole) => return Err(classify::timeout(call, &names, whole)),
        }
    }
}

struct OneCall<'a> {
    directory: &'a Directory,
    call: &'a Call,
    access: Arc<Access>,
    sent: AtomicU32,
}

impl OneCall<'_> {
    async fn attempt(&self, server: Arc<Endpoint>) -> Result<Reply, Failure> {
        let name = server.dial.to_string();
        let reply = self
            .exchange(&server)
            .await
            .map_err(|error| classify::transport_failure(self.call, &name, &*error))?;
        self.directory.note(&server.dial, Outcome::Answered);
        Ok(reply)
    }

    async fn exchange(&self, server: &Endpoint) -> Result<Reply, BoxError> {
        let mut sender = connection::open(server, &self.directory.settings().vips).await?;
        sender.ready().await?;
        let request = request(self.call, &self.access)?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = ReplyBody::Whole(Limited::new(response.into_body(), LARGEST).collect().await?.to_bytes());
        let (name, access) = (server.dial.to_string(), Arc::clone(&self.access));
        Ok(Reply { status, body, server: name, sent: self.sent.load(Ordering::Relaxed), access })
    }
}
