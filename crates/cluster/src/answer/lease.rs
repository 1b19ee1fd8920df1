//! Questions about Leases: read, create, replace. A session Lease is one, and is written the same way.

use jiff::Timestamp;
use serde_json::Value;
use vip_model::LeaseName;
use vip_model::session::{SessionSeen, SessionWrite};
use vip_model::store::{Answer, Expect, Failure, FailureClass, LeaseSeen, LeaseWrite, Sight, Version};

use super::{Asking, text_of};
use crate::call::{Call, Reply};
use crate::classify;
use crate::gateway::{LEASES, Problem};
use crate::lease::{self, Draft};
use crate::session;

impl Asking<'_> {
    pub(super) async fn read_lease(&self, lease: &LeaseName) -> Result<Answer, Failure> {
        Ok(answer_of(lease, self.read(lease).await?.as_ref()))
    }

    pub(super) async fn write_lease(&self, write: &LeaseWrite) -> Result<Answer, Failure> {
        let written = self.write(&Draft::from(write)).await?;
        Ok(written.map_or(Answer::Conflict, |object| answer_of(&write.lease, Some(&object))))
    }

    pub(super) async fn read_session(&self, lease: &LeaseName) -> Result<Answer, Failure> {
        let seen = self.read(lease).await?.and_then(|object| session::convert(&object).ok());
        Ok(session_answer(lease, seen))
    }

    pub(super) async fn write_session(&self, write: &SessionWrite) -> Result<Answer, Failure> {
        let mut written = self.write(&Draft::from(write)).await?;
        if written.is_none() && write.expect == Expect::Absent {
            written = self.write_over_nonsense(write).await?;
        }
        let Some(object) = written else { return Ok(Answer::Conflict) };
        let seen = session::convert(&object).map_err(|why| Failure {
            class: FailureClass::Invalid,
            text: format!("the session Lease {} was written, but {why}", write.lease),
        })?;
        Ok(session_answer(&write.lease, Some(seen)))
    }

    /// A session Lease that cannot be understood counts as none. It is replaced where none was expected, or nobody
    /// could ever write it again.
    async fn write_over_nonsense(&self, write: &SessionWrite) -> Result<Option<Value>, Failure> {
        let there = self.read(&write.lease).await?.filter(|object| session::convert(object).is_err());
        let Some((_, version, _)) = there.as_ref().and_then(lease::convert) else { return Ok(None) };
        let write = SessionWrite { expect: Expect::Version(version), ..write.clone() };
        self.write(&Draft::from(&write)).await
    }

    /// Reads a Lease; none when it does not exist.
    async fn read(&self, lease: &LeaseName) -> Result<Option<Value>, Failure> {
        let call = lease_call("get", lease, lease::path(lease.namespace(), Some(lease.name())), None);
        match self.call(&call).await {
            Ok(reply) => self.take(&call, lease, &reply).map(Some),
            Err(Problem::Refused(refusal)) if refusal.is_absence_of("leases", lease.name()) => Ok(None),
            Err(problem) => Err(problem.into_failure()),
        }
    }

    /// Writes a Lease; none when the premise does not hold.
    async fn write(&self, draft: &Draft<'_>) -> Result<Option<Value>, Failure> {
        let (namespace, name) = draft.lease.parts();
        let (verb, path, base) = match draft.expect {
            Expect::Absent => ("create", lease::path(namespace, None), None),
            Expect::Version(version) => {
                let Some(base) = self.base(draft.lease, version).await? else { return Ok(None) };
                ("update", lease::path(namespace, Some(name)), Some(base))
            }
        };
        let now = lease::micro_time(Timestamp::now());
        let object = draft.compose(base, &now);
        let call = lease_call(verb, draft.lease, path, Some(&object));
        match self.call(&call).await {
            Ok(reply) => self.take(&call, draft.lease, &reply).map(Some),
            Err(Problem::Refused(refusal)) if refusal.code == http::StatusCode::CONFLICT => {
                Ok(if refusal.sent > 1 { self.find_ours(draft, &now).await } else { None })
            }
            Err(Problem::Refused(refusal)) if refusal.is_absence_of("leases", name) => Ok(None),
            Err(problem) => Err(problem.into_failure()),
        }
    }

    /// The object of a version, to be written over; none when it is not the newest any more.
    async fn base(&self, lease: &LeaseName, version: &Version) -> Result<Option<Value>, Failure> {
        if let Some(object) = self.ledger.object(lease, version) {
            return Ok(Some(object));
        }
        let is_it = |object: &Value| lease::convert(object).is_some_and(|(_, now, _)| now == *version);
        Ok(self.read(lease).await?.filter(is_it))
    }

    /// A write that was sent more than once met a conflict: perhaps with itself. Looks for what was written.
    async fn find_ours(&self, draft: &Draft<'_>, now: &str) -> Option<Value> {
        let object = self.read(draft.lease).await.ok()??;
        let (_, _, record) = lease::convert(&object)?;
        draft.is_shown_by(&record, now).then_some(object)
    }

    /// Takes a Lease out of an answer and notes it.
    fn take(&self, call: &Call, lease: &LeaseName, reply: &Reply) -> Result<Value, Failure> {
        let object: Value = serde_json::from_slice(reply.whole())
            .map_err(|error| classify::nonsense(call, &reply.server, &error))?;
        let (_, version, _) = lease::convert(&object).ok_or_else(|| Failure {
            class: FailureClass::Invalid,
            text: format!("{call}: {} answers an object without name or version", reply.server),
        })?;
        let object = lease::slim(object);
        self.ledger.note_answer(lease, &version, object.clone());
        Ok(object)
    }
}

fn answer_of(lease: &LeaseName, object: Option<&Value>) -> Answer {
    let sight = match object.and_then(lease::convert) {
        Some((_, version, record)) => Sight::Present { version, record },
        None => Sight::Absent(None),
    };
    Answer::Lease(LeaseSeen { lease: lease.clone(), sight })
}

fn session_answer(lease: &LeaseName, seen: Option<SessionSeen>) -> Answer {
    Answer::Session(lease.clone(), seen.map(Box::new))
}

fn lease_call(verb: &'static str, lease: &LeaseName, path: String, object: Option<&Value>) -> Call {
    let body = object.map(|object| (text_of(object), "application/json"));
    Call { verb, resource: LEASES, object: lease.to_string(), path, body }
}
