//! Carries bytes between two connections until both directions ended, untouched and in order.
//!
//! What it is: a copy in both directions. An end of stream is passed on as one (half-close); an error on either
//! side is passed on as a reset. A side that does not read stops the other side from being read: at most one
//! buffer a direction is in flight here, and an idle connection holds none.
//! What it is not: a parser. No byte is looked at. Nor is it zero-copy: `splice` would put pages of one agent, by
//! reference, into a socket of another, and two agents never share a page (decision 0015). Bulk throughput is the price.

use std::io;

use tokio::task::yield_now;
use tokio::time::sleep_until;

use crate::buffers::Buffers;
use crate::edges::{Edge, Rule};
use crate::streams::Stream;

/// After about this many bytes in a row, the other connections get their turn.
const TURN_BYTES_MAX: usize = 512 << 10;
/// A connection that is reset when dropped, unless it ended in order.
#[derive(Debug)]
pub(crate) struct Side {
    stream: Stream,
    ended: bool,
}

impl Side {
    pub(crate) fn new(stream: Stream) -> Self {
        stream.tune();
        Self { stream, ended: false }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !self.ended {
            self.stream.reset_on_close();
        }
    }
}

/// Why carrying ended out of order.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A side was reset, or is gone.
    BySide,
    /// A rule ended it.
    ByRule(Rule),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::BySide
    }
}

/// Carries both ways until both ended, as far as `edge` allows. Out of order, both are reset.
pub(crate) async fn carry(
    mut caller: Side,
    mut target: Side,
    edge: &Edge,
    buffers: &Buffers,
) -> Result<(), Ended> {
    both_ways(&caller.stream, &target.stream, edge, buffers).await?;
    caller.ended = true;
    target.ended = true;
    Ok(())
}

async fn both_ways(caller: &Stream, target: &Stream, edge: &Edge, buffers: &Buffers) -> Result<(), Ended> {
    let there = one_way(caller, target, edge, buffers);
    let back = one_way(target, caller, edge, buffers);
    tokio::pin!(there, back);
    // A side that ended its stream is not read any more: that it is gone altogether must be seen otherwise,
    // or a silent peer would hold the connection open for ever.
    tokio::select! {
        ended = &mut there => {
            ended?;
            tokio::select! { ended = back => ended, gone = gone(caller) => gone }
        }
        ended = &mut back => {
            ended?;
            tokio::select! { ended = there => ended, gone = gone(target) => gone }
        }
    }
}

/// Ends, with an error, when `side` is reset or its peer no longer answers.
async fn gone(side: &Stream) -> Result<(), Ended> {
    side.gone().await?;
    Err(Ended::BySide)
}

async fn one_way(from: &Stream, to: &Stream, edge: &Edge, buffers: &Buffers) -> Result<(), Ended> {
    'wait: loop {
        from.readable().await?;
        if let Some(until) = edge.wait_until() {
            sleep_until(until).await;
        }
        // Borrowed here so that a waiting direction holds no memory.
        let mut buffer = buffers.lend();
        for _ in 0..TURN_BYTES_MAX.div_ceil(buffer.size()) {
            let bytes_max = edge.read_bytes_max(buffer.size());
            // Where no byte is left, one more is read to tell an end of stream from a byte too many.
            let space = buffer.first(bytes_max.max(1));
            match from.try_read(space) {
                Ok(0) => return Ok(to.end()?),
                Ok(_) if bytes_max == 0 => return Err(Ended::ByRule(Rule::Bytes)),
                Ok(bytes) => {
                    edge.count(bytes);
                    write_all(to, space.get(..bytes).unwrap_or_default()).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue 'wait,
                Err(error) => return Err(error.into()),
            }
            if edge.wait_until().is_some() {
                continue 'wait;
            }
        }
        drop(buffer);
        yield_now().await;
    }
}

async fn write_all(to: &Stream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match to.try_write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
