//! The texts that a composition is read from, places in them, and the line that a problem shows.
//!
//! What it is not: a reader of files. Whoever has one gives its name and its text.

use std::fmt;
use std::sync::Arc;

use crate::problem::printable;

/// Most characters of a source line that are shown.
pub const EXCERPT_CHARS_MAX: usize = 100;
/// Characters before the marked ones that stay visible in a long line.
const EXCERPT_CHARS_BEFORE: usize = 30;

/// One of the files that a composition is read from, in the order in which they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileId(pub(crate) u16);

/// A place in a file: line and column from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// How many characters of the line belong to it. 0 where the place stands for the whole file.
    pub width: usize,
}

impl Place {
    /// The first file as a whole.
    pub const START: Self = Self::start_of(FileId(0));

    /// A file as a whole.
    #[must_use]
    pub const fn start_of(file: FileId) -> Self {
        Self { file, line: 1, column: 1, width: 0 }
    }
}

/// The line that a problem is about, and what of it is meant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Excerpt {
    /// The line, or the part of a long one around the place: printable, at most [`EXCERPT_CHARS_MAX`] characters
    /// and `…` where something was cut off.
    pub text: String,
    /// Characters of `text` before the marked ones.
    pub before: usize,
    /// Marked characters, at least 1.
    pub marked: usize,
}

impl Excerpt {
    /// The two lines that show it: the text after its line number, and the carets below.
    #[must_use]
    pub fn lines(&self, line: usize) -> [String; 2] {
        let number = line.to_string();
        let (indent, blank) = (" ".repeat(self.before), " ".repeat(number.len()));
        [
            format!("  {number} | {}", self.text).trim_end().to_owned(),
            format!("  {blank} | {indent}{}", "^".repeat(self.marked)),
        ]
    }
}

/// The files, by number. A clone shares their texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources(Vec<Arc<Source>>);

/// What a file is, and so what of it may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A Compose file.
    Compose,
    /// Variables: values may be secrets, so only names are shown.
    Variables,
}

/// One file.
pub(crate) struct Source {
    pub(crate) name: String,
    kind: Kind,
    pub(crate) text: String,
    /// Byte at which each line starts.
    starts: Vec<usize>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.text.len())
    }
}

impl Sources {
    /// Adds a file. Past 65,535 files the last number stands for all: the limits of the loader are far below.
    pub(crate) fn add(&mut self, name: &str, text: &str, kind: Kind) -> FileId {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let id = FileId(u16::try_from(self.0.len()).unwrap_or(u16::MAX));
        self.0.push(Arc::new(Source { name: name.to_owned(), kind, starts: starts(&text), text }));
        id
    }

    /// The file with this number.
    pub(crate) fn get(&self, id: FileId) -> Option<&Arc<Source>> {
        self.0.get(usize::from(id.0))
    }

    /// The name of the file of `place`.
    pub(crate) fn name(&self, id: FileId) -> &str {
        self.get(id).map_or("", |source| &source.name)
    }

    /// The line of `place`, if it is about one.
    pub(crate) fn excerpt(&self, place: Place) -> Option<Excerpt> {
        if place.width == 0 {
            return None;
        }
        let source = self.get(place.file)?;
        let index = place.line.checked_sub(1)?;
        let end = source.starts.get(place.line).copied().unwrap_or(source.text.len());
        let line = source.text.get(*source.starts.get(index)?..end)?.trim_end();
        if source.kind == Kind::Variables {
            let name = line.split_inclusive(['=', ':']).next().unwrap_or_default();
            let shown =
                if name.len() < line.len() { format!("{name}\u{2026}") } else { "\u{2026}".to_owned() };
            return excerpt(&shown, place.column.saturating_sub(1), place.width);
        }
        excerpt(line, place.column.saturating_sub(1), place.width)
    }
}

/// Bytes at which lines start: after a line feed, a carriage return, or both (YAML 1.2.2, section 5.4).
fn starts(text: &str) -> Vec<usize> {
    let mut starts = vec![0];
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        let ends = byte == b'\n' || byte == b'\r' && bytes.peek().is_none_or(|(_, next)| *next != b'\n');
        if ends {
            starts.push(at.saturating_add(1));
        }
    }
    starts
}

