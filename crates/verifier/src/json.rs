//! JSON without repeated members: what one reader takes, every reader must take the same way.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The value in `bytes`, after refusing members that any object in it has twice.
///
/// # Errors
/// What is wrong, with line and column.
pub(crate) fn from_slice_unique<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    require_unique(bytes)?;
    serde_json::from_slice(bytes)
}

/// Refuses members that any object in `bytes` has twice.
///
/// # Errors
/// What is wrong, with line and column.
pub(crate) fn require_unique(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let Unique = serde_json::from_slice(bytes)?;
    Ok(())
}

/// Likewise, and the value is written as this type writes it. Without this, serde takes the members of a structure from
/// an array as well, by their order.
///
/// # Errors
/// What is wrong.
pub(crate) fn from_slice_exact<T: DeserializeOwned + Serialize>(
    bytes: &[u8],
) -> Result<T, serde_json::Error> {
    let value: T = from_slice_unique(bytes)?;
    let received: Value = serde_json::from_slice(bytes)?;
    if serde_json::to_value(&value)? != received {
        return Err(serde_json::Error::custom("written in another form than as an object of these members"));
    }
    Ok(value)
}

/// Any JSON value whose objects have each member once.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while let Some(Unique) = items.next_element()? {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            let Unique = members.next_value()?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format_args!("member `{name}` is given twice")));
            }
        }
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_repeated_member_at_any_depth() {
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":[{"b":{"c":1,"c":2}}]}"#, r#"{"a":1,"\u0061":2}"#] {
            let error = from_slice_unique::<Value>(bad.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("given twice"), "{bad}: {error}");
        }
        assert!(require_unique(br#"{"a":1,"a":1}"#).is_err());
        assert!(from_slice_unique::<Value>(br#"{"a":{"a":[1,1.5,-1,true,null,"x"]}}"#).is_ok());
    }
}
