//! One Compose tree laid over another (Compose specification, "Merge and override").
//!
//! Mappings are merged key by key and lists are appended; [`rule`] has the exceptions as one table. The order of
//! keys in a mapping never matters, the order of files does.

use std::collections::BTreeMap;

use crate::problem::{Findings, Place, printable};
use crate::yaml::{Mark, Member, Node, Value};

/// How the two values of one key become one.
#[derive(Clone, Copy)]
enum Rule {
    /// Mappings key by key, lists appended, single values replaced.
    Plain,
    /// The later one stands.
    Replace,
    /// `KEY=value` items or a mapping: key by key. The characters may stand between key and value.
    Pairs(&'static [char]),
    /// Names or a mapping with a value of each: key by key. A name alone has this `condition`, or nothing.
    Names(Option<&'static str>),
    /// One value or a list: appended.
    OneOrMany,
    /// One value stands for this key of the mapping.
    Short(&'static str),
    /// Replaced where both are mappings and their `driver` differs.
    Driver,
    /// A mapping or a single value; merged where both are mappings.
    Either,
    /// A list with one item for each identity.
    Unique(fn(&Node) -> Option<String>),
}

const SERVICES: &str = "services";

/// The rule for what stands at `path`.
fn rule(path: &[&str]) -> Rule {
    match path {
        [SERVICES, _, rest @ ..] => service_rule(rest),
        ["networks" | "volumes" | "secrets" | "configs", _, "labels"] => Rule::Pairs(&['=']),
        _ => Rule::Plain,
    }
}

fn service_rule(path: &[&str]) -> Rule {
    match path {
        ["command" | "entrypoint" | "extends"] | ["healthcheck", "test"] => Rule::Replace,
        ["environment" | "labels" | "annotations" | "sysctls"]
        | ["deploy", "labels"]
        | ["build", "args" | "labels" | "additional_contexts"] => Rule::Pairs(&['=']),
        ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Pairs(&['=', ':']),
        ["depends_on"] => Rule::Names(Some("service_started")),
        ["networks" | "models"] => Rule::Names(None),
        ["dns" | "dns_search" | "dns_opt" | "env_file" | "label_file" | "tmpfs"] => Rule::OneOrMany,
        ["build"] => Rule::Short("context"),
        ["logging"] => Rule::Driver,
        ["ulimits", _] => Rule::Either,
        ["ports"] => Rule::Unique(port),
        ["volumes" | "devices"] => Rule::Unique(mount),
        ["secrets"] => Rule::Unique(secret),
        ["configs"] => Rule::Unique(config),
        _ => Rule::Plain,
    }
}

/// Whether an empty value at `path` is a definition that says nothing, and so takes nothing away.
fn is_definition(path: &[&str]) -> bool {
    matches!(path, [_] | [SERVICES | "networks" | "volumes" | "secrets" | "configs" | "models", _])
        || matches!(path, [SERVICES, _, "networks" | "models", _])
}

/// `over` laid over `base`, which stand at `path`. Marks of `over` stay, so that the result can be laid over again.
pub(super) fn merge(base: Node, over: Node, path: &mut Vec<String>, f: &mut Findings<'_>) -> Node {
    if over.mark != Mark::None || base.mark == Mark::Reset {
        return over;
    }
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    let (rule, definition) = (rule(&keys), is_definition(&keys));
    if base.is_null() {
        return over;
    }
    if over.is_null() {
        return match base.value {
            Value::Scalar { .. } => over,
            _ if matches!(rule, Rule::Replace) => over,
            _ if definition => base,
            _ => {
                let what =
                    format!("`{}` is empty here, and has a value in {}", last(path), shown(base.place, f));
                f.problem(over.place, what, "write `!reset null` to remove that value, or leave the key out");
                base
            }
        };
    }
    let (base, over) = same_form(base, over, rule);
    let place = over.place;
    let value = match (rule, base.value, over.value) {
        (Rule::Replace, _, over) => over,
        (Rule::Driver, Value::Map(base), Value::Map(over))
            if driver(&base) != driver(&over) && driver(&over).is_some() =>
        {
            Value::Map(over)
        }
        (_, Value::Map(base), Value::Map(over)) => Value::Map(merge_members(base, over, path, f)),
        (Rule::Unique(identity), Value::List(base), Value::List(over)) => {
            Value::List(merge_unique(base, over, identity))
        }
        (_, Value::List(base), Value::List(over)) => Value::List(append(base, over)),
        (_, Value::Scalar { .. }, over @ Value::Scalar { .. }) | (Rule::Either, _, over) => over,
        (_, base_value, over) => {
            let base = Node::new(base.place, base_value);
            let over = Node::new(place, over);
            let what = format!(
                "`{}` is {}, and {} in {}",
                last(path),
                over.kind(),
                base.kind(),
                shown(base.place, f)
            );
            f.broken(place, what, "write both in the same form, or `!override` before this one");
            over.value
        }
    };
    Node::new(place, value)
}

fn last(path: &[String]) -> String {
    path.last().map_or_else(|| "file".to_owned(), |key| printable(key))
}

fn shown(place: Place, f: &Findings<'_>) -> String {
    format!("{}:{}:{}", printable(f.sources().name(place.file)), place.line, place.column)
}

fn driver(members: &[Member]) -> Option<&Value> {
    members.iter().find(|member| member.key == "driver").map(|member| &member.node.value)
}

fn merge_members(
    base: Vec<Member>,
    over: Vec<Member>,
    path: &mut Vec<String>,
    f: &mut Findings<'_>,
) -> Vec<Member> {
    let mut index = BTreeMap::new();
    let mut members: Vec<Option<Member>> = Vec::new();
    for member in base {
        index.insert(member.key.clone(), members.len());
        members.push(Some(member));
    }
    for member in over {
        let slot = index.get(&member.key).and_then(|at| members.get_mut(*at));
        let Some(slot) = slot else {
            members.push(Some(member));
            continue;
        };
        path.push(member.key.clone());
        *slot = Some(match slot.take() {
            Some(old) => Member { node: merge(old.node, member.node, path, f), ..member },
            None => member,
        });
        path.pop();
    }
    members.into_iter().flatten().collect()
}

/// The items of both; what `base` has already is not added again.
fn append(mut base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let text = |node: &Node| match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    };
    let there: std::collections::BTreeSet<String> = base.iter().filter_map(text).collect();
    base.extend(over.into_iter().filter(|item| text(item).is_none_or(|text| !there.contains(&text))));
    base
}

/// An item that has the identity of one of `base` takes its place.
fn merge_unique(mut base: Vec<Node>, over: Vec<Node>, identity: fn(&Node) -> Option<String>) -> Vec<Node> {
    let identities: BTreeMap<String, usize> =
        base.iter().enumerate().filter_map(|(at, item)| Some((identity(item)?, at))).collect();
    for item in over {
        let at = identity(&item).and_then(|identity| identities.get(&identity).copied());
        match at.and_then(|at| base.get_mut(at)) {
            Some(slot) => *slot = item,
            None => base.push(item),
        }
    }
    base
}

/// Both values in the one form in which they can be merged.
fn same_form(base: Node, over: Node, rule: Rule) -> (Node, Node) {
    match rule {
        Rule::Pairs(separators) if !both_lists_of_other_things(&base, &over) => {
            (pairs(base, separators), pairs(over, separators))
        }
        Rule::Names(condition) => (names(base, condition), names(over, condition)),
        Rule::OneOrMany => (many(base), many(over)),
        Rule::Short(key) => (long(base, key), long(over, key)),
        _ => (base, over),
    }
}

fn both_lists_of_other_things(base: &Node, over: &Node) -> bool {
    let odd = |node: &Node| match &node.value {
        Value::List(items) => items.iter().any(|item| !matches!(item.value, Value::Scalar { .. })),
        _ => false,
    };
    odd(base) || odd(over)
}

/// `KEY=value` items as a mapping. An item without separator is a key without value.
pub(super) fn pairs(node: Node, separators: &[char]) -> Node {
    let Value::List(items) = node.value else { return node };
    let member = |item: Node| {
        let Value::Scalar { text, .. } = &item.value else { return None };
        let place = item.place;
        // `=` is preferred where both could separate.
        let split = separators.iter().find_map(|separator| text.split_once(*separator));
        Some(match split {
            Some((key, value)) => {
                Member { key: key.to_owned(), key_place: place, node: Node::text(place, value.to_owned()) }
            }
            None => Member { key: text.clone(), key_place: place, node: nothing(place) },
        })
    };
    Node { value: Value::Map(items.into_iter().filter_map(member).collect()), ..node }
}

/// Names as a mapping.
fn names(node: Node, condition: Option<&str>) -> Node {
    let Value::List(items) = node.value else { return node };
    let member = |item: Node| {
        let Value::Scalar { text, .. } = item.value else { return None };
        let place = item.place;
        let value = condition.map_or_else(
            || nothing(place),
            |condition| {
                let node = Node::text(place, condition.to_owned());
                Node::new(
                    place,
                    Value::Map(vec![Member { key: "condition".to_owned(), key_place: place, node }]),
                )
            },
        );
        Some(Member { key: text, key_place: place, node: value })
    };
    Node { value: Value::Map(items.into_iter().filter_map(member).collect()), ..node }
}

fn many(node: Node) -> Node {
    match node.value {
        Value::List(_) => node,
        _ => Node::new(node.place, Value::List(vec![node])),
    }
}

fn long(node: Node, key: &str) -> Node {
    match node.value {
        Value::Scalar { .. } => {
            let member = Member { key: key.to_owned(), key_place: node.place, node: node.clone() };
            Node::new(node.place, Value::Map(vec![member]))
        }
        _ => node,
    }
}

fn nothing(place: Place) -> Node {
    Node::new(place, Value::Scalar { text: String::new(), plain: true })
}

fn member_text(node: &Node, key: &str) -> Option<String> {
    match &node.get(key)?.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// The text of a short form; none where its parts are not known yet.
fn short(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !text.contains("${") => Some(text),
        _ => None,
    }
}

/// Address, target, published port and protocol.
fn port(node: &Node) -> Option<String> {
    let (address, published, target, protocol);
    if let Value::Map(_) = node.value {
        target = member_text(node, "target")?;
        published = member_text(node, "published").unwrap_or_default();
        address = member_text(node, "host_ip").unwrap_or_default();
        protocol = member_text(node, "protocol");
    } else {
        let text = short(node)?;
        let (ports, tail) = text.split_once('/').map_or((text, None), |(ports, tail)| (ports, Some(tail)));
        let mut parts = ports.rsplitn(3, ':');
        target = parts.next().unwrap_or_default().to_owned();
        published = parts.next().unwrap_or_default().to_owned();
        address = parts.next().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        protocol = tail.map(str::to_owned);
    }
    Some(format!("{address}|{published}|{target}|{}", protocol.as_deref().unwrap_or("tcp")))
}

/// Where a volume or a device stands in the container.
fn mount(node: &Node) -> Option<String> {
    if let Value::Map(_) = node.value {
        return member_text(node, "target").map(|target| plain_path(&target));
    }
    let text = short(node)?;
    let mut parts = text.split(':');
    let first = parts.next()?;
    Some(plain_path(parts.next().unwrap_or(first)))
}

fn plain_path(path: &str) -> String {
    if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path.to_owned() }
}

fn secret(node: &Node) -> Option<String> {
    granted(node, "/run/secrets/")
}

fn config(node: &Node) -> Option<String> {
    granted(node, "/")
}

fn granted(node: &Node, folder: &str) -> Option<String> {
    let target = match &node.value {
        Value::Map(_) => member_text(node, "target").or_else(|| member_text(node, "source"))?,
        _ => short(node)?.to_owned(),
    };
    Some(if target.starts_with('/') { target } else { format!("{folder}{target}") })
}

/// Takes out what `!reset` removes, and the marks.
pub(super) fn settle(node: &mut Node, f: &mut Findings<'_>) {
    node.mark = Mark::None;
    match &mut node.value {
        Value::Scalar { .. } => {}
        Value::List(items) => {
            for item in &mut *items {
                if item.mark != Mark::None {
                    let what = "an item of a list has the tag of a whole value";
                    f.problem(item.place, what, "write `!override` or `!reset` after the key of the list");
                }
                settle(item, f);
            }
        }
        Value::Map(members) => {
            members.retain(|member| member.node.mark != Mark::Reset);
            members.iter_mut().for_each(|member| settle(&mut member.node, f));
        }
    }
}
