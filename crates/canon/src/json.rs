//! RFC 8785 (JSON Canonicalization Scheme), for values whose numbers are integers.

use serde::Serialize;
use serde_json::Value;

/// Why a value has no canonical form here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// A number is not an integer, or its magnitude is 2^53 or more.
    #[error("number {found} is not an integer below 2^53")]
    Number {
        /// The number as written.
        found: String,
    },
    /// The value cannot be represented as JSON at all.
    #[error("value has no JSON form: {reason}")]
    NotJson {
        /// What the serialiser said.
        reason: String,
    },
}

/// The canonical bytes of any serialisable value.
///
/// # Errors
/// [`CanonicalError`] where the value has no JSON form, or holds a number other than an integer below 2^53.
pub fn to_canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(|e| CanonicalError::NotJson { reason: e.to_string() })?;
    value_to_canonical_json(&value)
}

/// The canonical bytes of a JSON value.
///
/// # Errors
/// [`CanonicalError::Number`].
pub fn value_to_canonical_json(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write_value(value, Layout::Canonical, &mut out)?;
    Ok(out)
}

/// The one readable form of a JSON value: as its canonical form, but each member and each item on a line of its own,
/// two spaces further in than what holds it, a space after the colon, and a line end at the end. Empty objects and
/// arrays are `{}` and `[]`.
///
/// # Errors
/// [`CanonicalError::Number`].
pub fn value_to_readable_json(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write_value(value, Layout::Readable { depth: 0 }, &mut out)?;
    out.push(b'\n');
    Ok(out)
}

/// What stands between the tokens. Everything else is the same in both.
#[derive(Clone, Copy)]
enum Layout {
    /// Nothing.
    Canonical,
    /// Lines and two spaces for each level.
    Readable { depth: usize },
}

impl Layout {
    const fn inside(self) -> Self {
        match self {
            Self::Canonical => Self::Canonical,
            Self::Readable { depth } => Self::Readable { depth: depth.saturating_add(1) },
        }
    }

    fn line(self, out: &mut Vec<u8>) {
        if let Self::Readable { depth } = self {
            out.push(b'\n');
            out.resize(out.len().saturating_add(depth.saturating_mul(2)), b' ');
        }
    }

    const fn colon(self) -> &'static [u8] {
        match self {
            Self::Canonical => b":",
            Self::Readable { .. } => b": ",
        }
    }
}

fn write_value(value: &Value, layout: Layout, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_text(text, out),
        Value::Array(items) if items.is_empty() => out.extend_from_slice(b"[]"),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                layout.inside().line(out);
                write_value(item, layout.inside(), out)?;
            }
            layout.line(out);
            out.push(b']');
        }
        Value::Object(members) if members.is_empty() => out.extend_from_slice(b"{}"),
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            // RFC 8785 section 3.2.3: members in the order of their names' UTF-16 code units.
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                layout.inside().line(out);
                write_text(name, out);
                out.extend_from_slice(layout.colon());
                write_value(member, layout.inside(), out)?;
            }
            layout.line(out);
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_number(number: &serde_json::Number, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    const LIMIT: u64 = 1 << 53;
    let magnitude = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
    match magnitude {
        Some(magnitude) if magnitude < LIMIT => {
            out.extend_from_slice(number.to_string().as_bytes());
            Ok(())
        }
        _ => Err(CanonicalError::Number { found: number.to_string() }),
    }
}

/// RFC 8785 section 3.2.2.2: short escapes where JSON has them, `\u00xx` for other controls, all else as is.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\r' => out.extend_from_slice(b"\\r"),
            c if c < '\u{20}' => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn canonical(value: &Value) -> String {
        String::from_utf8(value_to_canonical_json(value).unwrap()).unwrap()
    }

    #[test]
    fn sorts_members_by_utf16_code_units() {
        // U+1F600 is a surrogate pair (0xD83D..), so it sorts before U+FB33 although its code point is larger.
        let value = json!({"\u{fb33}": 1, "\u{1f600}": 2, "b": 3, "a": 4, "": 5});
        assert_eq!(canonical(&value), "{\"\":5,\"a\":4,\"b\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn escapes_only_what_must_be_escaped() {
        let value = json!("\u{0}\u{8}\t\n\u{c}\r\u{1f}\"\\/\u{7f}\u{20ac}");
        assert_eq!(canonical(&value), "\"\\u0000\\b\\t\\n\\f\\r\\u001f\\\"\\\\/\u{7f}\u{20ac}\"");
    }

    #[test]
    fn writes_nested_values_without_spaces() {
        assert_eq!(
            canonical(&json!({"b": [1, -2, null], "a": {"x": true, "w": false}})),
            "{\"a\":{\"w\":false,\"x\":true},\"b\":[1,-2,null]}"
        );
    }

    #[test]
    fn the_readable_form_has_a_line_for_each_member_and_item_and_says_the_same() {
        let value = json!({"b": [1, {"x": [], "w": {}}], "a": "\u{1f600}\n", "c": [[null]]});
        let readable = value_to_readable_json(&value).unwrap();
        assert_eq!(
            String::from_utf8(readable.clone()).unwrap(),
            "{\n  \"a\": \"\u{1f600}\\n\",\n  \"b\": [\n    1,\n    {\n      \"w\": {},\n      \"x\": []\n    }\n  ],\n  \
             \"c\": [\n    [\n      null\n    ]\n  ]\n}\n"
        );
        assert_eq!(serde_json::from_slice::<Value>(&readable).unwrap(), value);
        assert_eq!(value_to_readable_json(&json!([])).unwrap(), b"[]\n");
        assert!(matches!(value_to_readable_json(&json!([1.5])), Err(CanonicalError::Number { .. })));
    }

    #[test]
    fn refuses_numbers_that_other_implementations_round() {
        for bad in [json!(1.5), json!(1u64 << 53), json!(-(1i64 << 53)), json!(1e300)] {
            assert!(matches!(value_to_canonical_json(&bad), Err(CanonicalError::Number { .. })), "{bad}");
        }
        assert_eq!(canonical(&json!((1u64 << 53) - 1)), "9007199254740991");
    }

    #[test]
    fn writes_what_is_nested_as_deeply_as_json_is_read() {
        let text = format!("{}1{}", "[".repeat(127), "]".repeat(127));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(canonical(&value), text);
        let deeper = format!("[{text}]");
        assert!(
            serde_json::from_str::<Value>(&deeper).unwrap_err().to_string().starts_with("recursion limit")
        );
    }

    #[test]
    fn sorts_many_members_and_keeps_each() {
        let members: serde_json::Map<_, _> = (0..20_000_u32)
            .map(|number| (format!("m{:05}", number.reverse_bits() % 99_991), json!(number)))
            .collect();
        let count = members.len();
        let text = canonical(&Value::Object(members));
        let names: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
        assert_eq!(names.len(), count);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
