//! Questions and their answers: each is answered exactly once, by its timeout. Questions about Leases have a lane of
//! their own, those about sessions another, all others a third. Sessions and renewals never wait; of the rest a limited
//! number is in flight ([`crate::slots`]).

mod event;
mod lease;
mod service;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use vip_model::session::Via;
use vip_model::store::{Answer, Ask, Failure, FailureClass, Purpose, Question};

use crate::call::{Call, Reply, Take};
use crate::event::ClusterEvent;
use crate::gateway::{Gateway, Problem, Way};
use crate::lane::Patience;
use crate::ledger::Ledger;

/// Before the end the call itself gives up, so that the failure can name the servers that were silent.
const MARGIN: Duration = Duration::from_millis(5);

/// Answers `question`.
pub(crate) async fn answer(gateway: Arc<Gateway>, question: Question) {
    let Question { id, timeout: patience, ask } = question;
    let deadline = Instant::now() + patience.saturating_sub(MARGIN);
    let answer = timeout(patience, reply(&gateway, deadline, &ask)).await.unwrap_or_else(|_| {
        let text = format!("no answer in {} ms", patience.as_millis());
        Answer::Failed(Failure { class: FailureClass::Timeout, text })
    });
    gateway.tell(ClusterEvent::Answer(id, answer));
}

async fn reply(gateway: &Gateway, deadline: Instant, ask: &Ask) -> Answer {
    let of_leases = Asking { gateway, way: Way::Lane(&gateway.leases), ledger: &gateway.ledger, deadline };
    let of_sessions =
        Asking { way: Way::Lane(&gateway.sessions), ledger: &gateway.session_ledger, ..of_leases };
    let of_others = Asking { way: Way::Lane(&gateway.writes), ..of_leases };
    let answer = match ask {
        Ask::WriteLease(write) if write.purpose == Purpose::Renew => of_leases.write_lease(write).await,
        Ask::ReadLease(lease) => {
            let _right = gateway.slots.lease().await;
            of_leases.read_lease(lease).await
        }
        Ask::WriteLease(write) => {
            let _right = gateway.slots.lease().await;
            of_leases.write_lease(write).await
        }
        Ask::ReadSession(lease) => of_sessions.read_session(lease).await,
        Ask::WriteSession(write) => match write.via {
            Via::Any => of_sessions.write_session(write).await,
            Via::Elsewhere => Asking { way: Way::Elsewhere, ..of_sessions }.write_session(write).await,
        },
        _ => {
            let _right = gateway.slots.other(matches!(ask, Ask::PostEvent(_))).await;
            of_others.reply(ask).await
        }
    };
    answer.unwrap_or_else(Answer::Failed)
}

/// A question that is being answered.
#[derive(Clone, Copy)]
struct Asking<'a> {
    gateway: &'a Gateway,
    way: Way<'a>,
    ledger: &'a Ledger,
    deadline: Instant,
}

impl Asking<'_> {
    /// Answers a question that is about no Lease.
    async fn reply(&self, ask: &Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::ReadLease(_) | Ask::WriteLease(_) | Ask::ReadSession(_) | Ask::WriteSession(_) => {
                unreachable!("answered on a lane of Leases")
            }
            Ask::LabelNode { node, labels } => {
                let body = json!({"metadata": {"labels": labels}});
                let call = Call {
                    verb: "patch",
                    resource: "nodes",
                    object: node.to_string(),
                    path: format!("/api/v1/nodes/{node}"),
                    body: Some((text_of(&body), "application/merge-patch+json")),
                };
                self.call(&call).await.map(|_| Answer::Done).map_err(Problem::into_failure)
            }
            Ask::WriteService(write) => self.write_service(write).await,
            Ask::WriteServiceStatus(write) => self.write_service_status(write).await,
            Ask::PostEvent(post) => self.post_event(post).await,
        }
    }

    async fn call(&self, call: &Call) -> Result<Reply, Problem> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.gateway.call(self.way, call, Take::Whole, Patience::of(left)).await
    }
}

fn text_of(object: &Value) -> Bytes {
    Bytes::from(object.to_string())
}
