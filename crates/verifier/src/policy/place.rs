//! Where in a policy file things are, and the readers that every table shares.

use std::ops::Range;

use casemate_canon::Sha384;
use toml::Spanned;

use super::{Measurement, PolicyError};

/// Most days that endorsements may be old.
const COLLATERAL_AGE_DAYS_MAX: u32 = 3660;

/// A list of strings whose places are known.
pub(super) type Strings = Spanned<Vec<Spanned<String>>>;

/// The text of the file, to say where a mistake is.
pub(super) struct Place<'a> {
    pub(super) text: &'a str,
}

impl Place<'_> {
    pub(super) fn error(&self, span: &Range<usize>, what: impl Into<String>, todo: &str) -> PolicyError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        PolicyError {
            line: before.matches('\n').count().saturating_add(1),
            column: column.saturating_add(1),
            what: what.into(),
            todo: todo.to_owned(),
        }
    }

    pub(super) fn days(&self, days: &Spanned<u32>) -> Result<u32, PolicyError> {
        if (1..=COLLATERAL_AGE_DAYS_MAX).contains(days.get_ref()) {
            return Ok(*days.get_ref());
        }
        let todo = format!("write a number from 1 to {COLLATERAL_AGE_DAYS_MAX}");
        Err(self.error(&days.span(), format!("{} days are not possible", days.get_ref()), &todo))
    }

    pub(super) fn digest(&self, text: &Spanned<String>) -> Result<Sha384, PolicyError> {
        text.get_ref().parse().map_err(|error: casemate_canon::DigestParseError| {
            self.error(&text.span(), error.to_string(), "write sha384:<96 digits>")
        })
    }

    pub(super) fn measurements(&self, list: &Strings) -> Result<Vec<Measurement>, PolicyError> {
        self.each(list, "96 lower-case hexadecimal digits", |text| hex_array(text).map(Measurement))
    }

    /// Values that stand in an optional key.
    pub(super) fn optional_measurements(
        &self,
        list: Option<&Strings>,
    ) -> Result<Option<Vec<Measurement>>, PolicyError> {
        list.map(|list| self.measurements(list)).transpose()
    }

    /// Every value of a list, which must name at least one.
    pub(super) fn each<T>(
        &self,
        list: &Strings,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, PolicyError> {
        let todo = format!("write {expected}");
        if list.get_ref().is_empty() {
            return Err(self.error(&list.span(), "no value is named, so nothing could pass", &todo));
        }
        list.get_ref()
            .iter()
            .map(|text| {
                read(text.get_ref()).ok_or_else(|| {
                    self.error(&text.span(), format!("`{}` is not {expected}", text.get_ref()), &todo)
                })
            })
            .collect()
    }
}

/// Bytes written as lower-case hexadecimal digits, exactly as many as there are.
pub(super) fn hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// A TOML array of strings. What would end a string early is escaped; what no policy can hold does not read back.
pub(super) fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("{:?}", item.to_string())).collect();
    format!("[{}]", items.join(", "))
}
