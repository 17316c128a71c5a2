//! What is wrong with a Compose file, and where: what, the line, and what to do; all of them at once.
//!
//! What it is not: a place where decisions are made. Text of the file is quoted printable and bounded, because a
//! file may come from anybody.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use crate::source::{EXCERPT_CHARS_MAX, Excerpt, FileId, Place};
use crate::source::{Kind, Source, Sources};

/// Most problems of one report; the rest is counted.
pub const PROBLEMS_MAX: usize = 100;
/// Longest text of one line of a problem, in characters.
pub const PROBLEM_LINE_CHARS_MAX: usize = 400;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) place: Place,
    pub(crate) value: T,
}

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// File as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The line, unless the problem is about the whole file.
    pub excerpt: Option<Excerpt>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub todo: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)?;
        for line in self.excerpt_lines() {
            writeln!(f, "{line}")?;
        }
        write!(f, "  do: {}", self.todo)
    }
}

impl Problem {
    /// The lines that show where it is: two or none.
    #[must_use]
    pub fn excerpt_lines(&self) -> Vec<String> {
        self.excerpt.as_ref().map_or_else(Vec::new, |excerpt| excerpt.lines(self.line).to_vec())
    }
}

/// All that is wrong, in the order of the files. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No value and no reason: our own mistake, and still never silent.
    pub(crate) fn of_nothing(file_name: &str) -> Self {
        let mut findings = Findings::default();
        findings.add(file_name, "");
        match findings.finish(None::<()>) {
            Err(problems) => problems,
            Ok(_) => Self(Vec::new()),
        }
    }

    /// The problems.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Collects problems and warnings while files are read.
#[derive(Debug, Default)]
pub(crate) struct Findings<'a> {
    sources: Cow<'a, Sources>,
    problems: Vec<(Place, Problem)>,
    warnings: Vec<(Place, Problem)>,
    problems_left_out: usize,
    warnings_left_out: usize,
    /// Values that already have their problem, and whose content means nothing.
    broken: BTreeSet<Place>,
}

impl<'a> Findings<'a> {
    /// About files that were read before.
    pub(crate) fn of(sources: &'a Sources) -> Self {
        Self { sources: Cow::Borrowed(sources), ..Self::default() }
    }

    /// Adds a Compose file that problems may be about.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> FileId {
        self.sources.to_mut().add(name, text, Kind::Compose)
    }

    /// Adds a file of variables, whose values no problem shows.
    pub(crate) fn add_variables(&mut self, name: &str, text: &str) -> FileId {
        self.sources.to_mut().add(name, text, Kind::Variables)
    }

    /// The file with this number.
    pub(crate) fn source(&self, file: FileId) -> Option<Arc<Source>> {
        self.sources.get(file).cloned()
    }

    /// The files so far.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Notes a problem. Returns nothing, so that `?`-less reading goes on to the next one.
    pub(crate) fn problem(&mut self, place: Place, what: impl fmt::Display, todo: impl fmt::Display) {
        if self.broken.contains(&place) {
            return;
        }
        if self.problems.len() >= PROBLEMS_MAX {
            self.problems_left_out = self.problems_left_out.saturating_add(1);
            return;
        }
        let problem = (place, self.make(place, &what, &todo));
        // An anchor that is used twice is read twice: its defect is one defect.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes a problem that makes the value at `place` meaningless: what else is said of it is left out.
    pub(crate) fn broken(&mut self, place: Place, what: impl fmt::Display, todo: impl fmt::Display) {
        self.problem(place, what, todo);
        self.broken.insert(place);
    }

    /// [`did_you_mean`], while there is room for a problem that would say it.
    pub(crate) fn guess<'k>(&self, found: &str, known: impl IntoIterator<Item = &'k str>) -> String {
        if self.problems.len() < PROBLEMS_MAX { did_you_mean(found, known) } else { String::new() }
    }

    pub(crate) fn warning(&mut self, place: Place, what: impl fmt::Display, todo: impl fmt::Display) {
        if self.warnings.len() >= PROBLEMS_MAX {
            self.warnings_left_out = self.warnings_left_out.saturating_add(1);
            return;
        }
        let warning = (place, self.make(place, &what, &todo));
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// `value` and the warnings, where no problem was found.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Problem>), Problems> {
        self.problems.sort_by_key(|(place, _)| *place);
        self.warnings.sort_by_key(|(place, _)| *place);
        if self.warnings_left_out > 0 {
            let what = format!("{} more warnings are not shown", self.warnings_left_out);
            let problem = self.make(Place::START, &what, &"mend the ones above first");
            self.warnings.push((Place::START, problem));
        }
        let only = |all: Vec<(Place, Problem)>| all.into_iter().map(|(_, problem)| problem).collect();
        match value {
            Some(value) if self.problems.is_empty() => Ok((value, only(self.warnings))),
            _ => {
                let mut problems: Vec<Problem> = only(std::mem::take(&mut self.problems));
                if self.problems_left_out > 0 {
                    let what = format!("{} more problems are not shown", self.problems_left_out);
                    problems.push(self.make(Place::START, &what, &"mend the ones above first"));
                }
                if problems.is_empty() {
                    // Nothing fails open: no value without a problem is itself a problem, and our own.
                    let what = "file could not be read, and no reason was noted";
                    problems.push(self.make(Place::START, &what, &"report this file as a bug"));
                }
                Err(Problems(problems))
            }
        }
    }

    fn make(&self, place: Place, what: &dyn fmt::Display, todo: &dyn fmt::Display) -> Problem {
        Problem {
            file: printable(self.sources.name(place.file)),
            line: place.line,
            column: place.column,
            excerpt: self.sources.excerpt(place),
            what: printable(&what.to_string()),
            todo: printable(&todo.to_string()),
        }
    }
}

