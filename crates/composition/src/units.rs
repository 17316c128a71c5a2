//! Sizes, durations, cores, modes, signals and command lines, from the spelling that Compose uses.
//!
//! No floating point: a quantity that is not a whole number of its smallest unit is refused, never rounded.

use std::collections::BTreeSet;

/// Numbers of processors are below this.
const PROCESSORS_MAX: u16 = 4096;

/// `512m` and the like in bytes; binary multiples, as Compose reads them.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = split_unit(&lower);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    whole(number, 1_u64.checked_shl(shift)?)
}

/// `1m30s` and the like in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total_us = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(number_end)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let unit_us = match unit {
            "us" => 1,
            "ms" => 1000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return None,
        };
        total_us = total_us.checked_add(whole(number, unit_us)?)?;
        rest = after;
    }
    total_us.is_multiple_of(1000).then_some(total_us / 1000)
}

/// `0.5` and the like in thousandths.
pub(crate) fn milli(text: &str) -> Option<u32> {
    whole(text, 1000)?.try_into().ok()
}

/// Permission bits: `0o1777`, `01777`, or `1777` where it stood in quotes.
pub(crate) fn mode(text: &str, plain: bool) -> Option<u32> {
    let digits = match text.strip_prefix("0o") {
        Some(digits) => digits,
        None if plain && !text.starts_with('0') => return None,
        None => text,
    };
    let ok = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = if ok { u32::from_str_radix(digits, 8).ok()? } else { return None };
    (mode <= 0o7777).then_some(mode)
}

/// A decimal number without sign and leading zeros, at most 10 digits.
pub(crate) fn natural(text: &str) -> Option<u64> {
    let plain = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

/// `0-2,5` and the like: numbers of processors below 4096, in any order, each once.
pub(crate) fn processors(text: &str) -> Option<BTreeSet<u16>> {
    let mut all = BTreeSet::new();
    let number = |text: &str| u16::try_from(natural(text)?).ok().filter(|number| *number < PROCESSORS_MAX);
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || (first..=last).any(|processor| !all.insert(processor)) {
            return None;
        }
    }
    Some(all)
}

/// A TCP port: 1 to 65535.
pub(crate) fn port(text: &str) -> Option<u16> {
    natural(text)?.try_into().ok().filter(|port| *port != 0)
}

/// `SIGTERM`, `TERM` or `15` as a number (Linux on x86-64 and arm64).
pub(crate) fn signal(text: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 31] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];
    if let Some(number) = natural(text) {
        return i32::try_from(number).ok().filter(|number| (1..=64).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// Why a command line cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SplitError {
    /// A quote is not closed, or a backslash ends the text.
    Open,
    /// A character that only a shell understands stands outside quotes.
    Shell(char),
}

/// Splits a command line into words by the quoting rules of a shell, without anything else that a shell does.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(SplitError::Open)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(SplitError::Open)?),
            ';' | '&' | '|' | '<' | '>' | '(' | ')' | '`' => return Err(SplitError::Shell(c)),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    loop {
        match chars.next().ok_or(SplitError::Open)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(SplitError::Open)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => {
                    word.push('\\');
                    word.push(c);
                }
            },
            '`' => return Err(SplitError::Shell('`')),
            c => word.push(c),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// Decimal `number` times `unit`, where the result is a whole number.
fn whole(number: &str, unit: u64) -> Option<u64> {
    let (integer, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(integer) || !digits(fraction) {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = integer.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(fraction.parse().ok()?)?;
    let product = value.checked_mul(unit.into())?;
    if !product.is_multiple_of(scale) {
        return None;
    }
    u64::try_from(product / scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_in_binary_multiples() {
        for (text, want) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1b", Some(1)),
            ("0.3b", None),
            ("-1", None),
            ("1x", None),
            ("", None),
            (".5m", None),
            ("99999999999999999t", None),
        ] {
            assert_eq!(bytes(text), want, "{text}");
        }
    }

    #[test]
    fn reads_durations() {
        for (text, want) in [
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5s", Some(1500)),
            ("1h", Some(3_600_000)),
            ("1000us", Some(1)),
            ("1us", None),
            ("10", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1d", None),
            ("99999999999999999h", None),
        ] {
            assert_eq!(duration_ms(text), want, "{text}");
        }
    }

    #[test]
    fn reads_modes_as_octal_only() {
        assert_eq!(mode("0o1777", true), Some(0o1777));
        assert_eq!(mode("01777", true), Some(0o1777));
        assert_eq!(mode("1777", false), Some(0o1777));
        assert_eq!(mode("1777", true), None);
        assert_eq!(mode("0888", true), None);
        assert_eq!(mode("077777", false), None);
    }

    #[test]
    fn reads_signals_ports_and_cores() {
        assert_eq!(
            (signal("SIGTERM"), signal("int"), signal("9"), signal("64")),
            (Some(15), Some(2), Some(9), Some(64))
        );
        assert_eq!((signal("65"), signal("0"), signal("SIGNOPE"), signal("")), (None, None, None, None));
        assert_eq!(
            (port("1"), port("65535"), port("0"), port("65536"), port("080")),
            (Some(1), Some(65535), None, None, None)
        );
        assert_eq!(
            (milli("0.5"), milli("2"), milli("0.0005"), milli("1e3")),
            (Some(500), Some(2000), None, None)
        );
    }

    #[test]
    fn splits_words_like_a_shell_without_its_operators() {
        let words = |text| split_words(text).unwrap();
        assert_eq!(
            words("python3 -c 'print(\"a b\")' x\\ y \"p\\\"q\\n\" ''"),
            ["python3", "-c", "print(\"a b\")", "x y", "p\"q\\n", ""]
        );
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(split_words("a && b"), Err(SplitError::Shell('&')));
        assert_eq!(split_words("echo `id`"), Err(SplitError::Shell('`')));
        assert_eq!(split_words("a 'b"), Err(SplitError::Open));
        assert_eq!(split_words("a \\"), Err(SplitError::Open));
    }
}
