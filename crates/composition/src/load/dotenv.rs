//! Files of variables: `.env`, `env_file` and `label_file`.
//!
//! One `NAME=value` a line, as the Compose specification describes it under `env_file`: quotes, comments, `export`,
//! variables in unquoted and double-quoted values. What it is not: a shell. Nothing is run, and what a shell would
//! read in another way is refused.

use std::collections::BTreeMap;

use crate::interpolate::{
    Expanded, Fault, Interpolator, Lookup, VALUE_BYTES_MAX, looks_secret, warn_of_secret,
};
use crate::problem::{FileId, Findings, Place, printable};

/// Most variables of one file.
pub(super) const VARIABLES_MAX: usize = 4096;
/// Longest name of a variable or label in bytes.
const NAME_BYTES_MAX: usize = 256;

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As Compose has them.
    Compose,
    /// All that follows the `=` is the value.
    Raw,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) place: Place,
    /// None where the name stands alone.
    pub(super) value: Option<String>,
}

/// Variables of a file over those that are set outside, which win.
pub(super) struct Layered<'o> {
    pub(super) outside: &'o BTreeMap<String, String>,
    pub(super) own: BTreeMap<String, String>,
}

impl Lookup for Layered<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.outside.get(name).or_else(|| self.own.get(name)).map(String::as_str)
    }
}

/// The variables of `file` in its order. `variables` gives the values of `$NAME` and takes those of this file.
pub(super) fn read(
    file: FileId,
    format: Format,
    variables: &mut Layered<'_>,
    interpolator: &mut Interpolator,
    f: &mut Findings<'_>,
) -> Vec<Variable> {
    let Some(source) = f.source(file) else { return Vec::new() };
    let mut reader = Reader { rest: &source.text, place: Place { width: 1, ..Place::start_of(file) } };
    let mut all = Vec::new();
    while !reader.rest.is_empty() {
        if all.len() >= VARIABLES_MAX {
            f.problem(reader.place, format!("more than {VARIABLES_MAX} variables in one file"), "use fewer");
            break;
        }
        match reader.line(format) {
            Ok(None) => {}
            Ok(Some(Line { name, place, value })) => {
                let value = match value.map(|value| value.finish(variables, interpolator)).transpose() {
                    Ok(value) => value.map(|Expanded { text, secret }| {
                        // Under its own telling name it is noticed where it is used.
                        if let Some(secret) = secret.filter(|_| !looks_secret(&name)) {
                            warn_of_secret(&secret, place, f);
                        }
                        text
                    }),
                    Err(Fault { what, todo }) => {
                        f.problem(place, what, todo);
                        continue;
                    }
                };
                if let Some(value) = &value {
                    variables.own.insert(name.clone(), value.clone());
                }
                all.push(Variable { name, place, value });
            }
            Err(Wrong { place, what, todo }) => {
                f.problem(place, what, todo);
                reader.rest_of_line();
            }
        }
    }
    all
}

struct Line {
    name: String,
    place: Place,
    value: Option<Written>,
}

/// A value as written.
enum Written {
    Literal(String),
    Interpolated(String),
}

impl Written {
    fn finish(self, variables: &dyn Lookup, interpolator: &mut Interpolator) -> Result<Expanded, Fault> {
        let (Self::Literal(text) | Self::Interpolated(text)) = &self;
        if text.len() > VALUE_BYTES_MAX {
            let what = format!("value is longer than {VALUE_BYTES_MAX} bytes");
            return Err(Fault { what, todo: "shorten it".to_owned() });
        }
        if text.contains('\0') {
            let todo = "remove it: no program can receive it".to_owned();
            return Err(Fault { what: "value holds a zero byte".to_owned(), todo });
        }
        match self {
            Self::Literal(text) => interpolator.take(text.len()).map(|()| Expanded { text, secret: None }),
            Self::Interpolated(text) => interpolator.text(&text, variables),
        }
    }
}

struct Wrong {
    place: Place,
    what: String,
    todo: &'static str,
}

fn wrong<T>(place: Place, what: impl Into<String>, todo: &'static str) -> Result<T, Wrong> {
    Err(Wrong { place, what: what.into(), todo })
}

