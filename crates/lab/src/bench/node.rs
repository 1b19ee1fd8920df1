//! A node: an init with PID, mount, UTS and network namespaces of its own behind a port of the switch. It runs programs
//! and takes faults: power, cable, silence, signals, addresses pulled away by hand.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, socket, sockopt,
};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::link::{self, Carrier, Networks, PortState, Switch};
use super::net::{self, Mac};
use super::place::{Place, output};
use super::program::{Program, Spawn};
use super::socket::set;
use super::{Error, Result, Stamp, boot};

/// One node, powered on or off.
#[derive(Debug)]
pub struct Node {
    name: String,
    number: u8,
    networks: Networks,
    alive: Option<Alive>,
}

/// What exists only while the power is on.
#[derive(Debug)]
struct Alive {
    init: Pid,
    place: Place,
}

impl Node {
    /// Makes node `number` (from 1) and switches it on.
    pub(super) fn make(switch: &Switch, number: u8) -> Result<Self> {
        let networks = switch.networks();
        let mut node = Self { name: format!("n{number}"), number, networks, alive: None };
        node.power_on(switch)?;
        Ok(node)
    }

    /// Its name, which is also the name of its port and of its Kubernetes Node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, from 1; what the echo answers.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The MAC address of its `eth0`; it stays over power cycles.
    pub fn mac(&self) -> Mac {
        Mac::of(net::NODES + self.number)
    }

    /// Its own addresses, IPv4 first; those on the network for nodes, if there is one.
    pub fn addresses(&self) -> [IpAddr; 2] {
        let last = net::NODES + self.number;
        match self.networks {
            Networks::One => [net::v4(last).into(), net::v6(last).into()],
            Networks::Two => [net::node_v4(last).into(), net::node_v6(last).into()],
        }
    }

    /// Its ports of the switch.
    pub(super) fn ports(&self) -> Vec<String> {
        match self.networks {
            Networks::One => vec![self.name.clone()],
            Networks::Two => vec![self.name.clone(), link::node_port(&self.name)],
        }
    }

    /// Is the power on?
    pub fn powered(&self) -> bool {
        self.alive.is_some()
    }

    /// The process id of its init in the lab's PID namespace, for `lab enter`.
    pub fn init(&self) -> Option<i32> {
        self.alive.as_ref().map(|alive| alive.init.as_raw())
    }

    /// Its network namespace.
    pub fn place(&self) -> Result<&Place> {
        self.alive().map(|alive| &alive.place)
    }

    fn alive(&self) -> Result<&Alive> {
        self.alive.as_ref().ok_or_else(|| Error::NoNode {
            name: format!("{} (powered on)", self.name),
            known: format!("{} powered off", self.name),
        })
    }

    /// Switches the power on: a fresh init, a fresh NIC with the same addresses, nothing left of the former life.
    pub fn power_on(&mut self, switch: &Switch) -> Result<()> {
        if self.powered() {
            return Ok(());
        }
        let init = birth(&self.name, self.number)?;
        let place = Place::of_process(&self.name, init.as_raw())?;
        for (index, port) in self.ports().iter().enumerate() {
            // The old cable, if there is one, has its other end in the namespace of the dead, or there is none.
            let _ = switch.place().ip(&format!("link del {port}\n"));
            switch.place().ip(&format!(
                "link add {port} type veth peer name eth{index} netns {init}\n\
                 link set {port} addrgenmode none\n\
                 link set {port} master br{index}\n\
                 link set {port} up\n"
            ))?;
        }
        set_up_nic(&place, net::NODES + self.number)?;
        if self.networks == Networks::Two {
            set_up_node_nic(&place, net::NODES + self.number)?;
        }
        self.alive = Some(Alive { init, place });
        Ok(())
    }

    /// Power failure: the port goes dead and init is killed, and with it everything that runs in the node, in the same
    /// instant. Gives the moment.
    pub fn power_off(&mut self, switch: &Switch) -> Result<Stamp> {
        let init = self.alive()?.init;
        let at = Stamp::now();
        self.set_ports(switch, PortState::Disabled)?;
        kill(init, Signal::SIGKILL).map_err(Error::system(format!("killing the init of {}", self.name)))?;
        self.alive = None;
        // Init is gone when all others in its PID namespace are.
        waitpid(init, None).map_err(Error::system(format!("burying the init of {}", self.name)))?;
        Ok(at)
    }

