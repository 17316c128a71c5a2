//! Intel's documents with one member changed, and signed again: what their own checks must refuse.

use casemate_testkit::TdxPki;
use casemate_verifier::TdxCollateral;
use serde_json::Value;

use crate::choices::Choices;

/// Documents by the member that holds what is signed.
pub(super) const DOCUMENTS: [&str; 2] = ["tcbInfo", "enclaveIdentity"];
/// Members without which a document is whole.
const OPTIONAL: [&str; 2] = ["tdxModuleIdentities", "advisoryIDs"];
/// Members of which every other value must refuse.
const EXACT: [(&str, &str); 14] = [
    ("tcbInfo", "/id"),
    ("tcbInfo", "/version"),
    ("tcbInfo", "/fmspc"),
    ("tcbInfo", "/pceId"),
    ("tcbInfo", "/tcbType"),
    ("tcbInfo", "/tdxModuleIdentities/1/id"),
    ("tcbInfo", "/tdxModuleIdentities/1/mrsigner"),
    ("tcbInfo", "/tcbLevels/0/tcbStatus"),
    ("enclaveIdentity", "/id"),
    ("enclaveIdentity", "/version"),
    ("enclaveIdentity", "/mrsigner"),
    ("enclaveIdentity", "/isvprodid"),
    ("enclaveIdentity", "/tcbLevels/0/tcbStatus"),
    ("enclaveIdentity", "/miscselect"),
];

/// What is done to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is left out.
    Removed,
    /// It stands there twice.
    Twice,
    /// It has another value of the same type.
    Another,
    /// It has a value of another type.
    Retyped,
}

/// A document with a member changed.
pub(super) struct Changed {
    /// Which member of which document, and how.
    pub(super) name: String,
    /// Whether the verdict must turn (`Some(false)`) or may be either.
    pub(super) accepted: Option<bool>,
    /// The collateral with it.
    pub(super) collateral: TdxCollateral,
}

/// Changes one member of one document.
pub(super) fn change(pki: &TdxPki, collateral: &TdxCollateral, choices: &mut Choices<'_>) -> Option<Changed> {
    let document = *choices.pick(&DOCUMENTS)?;
    let inner = inner(collateral, document)?;
    let pointers = pointers(&inner);
    let pointer = choices.pick(&pointers)?;
    let how = *choices.pick(&[Change::Removed, Change::Twice, Change::Another, Change::Retyped])?;
    changed(pki, collateral, document, pointer, how)
}

/// What is signed of a document.
pub(super) fn inner(collateral: &TdxCollateral, document: &str) -> Option<Value> {
    let bytes = if document == "tcbInfo" { &collateral.tcb_info } else { &collateral.qe_identity };
    serde_json::from_slice::<Value>(bytes).ok()?.get_mut(document).map(Value::take)
}

/// The place of every value in it (RFC 6901).
pub(super) fn pointers(inner: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(inner, "", &mut found);
    found
}

fn collect(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |name: &str, value: &Value| {
        let pointer = format!("{at}/{name}");
        collect(value, &pointer, found);
        found.push(pointer);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| below(name, member)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item))
        }
        _ => {}
    }
}

/// The collateral with this member changed and the document signed again.
pub(super) fn changed(
    pki: &TdxPki,
    collateral: &TdxCollateral,
    document: &str,
    pointer: &str,
    how: Change,
) -> Option<Changed> {
    let mut inner = inner(collateral, document)?;
    let (parent, name) = pointer.rsplit_once('/')?;
    let in_object = inner.pointer(parent)?.is_object();
    let mut text = None;
    match how {
        Change::Removed => match inner.pointer_mut(parent)? {
            Value::Object(members) => drop(members.remove(name)),
            Value::Array(items) => drop(items.remove(name.parse().ok()?)),
            _ => return None,
        },
        Change::Twice => text = Some(with_member_twice(&inner, pointer)),
        Change::Another => {
            let value = inner.pointer_mut(pointer)?;
            *value = another(value);
        }
        Change::Retyped => {
            let value = inner.pointer_mut(pointer)?;
            *value = retyped(value);
        }
    }
    let must_refuse = match how {
        // An array's item is no member.
        Change::Twice => in_object,
        Change::Retyped => true,
        Change::Removed => in_object && !OPTIONAL.contains(&name),
        Change::Another => EXACT.contains(&(document, pointer)),
    };
    let text = text.unwrap_or_else(|| inner.to_string());
    let signed = pki.sign_document(document, text.as_bytes()).ok()?;
    let mut collateral = collateral.clone();
    *(if document == "tcbInfo" { &mut collateral.tcb_info } else { &mut collateral.qe_identity }) = signed;
    Some(Changed {
        name: format!("{document}{pointer} {how:?}"),
        accepted: must_refuse.then_some(false),
        collateral,
    })
}

fn another(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            // The first digit of hexadecimal text, the year's of a date, else a letter.
            let mut bytes = text.clone().into_bytes();
            match bytes.first_mut() {
                Some(first @ b'0') => *first = b'1',
                Some(first) => *first = b'0',
                None => bytes.push(b'0'),
            }
            Value::String(String::from_utf8(bytes).unwrap_or_default())
        }
        Value::Number(number) => (number.as_u64().unwrap_or(0) + 5).into(),
        Value::Array(items) => items.iter().rev().cloned().collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), another(value))).collect()
        }
        other => other.clone(),
    }
}

fn retyped(value: &Value) -> Value {
    match value {
        Value::String(_) => 7.into(),
        Value::Number(_) => "7".into(),
        Value::Array(_) => Value::Object(serde_json::Map::new()),
        Value::Object(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// JSON text in which the member at `pointer` stands twice, the first time with another value.
fn with_member_twice(value: &Value, pointer: &str) -> String {
    let Some((name, rest)) = pointer.strip_prefix('/').map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        return value.to_string();
    };
    let below = if rest.is_empty() { String::new() } else { format!("/{rest}") };
    match value {
        Value::Object(members) => {
            let mut written = Vec::new();
            for (member, value) in members {
                let quoted = Value::String(member.clone());
                if member != name {
                    written.push(format!("{quoted}:{value}"));
                } else if below.is_empty() {
                    written.push(format!("{quoted}:{}", another(value)));
                    written.push(format!("{quoted}:{value}"));
                } else {
                    written.push(format!("{quoted}:{}", with_member_twice(value, &below)));
                }
            }
            format!("{{{}}}", written.join(","))
        }
        Value::Array(items) => {
            let write = |(index, item): (usize, &Value)| match name.parse::<usize>() {
                Ok(wanted) if index == wanted && !below.is_empty() => with_member_twice(item, &below),
                _ => item.to_string(),
            };
            format!("[{}]", items.iter().enumerate().map(write).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}
