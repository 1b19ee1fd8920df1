//! From what should be and what is to the steps in between.

mod addresses;
mod labels;

pub use addresses::{Applied, addresses};
pub use labels::node_labels;
