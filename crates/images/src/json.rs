//! JSON without repeated members: readers differ on which of two counts, so neither does.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// Refuses members that any object in `bytes` has twice, and text after the value. Nesting has the
/// limit of the parser, 128 levels.
pub(crate) fn require_unique(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Unique.deserialize(&mut reader)?;
    reader.end()
}

/// Reads any value and keeps nothing but the names of the objects it is in.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(Self)?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format_args!("member `{name}` is there twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_repeated_members_deep_nesting_and_what_follows() {
        for bad in [
            r#"{"a":1,"a":1}"#.to_owned(),
            r#"{"b":[{"a":1,"\u0061":1}]}"#.to_owned(),
            "[".repeat(200_000),
            format!("{}{}", "{\"a\":".repeat(200_000), "}".repeat(200_000)),
            "{} {}".to_owned(),
            String::new(),
        ] {
            assert!(require_unique(bad.as_bytes()).is_err());
        }
        require_unique(br#"{"a":{"a":[1,-1,1.5,null,true,"x"]},"b":{}}"#).unwrap();
    }
}
