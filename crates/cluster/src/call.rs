//! One call of the Kubernetes API, before it is sent, and what came back.

use http::{Method, StatusCode};
use hyper::body::{Bytes, Incoming};
use std::fmt;
use std::sync::Arc;

use crate::directory::Access;

/// A call, ready to be sent to any server, any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The verb as RBAC names it.
    pub(crate) verb: &'static str,
    /// The resource as RBAC names it.
    pub(crate) resource: &'static str,
    /// The object, for people: `namespace/name`, a name, or empty for a whole collection.
    pub(crate) object: String,
    /// Path and query.
    pub(crate) path: String,
    /// What is sent along, and its media type.
    pub(crate) body: Option<(Bytes, &'static str)>,
}

impl Call {
    /// The HTTP method.
    pub(crate) fn method(&self) -> Method {
        match self.verb {
            "create" => Method::POST,
            "update" => Method::PUT,
            "patch" => Method::PATCH,
            _ => Method::GET,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if self.object.is_empty() { Ok(()) } else { write!(f, " {}", self.object) }
    }
}

/// What is wanted of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// All of it.
    Whole,
    /// Its head; the body is read as it comes. A refusal is read whole all the same.
    Head,
}

/// An answer of a server, whatever it says.
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: StatusCode,
    /// What came with it.
    pub(crate) body: ReplyBody,
    /// Which server, for people.
    pub(crate) server: String,
    /// How many times the call may have reached a server: after more than one, a conflict may be with ourselves.
    pub(crate) sent: u32,
    /// The way that was used.
    pub(crate) access: Arc<Access>,
}

/// What came with an answer.
pub(crate) enum ReplyBody {
    /// All of it.
    Whole(Bytes),
    /// It is still coming.
    Coming(Incoming),
}

impl Reply {
    /// The body, when it was taken whole.
    pub(crate) fn whole(&self) -> &[u8] {
        match &self.body {
            ReplyBody::Whole(bytes) => bytes,
            ReplyBody::Coming(_) => &[],
        }
    }
}
