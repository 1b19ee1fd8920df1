//! The gateway against the real kernel. Every test makes a network namespace of its own in a thread of its own; what is
//! not permitted is skipped by name. Needs root (or `unshare -Urn`) and the commands `ip` and `nft`.

#![allow(clippy::unwrap_used)]

mod address;
mod filter;
mod frame;
mod namespace;
mod picture;
mod traffic;
