//! The node itself.

use std::sync::Arc;

use vip_model::Instant;
use vip_model::config::Config;
use vip_model::view::View;
use vip_proto::Machine;

use crate::{Input, Output};

/// A node: fed with what happens, polled for what is to be done.
pub struct Agent {
    view: Arc<View>,
}

impl Agent {
    /// A node that knows nothing yet. `seed` feeds its jitter; the same seed and inputs give the same outputs.
    pub fn new(now: Instant, seed: u64, config: Config) -> Self {
        let _ = (now, seed, config);
        Self { view: Arc::new(View::default()) }
    }

    /// The picture of the node after the last turn. The same `Arc` until something changed.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }
}

impl Machine for Agent {
    type Want = Config;
    type Input = Input;
    type Output = Output;

    fn want(&mut self, _now: Instant, _config: Config) {}

    fn handle(&mut self, _now: Instant, _input: Input) {}

    fn poll(&mut self, _now: Instant) -> Option<Output> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}
