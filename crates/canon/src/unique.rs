//! JSON without repeated members: what one reader takes, every reader must take the same way.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The value in `bytes`, after refusing members that any object in it has twice.
///
/// # Errors
/// What is wrong, with line and column.
pub fn from_slice_unique<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    require_unique(bytes)?;
    serde_json::from_slice(bytes)
}

/// Refuses members that any object in `bytes` has twice.
///
/// # Errors
/// What is wrong, with line and column.
pub fn require_unique(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Unique { names: &mut Vec::new() }.deserialize(&mut reader)?;
    reader.end()
}

/// Likewise, and the value is written as this type writes it. Without this, serde takes the members of a structure from
/// an array as well, by their order.
///
/// # Errors
/// What is wrong.
pub fn from_slice_exact<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let value: T = from_slice_unique(bytes)?;
    let received: Value = serde_json::from_slice(bytes)?;
    if serde_json::to_value(&value)? != received {
        return Err(serde_json::Error::custom("written in another form than as an object of these members"));
    }
    Ok(value)
}

/// Reads any JSON value whose objects have each member once. Names of the objects that are open stand in one list, each
/// object's after those of the object around it.
struct Unique<'n, 'de> {
    names: &'n mut Vec<Cow<'de, str>>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
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
        while items.next_element_seed(Unique { names: self.names })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let outer = self.names.len();
        while let Some(Name(name)) = members.next_key()? {
            self.names.push(name);
            members.next_value_seed(Unique { names: self.names })?;
        }
        let own = self.names.get_mut(outer..).unwrap_or_default();
        own.sort_unstable();
        let twice = own.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(one),
            _ => None,
        });
        if let Some(name) = twice {
            return Err(A::Error::custom(format_args!("member `{name}` is given twice")));
        }
        self.names.truncate(outer);
        Ok(())
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

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

    #[test]
    fn refuses_nesting_of_more_than_127_levels_without_following_it() {
        let nested = |open: &str, inner: &str, close: &str, levels: usize| {
            format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
        };
        assert!(require_unique(nested("[", "", "]", 127).as_bytes()).is_ok());
        assert!(require_unique(nested("{\"a\":", "1", "}", 127).as_bytes()).is_ok());
        for levels in [128, 200_000] {
            for text in
                [nested("[", "", "]", levels), nested("{\"a\":", "1", "}", levels), "[".repeat(levels)]
            {
                let error = require_unique(text.as_bytes()).unwrap_err();
                assert!(error.to_string().starts_with("recursion limit exceeded"), "{levels}: {error}");
            }
        }
    }

    #[test]
    fn takes_many_members_and_finds_the_one_that_is_there_twice() {
        let members = (0..50_000).map(|number| format!("\"m{number}\":0")).collect::<Vec<_>>().join(",");
        assert!(require_unique(format!("{{{members}}}").as_bytes()).is_ok());
        let error = require_unique(format!("{{{members},\"m25000\":0}}").as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("member `m25000` is given twice"), "{error}");
    }

    #[test]
    fn refuses_truncation_at_every_offset_trailing_text_and_what_is_not_text() {
        let whole = br#"{"a":[1,{"b":"\u00e9"}],"c":null}"#;
        for length in 0..whole.len() {
            assert!(require_unique(&whole[..length]).is_err(), "{length}");
        }
        for more in ["x", "{}", ",", "\0"] {
            assert!(require_unique(&[whole.as_slice(), more.as_bytes()].concat()).is_err(), "{more}");
        }
        assert!(require_unique(b"{\"a\":\"\xff\"}").is_err());
        assert!(require_unique(b"\xef\xbb\xbf{}").is_err());
    }

    #[test]
    fn an_exact_value_is_no_array_and_has_no_other_spelling() {
        #[derive(Debug, PartialEq, serde::Deserialize, Serialize)]
        struct Pair {
            a: u32,
            b: u32,
        }
        assert_eq!(from_slice_exact::<Pair>(br#"{"b":2,"a":1}"#).unwrap(), Pair { a: 1, b: 2 });
        for bad in
            ["[1,2]", r#"{"a":1,"b":2,"c":3}"#, r#"{"a":1,"a":1,"b":2}"#, r#"{"a":1}"#, r#"{"a":1,"b":2.0}"#]
        {
            assert!(from_slice_exact::<Pair>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
