//! The packet filter and real packets: a client at the far end of a cable, servers on the near end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant as Moment};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use socket2::{Domain, SockRef, Socket, Type};
use vip_model::Known;
use vip_model::kernel::{FilterState, Outcome};
use vip_model::plan::PacketFilter;
use vip_model::service::Protocol::{Sctp, Tcp, Udp};

use crate::filter::{filter, set};
use crate::namespace::{Node, in_namespace_with_nft, ip, nft, sysctl};

/// A VIP of each family, and an address of the node itself.
const VIPS: [&str; 2] = ["192.0.2.9", "2001:db8::9"];
const OWN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// After this time without an answer a packet counts as dropped.
const SILENCE: Duration = Duration::from_millis(300);
/// How long an answer may take that is expected.
const ANSWER: Duration = Duration::from_secs(3);
/// Between two questions: some thousand connections fit into the kernel's table of them, not a hundred thousand.
const PAUSE: Duration = Duration::from_millis(1);

/// A thread in a network namespace of its own, at the far end of the cable, that does what it is told.
struct Client {
    orders: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// At the far end of the cable, with addresses at both ends.
    fn start() -> Self {
        let client = Self::with_cable("near", "far");
        for addr in OWN.iter().chain(&VIPS) {
            add_address(addr, "near");
        }
        client.run(|| CLIENT.map(|addr| add_address(addr, "far")));
        client
    }

    /// A cable from the namespace of this thread to a new one.
    fn with_cable(near: &str, far: &'static str) -> Self {
        let (orders, queue) = channel::<Box<dyn FnOnce() + Send>>();
        let (ready, id) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(gettid()).unwrap();
            for order in queue {
                order();
            }
        });
        ip(&format!("link add name {near} type veth peer name {far}"));
        ip(&format!("link set {far} netns {}", id.recv().unwrap()));
        ip(&format!("link set {near} up"));
        let client = Self { orders: Some(orders), thread: Some(thread) };
        client.run(move || {
            ip("link set lo up");
            ip(&format!("link set {far} up"));
        });
        client
    }

    /// Does this in the client's namespace.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let order = Box::new(move || sender.send(work()).unwrap());
        self.orders.as_ref().unwrap().send(order).unwrap();
        result.recv().expect("the client thread lives")
    }

    fn tcp(&self, to: &str, port: u16) -> Result<(), io::ErrorKind> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.run(move || TcpStream::connect_timeout(&to, SILENCE).map(drop).map_err(|error| error.kind()))
    }

    fn udp(&self, to: &str, port: u16) -> bool {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.run(move || Echo::open(to).answers(SILENCE))
    }

    fn ping(&self, to: &str) -> bool {
        let to = to.parse().unwrap();
        self.run(move || ping(to))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.orders.take();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the client thread panicked");
    }
}

fn add_address(addr: &str, link: &str) {
    let (length, nodad) = if addr.contains(':') { (64, "nodad") } else { (24, "") };
    ip(&format!("addr add {addr}/{length} dev {link} {nodad}"));
}

/// A UDP socket that counts what it sends.
struct Echo {
    socket: UdpSocket,
    sent: u32,
}

impl Echo {
    fn open(to: SocketAddr) -> Self {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        Self { socket, sent: 0 }
    }

    /// Sends one datagram and waits for that very one to come back.
    fn answers(&mut self, patience: Duration) -> bool {
        self.sent += 1;
        let mut buffer = [0; 4];
        self.socket.set_read_timeout(Some(patience)).unwrap();
        self.socket.send(&self.sent.to_be_bytes()).unwrap();
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(4) if buffer == self.sent.to_be_bytes() => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}

/// One echo request (RFC 792, RFC 4443 §4.1).
fn ping(to: IpAddr) -> bool {
    let (domain, protocol, request, reply, header) = match to {
        IpAddr::V4(_) => (Domain::IPV4, socket2::Protocol::ICMPV4, 8, 0, 20),
        IpAddr::V6(_) => (Domain::IPV6, socket2::Protocol::ICMPV6, 128, 129, 0),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    // The checksum of a message of zeros but for its type; the kernel writes that of ICMPv6.
    let checksum = !(u16::from(request) << 8);
    let [high, low] = checksum.to_be_bytes();
    socket.send_to(&[request, 0, high, low, 0, 0, 0, 0], &SocketAddr::new(to, 0).into()).unwrap();
    let end = Moment::now() + SILENCE;
    let socket = UdpSocket::from(socket);
    let mut buffer = [0; 1500];
    while let Some(left) = end.checked_duration_since(Moment::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).unwrap();
        match socket.recv_from(&mut buffer) {
            Ok((_, from)) if from.ip() == to && buffer[header] == reply => return true,
            _ => {}
        }
    }
    false
}

/// Servers on these addresses, until they are dropped.
struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// On all addresses of the near end.
    fn near(tcp: &[u16], udp: &[u16]) -> Self {
        Self::start(&[VIPS, OWN].concat(), tcp, udp)
    }

