//! What is said inside kube-vip: plain data that every other crate speaks.
//!
//! Nothing here touches the world: no clock, no socket, no file. Values are ordered, comparable and
//! serialisable, so that a plan, a journal and a test fixture can hold them.

pub mod config;
pub mod drill;
pub mod explanation;
pub mod kernel;
pub mod members;
pub mod observed;
pub mod peers;
pub mod plan;
pub mod service;
pub mod session;
pub mod store;
pub mod verdict;
pub mod view;

mod ids;
mod known;
mod net;
mod object;
mod random;
mod time;
mod walk;

pub use ids::{InstanceName, LeaseName, NodeName, OfLease, QuestionId};
pub use known::Known;
pub use net::{Family, LinkAddr, LinkIndex, NotAScopedAddr, ScopedAddr, VipNet, WrongLength};
pub use object::{NotAnObjectName, ObjectName};
pub use random::Random;
pub use time::Instant;
pub use walk::Walk;
