//! Changes to an input: what parsers get wrong.

use crate::random::Random;

/// Numbers at which something overflows, wraps or turns negative.
const INTERESTING: [u64; 20] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 53,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];
/// Byte strings that open something, for deep nesting.
const OPENING: [&[u8]; 6] = [b"[", b"{\"a\":", b"[[", b"\x30\x80", b"\x30\x82\xff\xff", b"a."];
/// Most changes to one input.
const CHANGES_MAX: usize = 5;

/// A changed copy of `input`, at most `bytes_max` long. `other` is another input of the same kind.
#[must_use]
pub fn mutated(
    input: &[u8],
    other: &[u8],
    words: &[&[u8]],
    bytes_max: usize,
    random: &mut Random,
) -> Vec<u8> {
    let mut bytes = input.to_vec();
    // Mostly one change: two hide each other.
    let changes = 1 + random.below(CHANGES_MAX).saturating_sub(1 + random.below(CHANGES_MAX - 1));
    for _ in 0..changes {
        change(&mut bytes, other, words, bytes_max, random);
    }
    bytes.truncate(bytes_max);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], words: &[&[u8]], bytes_max: usize, random: &mut Random) {
    let length = bytes.len();
    let at = random.below(length + 1);
    match random.below(18) {
        0 => flip(bytes, at, 1 << random.below(8)),
        1 => set(bytes, at, random.bits().to_le_bytes().first().copied().unwrap_or(0)),
        2 | 3 => put_integer(bytes, at, *random.pick(&INTERESTING).unwrap_or(&0), random),
        4 => add(bytes, at, random),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..at + random.below((length - at).min(64) + 1))),
        7 => drop(bytes.drain(at..at + random.below(length - at + 1))),
        8 => duplicate(bytes, at, random),
        9 => repeat(bytes, at, bytes_max, random),
        10 => nest(bytes, at, bytes_max, random),
        11 | 12 => put_length(bytes, at, random),
        13 => splice(bytes, at, other, random),
        14 => insert(bytes, at, &vec![*random.pick(&[0, 0xff, b' ', b'\n']).unwrap_or(&0); random.below(70)]),
        15 => overwrite(bytes, at, random.pick(words).copied().unwrap_or(b"\0")),
        _ => insert(bytes, at, random.pick(words).copied().unwrap_or(b"\0")),
    }
}

fn flip(bytes: &mut [u8], at: usize, mask: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= mask;
    }
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    drop(bytes.splice(at..at, what.iter().copied()));
}

fn overwrite(bytes: &mut [u8], at: usize, what: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(what) {
        *byte = *new;
    }
}

/// A number of one, two, four or eight bytes, in either order.
fn put_integer(bytes: &mut [u8], at: usize, value: u64, random: &mut Random) {
    let width = *random.pick(&[1, 2, 4, 8]).unwrap_or(&1);
    let little = value.to_le_bytes();
    let mut digits = little.get(..width).unwrap_or_default().to_vec();
    if random.below(2) == 0 {
        digits.reverse();
    }
    overwrite(bytes, at, &digits);
}

/// A little more or less of the number that is there.
fn add(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = *random.pick(&[1, 2, 4]).unwrap_or(&1);
    let Some(field) = bytes.get_mut(at..at + width) else { return };
    let big = random.below(2) == 0;
    if big {
        field.reverse();
    }
    let value = field.iter().rev().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    let step = 1 + random.below(16) as u64;
    let changed = if random.below(2) == 0 { value.wrapping_add(step) } else { value.wrapping_sub(step) };
    for (byte, new) in field.iter_mut().zip(changed.to_le_bytes()) {
        *byte = new;
    }
    if big {
        field.reverse();
    }
}

/// A length that is, or nearly is, that of what follows or of the whole.
fn put_length(bytes: &mut [u8], at: usize, random: &mut Random) {
    let rest = bytes.len() - at;
    let length = *random.pick(&[rest, bytes.len(), random.clone().below(rest + 1)]).unwrap_or(&rest);
    let near = *random.pick(&[0_usize, 1, 2, 3, 4, 8]).unwrap_or(&0);
    let length = if random.below(2) == 0 { length.saturating_sub(near) } else { length + near };
    put_integer(bytes, at, length as u64, random);
}

fn duplicate(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let piece = bytes.get(at..).unwrap_or_default();
    let piece = piece.get(..random.below(piece.len() + 1)).unwrap_or_default().to_vec();
    let to = random.below(bytes.len() + 1);
    insert(bytes, to, &piece);
}

/// Huge counts: a short piece many times.
fn repeat(bytes: &mut Vec<u8>, at: usize, bytes_max: usize, random: &mut Random) {
    let piece = bytes.get(at..).unwrap_or_default();
    let piece = piece.get(..random.below(piece.len().min(80) + 1)).unwrap_or_default().to_vec();
    let room = bytes_max.saturating_sub(bytes.len()).checked_div(piece.len()).unwrap_or(0);
    let most = room.min(1 << random.below(16));
    let times = random.below(most + 1);
    insert(bytes, at, &piece.repeat(times));
}

/// Deep nesting: something that opens, many times.
fn nest(bytes: &mut Vec<u8>, at: usize, bytes_max: usize, random: &mut Random) {
    let opening = random.pick(&OPENING).copied().unwrap_or(b"[");
    let room = bytes_max.saturating_sub(bytes.len()) / opening.len();
    let most = room.min(1 << random.below(14));
    let times = random.below(most + 1);
    insert(bytes, at, &opening.repeat(times));
}

/// A beginning of this one and an end of another.
fn splice(bytes: &mut Vec<u8>, at: usize, other: &[u8], random: &mut Random) {
    bytes.truncate(at);
    bytes.extend_from_slice(other.get(random.below(other.len() + 1)..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_differ_stay_in_bounds_and_are_the_same_for_the_same_seed() {
        let input: Vec<u8> = (0..200).collect();
        let all = |seed| {
            let mut random = Random::new(seed);
            (0..20_000)
                .map(|_| mutated(&input, b"another input", &[b"word"], 300, &mut random))
                .collect::<Vec<_>>()
        };
        let once = all(1);
        assert!(once.iter().all(|bytes| bytes.len() <= 300));
        assert!(once.iter().filter(|bytes| **bytes != input).count() > 15_000);
        assert!(once.iter().any(|bytes| bytes.windows(4).any(|window| window == b"word")));
        assert_eq!(once, all(1));
        assert_ne!(once, all(2));
    }

    #[test]
    fn takes_an_empty_input() {
        let mut random = Random::new(3);
        for _ in 0..2000 {
            let _bytes = mutated(b"", b"", &[], 64, &mut random);
        }
    }
}
