//! YAML text to a tree in which every key and value knows its place.
//!
//! Built from the events of `saphyr-parser`, because they carry a span each and arrive before anything is
//! allocated for them: limits on depth, nodes and alias expansion hold while the tree grows. What it is not: a
//! YAML data model. A scalar stays text; what reads it decides what it means, so no YAML 1.1 boolean or number
//! is guessed here. Several documents, duplicate keys, recursive anchors and all tags but those of Compose are refused.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::problem::{FileId, Findings, Place, printable};

/// Largest file in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting.
pub(crate) const DEPTH_MAX: usize = 32;
/// Most nodes, after aliases are expanded.
pub(crate) const NODES_MAX: usize = 100_000;
/// Most text, after aliases are expanded: one long value may be aliased many times.
pub(crate) const EXPANDED_BYTES_MAX: usize = 8 << 20;
/// Most anchors.
pub(crate) const ANCHORS_MAX: usize = 1000;

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
    pub(crate) mark: Mark,
}

/// What a tag says of a value that is laid over another (Compose specification, "Merge and override").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mark {
    /// Nothing.
    #[default]
    None,
    /// `!reset`: the other value is removed, and nothing stands in its place.
    Reset,
    /// `!override`: the other value is replaced as a whole.
    Override,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Text, and whether it was written without quotes, so that it could mean another type.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Member>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// Text that means no other type.
    pub(crate) const fn text(place: Place, text: String) -> Self {
        Self { place, value: Value::Scalar { text, plain: false }, mark: Mark::None }
    }

    /// A value that no tag speaks of.
    pub(crate) const fn new(place: Place, value: Value) -> Self {
        Self { place, value, mark: Mark::None }
    }

    /// The value of `key`, where this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(members) = &self.value else { return None };
        members.iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// How many nodes there are, this one included.
    pub(crate) fn count(&self) -> usize {
        let below: usize = match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(members) => members.iter().map(|member| member.node.count().saturating_add(1)).sum(),
        };
        below.saturating_add(1)
    }

    /// Whether nothing is written here, or a plain null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null_text(text))
    }

    /// `a text`, `a list`, `a mapping`, `nothing`: for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Whether plain `text` is null in the YAML 1.2 core schema.
