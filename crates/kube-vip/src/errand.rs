//! Errands: small tasks that need a socket of their own for one answer. The node says what and when; each errand is
//! one task here and gives exactly one answer back, by its timeout.

mod probe;
mod target;
mod trust;

use std::sync::Arc;

use tokio::sync::Semaphore;
use vip_model::observed::{Errand, ErrandAnswer, ErrandTask};

pub(crate) use trust::TrustStore;

/// Errands that run at once; more of them wait. The node has one in flight per gate.
const AT_ONCE: usize = 16;

/// Runs errands.
#[derive(Clone)]
pub(crate) struct Errands {
    trust: Arc<TrustStore>,
    places: Arc<Semaphore>,
}

impl Errands {
    /// Nothing runs yet.
    pub(crate) fn new() -> Self {
        Self { trust: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Runs `errand` to its answer.
    pub(crate) async fn run(&self, errand: Errand) -> ErrandAnswer {
        let ErrandTask::HttpProbe { url, timeout, ca_path } = errand.task;
        let probe = async {
            let _place = self.places.acquire().await.map_err(|_| "stopping".to_owned())?;
            probe::get(&self.trust, &url, ca_path.as_deref()).await
        };
        let result = tokio::time::timeout(timeout, probe)
            .await
            .unwrap_or_else(|_| Err(format!("{url}: no answer within {} ms", timeout.as_millis())));
        ErrandAnswer { id: errand.id, result }
    }
}

#[cfg(test)]
mod tests;
