//! Narrow entries to what reads hostile text, for the fuzz targets.
//!
//! What it is not: a part of the interface of this crate. Nobody but `crates/fuzz` uses it.

use crate::auth;
use crate::url::{Url, UrlProblem};

/// The challenges in the value of a `WWW-Authenticate` header: scheme, and parameters by name.
#[must_use]
pub fn challenges(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    auth::parse_challenges(text).into_iter().map(|found| (found.scheme, found.parameters)).collect()
}

/// Reads a URL and writes it whole; then the same for `location`, as an answer of that URL.
///
/// # Errors
/// A word for what is wrong with the URL.
pub fn urls(text: &str, location: &str) -> Result<(String, Option<String>), &'static str> {
    let whole = |url: &Url| format!("{}{}", url.origin, url.target);
    let url = Url::parse(text).map_err(|problem| match problem {
        UrlProblem::Form => "form",
        UrlProblem::Scheme => "scheme",
    })?;
    Ok((whole(&url), url.join(location).ok().as_ref().map(whole)))
}