pub(crate) fn is_null_text(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The tree of the one document in `file`. Stops at the first problem: what follows a syntax error is noise.
pub(crate) fn parse(file: FileId, findings: &mut Findings<'_>) -> Option<Node> {
    let source = findings.source(file)?;
    let text = source.text.as_str();
    if text.len() > FILE_BYTES_MAX {
        let what = format!("file has {} bytes, at most {FILE_BYTES_MAX} are read", text.len());
        findings.problem(
            Place::start_of(file),
            what,
            "split the composition, or check that this is the right file",
        );
        return None;
    }
    if let Some(place) = other_line_end(file, text) {
        let what = "character here ends a line for some readers of YAML and not for others";
        findings.problem(
            place,
            what,
            "write a line feed, or \"\\u0085\", \"\\u2028\" or \"\\u2029\" in quotes",
        );
        return None;
    }
    let parser = Parser::new_from_str(text);
    let mut builder = Builder { file, parser, anchors: BTreeMap::new(), used: Size::default() };
    match builder.document() {
        Ok(node) => Some(node),
        Err(Stop { place, what, todo }) => {
            findings.problem(place, what, todo);
            None
        }
    }
}

/// Where a character is that ends a line in YAML 1.1 and not in 1.2 (section 5.4): behind it, a comment of the one is a
/// key of the other.
fn other_line_end(file: FileId, text: &str) -> Option<Place> {
    let (before, _) = text.split_once(['\u{85}', '\u{2028}', '\u{2029}'])?;
    let ends = |text: &str| text.replace("\r\n", "\n").matches(['\r', '\n']).count();
    let last = before.rsplit(['\r', '\n']).next().unwrap_or_default();
    Some(Place {
        file,
        line: ends(before).saturating_add(1),
        column: last.chars().count().saturating_add(1),
        width: 1,
    })
}

struct Stop {
    place: Place,
    what: String,
    todo: &'static str,
}

fn stop<T>(place: Place, what: impl Into<String>, todo: &'static str) -> Result<T, Stop> {
    Err(Stop { place, what: what.into(), todo })
}

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

struct Builder<'t> {
    file: FileId,
    parser: Parser<'t, StrInput<'t>>,
    anchors: BTreeMap<usize, (Node, Size)>,
    used: Size,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Place), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let place = self.place(&event, &span);
                Ok((event, place))
            }
            Some(Err(error)) => {
                let mark = error.marker();
                let place = Place {
                    file: self.file,
                    line: mark.line().max(1),
                    column: mark.col().saturating_add(1),
                    width: 1,
                };
                stop(
                    place,
                    format!("not YAML: {}", error.info()),
                    "mend the YAML: indentation, quotes, colons",
                )
            }
            None => stop(
                Place::start_of(self.file),
                "not YAML: it ends too early",
                "check that the file is complete",
            ),
        }
    }

    /// Where an event is. What goes over several lines is marked at its first character.
    fn place(&self, event: &Event<'_>, span: &Span) -> Place {
        let on_one_line = span.start.line() == span.end.line();
        let width = match event {
            Event::Scalar(..) | Event::Alias(_) if on_one_line => {
                span.end.col().saturating_sub(span.start.col())
            }
            _ => 1,
        };
        Place {
            file: self.file,
            line: span.start.line().max(1),
            column: span.start.col().saturating_add(1),
            width: width.max(1),
        }
    }

    fn document(&mut self) -> Result<Node, Stop> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd, place) => {
                    return stop(
                        place,
                        "file is empty",
                        "write a composition: `services:` and what it needs",
                    );
                }
                (event, place) => {
                    let root = self.node(event, place, 0)?;
                    return self.end().map(|()| root);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Stop> {
        loop {
            match self.next()? {
                (Event::DocumentEnd | Event::Nothing, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (_, place) => {
                    return stop(
                        place,
                        "a second YAML document begins here",
                        "keep one document in the file",
                    );
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, Stop> {
        if depth > DEPTH_MAX {
            let what = format!("nested deeper than {DEPTH_MAX} levels");
            return stop(place, what, "no Compose key needs this: flatten it");
        }
        let before = self.used;
        self.count(place, Size { nodes: 1, bytes: 0 })?;
        let (anchor, mark, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let (forced_text, mark) = known_tag(tag.as_deref(), place)?;
                if text.contains('\0') {
                    return stop(place, "value holds a zero byte", "remove it: no program can receive it");
                }
                self.count(place, Size { nodes: 0, bytes: text.len() })?;
                let plain = style == ScalarStyle::Plain && !forced_text;
                (anchor, mark, Value::Scalar { text: text.into_owned(), plain })
            }
            Event::SequenceStart(anchor, tag) => {
                let (_, mark) = known_tag(tag.as_deref(), place)?;
                (anchor, mark, self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                let (_, mark) = known_tag(tag.as_deref(), place)?;
                (anchor, mark, self.map(depth)?)
            }
            Event::Alias(id) => return self.alias(id, place, depth),
            _ => return stop(place, "not YAML: a value is missing here", "write the value"),
        };
        let node = Node { place, value, mark };
        if anchor > 0 {
            if self.anchors.len() >= ANCHORS_MAX {
                return stop(place, format!("more than {ANCHORS_MAX} anchors"), "write fewer anchors");
            }
            let size = Size {
                nodes: self.used.nodes.saturating_sub(before.nodes),
                bytes: self.used.bytes.saturating_sub(before.bytes),
            };
            // The tag belongs to the place where it is written, not to the value.
            self.anchors.insert(anchor, (Node { mark: Mark::None, ..node.clone() }, size));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: Place, depth: usize) -> Result<Node, Stop> {
        // An anchor is known only once its node is complete, so a node can never contain itself.
        let Some((node, size)) = self.anchors.get(&id) else {
            return stop(place, "alias refers to a value that contains it", "write the value out");
        };
        let (node, size) = (node.clone(), *size);
        self.count(place, size)?;
        if depth.saturating_add(height(&node)) > DEPTH_MAX {
            let what = format!("nested deeper than {DEPTH_MAX} levels through this alias");
            return stop(place, what, "no Compose key needs this: flatten it");
        }
        Ok(node)
    }

    fn count(&mut self, place: Place, more: Size) -> Result<(), Stop> {
        self.used.nodes = self.used.nodes.saturating_add(more.nodes);
        self.used.bytes = self.used.bytes.saturating_add(more.bytes);
        let what = if self.used.nodes > NODES_MAX {
            format!("more than {NODES_MAX} values, aliases expanded")
        } else if self.used.bytes > EXPANDED_BYTES_MAX {
            format!("more than {EXPANDED_BYTES_MAX} bytes, aliases expanded")
        } else {
            return Ok(());
        };
        stop(place, what, "use fewer aliases, or split the composition")
    }

    fn list(&mut self, depth: usize) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, place) => items.push(self.node(event, place, depth.saturating_add(1))?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Stop> {
        let mut members: Vec<Member> = Vec::new();
        let mut keys = BTreeSet::new();
        let mut merged = Vec::new();
        loop {
            let (event, key_place) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key_node = self.node(event, key_place, depth.saturating_add(1))?;
            let (Value::Scalar { text: key, plain }, Mark::None) = (key_node.value, key_node.mark) else {
                return stop(key_place, "a key is no plain text", "write the key as plain text");
            };
            let (event, place) = self.next()?;
            let node = self.node(event, place, depth.saturating_add(1))?;
            if !keys.insert(key.clone()) {
                let what = format!("key `{}` is written twice", printable(&key));
                return stop(key_place, what, "keep one of the two");
            }
            if plain && key == "<<" {
                merged = merge_sources(node)?;
            } else {
                members.push(Member { key, key_place, node });
            }
        }
        // What is written here wins over what is merged in, and earlier sources over later ones.
        for member in merged {
            if keys.insert(member.key.clone()) {
                members.push(member);
            }
        }
        Ok(Value::Map(members))
    }
}

/// The members that `<<` brings in: a mapping's, or a list of mappings'.
fn merge_sources(node: Node) -> Result<Vec<Member>, Stop> {
    if node.mark != Mark::None {
        return stop(node.place, "`<<` has a tag", "write the tag at the keys that it is meant for");
    }
    let todo = "give `<<` an alias of a mapping, or a list of them";
    match node.value {
        Value::Map(members) => Ok(members),
        Value::List(items) => {
            let mut all = Vec::new();
            for item in items {
                match item.value {
                    Value::Map(members) => all.extend(members),
                    _ => return stop(item.place, "`<<` merges something that is not a mapping", todo),
                }
            }
            Ok(all)
        }
        Value::Scalar { .. } => stop(node.place, "`<<` merges something that is not a mapping", todo),
    }
}

/// Whether the tag makes the value text, and what it says of merging. All but `!!str`, the two collection tags,
/// `!reset` and `!override` are refused.
fn known_tag(tag: Option<&Tag>, place: Place) -> Result<(bool, Mark), Stop> {
    let Some(tag) = tag else { return Ok((false, Mark::None)) };
    match (tag.is_yaml_core_schema(), tag.handle.as_str(), tag.suffix.as_str()) {
        (true, _, "str") => Ok((true, Mark::None)),
        (true, _, "map" | "seq") => Ok((false, Mark::None)),
        (false, "!", "reset") => Ok((false, Mark::Reset)),
        (false, "!", "override") => Ok((false, Mark::Override)),
        _ => stop(
            place,
            format!("tag `{}` is not supported", printable(&tag.to_string())),
            "remove the tag: `!reset` and `!override` are the ones of Compose",
        ),
    }
}

fn height(node: &Node) -> usize {
    let below = match &node.value {
        Value::Scalar { .. } => return 0,
        Value::List(items) => items.iter().map(height).max(),
        Value::Map(members) => members.iter().map(|member| height(&member.node)).max(),
    };
    below.unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> Node {
        let mut findings = Findings::default();
        let file = findings.add("f", text);
        let node = parse(file, &mut findings);
        findings.finish(node).unwrap().0
    }

    #[test]
    fn what_ends_a_line_for_some_readers_only_is_refused() {
        for (text, line, column) in
            [("a: 1\r\n# b\u{2028}c: 2", 2, 4), ("a: \"\u{85}\"", 1, 5), ("\u{2029}", 1, 1)]
        {
            let mut findings = Findings::default();
            let file = findings.add("f", text);
            assert!(parse(file, &mut findings).is_none());
            let problems = findings.finish(None::<()>).unwrap_err();
            let problem = &problems.as_slice()[0];
            assert_eq!((problem.line, problem.column), (line, column), "{text:?}");
            assert!(problem.what.starts_with("character here ends a line"), "{}", problem.what);
        }
        let node = good("a: \"\\u2028\"");
        assert_eq!(node.get("a").unwrap().value, Value::Scalar { text: "\u{2028}".into(), plain: false });
    }

    fn bad(text: &str) -> String {
        let mut findings = Findings::default();
        let file = findings.add("f", text);
        let node = parse(file, &mut findings);
        let problems = findings.finish(node).unwrap_err();
        assert_eq!(problems.as_slice().len(), 1);
        let only = &problems.as_slice()[0];
        format!("{}:{}: {}", only.line, only.column, only.what)
    }

    fn members(node: &Node) -> Vec<(&str, usize, usize)> {
        let Value::Map(members) = &node.value else { panic!("{node:?}") };
        members.iter().map(|m| (m.key.as_str(), m.node.place.line, m.node.place.column)).collect()
    }

    #[test]
    fn keeps_the_place_of_every_value() {
        let node = good("a: 1\nb:\n  - \"\u{e9}\u{e9}\"\nc: { d: e }\n");
        assert_eq!(members(&node), [("a", 1, 4), ("b", 3, 3), ("c", 4, 4)]);
    }

    #[test]
    fn merges_mappings_with_the_written_key_winning() {
        let node = good("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 9\n");
        let Value::Map(all) = &node.value else { panic!() };
        let Value::Map(z) = &all[2].node.value else { panic!() };
        let text = |n: &Node| match &n.value {
            Value::Scalar { text, .. } => text.clone(),
            _ => panic!(),
        };
        let got: Vec<_> = z.iter().map(|m| (m.key.clone(), text(&m.node))).collect();
        let want = [("a", "9"), ("b", "2"), ("c", "4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(got, want);
    }

    #[test]
    fn refuses_duplicate_keys_tags_documents_and_zero_bytes() {
        assert_eq!(bad("a: 1\nb: 2\na: 3\n"), "3:1: key `a` is written twice");
        assert_eq!(bad("a: !other null\n"), "1:4: tag `!other` is not supported");
        assert_eq!(bad("!reset a: b\n"), "1:1: a key is no plain text");
        assert_eq!(bad("a: &a {b: c}\nd:\n  <<: !reset *a\n").split(':').next(), Some("3"));
        assert_eq!(bad("a: 1\n---\nb: 1\n"), "2:1: a second YAML document begins here");
        assert_eq!(bad("a: \"x\\0y\"\n"), "1:4: value holds a zero byte");
        assert_eq!(bad("? [a]\n: 1\n"), "1:3: a key is no plain text");
        assert_eq!(bad(""), "1:1: file is empty");
        assert!(bad("a: [1, 2\n").starts_with("2:1: not YAML"), "{}", bad("a: [1, 2\n"));
    }

    #[test]
    fn keeps_the_tags_of_compose_where_they_are_written() {
        let node = good("a: &a !override [1]\nb: !reset null\nc: *a\n");
        let Value::Map(members) = &node.value else { panic!("{node:?}") };
        let marks: Vec<_> = members.iter().map(|member| member.node.mark).collect();
        assert_eq!(marks, [Mark::Override, Mark::Reset, Mark::None]);
    }

    #[test]
    fn refuses_a_value_that_contains_itself() {
        assert_eq!(bad("a: &a [*a]\n"), "1:8: alias refers to a value that contains it");
    }

    #[test]
    fn refuses_alias_expansion_over_the_bound() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..10 {
            let before = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", ")));
        }
        assert!(bad(&text).contains("more than 100000 values"), "{}", bad(&text));
    }

    #[test]
    fn refuses_a_long_value_that_is_aliased_many_times() {
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 50].join(", "));
        assert!(bad(&text).contains("more than 8388608 bytes"), "{}", bad(&text));
    }

    #[test]
    fn refuses_depth_over_the_bound_also_through_aliases() {
        let nested = |n: usize| format!("a: {}x{}\n", "[".repeat(n), "]".repeat(n));
        good(&nested(DEPTH_MAX - 1));
        assert!(bad(&nested(DEPTH_MAX)).contains("nested deeper"));
        assert!(bad(&nested(20_000)).contains("nested deeper") || bad(&nested(20_000)).contains("not YAML"));
        let through = format!(
            "a: &a {}x{}\nb: {}*a{}\n",
            "[".repeat(20),
            "]".repeat(20),
            "[".repeat(20),
            "]".repeat(20)
        );
        assert!(bad(&through).contains("through this alias"));
    }

    #[test]
    fn refuses_a_file_over_the_bound() {
        let text = format!("a: {}\n", "x".repeat(FILE_BYTES_MAX));
        assert_eq!(
            bad(&text),
            format!("1:1: file has {} bytes, at most {FILE_BYTES_MAX} are read", text.len())
        );
    }
}
