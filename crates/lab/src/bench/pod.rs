//! A pod: a network namespace behind its node that answers UDP and TCP with the names of node and pod, so that a client
//! sees where its request ended up. `furnish` makes a node of the bench one that routes to pods, its own and others';
//! `Pod::start` gives it one. A pod that is dropped is gone at once, as a killed one is.
//!
//! ```text
//!   n1 ── pod5 ══ eth0 10.244.1.5, fd44:0:0:1::5       other nodes' pods: by their nodes' addresses
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::echo::{Echo, PRIORITY, Responder};
use super::net::ECHO_PORT;
use super::node::listen_in;
use super::place::Place;
use super::topology::Lab;
use super::{Error, Node, Result, socket, sys};

/// The port on which pods answer UDP and TCP.
pub const PORT: u16 = ECHO_PORT;
/// How long a pod may take to get ready.
const READY: Duration = Duration::from_secs(3);
/// Last number of a node's own address towards its pods.
const GATEWAY: u8 = 1;

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    who: Responder,
    /// The namespace of its node, where the other end of its cable is.
    node: Place,
    /// Closing it ends the thread.
    _end: UnixStream,
}

/// The IPv4 address of a pod.
pub const fn v4(who: Responder) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, who.node, who.pod)
}

/// The IPv6 address of a pod; reads like the IPv4 one for numbers below 10.
pub const fn v6(who: Responder) -> Ipv6Addr {
    Ipv6Addr::new(0xfd44, 0, 0, who.node as u16, 0, 0, 0, who.pod as u16)
}

/// Makes a node forward packets, and know the way to the pods of every other node.
pub fn furnish(lab: &Lab, node: &Node) -> Result<()> {
    let place = node.place()?;
    place.within(|| {
        ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].into_iter().try_for_each(|key| {
            let file = format!("/proc/sys/net/{key}");
            std::fs::write(&file, "1").map_err(Error::system(format!("writing {file}")))
        })
    })??;
    let others = lab.nodes().iter().filter(|other| other.number() != node.number());
    let routes = others.map(|other| {
        let network = Responder { node: other.number(), pod: 0 };
        let ([via4, via6], to4, to6) = (other.addresses(), v4(network), v6(network));
        format!("route replace {to4}/24 via {via4} dev eth0\nroute replace {to6}/64 via {via6} dev eth0\n")
    });
    place.ip(&routes.collect::<String>())
}

impl Pod {
    /// Starts pod `number` (2 to 254) on a node that was furnished for pods. It answers when this returns.
    pub fn start(node: &Node, number: u8) -> Result<Self> {
        let who = Responder { node: node.number(), pod: number };
        let place = Place::fresh(&format!("pod {number} of {}", node.name()))?;
        plug_in(node.place()?, &place, who)?;
        let echo = place.within(|| Echo::bind(who))??;
        let listener = listen_in(&place, PORT)?;
        let (end, ending) = UnixStream::pair().map_err(Error::system("making a socket pair"))?;
        thread::Builder::new()
            .name(place.name().to_owned())
            .spawn(move || answer(&place, &echo, &listener, &ending.into()))
            .map_err(Error::system("starting a pod"))?;
        let pod = Self { who, node: node.place()?.clone(), _end: end };
        pod.wait_ready()?;
        Ok(pod)
    }

    /// The readiness probe, as the node's own kubelet does it. Once in ten times it takes a second: the node's first
    /// neighbour solicitation comes before the pod's link is ready for IPv6.
    fn wait_ready(&self) -> Result<()> {
        for address in self.addresses() {
            let begin = Instant::now();
            while let Err(why) = ask(&self.node, SocketAddr::new(address, PORT), READY / 10) {
                if begin.elapsed() > READY {
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// The numbers of its node and its own.
    pub fn who(&self) -> Responder {
        self.who
    }

    /// Its own addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [v4(self.who).into(), v6(self.who).into()]
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Gone with its node's namespace, if the node lost its power.
        let _ = self.node.ip(&format!("link del {}\n", cable(self.who)));
    }
}

/// The name of the cable's end on the node.
fn cable(who: Responder) -> String {
    format!("pod{}", who.pod)
}

/// A cable from the node to the pod, with a route on both sides; as point to point as container networks are.
fn plug_in(node: &Place, pod: &Place, who: Responder) -> Result<()> {
    let gateway = Responder { pod: GATEWAY, ..who };
    let (name, own4, own6, via4, via6) = (cable(who), v4(who), v6(who), v4(gateway), v6(gateway));
    // Without a link-local address a node asks for no neighbour on behalf of what it forwards (`ndisc_solicit`).
    node.ip(&format!(
        "link add {name} type veth peer name eth0 netns {}\n\
         link set {name} addrgenmode none\n\
         link set {name} up\n\
         addr add {via4}/32 dev {name}\n\
         addr add fe80::1/64 dev {name} nodad\n\
         addr add {via6}/128 dev {name} nodad\n",
        pod.path().display()
    ))?;
    pod.ip(&format!(
        "link set eth0 addrgenmode none\n\
         link set eth0 up\n\
         addr add {own4}/32 dev eth0\n\
         addr add fe80::2/64 dev eth0 nodad\n\
         addr add {own6}/128 dev eth0 nodad\n\
         route add {via4} dev eth0\n\
         route add default via {via4} dev eth0\n\
         route add {via6} dev eth0\n\
         route add default via {via6} dev eth0\n"
    ))?;
    node.ip(&format!("route replace {own4} dev {name}\nroute replace {own6} dev {name}\n"))
}

/// Answers until the other end of `ending` is closed. `place` keeps the namespace.
fn answer(place: &Place, echo: &Echo, listener: &TcpListener, ending: &OwnedFd) {
    let _ = (place, sys::real_time(PRIORITY)); // refused in a user namespace; the lab says so once
    let [v4, v6] = echo.sockets();
    let all: [BorrowedFd<'_>; 4] = [ending.as_fd(), v4.as_fd(), v6.as_fd(), listener.as_fd()];
    while !socket::wait(&all, Duration::from_secs(10)).contains(&0) {
        echo.answer();
        while let Ok((mut stream, _)) = listener.accept() {
            let who = echo.who();
            // Who hangs up early does not want to know.
            let _ = writeln!(stream, "n{} {}", who.node, who.pod);
        }
    }
}

/// Asks a Service, or a pod, over TCP who answers; a client in `place`.
pub fn ask(place: &Place, target: SocketAddr, limit: Duration) -> Result<Responder> {
    let what = || format!("asking {target} over TCP");
    let text = place.within(|| {
        let mut stream = TcpStream::connect_timeout(&target, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    })?;
    let text = text.map_err(Error::system(what()))?;
    read(&text).ok_or_else(|| Error::Command { command: what(), said: format!("answered {text:?}") })
}

fn read(text: &str) -> Option<Responder> {
    let (node, pod) = text.trim_end().strip_prefix('n')?.split_once(' ')?;
    Some(Responder { node: node.parse().ok()?, pod: pod.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_node_and_pod() {
        let who = Responder { node: 2, pod: 7 };
        assert_eq!((v4(who).to_string(), v6(who).to_string()), ("10.244.2.7".into(), "fd44:0:0:2::7".into()));
    }

    #[test]
    fn an_answer_over_tcp_is_read_and_anything_else_is_not() {
        assert_eq!(read("n3 12\n"), Some(Responder { node: 3, pod: 12 }));
        for other in ["", "3 12\n", "n3\n", "n3 x\n", "n300 1\n"] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