    /// Each on an address of its own, so that answers come from where the question went.
    fn start(addrs: &[&str], tcp: &[u16], udp: &[u16]) -> Self {
        let mut servers = Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for addr in addrs {
            let at = |port| SocketAddr::new(addr.parse().unwrap(), port);
            for port in tcp {
                let listener = TcpListener::bind(at(*port)).unwrap();
                // Again, with a longer queue: this thread may have to wait for its turn.
                SockRef::from(&listener).listen(4096).unwrap();
                SockRef::from(&listener).set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                servers.spawn(move || drop(listener.accept()));
            }
            for port in udp {
                let socket = UdpSocket::bind(at(*port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                servers.spawn(move || {
                    let mut buffer = [0; 64];
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        socket.send_to(&buffer[..length], from).unwrap();
                    }
                });
            }
        }
        servers
    }

    fn spawn(&mut self, mut turn: impl FnMut() + Send + 'static) {
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                turn();
            }
        }));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// TCP 80 and UDP 53 to both VIPs.
fn web_and_names() -> PacketFilter {
    filter(&VIPS.map(|vip| (vip, &[(Tcp, 80), (Udp, 53)][..])))
}

#[test]
fn only_open_ports_of_a_filtered_address_answer() {
    in_namespace_with_nft(|| {
        let client = Client::start();
        let _servers = Servers::near(&[22, 80], &[53, 68, 69]);
        let mut node = Node::start();
        for addr in VIPS.iter().chain(&OWN) {
            assert_eq!(client.tcp(addr, 22), Ok(()), "{addr} before there is a filter");
        }
        assert_eq!(node.apply(set("services", Some(web_and_names()))), [Outcome::Done]);
        for vip in VIPS {
            assert_eq!(client.tcp(vip, 80), Ok(()), "{vip}");
            assert_eq!(client.tcp(vip, 22), Err(io::ErrorKind::TimedOut), "{vip}");
            // An open port without a server refuses; the refusal of a closed one would be an answer.
            assert_eq!(client.tcp(vip, 53), Err(io::ErrorKind::TimedOut), "{vip}: 53 is open for UDP only");
            assert!(client.udp(vip, 53), "{vip}");
            assert!(!client.udp(vip, 69), "{vip}");
            assert!(client.udp(vip, 68), "{vip}: DHCP");
            assert!(client.ping(vip), "{vip}");
        }
        for own in OWN {
            assert_eq!(client.tcp(own, 22), Ok(()), "{own} is not filtered");
            assert_eq!(client.tcp(own, 81), Err(io::ErrorKind::ConnectionRefused), "{own}");
            assert!(client.udp(own, 69) && client.ping(own), "{own}");
        }
        assert_eq!(node.apply(set("services", None)), [Outcome::Done]);
        for vip in VIPS {
            assert_eq!(client.tcp(vip, 22), Ok(()), "{vip} when the filter is gone");
            assert!(client.udp(vip, 69), "{vip}");
        }
    });
}

#[test]
fn a_service_is_judged_by_its_own_address_and_port_before_kube_proxy_rewrites_them() {
    in_namespace_with_nft(|| {
        let client = Client::start();
        let _servers = Servers::near(&[8080], &[]);
        let mut node = Node::start();
        // As kube-proxy does it: the Service's port 80 leads to port 8080 of a pod.
        nft("add table inet proxy");
        nft("add chain inet proxy services { type nat hook prerouting priority dstnat ; }");
        for (family, (vip, own)) in ["ip", "ip6"].into_iter().zip(VIPS.into_iter().zip(OWN)) {
            for port in [80, 81] {
                let pod = if family == "ip" { format!("{own}:8080") } else { format!("[{own}]:8080") };
                nft(&format!(
                    "add rule inet proxy services {family} daddr {vip} tcp dport {port} dnat {family} to {pod}"
                ));
            }
        }
        node.apply(set("services", Some(web_and_names())));
        for (vip, own) in VIPS.into_iter().zip(OWN) {
            assert_eq!(client.tcp(vip, 80), Ok(()), "{vip}");
            assert_eq!(client.tcp(vip, 81), Err(io::ErrorKind::TimedOut), "{vip}: a rule of the proxy only");
            assert_eq!(client.tcp(vip, 8080), Err(io::ErrorKind::TimedOut), "{vip}: the pod's own port");
            assert_eq!(client.tcp(own, 8080), Ok(()), "{own}: the pod itself");
        }
    });
}

#[test]
fn traffic_that_is_forwarded_is_judged_too() {
    in_namespace_with_nft(|| {
        let client = Client::start();
        // A pod in a namespace of its own behind the node, and a VIP that the node does not even carry.
        let pod = pod_behind_the_node();
        let pod_server = pod.run(|| Servers::start(&["198.51.100.9"], &[80, 81], &[]));
        client.run(|| ip("route add 198.51.100.0/24 via 192.0.2.1"));
        let mut node = Node::start();
        assert_eq!(client.tcp("198.51.100.9", 81), Ok(()));
        node.apply(set("services", Some(filter(&[("198.51.100.9", &[(Tcp, 80)])]))));
        assert_eq!(client.tcp("198.51.100.9", 80), Ok(()));
        assert_eq!(client.tcp("198.51.100.9", 81), Err(io::ErrorKind::TimedOut));
        pod.run(move || drop(pod_server));
    });
}

