//! The allocator from outside: the cloud-provider's documented cases as tables (F-CCM-1 to F-CCM-7), and laws on random
//! clusters.

mod laws;
mod malformed;
mod scene;
mod tables;
