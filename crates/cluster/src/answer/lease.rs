//! Questions about Leases: read, create, replace.

use jiff::Timestamp;
use serde_json::Value;
use vip_model::LeaseName;
use vip_model::store::{Answer, Expect, Failure, FailureClass, LeaseSeen, LeaseWrite, Sight};

use super::{Asking, text_of};
use crate::call::{Call, Reply};
use crate::classify;
use crate::gateway::{LEASES, Problem};
use crate::lease;

impl Asking<'_> {
    /// Reads a Lease: what it shows, and the object.
    pub(super) async fn read(&self, lease: &LeaseName) -> Result<(LeaseSeen, Option<Value>), Failure> {
        let call = lease_call("get", lease, lease::path(lease.namespace(), Some(lease.name())), None);
        match self.call(&call).await {
            Ok(reply) => self.take(&call, lease, &reply).map(|(seen, object)| (seen, Some(object))),
            Err(Problem::Refused(refusal)) if refusal.is_absence_of("leases", lease.name()) => {
                Ok((LeaseSeen { lease: lease.clone(), sight: Sight::Absent(None) }, None))
            }
            Err(problem) => Err(problem.into_failure()),
        }
    }

    pub(super) async fn write(&self, write: &LeaseWrite) -> Result<Answer, Failure> {
        let (namespace, name) = write.lease.parts();
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
}

fn lease_call(verb: &'static str, lease: &LeaseName, path: String, object: Option<&Value>) -> Call {
    let body = object.map(|object| (text_of(object), "application/json"));
    Call { verb, resource: LEASES, object: lease.to_string(), path, body }
}
