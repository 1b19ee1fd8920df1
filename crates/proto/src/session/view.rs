//! What the machine shows of itself.

use vip_model::view::{PeerView, SessionView};

use super::Ownership;

impl Ownership {
    /// The session, its trust, and the other members.
    pub fn view(&self) -> SessionView {
        let own = self.own.as_ref();
        SessionView {
            id: self.own_id(),
            trust: self.trust.view(),
            renewed: own.and_then(|own| own.proven),
            generation: own.map_or(0, |own| own.record.jury.generation),
            peers: self.peer_views(),
            port: self.door.port,
            trouble: self.door.trouble.clone(),
            claims: self.held.len(),
        }
    }

    fn peer_views(&self) -> Vec<PeerView> {
        let unheard = self.members.keys().filter(|node| !self.peers.contains_key(*node));
        let mut nodes: Vec<_> = self.peers.keys().chain(unheard).collect();
        nodes.sort_unstable();
        let of = |node: &vip_model::NodeName| {
            let peer = self.peers.get(node);
            let listed = self.members.get(node).map(|member| member.record.id);
            let session = peer.map(|peer| peer.session).or(listed);
            PeerView {
                node: node.to_string(),
                session,
                juror: self.own.as_ref().is_some_and(|own| own.generation_for(node) > 0),
                heard: peer.map(|peer| peer.heard),
                vouched: peer.and_then(|peer| peer.vouched),
                fitness: peer.map(|peer| peer.word.fitness),
                claims: session
                    .and_then(|session| self.holdings.get(&session))
                    .map_or(0, std::collections::BTreeSet::len),
            }
        };
        nodes.into_iter().map(of).collect()
    }
}
