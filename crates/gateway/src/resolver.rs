//! The resolver of one agent: serves `127.0.0.53:53` of its network namespace over UDP and TCP.
//!
//! What it is: sockets around `dns::answer`. Each name that is not declared is reported, within bounds.
//! What it is not: a way to the outside. No query leaves the box.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Instant;

use casemate_composition::lock::AgentName;
use casemate_protocol::gateway::FromGateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use crate::connections::ACCEPT_PAUSE;
use crate::denials::Denials;
use crate::dns::{QUERY_BYTES_MAX, Reply, answer};
use crate::limits::Limits;

/// After this many datagrams in a row, the other tasks get their turn.
const TURN_DATAGRAMS_MAX: u64 = 32;

/// What one agent may ask for, and whom to tell about the rest.
#[derive(Debug)]
pub(crate) struct Resolver {
    agent: AgentName,
    names: RefCell<BTreeMap<String, Ipv4Addr>>,
    denials: RefCell<Denials>,
    outbox: mpsc::Sender<FromGateway>,
    limits: Limits,
}

impl Resolver {
    pub(crate) fn new(
        agent: AgentName,
        names: BTreeMap<String, Ipv4Addr>,
        outbox: mpsc::Sender<FromGateway>,
        limits: &Limits,
    ) -> Self {
        let denials = Denials::new(limits.denials_per_second_max, Instant::now());
        let names = RefCell::new(in_lower_case(names));
        Self { agent, names, denials: RefCell::new(denials), outbox, limits: limits.clone() }
    }

    /// Answers these names from now on, and no others.
    pub(crate) fn set_names(&self, names: BTreeMap<String, Ipv4Addr>) {
        *self.names.borrow_mut() = in_lower_case(names);
    }

    /// Answers datagrams until aborted.
    pub(crate) async fn serve_udp(self: Rc<Self>, socket: UdpSocket) {
        let mut query = [0; QUERY_BYTES_MAX + 1];
        for turn in 1_u64.. {
            if turn.is_multiple_of(TURN_DATAGRAMS_MAX) {
                yield_now().await;
            }
            // An error here is one that an earlier answer met: the asker is gone.
            if let Ok((length, asker)) = socket.recv_from(&mut query).await
                && let Some(bytes) = query.get(..length).and_then(|query| self.reply(query))
            {
                // An answer that does not fit the asker's buffer is lost, as on any network.
                let _ = socket.try_send_to(&bytes, asker);
            }
        }
    }

    /// Answers connections until aborted.
    pub(crate) async fn serve_tcp(self: Rc<Self>, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if tasks.len() >= self.limits.dns_connections_max {
                let _ = stream.set_zero_linger();
                continue;
            }
            let resolver = Rc::clone(&self);
            tasks.spawn_local(async move {
                let _ = resolver.serve_stream(stream).await;
            });
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut query = [0; QUERY_BYTES_MAX];
        loop {
            let exchange = async {
                let length = usize::from(stream.read_u16().await?);
                let query = query.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
                stream.read_exact(query).await?;
                let bytes = self.reply(query).ok_or(io::ErrorKind::InvalidData)?;
                let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
                let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
                stream.write_all(&framed).await
            };
            timeout(self.limits.dns_idle_max, exchange).await??;
        }
    }

    fn reply(&self, query: &[u8]) -> Option<Vec<u8>> {
        if query.len() > QUERY_BYTES_MAX {
            return None;
        }
        match answer(query, &self.names.borrow()) {
            Reply::Silence => None,
            Reply::Send(bytes) => Some(bytes),
            Reply::Deny { bytes, name } => {
                self.report(name);
                Some(bytes)
            }
        }
    }

    fn report(&self, name: String) {
        let mut denials = self.denials.borrow_mut();
        if denials.report(&name, Instant::now()) {
            tracing::info!(agent = %self.agent, name, unreported = denials.unreported(), "name denied");
            // A full outbox means that the warden is behind: it is told the next time, the log line stands.
            let _ = self.outbox.try_send(FromGateway::NameDenied { agent: self.agent.clone(), name });
        }
    }
}

fn in_lower_case(names: BTreeMap<String, Ipv4Addr>) -> BTreeMap<String, Ipv4Addr> {
    names.into_iter().map(|(name, alias)| (name.to_ascii_lowercase(), alias)).collect()
}
