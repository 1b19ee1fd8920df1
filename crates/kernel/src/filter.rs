//! The packet filter: `Change::SetFilter` → one nftables transaction; and what became of the table since → `FilterState`.
//!
//! `apply` calls [`Filter::set`], the netlink thread calls [`Filter::look`] for every picture and whenever anybody
//! changed anything in nftables. Nothing is opened before the first filter is set. What the kernel shows of the table
//! right after the transaction is kept; later the same questions must have the same answers. Handles are among them,
//! and the kernel never gives a handle twice in a table, so a rule that was removed and added again does not pass for
//! the old one. The elements are not read back: the sets are constant, so the kernel lets nobody change them while the
//! rules stand.

use std::io;
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use vip_model::kernel::{FilterState, Outcome};
use vip_model::plan::PacketFilter;
use vip_model::{InstanceName, Known};

use crate::netlink_socket::{Listing, NetlinkSocket, Query, Refusal};
use crate::watch::{Heard, Watch};
use crate::wire::Request;

mod rule;
mod table;

// linux/netfilter/nf_tables.h, under NFNL_SUBSYS_NFTABLES
const GET_TABLE: u16 = 10 << 8 | 1;
const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_TABLE: u16 = 1;
/// `struct nfgenmsg` with the family `NFPROTO_INET`. In answers its last half counts transactions, so it is no part of
/// what is compared.
const INET: [u8; 4] = [1, 0, 0, 0];
/// How often the rules are listed again when others change theirs meanwhile.
const TRIES: u32 = 4;

/// The packet filter of this process.
pub(crate) struct Filter {
    epoll: Arc<Epoll>,
    token: u64,
    sockets: Option<Sockets>,
    /// What was set last, when anything was.
    last: Option<Last>,
}

struct Sockets {
    netlink: NetlinkSocket,
    watch: Watch,
}

struct Last {
    table: String,
    /// What the kernel showed right after the transaction. None when that was not what had been sent, or could not be
    /// read: then nothing that is found counts as set by us.
    set: Option<Seen>,
    state: FilterState,
}

/// What the kernel shows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Table { own: Vec<u8>, chains: Vec<Vec<u8>>, rules: Vec<Vec<u8>> },
}

impl Filter {
    /// Nothing is open yet. Notifications will wake this `epoll` with this token.
    pub(crate) fn new(epoll: Arc<Epoll>, token: u64) -> Self {
        Self { epoll, token, sockets: None, last: None }
    }

    /// Makes the table of this instance be this filter; removes it for none. All or nothing.
    pub(crate) fn set(&mut self, instance: &InstanceName, filter: Option<&PacketFilter>) -> Outcome {
        let table = table::name(instance);
        let result = self.replace(&table, filter);
        self.conclude(table, filter, result)
    }

    fn conclude(
        &mut self,
        table: String,
        filter: Option<&PacketFilter>,
        result: Result<Option<Seen>, Refusal>,
    ) -> Outcome {
        match result {
            Ok(set) => {
                self.last = Some(Last { table, set, state: FilterState::Foreign });
                self.look();
                Outcome::Done
            }
            // What cannot hold tables holds none.
            Err(refusal) if filter.is_none() && without_nftables(refusal.errno) => {
                self.last = Some(Last { table, set: Some(Seen::Nothing), state: FilterState::Absent });
                Outcome::Done
            }
            Err(refusal) => failed(&table, filter, &refusal),
        }
    }

    fn replace(&mut self, table: &str, filter: Option<&PacketFilter>) -> Result<Option<Seen>, Refusal> {
        let transaction = table::transaction(table, filter);
        let netlink = &mut self.open().map_err(|error| refused(&error))?.netlink;
        netlink.transact(&transaction.bytes)?;
        let seen = read(netlink, table).ok();
        Ok(seen.filter(|seen| match seen {
            Seen::Nothing => transaction.rules == 0,
            Seen::Table { rules, .. } => rules.len() == transaction.rules,
        }))
    }

    fn open(&mut self) -> io::Result<&mut Sockets> {
        if self.sockets.is_none() {
            let netlink = NetlinkSocket::open_netfilter()?;
            let watch = Watch::open_netfilter()?;
            self.epoll.add(&watch, EpollEvent::new(EpollFlags::EPOLLIN, self.token))?;
            self.sockets = Some(Sockets { netlink, watch });
        }
        Ok(self.sockets.as_mut().expect("just opened"))
    }