    /// Silent cut: nothing goes through the port, the node keeps its carrier. Gives the moment.
    pub fn cut(&self, switch: &Switch) -> Result<Stamp> {
        let at = Stamp::now();
        self.set_ports(switch, PortState::Disabled).map(|()| at)
    }

    /// Silent cut from the network of VIPs and clients alone. Gives the moment.
    pub fn cut_from_clients(&self, switch: &Switch) -> Result<Stamp> {
        let at = Stamp::now();
        switch.set_port(&self.name, PortState::Disabled).map(|()| at)
    }

    /// Silent cut from the network for nodes alone, if there is one. Gives the moment.
    pub fn cut_from_nodes(&self, switch: &Switch) -> Result<Stamp> {
        let at = Stamp::now();
        let ports = self.ports();
        ports.iter().skip(1).try_for_each(|port| switch.set_port(port, PortState::Disabled)).map(|()| at)
    }

    /// Ends a silent cut. Gives the moment.
    pub fn heal(&self, switch: &Switch) -> Result<Stamp> {
        let at = Stamp::now();
        self.set_ports(switch, PortState::Forwarding).map(|()| at)
    }

    fn set_ports(&self, switch: &Switch, state: PortState) -> Result<()> {
        self.ports().iter().try_for_each(|port| switch.set_port(port, state))
    }

    /// The cable is pulled at the switch: the node loses its carrier. Gives the moment.
    pub fn pull_cable(&self, switch: &Switch) -> Result<Stamp> {
        let at = Stamp::now();
        self.set_carriers(switch, Carrier::Off).map(|()| at)
    }

    /// The cable is plugged in again. Gives the moment.
    pub fn plug_cable(&self, switch: &Switch) -> Result<Stamp> {
        let at = Stamp::now();
        self.set_carriers(switch, Carrier::On).map(|()| at)
    }

    fn set_carriers(&self, switch: &Switch, carrier: Carrier) -> Result<()> {
        self.ports().iter().try_for_each(|port| switch.set_carrier(port, carrier))
    }

    /// Starts a program in this node.
    pub fn start(&self, spawn: &Spawn) -> Result<Program> {
        Program::start(self.alive()?.init.as_raw(), spawn)
    }

    /// An address is added to `eth0` by somebody else's hand, with a host prefix.
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        let rest = if address.is_ipv4() { "/32" } else { "/128 nodad" };
        self.place()?.ip(&format!("addr add {address}{rest} dev eth0\n"))
    }

    /// An address is taken from `eth0` by somebody else's hand. Gives the moment.
    pub fn remove_address(&self, address: IpAddr) -> Result<Stamp> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let at = Stamp::now();
        self.place()?.ip(&format!("addr del {address}/{length} dev eth0\n")).map(|()| at)
    }

    /// An outsider gives an address of `eth0` so many seconds to live from now on.
    pub fn prolong_address(&self, address: IpAddr, seconds: u32) -> Result<()> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let line = format!("addr change {address}/{length} dev eth0 valid_lft {seconds} preferred_lft 0\n");
        self.place()?.ip(&line).map(drop)
    }

    /// Does `eth0` carry this address?
    pub fn has_address(&self, address: IpAddr) -> Result<bool> {
        let shown =
            self.place()?.run(Command::new("ip").args(["-brief", "address", "show", "dev", "eth0"]))?;
        Ok(shown.split_whitespace().any(|word| word.split('/').next() == Some(&address.to_string())))
    }

    /// A listening TCP socket in this node, for all addresses of both families.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        listen_in(self.place()?, port)
    }

    /// A path inside this node as the lab sees it, through its init's root.
    pub fn path(&self, inside: &str) -> Result<PathBuf> {
        let init = self.alive()?.init;
        Ok(Path::new(&format!("/proc/{init}/root")).join(inside.trim_start_matches('/')))
    }

    /// Writes a file inside this node, with its folders.
    pub fn write(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.path(inside)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(Error::system(format!("making the folder of {inside}")))?;
        }
        std::fs::write(&path, text).map_err(Error::system(format!("writing {inside} in {}", self.name)))
    }
}

