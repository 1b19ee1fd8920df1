//! Questions that tell Events. The same Event of the same life of a Service has the same name, whenever it is told: told
//! again, the one that is there is brought up to date, as client-go's recorder does it.

use jiff::Timestamp;
use serde_json::{Value, json};
use vip_model::store::{Answer, EventPost, EventWeight, Failure};

use super::{Asking, text_of};
use crate::call::Call;
use crate::gateway::Problem;
use crate::service;

/// The longest message of an Event: the API server takes no longer one.
const LONGEST_MESSAGE: usize = 1024;
/// Who reports Events.
const COMPONENT: &str = "kube-vip";

/// What became of a call.
enum Told {
    /// It was done.
    Done,
    /// One of this name is there already.
    There,
    /// None of this name is there.
    Absent,
}

impl Asking<'_> {
    pub(super) async fn post_event(&self, post: &EventPost) -> Result<Answer, Failure> {
        let node = self.gateway.directory.settings().node.as_str();
        let (event, path) =
            (Event { post, node }, format!("/api/v1/namespaces/{}/events", post.service.namespace()));
        let now = Timestamp::now();
        let create = Call {
            verb: "create",
            resource: "events",
            object: post.service.to_string(),
            path: path.clone(),
            body: Some((text_of(&event.object(now)), "application/json")),
        };
        let update = Call {
            verb: "patch",
            path: format!("{path}/{}", event.name()),
            body: Some((text_of(&event.news(now)), "application/merge-patch+json")),
            ..create.clone()
        };
        // A former life of this agent may have told it, and the API forgets Events after a while.
        if post.count == 1 {
            if let Told::There = self.tell(&create).await? {
                self.tell(&update).await?;
            }
        } else if let Told::Absent = self.tell(&update).await? {
            self.tell(&create).await?;
        }
        Ok(Answer::Done)
    }

    async fn tell(&self, call: &Call) -> Result<Told, Failure> {
        match self.call(call).await {
            Ok(_) => Ok(Told::Done),
            Err(Problem::Refused(refusal)) if refusal.code == http::StatusCode::CONFLICT => Ok(Told::There),
            Err(Problem::Refused(refusal)) if refusal.code == http::StatusCode::NOT_FOUND => Ok(Told::Absent),
            Err(problem) => Err(problem.into_failure()),
        }
    }
}

/// An Event that a node tells.
struct Event<'a> {
    post: &'a EventPost,
    node: &'a str,
}

impl Event<'_> {
    /// Its Service and a hash (FNV-1a, 64 bits) of all that makes it the same one.
    fn name(&self) -> String {
        let EventPost { service, uid, reason, .. } = self.post;
        let parts = [uid.as_str(), self.node, self.weight(), reason, self.message()];
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{}.{hash:016x}", service.name())
    }

    const fn weight(&self) -> &'static str {
        match self.post.weight {
            EventWeight::Normal => "Normal",
            EventWeight::Warning => "Warning",
        }
    }

    fn message(&self) -> &str {
        &self.post.message[..self.post.message.floor_char_boundary(LONGEST_MESSAGE)]
    }

    /// A core/v1 Event as client-go's recorder writes it.
    fn object(&self, now: Timestamp) -> Value {
        let (namespace, name) = self.post.service.parts();
        let time = service::seconds(now);
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.name(), "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Service", "namespace": namespace, "name": name, "uid": self.post.uid,
            },
            "type": self.weight(),
            "reason": self.post.reason,
            "message": self.message(),
            "source": {"component": COMPONENT, "host": self.node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self.node,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": self.post.count,
        })
    }

    /// What is new of one that is there. How often a former life of the agent told it is not known, and stays.
    fn news(&self, now: Timestamp) -> Value {
        let mut news = json!({"lastTimestamp": service::seconds(now)});
        if self.post.count > 1 {
            news["count"] = json!(self.post.count);
        }
        news
    }
}