/// `text` on one line, without control characters, and bounded.
pub(crate) fn printable(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(PROBLEM_LINE_CHARS_MAX)
        .map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(PROBLEM_LINE_CHARS_MAX).is_some() {
        out.push('\u{2026}');
    }
    out
}

/// Characters that reorder or hide text on a terminal.
pub(crate) const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `, did you mean `x`?` for the one of `known` nearest to `found`, or nothing.
pub(crate) fn did_you_mean<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let found = plain(found);
    let distance_max = if found.chars().count() <= 4 { 1 } else { 2 };
    if found.chars().count() > 64 {
        return String::new();
    }
    known
        .into_iter()
        .map(|name| (distance(&found, &plain(name)), name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, name)| format!(", did you mean `{name}`?"))
        .unwrap_or_default()
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let next = j.saturating_add(1);
            let mut best = at(&last, j).saturating_add(usize::from(ca != cb));
            best = best.min(at(&last, next).saturating_add(1)).min(at(&row, j).saturating_add(1));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(at(&before_last, j - 1).saturating_add(1));
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_in_the_order_of_the_files_with_the_line_of_each() {
        let mut findings = Findings::default();
        let (a, b) = (findings.add("a.yaml", "x: 1\n"), findings.add("b.yaml", "yy: 2\n"));
        findings.problem(Place { file: b, line: 1, column: 1, width: 2 }, "second", "t");
        findings.problem(Place { file: a, line: 1, column: 4, width: 1 }, "first", "t");
        assert_eq!(
            findings.finish(None::<()>).unwrap_err().to_string(),
            "a.yaml:1:4: first\n  1 | x: 1\n    |    ^\n  do: t\n\
             b.yaml:1:1: second\n  1 | yy: 2\n    | ^^\n  do: t"
        );
    }

    #[test]
    fn suggests_the_nearest_key_and_nothing_far() {
        let known = ["image", "command", "mem_limit", "volumes"];
        assert_eq!(did_you_mean("imgae", known), ", did you mean `image`?");
        assert_eq!(did_you_mean("mem-limit", known), ", did you mean `mem_limit`?");
        assert_eq!(did_you_mean("volume", known), ", did you mean `volumes`?");
        assert_eq!(did_you_mean("quux", known), "");
        assert_eq!(did_you_mean(&"x".repeat(1000), known), "");
    }

    #[test]
    fn prints_hostile_text_on_one_bounded_line() {
        let mut findings = Findings::default();
        findings.add("a\u{1b}[2J.yaml", "");
        findings.problem(Place::START, format!("{}\n\u{202e}x", "y".repeat(1000)), "z");
        let problems = findings.finish(Some(())).unwrap_err();
        let text = problems.to_string();
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("a\u{fffd}[2J.yaml:1:1: yyy"));
        assert!(text.chars().count() < 500);
    }

    #[test]
    fn counts_what_it_does_not_show() {
        let mut findings = Findings::default();
        for line in 1..=PROBLEMS_MAX + 7 {
            findings.problem(Place { line, ..Place::START }, "w", "t");
        }
        let problems = findings.finish(Some(())).unwrap_err();
        assert_eq!(problems.as_slice().len(), PROBLEMS_MAX + 1);
        assert_eq!(problems.as_slice().last().unwrap().what, "7 more problems are not shown");
    }

    #[test]
    fn no_value_without_a_problem_is_a_problem() {
        assert!(Findings::default().finish(None::<()>).is_err());
    }
}
