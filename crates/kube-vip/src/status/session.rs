//! The session of mode `session` as lines: whether it may serve, who lends it the right, and the other members.

use std::fmt::Write as _;

use vip_model::Instant;
use vip_model::peers::Fitness;
use vip_model::view::{PeerView, SessionView, TrustView};

use super::table::{age, columns, plain};

/// One line about the session and a row for each other member.
pub(super) fn render(session: &SessionView, now: Instant) -> String {
    let id = session.id.map_or("not settled yet".to_owned(), |id| id.to_string());
    let renewed = session.renewed.map_or("never".to_owned(), |at| format!("{} ago", age(now.since(at))));
    let vouching = session.peers.iter().filter(|peer| peer.juror && peer.vouched.is_some()).count();
    let jurors = session.peers.iter().filter(|peer| peer.juror).count();
    let mut text = format!(
        "Session {id}: {}; renewed {renewed}; {vouching} of {jurors} jurors have vouched (jury {}); {} claims\n",
        trust(session.trust),
        session.generation,
        session.claims,
    );
    match (session.port, &session.trouble) {
        (_, Some(trouble)) => {
            let _ = writeln!(text, "Heartbeats: {}", plain(trouble));
        }
        (Some(port), None) => {
            let _ = writeln!(text, "Heartbeats: UDP port {port}");
        }
        (None, None) => text.push_str("Heartbeats: off; the session lives by the API alone\n"),
    }
    if !session.peers.is_empty() {
        let rows: Vec<Vec<String>> = session.peers.iter().map(|peer| row(peer, now)).collect();
        text.push_str(&columns(&["PEER", "SESSION", "HEARD", "JUROR", "VOUCHED", "STATE", "CLAIMS"], &rows));
    }
    text
}

const fn trust(trust: TrustView) -> &'static str {
    match trust {
        TrustView::Untested => "nothing was heard yet",
        TrustView::Sure => "sure",
        TrustView::Doubt => "in doubt, looking for proof of its own connection",
        TrustView::Silent => "silent: no proof that it may serve",
    }
}

fn row(peer: &PeerView, now: Instant) -> Vec<String> {
    let ago = |at: Option<Instant>| at.map_or("never".to_owned(), |at| format!("{} ago", age(now.since(at))));
    let state = match peer.fitness {
        None => "not heard",
        Some(Fitness::Fit) => "fit",
        Some(Fitness::Unhealthy) => "its health gate is closed",
        Some(Fitness::Leaving) => "leaving",
        Some(Fitness::BackSoon) => "back soon",
    };
    vec![
        plain(&peer.node),
        peer.session.map_or("-".to_owned(), |id| id.to_string()),
        ago(peer.heard),
        if peer.juror { "yes" } else { "no" }.to_owned(),
        if peer.juror { ago(peer.vouched) } else { "-".to_owned() },
        state.to_owned(),
        peer.claims.to_string(),
    ]
}
