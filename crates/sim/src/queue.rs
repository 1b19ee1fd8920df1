//! What happens next: events in the order of true time, and of their making where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use vip_agent::Input;
use vip_model::kernel::{Actual, FrameOut};
use vip_model::session::Memory;
use vip_model::store::{Answer, Question};
use vip_model::{LinkAddr, QuestionId};

use crate::clock::Moment;
use crate::peers::{Sealed, Target};
use crate::process::ProcessId;

/// Something of one process: it waits while the process is stopped and is lost when it dies.
#[derive(Debug)]
pub(crate) enum Own {
    /// The agent's deadline.
    Wake,
    /// An input arrives.
    Input(Box<Input>),
    /// A dump begins.
    DumpBegin,
    /// A dump ends; with the picture taken at its beginning, or else one taken now.
    DumpEnd(Box<Actual>, Picture),
    /// The next step of the batch in front is carried out.
    Apply,
    /// A question leaves.
    Send(Box<Question>),
    /// An answer arrives.
    Answer(QuestionId, Box<Answer>),
    /// The time of a question is up.
    Timeout(QuestionId),
    /// A watch is opened.
    Connect(u32),
    /// A watch tells event number `.1` of what it is about.
    News(u32, usize),
    /// The list of a watch arrives: what was true after event number `.1`.
    List(u32, usize),
    /// The gateway tells what it has heard.
    Tell,
    /// A frame leaves.
    Frame(Box<FrameOut>),
    /// A heartbeat is read from the socket.
    Datagram(Rc<Sealed>),
    /// The door is opened, moved or closed.
    DoorMoves,
    /// The keys for heartbeats are read.
    ReadKeys,
    /// What an earlier life left arrives.
    Recall,
    /// What shall be kept for the next life is written.
    Keep(Box<Memory>),
}

/// When the picture of a dump is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    /// At its beginning.
    Early,
    /// At its end.
    Late,
}

/// Who stands at the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A node.
    Node(usize),
    /// The client.
    Client,
    /// The switches themselves.
    Fabric,
}

/// A frame on the wire.
#[derive(Debug)]
pub(crate) struct Wired {
    pub(crate) from: Host,
    pub(crate) source: LinkAddr,
    pub(crate) ethertype: u16,
    pub(crate) payload: Vec<u8>,
}

/// One thing that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// To one process, in one of its lives.
    Process { id: ProcessId, generation: u32, own: Own },
    /// A question reaches an API server. The writer need not live any more.
    Serve { id: ProcessId, generation: u32, question: Box<Question>, endpoint: usize },
    /// A frame reaches a host.
    Frame { to: Host, frame: Rc<Wired> },
    /// A heartbeat reaches a node.
    Datagram { to: Target, sealed: Rc<Sealed> },
    /// Whoever recorded heartbeats may send one again.
    Replay,
    /// An address of this node may have expired.
    Expire(usize),
    /// Fault number `.0` begins.
    Begin(usize),
    /// Fault number `.0` ends.
    Heal(usize),
    /// Deed number `.0` is done.
    Deed(usize),
    /// The kubelet of this node may be missed, or has reported.
    Kubelet(usize),
    /// All that heals is healed.
    Healed,
    /// Look number `.0` is taken.
    Look(usize),
    /// A process is started.
    Start(ProcessId),
    /// The busy outsider acts on this node.
    Outsider(usize),
    /// Watches of this API server have been silent for long: who waits on them looks whether it still lives.
    Doubt(usize),
    /// The other client that took the Leases renews them, until then.
    Stranger(Moment),
    /// A removal that was reported too early (a mutation) is carried out.
    LateRemoval(usize),
    /// The client asks who answers.
    Client,
}

/// When something happens, and where it is kept.
#[derive(Clone, Copy)]
struct Entry {
    at: Moment,
    number: u64,
    place: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The events to come.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    /// The events themselves, so that the heap moves little; free places are used again.
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    made: u64,
}

impl Queue {
    /// Adds an event.
    pub(crate) fn push(&mut self, at: Moment, event: Event) {
        self.made += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            u32::try_from(self.events.len() - 1).expect("fewer events than memory")
        });
        self.events[place as usize] = Some(event);
        self.heap.push(Reverse(Entry { at, number: self.made, place }));
    }

    /// Takes the next event, if it happens by `end`.
    pub(crate) fn pop_until(&mut self, end: Moment) -> Option<(Moment, Event)> {
        if self.heap.peek().is_none_or(|Reverse(entry)| entry.at > end) {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.free.push(entry.place);
        let event = self.events[entry.place as usize].take().expect("each place is in the heap once");
        Some((entry.at, event))
    }
}