fn pod_behind_the_node() -> Client {
    let pod = Client::with_cable("tap", "eth0");
    ip("addr add 198.51.100.1/24 dev tap");
    sysctl("net.ipv4.ip_forward", "1");
    pod.run(|| {
        ip("addr add 198.51.100.9/24 dev eth0");
        ip("route add default via 198.51.100.1");
    });
    pod
}

#[test]
fn replies_to_connections_from_a_filtered_address_come_back() {
    in_namespace_with_nft(|| {
        let client = Client::start();
        let servers = client.run(|| Servers::start(&CLIENT, &[4000], &[4001]));
        let mut node = Node::start();
        node.apply(set("services", Some(filter(&VIPS.map(|vip| (vip, &[(Sctp, 9)][..]))))));
        for (vip, to) in VIPS.into_iter().zip(CLIENT) {
            let from: IpAddr = vip.parse().unwrap();
            let to: IpAddr = to.parse().unwrap();
            let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let tcp = Socket::new(domain, Type::STREAM, None).unwrap();
            tcp.bind(&SocketAddr::new(from, 0).into()).unwrap();
            tcp.connect_timeout(&SocketAddr::new(to, 4000).into(), ANSWER).unwrap();
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.connect((to, 4001)).unwrap();
            assert!(Echo { socket, sent: 0 }.answers(ANSWER), "{vip}");
        }
        client.run(move || drop(servers));
    });
}

#[test]
fn replacing_the_filter_loses_no_packet_and_opens_nothing() {
    in_namespace_with_nft(|| {
        let client = Client::start();
        let _servers = Servers::near(&[80], &[53, 69]);
        let mut node = Node::start();
        // Two filters that agree about the ports under test, one of them much larger.
        let small = web_and_names();
        let mut large = small.clone();
        let more = filter(&VIPS.map(|vip| (vip, &[(Tcp, 443)][..]))).open.into_values().next().unwrap();
        large.open.extend((0..1000).map(|at| (Ipv4Addr::from_bits(0x0a00_0000 + at).into(), more.clone())));
        node.apply(set("services", Some(small.clone())));
        let stop = Arc::new(AtomicBool::new(false));
        let tries = Arc::new(AtomicU32::new(0));
        let (stopped, counted) = (stop.clone(), tries.clone());
        let clients = client.run(move || VIPS.map(|vip| knock(vip, stopped.clone(), counted.clone())));
        let mut replaced = 0;
        let end = Moment::now() + Duration::from_secs(2);
        while Moment::now() < end {
            let next = if replaced % 2 == 0 { &large } else { &small };
            assert_eq!(node.apply(set("services", Some(next.clone()))), [Outcome::Done]);
            assert_eq!(node.actual.filter, Known::Known(FilterState::AsSet));
            replaced += 1;
        }
        stop.store(true, Ordering::Release);
        for threads in clients {
            for thread in threads {
                thread.join().unwrap();
            }
        }
        let tries = tries.load(Ordering::Relaxed);
        println!("{replaced} replacements, {tries} questions answered, none of a closed port");
        assert!(replaced > 20 && tries > 500, "{replaced} replacements, {tries} questions");
    });
}

/// Asks the open ports of a VIP all the time, each time expecting an answer, and a closed one, expecting none.
fn knock(vip: &'static str, stop: Arc<AtomicBool>, tries: Arc<AtomicU32>) -> [JoinHandle<()>; 3] {
    let to = move |port| SocketAddr::new(vip.parse().unwrap(), port);
    let (tcp_stop, udp_stop, tcp_tries) = (stop.clone(), stop.clone(), tries.clone());
    let tcp = std::thread::spawn(move || {
        while !tcp_stop.load(Ordering::Acquire) {
            // A lost SYN is sent again after a second: that would be seen.
            let began = Moment::now();
            TcpStream::connect_timeout(&to(80), ANSWER).unwrap_or_else(|error| panic!("{vip}: {error}"));
            assert!(began.elapsed() < Duration::from_millis(900), "{vip}: {:?}", began.elapsed());
            tcp_tries.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE);
        }
    });
    let udp = std::thread::spawn(move || {
        while !udp_stop.load(Ordering::Acquire) {
            // A new socket each time, so that no packet passes as part of a known connection.
            assert!(Echo::open(to(53)).answers(ANSWER), "{vip}: a question was lost");
            tries.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE);
        }
    });
    let closed = std::thread::spawn(move || {
        let socket = Echo::open(to(69)).socket;
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut buffer = [0; 4];
        while !stop.load(Ordering::Acquire) {
            for _ in 0..20 {
                // A full queue of the link is no matter here.
                socket.send(&[0; 4]).ok();
            }
            assert!(socket.recv(&mut buffer).is_err(), "{vip}: a closed port answered");
        }
    });
    [tcp, udp, closed]
}