/// Reads on through the text, and knows where it is.
struct Reader<'t> {
    rest: &'t str,
    place: Place,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        if c == '\n' {
            self.place.line = self.place.line.saturating_add(1);
            self.place.column = 1;
        } else {
            self.place.column = self.place.column.saturating_add(1);
        }
        Some(c)
    }

    /// What follows as long as `wanted` is true of it.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        taken.chars().for_each(|_| {
            self.next();
        });
        self.rest = rest;
        taken
    }

    fn blanks(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t'));
    }

    /// The rest of this line, its end taken and not given.
    fn rest_of_line(&mut self) -> &'t str {
        let line = self.take_while(|c| c != '\n');
        self.next();
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// The next line; none where it is blank or a comment.
    fn line(&mut self, format: Format) -> Result<Option<Line>, Wrong> {
        self.blanks();
        if self.rest.starts_with(['#', '\r', '\n']) || self.rest.is_empty() {
            self.rest_of_line();
            return Ok(None);
        }
        let mut place = self.place;
        let mut name = self.name(place)?;
        self.blanks();
        if name == "export" && !self.rest.starts_with(['=', ':', '#', '\r', '\n']) && !self.rest.is_empty() {
            place = self.place;
            name = self.name(place)?;
            self.blanks();
        }
        place.width = name.chars().count();
        match self.rest.chars().next() {
            Some('=') => {
                self.next();
            }
            Some(':') if matches!(self.rest.chars().nth(1), None | Some(' ' | '\t' | '\r' | '\n')) => {
                self.next();
            }
            None | Some('\r' | '\n' | '#') => {
                self.rest_of_line();
                return Ok(Some(Line { name, place, value: None }));
            }
            Some(_) => {
                let what =
                    format!("`{}` is followed by neither `=` nor the end of the line", printable(&name));
                return wrong(self.place, what, "write NAME=value, and quote a value with spaces");
            }
        }
        let value = match format {
            Format::Raw => Written::Literal(self.rest_of_line().to_owned()),
            Format::Compose => self.value()?,
        };
        Ok(Some(Line { name, place, value: Some(value) }))
    }

    fn name(&mut self, place: Place) -> Result<String, Wrong> {
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'));
        if name.is_empty() {
            return wrong(
                place,
                "line does not begin with a name",
                "write NAME=value, or # before a comment",
            );
        }
        if name.len() > NAME_BYTES_MAX {
            return wrong(place, format!("name is longer than {NAME_BYTES_MAX} bytes"), "shorten it");
        }
        Ok(name.to_owned())
    }

    fn value(&mut self) -> Result<Written, Wrong> {
        self.blanks();
        let written = match self.rest.chars().next() {
            Some('"') => Written::Interpolated(self.double_quoted()?),
            Some('\'') => Written::Literal(self.single_quoted()?),
            _ => return Ok(Written::Interpolated(unquoted(self.rest_of_line()).to_owned())),
        };
        self.blanks();
        let after = self.place;
        if !self.rest.is_empty() && !self.rest.starts_with(['#', '\r', '\n']) {
            return wrong(
                after,
                "something follows the closing quote",
                "quote the whole value, or write # before a comment",
            );
        }
        self.rest_of_line();
        Ok(written)
    }

    /// With `\n`, `\r`, `\t`, `\\`, `\"` and `\$` replaced; other backslashes stay.
    fn double_quoted(&mut self) -> Result<String, Wrong> {
        let open = self.place;
        self.next();
        let mut out = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(out),
                Some('\\') => match self.next() {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some(c @ ('\\' | '"')) => out.push(c),
                    Some('$') => out.push_str("$$"),
                    Some(c) => out.extend(['\\', c]),
                    None => return unclosed(open, '"'),
                },
                Some(c) => out.push(c),
                None => return unclosed(open, '"'),
            }
        }
    }

    /// Literally, but for `\'`.
    fn single_quoted(&mut self) -> Result<String, Wrong> {
        let open = self.place;
        self.next();
        let mut out = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(out),
                Some('\\') if self.rest.starts_with('\'') => {
                    self.next();
                    out.push('\'');
                }
                Some(c) => out.push(c),
                None => return unclosed(open, '\''),
            }
        }
    }
}

fn unclosed<T>(open: Place, quote: char) -> Result<T, Wrong> {
    wrong(open, format!("value has no closing `{quote}`"), "close the quote")
}

