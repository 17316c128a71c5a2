//! Standard output and bounded reading of lines: what is printed, and what is taken from a socket or a file.

use std::io::{BufRead, ErrorKind, Read as _, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use casemate_protocol::refusal::printable_line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;

/// Longest line that is read from another program, in bytes: evidence of 8 MiB fits.
pub(crate) const LINE_BYTES_MAX: u64 = 16 << 20;

/// Time between two looks whether standard output still takes anything.
const LOOK: Duration = Duration::from_millis(100);

/// The first error of standard output.
static OUTPUT_ERROR: OnceLock<std::io::Error> = OnceLock::new();

/// Prints a line. An error is remembered: see [`output_ended`] and [`output_failure`].
pub(crate) fn print(line: impl std::fmt::Display) {
    print_bytes(format!("{line}\n").as_bytes());
}

/// Prints whole lines. An error is remembered likewise.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if OUTPUT_ERROR.get().is_none()
        && let Err(error) = out.write_all(bytes).and_then(|()| out.flush())
    {
        let _ = OUTPUT_ERROR.set(error);
    }
}

/// Whether standard output takes nothing more: a write failed, or nobody reads the pipe any more (poll(2), `POLLERR`).
pub(crate) fn output_ended() -> bool {
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let unread = poll(&mut fds, Some(&Timespec::default())).is_ok()
        && fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR));
    unread || OUTPUT_ERROR.get().is_some()
}

/// Waits until standard output takes nothing more.
pub(crate) async fn until_output_ends() {
    while !output_ended() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The failure that lost output is. A closed pipe is none: the reader has seen what it wanted.
pub(crate) fn output_failure() -> Option<Failure> {
    let error = OUTPUT_ERROR.get().filter(|error| error.kind() != ErrorKind::BrokenPipe)?;
    let what = rustix::io::Errno::from_io_error(error)
        .filter(|errno| *errno == rustix::io::Errno::NOSPC)
        .map_or_else(|| error.to_string(), |_| "No space left on device".to_owned());
    Some(Failure::environment(format!("standard output: {what}"), "free some space, or write elsewhere"))
}

/// Prints a line on standard error.
pub(crate) fn note(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The next line without its end; none at the end of the input.
pub(crate) fn next_line(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "line is cut off or too long"));
    }
    Ok(Some(line))
}

/// Prints rows in columns as wide as their widest cell; the last one as it is.
pub(crate) fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        print(cells.join("  ").trim_end());
    }
}

/// A size in its largest unit with one decimal place.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let found = units.into_iter().find(|(_, shift)| bytes >= 1 << shift);
    found.map_or_else(
        || format!("{bytes} B"),
        |(unit, shift)| {
            let tenths = bytes.saturating_mul(10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
}

/// Text of an agent for a terminal: nothing that moves the cursor, turns text around or hides, but tab.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split('\t').map(printable_line).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_an_error_and_the_end_is_not() {
        let mut reader: &[u8] = b"a\nb";
        assert_eq!(next_line(&mut reader).unwrap(), Some(b"a".to_vec()));
        assert_eq!(next_line(&mut reader).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        let mut reader: &[u8] = b"";
        assert_eq!(next_line(&mut reader).unwrap(), None);
    }

    #[test]
    fn an_agent_cannot_move_the_cursor() {
        assert_eq!(printable(b"a\x1b[2J\tb"), "a\u{fffd}[2J\tb");
        assert_eq!(printable("a\u{202e}b\u{2028}".as_bytes()), "a\u{fffd}b\u{fffd}");
    }
}
