//! Questions about Services: read the object, put in what is wanted, replace it. Upstream's role has no `patch` on
//! Services or their status, and what others wrote must stay, so every write begins with a read.

use jiff::Timestamp;
use serde_json::Value;
use vip_model::service::ServiceName;
use vip_model::store::{Answer, Failure, ServiceStatusWrite, ServiceWrite, Version};

use super::{Asking, text_of};
use crate::call::Call;
use crate::classify;
use crate::gateway::Problem;
use crate::{lease, service};

/// Which part of a Service is replaced.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    Status,
}

impl Part {
    fn resource(self) -> &'static str {
        match self {
            Self::Whole => "services",
            Self::Status => "services/status",
        }
    }

    fn path(self, service: &ServiceName) -> String {
        match self {
            Self::Whole => service::path(service),
            Self::Status => format!("{}/status", service::path(service)),
        }
    }
}

impl Asking<'_> {
    pub(super) async fn write_service(&self, write: &ServiceWrite) -> Result<Answer, Failure> {
        let compose = |object: &mut Value| service::compose(object, write);
        self.replace(Part::Whole, (&write.service, &write.expect), compose).await
    }

    pub(super) async fn write_service_status(&self, write: &ServiceStatusWrite) -> Result<Answer, Failure> {
        let now = Timestamp::now();
        let compose = |object: &mut Value| service::compose_status(object, write, now);
        self.replace(Part::Status, (&write.service, &write.expect), compose).await
    }

    /// Replaces `part` of a Service that still has the expected version, if `compose` changes anything of it.
    async fn replace(
        &self,
        part: Part,
        (name, expect): (&ServiceName, &Version),
        compose: impl Fn(&mut Value) -> bool,
    ) -> Result<Answer, Failure> {
        let Some(mut object) = self.read_service(name).await? else { return Ok(Answer::Conflict) };
        if service::version(&object).as_ref() != Some(expect) {
            return Ok(Answer::Conflict);
        }
        if !compose(&mut object) {
            return Ok(Answer::Done);
        }
        let call = Call {
            verb: "update",
            resource: part.resource(),
            object: name.to_string(),
            path: part.path(name),
            body: Some((text_of(&object), "application/json")),
        };
        match self.call(&call).await {
            Ok(_) => Ok(Answer::Done),
            Err(Problem::Refused(refusal)) if refusal.code == http::StatusCode::CONFLICT => {
                // Sent more than once, it may have met itself: then what was wanted is there.
                let met_itself = refusal.sent > 1
                    && self.read_service(name).await?.is_some_and(|mut object| !compose(&mut object));
                Ok(if met_itself { Answer::Done } else { Answer::Conflict })
            }
            Err(Problem::Refused(refusal)) if refusal.is_absence_of("services", name.name()) => {
                Ok(Answer::Conflict)
            }
            Err(problem) => Err(problem.into_failure()),
        }
    }

    /// A Service as it is now; none when it does not exist.
    async fn read_service(&self, name: &ServiceName) -> Result<Option<Value>, Failure> {
        let call = Call {
            verb: "get",
            resource: Part::Whole.resource(),
            object: name.to_string(),
            path: service::path(name),
            body: None,
        };
        match self.call(&call).await {
            Ok(reply) => serde_json::from_slice(reply.whole())
                .map(|object| Some(lease::slim(object)))
                .map_err(|error| classify::nonsense(&call, &reply.server, &error)),
            Err(Problem::Refused(refusal)) if refusal.is_absence_of("services", name.name()) => Ok(None),
            Err(problem) => Err(problem.into_failure()),
        }
    }
}
