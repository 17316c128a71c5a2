//! Standard output and bounded reading of lines: what is printed, and what is taken from a socket or a file.

use std::io::{BufRead, Read as _, Write as _};

use casemate_protocol::refusal::printable_line;

/// Longest line that is read from another program, in bytes: evidence of 8 MiB fits.
pub(crate) const LINE_BYTES_MAX: u64 = 16 << 20;

/// Prints a line. A closed standard output is not an error: the reader has seen what it wanted.
pub(crate) fn print(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
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
