//! Questions and their answers: each is answered exactly once, by its timeout.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use vip_model::LeaseName;
use vip_model::store::{Answer, Ask, Expect, Failure, FailureClass, LeaseSeen, LeaseWrite, Question, Sight};

use crate::call::{Call, Reply, Take};
use crate::classify;
use crate::event::ClusterEvent;
use crate::gateway::{Gateway, LEASES, Problem};
use crate::lane::Patience;
use crate::lease;

/// Before the end the call itself gives up, so that the failure can name the servers that were silent.
const MARGIN: Duration = Duration::from_millis(5);

/// Answers `question`.
pub(crate) async fn answer(gateway: Arc<Gateway>, question: Question) {
    let Question { id, timeout: patience, ask } = question;
    let asking = Asking { gateway: &gateway, deadline: Instant::now() + patience.saturating_sub(MARGIN) };
    let answer = timeout(patience, asking.reply(&ask)).await.unwrap_or_else(|_| {
        let text = format!("no answer in {} ms", patience.as_millis());
        Answer::Failed(Failure { class: FailureClass::Timeout, text })
    });
    gateway.tell(ClusterEvent::Answer(id, answer));
}

/// A question that is being answered.
struct Asking<'a> {
    gateway: &'a Gateway,
    deadline: Instant,
}

impl Asking<'_> {
    async fn reply(&self, ask: &Ask) -> Answer {
        match ask {
            Ask::ReadLease(lease) => {
                self.read(lease).await.map_or_else(Answer::Failed, |(seen, _)| Answer::Lease(seen))
            }
            Ask::WriteLease(write) => self.write(write).await.unwrap_or_else(Answer::Failed),
            Ask::LabelNode { node, labels } => {
                let body = json!({"metadata": {"labels": labels}});
                let call = Call {
                    verb: "patch",
                    resource: "nodes",
                    object: node.to_string(),
                    path: format!("/api/v1/nodes/{node}"),
                    body: Some((text_of(&body), "application/merge-patch+json")),
                };
                self.call(&call)
                    .await
                    .map_or_else(|problem| Answer::Failed(problem.into_failure()), |_| Answer::Done)
            }
        }
    }

    /// Reads a Lease: what it shows, and the object.
    async fn read(&self, lease: &LeaseName) -> Result<(LeaseSeen, Option<Value>), Failure> {
        let call = lease_call("get", lease, lease::path(&lease.namespace, Some(&lease.name)), None);
        match self.call(&call).await {
            Ok(reply) => self.take(&call, lease, &reply).map(|(seen, object)| (seen, Some(object))),
            Err(Problem::Refused(refusal)) if refusal.is_absence_of("leases", &lease.name) => {
                Ok((LeaseSeen { lease: lease.clone(), sight: Sight::Absent(None) }, None))
            }
            Err(problem) => Err(problem.into_failure()),
        }
    }

    async fn write(&self, write: &LeaseWrite) -> Result<Answer, Failure> {
        let LeaseName { namespace, name } = &write.lease;
        let (verb, path, base) = match &write.expect {
            Expect::Absent => ("create", lease::path(namespace, None), None),
            Expect::Version(version) => {
                let base = match self.gateway.ledger.object(&write.lease, version) {
                    Some(object) => object,
                    None => match self.read(&write.lease).await? {
                        (LeaseSeen { sight: Sight::Present { version: now, .. }, .. }, Some(object))
                            if now == *version =>
                        {
                            object
                        }
                        _ => return Ok(Answer::Conflict),
                    },
                };
                ("update", lease::path(namespace, Some(name)), Some(base))
            }
        };
        let now = lease::micro_time(Timestamp::now());
        let object = lease::compose(base, write, &now);
        let call = lease_call(verb, &write.lease, path, Some(&object));
        match self.call(&call).await {
            Ok(reply) => self.take(&call, &write.lease, &reply).map(|(seen, _)| Answer::Lease(seen)),
            Err(Problem::Refused(refusal)) if refusal.code == http::StatusCode::CONFLICT => {
                if refusal.sent > 1 {
                    return Ok(self.find_ours(write, &now).await.unwrap_or(Answer::Conflict));
                }
                Ok(Answer::Conflict)
            }
            Err(Problem::Refused(refusal)) if refusal.is_absence_of("leases", name) => Ok(Answer::Conflict),
            Err(problem) => Err(problem.into_failure()),
        }
    }

    /// A write that was sent more than once met a conflict: perhaps with itself. Looks for what was written.
    async fn find_ours(&self, write: &LeaseWrite, now: &str) -> Option<Answer> {
        let (seen, _) = self.read(&write.lease).await.ok()?;
        let ours = matches!(&seen.sight, Sight::Present { record, .. } if lease::is_ours(record, write, now));
        ours.then_some(Answer::Lease(seen))
    }

    /// Takes a Lease out of an answer and notes it.
    fn take(&self, call: &Call, lease: &LeaseName, reply: &Reply) -> Result<(LeaseSeen, Value), Failure> {
        let object: Value = serde_json::from_slice(reply.whole())
            .map_err(|error| classify::nonsense(call, &reply.server, &error))?;
        let (_, version, record) = lease::convert(&object).ok_or_else(|| Failure {
            class: FailureClass::Invalid,
            text: format!("{call}: {} answers an object without name or version", reply.server),
        })?;
        let object = lease::slim(object);
        self.gateway.ledger.note_answer(lease, &version, object.clone());
        Ok((LeaseSeen { lease: lease.clone(), sight: Sight::Present { version, record } }, object))
    }

    async fn call(&self, call: &Call) -> Result<Reply, Problem> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.gateway.call(&self.gateway.questions, call, Take::Whole, Patience::of(left)).await
    }
}

fn lease_call(verb: &'static str, lease: &LeaseName, path: String, object: Option<&Value>) -> Call {
    let body = object.map(|object| (text_of(object), "application/json"));
    Call { verb, resource: LEASES, object: lease.to_string(), path, body }
}

fn text_of(object: &Value) -> Bytes {
    Bytes::from(object.to_string())
}
