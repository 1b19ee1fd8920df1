//! The gateway against the lab's API server: every test runs a server of its own on loopback addresses.

mod claim;
mod credential;
mod elsewhere;
mod failover;
mod peer_key;
mod question;
mod rig;
mod scale;
mod service;
mod session;
mod view;