/// Starts an init through `lab __node`; gives its process id.
fn birth(name: &str, number: u8) -> Result<Pid> {
    let mut midwife = Command::new(boot::exe())
        .args(["__node", name, &number.to_string()])
        .env("PATH", super::place::search_path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::system(format!("starting {name}")))?;
    let mut word = String::new();
    if let Some(pipe) = midwife.stdout.take() {
        BufReader::new(pipe).read_line(&mut word).map_err(Error::system(format!("starting {name}")))?;
    }
    midwife.wait().map_err(Error::system(format!("starting {name}")))?;
    word.trim().parse().map(Pid::from_raw).map_err(|_| Error::Command {
        command: format!("lab __node {name}"),
        said: "did not come up; see the lines above".to_owned(),
    })
}

/// Gives `eth0` of a place its MAC, its addresses and its default routes.
pub(super) fn set_up_nic(place: &Place, number: u8) -> Result<()> {
    let (mac, v4, v6, local) = (Mac::of(number), net::v4(number), net::v6(number), net::link_local(number));
    place.ip(&format!(
        "link set eth0 address {mac}\n\
         link set eth0 addrgenmode none\n\
         link set eth0 up\n\
         addr add {v4}/24 brd + dev eth0\n\
         addr add {local}/64 dev eth0 nodad\n\
         addr add {v6}/64 dev eth0 nodad\n"
    ))?;
    if number == net::ROUTER {
        return Ok(());
    }
    let (gateway4, gateway6) = (net::v4(net::ROUTER), net::v6(net::ROUTER));
    place.ip(&format!(
        "route add default via {gateway4} dev eth0\n\
         route add default via {gateway6} dev eth0\n"
    ))
}

/// Gives `eth1` of a node its MAC and its addresses on the network for nodes.
fn set_up_node_nic(place: &Place, number: u8) -> Result<()> {
    let (mac, v4, v6) = (Mac::of_node_port(number), net::node_v4(number), net::node_v6(number));
    let local = net::link_local(number);
    place.ip(&format!(
        "link set eth1 address {mac}\n\
         link set eth1 addrgenmode none\n\
         link set eth1 up\n\
         addr add {v4}/24 brd + dev eth1\n\
         addr add {local}/64 dev eth1 nodad\n\
         addr add {v6}/64 dev eth1 nodad\n"
    ))
}

/// A listening TCP socket in a place, for all addresses of both families.
pub fn listen_in(place: &Place, port: u16) -> Result<TcpListener> {
    place.within(|| listen_on(port))?
}

fn listen_on(port: u16) -> Result<TcpListener> {
    let what = || format!("listening on port {port}");
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet6, SockType::Stream, flags, None).map_err(Error::system(what()))?;
    set(&fd, sockopt::ReuseAddr, &true, "SO_REUSEADDR")?;
    set(&fd, sockopt::Ipv6V6Only, &false, "IPV6_V6ONLY")?;
    let any: std::net::SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, port).into();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).map_err(Error::system(what()))?;
    listen(&fd, Backlog::new(128).unwrap_or(Backlog::MAXCONN)).map_err(Error::system(what()))?;
    Ok(TcpListener::from(fd))
}

/// Waits until a place can talk to the router in both families: the switch has learned, nobody is tentative.
pub(super) fn wait_reachable(place: &Place, limit: Duration) -> Result<()> {
    let begin = std::time::Instant::now();
    loop {
        let shown = place.within(|| output(Command::new("ip").args(["address", "show", "tentative"])))??;
        if shown.trim().is_empty() {
            return Ok(());
        }
        if begin.elapsed() > limit {
            return Err(Error::Timeout {
                what: format!("usable addresses in {}", place.name()),
                waited: limit,
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
