//! From what should be and what is to the steps in between.

mod addresses;
mod filter;
mod labels;
mod services;

pub use addresses::{Applied, addresses, has_leaving};
pub use filter::filter;
pub use labels::node_labels;
pub use services::services;
