//! A Redis Cluster of which one server can be parted from all others, together with whoever is beside it: what is sent between
//! the two sides is lost until they are joined again.
//!
//! Servers meet each other on the bus. Each has a name of its own on this machine, by which it connects to others, and each is
//! known by a port that is not its bus itself: there it is looked at who comes. Nodes are told ports alone, and go on by the
//! name that they asked by: it says on which side they are.

use std::net::{IpAddr, Ipv4Addr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use super::faulty_link::{FaultyLink, Trouble};
use super::redis_server::free_port;

/// What the servers are called by whoever is beside the one that is parted, and by all others.
const BESIDE: &str = "127.0.0.2";
const APART: &str = "127.0.0.3";

/// Three masters, each with a replica.
pub struct PartedCluster {
    pub cluster: Cluster,
    /// Who is parted from the others, on the bus.
    parted: watch::Sender<Option<usize>>,
    /// Links to each server, by side.
    beside: Vec<FaultyLink>,
    apart: Vec<FaultyLink>,
    listening: Vec<JoinHandle<()>>,
}

impl PartedCluster {
    /// Nothing is parted yet; each server has these arguments more.
    pub async fn start(more: &[&str]) -> Self {
        let (parted, seen) = watch::channel(None);
        let (mut ports, mut listening) = (Vec::new(), Vec::new());
        for number in 0..6 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let (announced, bus) = (listener.local_addr().expect("bound").port(), free_port());
            ports.push((announced, bus));
            listening.push(tokio::spawn(carry_bus(listener, bus, number, seen.clone())));
        }
        let arguments = |number: usize| {
            let (announced, bus) = ports[number];
            let own = [
                ("--cluster-port", bus.to_string()),
                ("--cluster-announce-bus-port", announced.to_string()),
                ("--bind-source-addr", name_of(number).to_string()),
                // A replica comes by that name too.
                ("--protected-mode", "no".to_owned()),
                ("--cluster-preferred-endpoint-type", "unknown-endpoint".to_owned()),
            ];
            let own = own.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
            own.chain(more.iter().map(|argument| (*argument).to_owned())).collect()
        };
        let cluster = Cluster::start_each("redis-server".into(), 1, arguments).await;
        let (mut beside, mut apart) = (Vec::new(), Vec::new());
        for port in cluster.ports() {
            beside.push(FaultyLink::at(BESIDE, *port).await);
            apart.push(FaultyLink::at(APART, *port).await);
        }
        Self { cluster, parted, beside, apart, listening }
    }

    /// Where it is, for a node beside the server that will be parted.
    pub fn url_beside(&self) -> String {
        self.cluster.url_at(BESIDE)
    }

    /// The same for all others.
    pub fn url_apart(&self) -> String {
        self.cluster.url_at(APART)
    }

    /// From now on no node on either side reaches a server on the other, and a replica gets nothing from its master. The servers
    /// still meet on the bus.
    pub async fn part_nodes(&self, number: usize) {
        self.apart[number].trouble(Trouble::Silent);
        let others = self.beside.iter().enumerate().filter(|(other, _)| *other != number);
        others.for_each(|(_, link)| link.trouble(Trouble::Silent));
        self.cluster.cut_replication(self.cluster.replica_of(number)).await;
    }

    /// The servers meet no more either: this one is alone.
    pub fn part_servers(&self, number: usize) {
        self.parted.send_replace(Some(number));
    }

    /// Everybody reaches everybody again.
    pub fn join(&self) {
        let parted = self.parted.send_replace(None).expect("one is parted");
        self.beside.iter().chain(&self.apart).for_each(FaultyLink::heal);
        self.cluster.heal_replication(self.cluster.replica_of(parted));
    }
}

impl Drop for PartedCluster {
    fn drop(&mut self) {
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

/// The name by which a server connects to others.
fn name_of(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, 1 + number as u8).into()
}

/// Carries what others send to the bus of a server.
async fn carry_bus(listener: TcpListener, bus: u16, number: usize, parted: watch::Receiver<Option<usize>>) {
    while let Ok((mut from, address)) = listener.accept().await {
        let mut parted = parted.clone();
        tokio::spawn(async move {
            let is_between =
                |parted: &Option<usize>| parted.is_some_and(|parted| (parted == number) != (name_of(parted) == address.ip()));
            let Ok(mut to) = TcpStream::connect(("127.0.0.1", bus)).await else { return };
            tokio::select! {
                biased;
                _ = parted.wait_for(is_between) => {}
                _ = copy_bidirectional(&mut from, &mut to) => return,
            }
            // Nothing comes through any more, and neither side is told, until they may meet again.
            let _ = parted.wait_for(|parted| !is_between(parted)).await;
        });
    }
}