    /// Reads all notifications.
    pub(crate) fn drain(&self) -> io::Result<Heard> {
        self.sockets.as_ref().map_or(Ok(Heard::Nothing), |sockets| sockets.watch.drain())
    }

    /// What is there now of what was set last.
    pub(crate) fn look(&mut self) -> Known<FilterState> {
        let Some(last) = &mut self.last else { return Known::Unknown };
        if let Some(sockets) = &mut self.sockets {
            match read(&mut sockets.netlink, &last.table) {
                Ok(Seen::Nothing) => last.state = FilterState::Absent,
                Ok(seen) if last.set.as_ref() == Some(&seen) => last.state = FilterState::AsSet,
                Ok(_) => last.state = FilterState::Foreign,
                // The old answer stands. A list that others disturb comes with a notification, that is another look.
                Err(error) => tracing::debug!(%error, table = last.table, "cannot read the packet filter"),
            }
        }
        Known::Known(last.state)
    }
}

/// Asks for the table, its chains and its rules.
fn read(netlink: &mut NetlinkSocket, table: &str) -> io::Result<Seen> {
    let name = terminated(table);
    let request = |kind| Request::new(kind, libc::NLM_F_ACK as u16, &INET);
    let Some(own) = one(netlink, request(GET_TABLE).with(TABLE_NAME, &name))? else {
        return Ok(Seen::Nothing);
    };
    let mut chains = Vec::new();
    for chain in table::CHAINS {
        let request = request(GET_CHAIN).with(CHAIN_TABLE, &name).with(CHAIN_NAME, &terminated(chain));
        chains.extend(one(netlink, request)?);
    }
    let query = Query { what: "rules", kind: GET_RULE, fixed: &INET, attribute: Some((RULE_TABLE, &name)) };
    for _ in 0..TRIES {
        let mut rules = Vec::new();
        match netlink.list(&query, |body| rules.extend(comparable(body))) {
            Ok(Listing::Whole) => return Ok(Seen::Table { own, chains, rules }),
            Ok(Listing::Torn) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// The one answer to a question, if the thing exists.
fn one(netlink: &mut NetlinkSocket, request: Request) -> io::Result<Option<Vec<u8>>> {
    let mut answer = None;
    match netlink.ask(request, |body| answer = comparable(body)) {
        Ok(_) => Ok(answer),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn comparable(body: &[u8]) -> Option<Vec<u8>> {
    body.get(INET.len()..).map(<[u8]>::to_vec)
}

/// Names are sent with a zero at the end.
fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn refused(error: &io::Error) -> Refusal {
    Refusal { errno: error.raw_os_error().unwrap_or(libc::EIO), words: None }
}

/// Without nfnetlink there is no such socket; without nftables, or without its family `inet`, no such message.
fn without_nftables(errno: i32) -> bool {
    matches!(errno, libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
}

fn failed(table: &str, filter: Option<&PacketFilter>, refusal: &Refusal) -> Outcome {
    let verb = if filter.is_some() { "set" } else { "remove" };
    let why = io::Error::from_raw_os_error(refusal.errno);
    let words = refusal.words.as_deref().unwrap_or_else(|| advice(refusal.errno));
    let text = format!("cannot {verb} the packet filter (nftables table inet {table}): {why}; {words}");
    Outcome::Failed { errno: refusal.errno, text }
}

/// What an errno means here, when the kernel gives no words of its own.
fn advice(errno: i32) -> &'static str {
    match errno {
        errno if without_nftables(errno) => {
            "this kernel has no nftables (CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET); switch enable_service_security off"
        }
        libc::EPERM => "the process needs the capability NET_ADMIN, and no other program may own the table",
        libc::ENOENT => "this kernel lacks a part of nftables; it needs connection tracking (CONFIG_NFT_CT)",
        libc::EMSGSIZE => "the filter is larger than net.core.wmem_max allows this process to send",
        libc::ENOMEM => "the kernel is out of memory",
        _ => "see nft(8); `nft list ruleset` shows what is there",
    }
}

#[cfg(test)]
mod tests;