/// The part of `line` around the `width` characters at `column`, from 0. None where the line is shorter: the place is
/// then the end of the file, and there is nothing to show.
fn excerpt(line: &str, column: usize, width: usize) -> Option<Excerpt> {
    let rest: String = line.chars().skip(column).take(width.min(EXCERPT_CHARS_MAX)).collect();
    if rest.is_empty() {
        return None;
    }
    let whole = line.chars().nth(EXCERPT_CHARS_MAX).is_none();
    let skipped = if whole { 0 } else { column.saturating_sub(EXCERPT_CHARS_BEFORE) };
    let (dots, mut before) = if skipped > 0 { ("\u{2026}", 1) } else { ("", 0) };
    before = column.saturating_sub(skipped).saturating_add(before);
    // A tab is as wide as a space here, so that the marks stand below what they mark.
    let shown: String =
        line.chars().skip(skipped).take(EXCERPT_CHARS_MAX).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let more = line.chars().nth(skipped.saturating_add(EXCERPT_CHARS_MAX)).is_some();
    let text = format!("{dots}{}{}", printable(&shown), if more { "\u{2026}" } else { "" });
    let room = EXCERPT_CHARS_MAX.saturating_add(1).saturating_sub(before);
    let marked = rest.trim_end().chars().count().clamp(1, room.max(1));
    Some(Excerpt { text, before, marked })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize, width: usize) -> String {
        let mut sources = Sources::default();
        let file = sources.add("f", text, Kind::Compose);
        let excerpt = sources.excerpt(Place { file, line, column, width });
        excerpt.map_or_else(String::new, |excerpt| excerpt.lines(line).join("\n"))
    }

    #[test]
    fn marks_what_is_meant_below_its_line() {
        assert_eq!(shown("a: 1\n  imgae: x\n", 2, 3, 5), "  2 |   imgae: x\n    |   ^^^^^");
        assert_eq!(shown("a\r\nb: c\rd", 2, 4, 1), "  2 | b: c\n    |    ^");
        assert_eq!(shown("a\r\nb\rd", 3, 1, 1), "  3 | d\n    | ^");
        assert_eq!(shown("\u{feff}a: b", 1, 1, 1), "  1 | a: b\n    | ^");
        assert_eq!(shown("a:\tb   ", 1, 4, 9), "  1 | a: b\n    |    ^");
    }

    #[test]
    fn shows_nothing_of_a_place_that_is_no_line() {
        assert_eq!(shown("a", 1, 1, 0), "");
        assert_eq!(shown("a", 1, 2, 1), "");
        assert_eq!(shown("a", 9, 1, 1), "");
        assert_eq!(Sources::default().excerpt(Place { width: 1, ..Place::START }), None);
    }

    #[test]
    fn shows_no_value_of_a_file_of_variables() {
        let mut sources = Sources::default();
        let file = sources.add("f", "TOKEN=hunter2\nhunter3\n", Kind::Variables);
        let shown = |line, column| {
            let excerpt = sources.excerpt(Place { file, line, column, width: 3 });
            excerpt.map_or_else(String::new, |excerpt| excerpt.text)
        };
        assert_eq!(shown(1, 1), "TOKEN=\u{2026}");
        assert_eq!(shown(1, 7), "TOKEN=\u{2026}");
        assert_eq!(shown(1, 9), "");
        assert_eq!(shown(2, 1), "\u{2026}");
    }

    #[test]
    fn bounds_a_long_line_and_hides_control_characters() {
        let text = format!("{}\u{1b}[2Jkey{}", "x".repeat(500), "y".repeat(500));
        let got = shown(&text, 1, 505, 3);
        let lines: Vec<&str> = got.lines().collect();
        assert!(lines[0].chars().count() <= EXCERPT_CHARS_MAX + 8, "{got}");
        assert!(lines[0].starts_with("  1 | \u{2026}x") && lines[0].ends_with("y\u{2026}"), "{got}");
        assert!(lines[0].contains("\u{fffd}[2Jkey"), "{got}");
        let column = lines[1].find('^').unwrap();
        let marked: String = lines[0].chars().skip(column).take(3).collect();
        assert_eq!(marked, "key");
        assert_eq!(shown(&"z".repeat(10_000), 1, 1, 10_000).matches('^').count(), EXCERPT_CHARS_MAX);
    }
}