/// Without the comment, which a blank stands before, and without blanks around.
fn unquoted(line: &str) -> &str {
    let comment = line
        .char_indices()
        .zip(std::iter::once(' ').chain(line.chars()))
        .find(|((_, c), before)| *c == '#' && matches!(before, ' ' | '\t'))
        .map_or(line.len(), |((at, _), _)| at);
    line.get(..comment).unwrap_or(line).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, format: Format) -> Result<Vec<(String, Option<String>)>, String> {
        let outside: BTreeMap<String, String> = [("OUT".to_owned(), "outside".to_owned())].into();
        let mut findings = Findings::default();
        let file = findings.add_variables("a.env", text);
        let mut variables = Layered { outside: &outside, own: BTreeMap::new() };
        let all = read(file, format, &mut variables, &mut Interpolator::new(), &mut findings);
        let (all, _) = findings.finish(Some(all)).map_err(|problems| {
            let shown = |p: &crate::Problem| format!("{}:{}: {}", p.line, p.column, p.what);
            problems.as_slice().iter().map(shown).collect::<Vec<_>>().join("\n")
        })?;
        Ok(all.into_iter().map(|variable| (variable.name, variable.value)).collect())
    }

    fn one(text: &str) -> Result<String, String> {
        run(text, Format::Compose).map(|all| all.last().unwrap().1.clone().unwrap())
    }

    #[test]
    fn reads_values_as_the_specification_writes_them() {
        for (text, want) in [
            ("A=value", "value"),
            ("A = value  ", "value"),
            ("A: value", "value"),
            ("export A=value", "value"),
            ("export=value", "value"),
            ("A=", ""),
            ("A=\r\n", ""),
            ("A=value # comment", "value"),
            ("A= # comment", ""),
            ("A=value# none", "value# none"),
            ("A=\"value # none\" # comment", "value # none"),
            ("A='$OUT ${OUT}'", "$OUT ${OUT}"),
            ("A='it\\'s \\n'", "it's \\n"),
            ("A=\"{\\\"a\\\": 1}\"", "{\"a\": 1}"),
            ("A=\"a\\tb\\nc\\\\d\\e\"", "a\tb\nc\\d\\e"),
            ("A=a\\tb", "a\\tb"),
            ("A=\"$OUT\" # c", "outside"),
            ("A=${OUT}/${B:-x}", "outside/x"),
            ("A=\"\\$OUT $$OUT\"", "$OUT $OUT"),
            ("A=\"first\nsecond\"", "first\nsecond"),
            ("A='first\nsecond'", "first\nsecond"),
            ("B=b\nA=$B-$B", "b-b"),
            ("OUT=mine\nA=$OUT", "outside"),
            ("\u{feff}# c\n\n  A=1", "1"),
            ("a.b/c-d=1", "1"),
            ("A=a=b", "a=b"),
            ("A=\u{e9} #x", "\u{e9}"),
        ] {
            assert_eq!(one(text).as_deref(), Ok(want), "{text}");
        }
        assert_eq!(
            run("A\nB # c\nexport C", Format::Compose).unwrap(),
            ["A", "B", "C"].map(|n| (n.to_owned(), None))
        );
    }

    #[test]
    fn reads_raw_values_as_they_are() {
        let got = run("A=\"$X\" # y\r\n# c\nB= 'z\n", Format::Raw).unwrap();
        let want = [("A", "\"$X\" # y"), ("B", " 'z")].map(|(k, v)| (k.to_owned(), Some(v.to_owned())));
        assert_eq!(got, want);
    }

    #[test]
    fn says_where_a_line_is_wrong_and_reads_on() {
        for (text, want) in [
            ("=x", "1:1: line does not begin with a name"),
            ("A=1\n  !B=2\n", "2:3: line does not begin with a name"),
            ("A B=1", "1:3: `A` is followed by neither `=` nor the end of the line"),
            ("A:1", "1:2: `A` is followed by neither `=` nor the end of the line"),
            ("A=\"x\nB=1", "1:3: value has no closing `\"`"),
            ("A='x", "1:3: value has no closing `'`"),
            ("A=\"x\"y", "1:6: something follows the closing quote"),
            (
                "A=\"x\"y\n=z",
                "1:6: something follows the closing quote\n2:1: line does not begin with a name",
            ),
            ("A=$NONE", "1:1: variable `NONE` is not set"),
            ("A=1\nB=${A", "2:1: `${` has no closing `}`"),
            ("A='a\0'", "1:1: value holds a zero byte"),
        ] {
            assert_eq!(run(text, Format::Compose), Err(want.to_owned()), "{text}");
        }
        assert!(run(&format!("A={}", "x".repeat(VALUE_BYTES_MAX + 1)), Format::Raw).is_err());
        assert!(run(&"A=1\n".repeat(VARIABLES_MAX + 1), Format::Raw).is_err());
        assert_eq!(run(&"A=1\n".repeat(VARIABLES_MAX), Format::Raw).unwrap().len(), VARIABLES_MAX);
    }
}
