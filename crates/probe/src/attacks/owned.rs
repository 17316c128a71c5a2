//! What victims of several attacks have: a file with a secret, a key, memory that is really there.

use std::ffi::CString;

use casemate_sys::attack::{add_key, remove_key};

use crate::attack::{Args, Offer, Why};
use crate::attacks::Removed;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// A file in `folder` with the victim's secret and the usual permissions.
pub(super) fn offer_file(folder: &str, args: &Args) -> Result<Offer, Why> {
    let path = format!("{folder}/{}", args.mark);
    std::fs::write(&path, args.own_secret())?;
    Ok(Offer::silent(Removed(path)))
}

/// Reads it.
pub(super) fn take_file(folder: &str, args: &Args) -> Result<String, Why> {
    let path = format!("{folder}/{}", args.mark);
    match std::fs::read_to_string(&path)? {
        content if content == args.own_secret() => Ok(path),
        _ => Err(Why::of("a file of another")),
    }
}

/// A key in the user's keyring, removed in the end.
struct Key(Option<i64>);

impl Drop for Key {
    fn drop(&mut self) {
        if let Some(serial) = self.0 {
            remove_key(serial);
        }
    }
}

/// A key of the victim with its mark as the name. Where the victim's own filter has no keys, the attacker's is tried all the same.
pub(super) fn offer_key(args: &Args, content: &[u8]) -> Result<Offer, Why> {
    let name = CString::new(args.mark.as_str())?;
    Ok(Offer::silent(Key(add_key(&name, content).ok())))
}

/// Memory that is really there.
pub(super) fn taken(bytes: usize) -> Vec<u8> {
    let mut memory = vec![0_u8; bytes];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(memory)
}
