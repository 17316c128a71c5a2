//! The Merkle tree over a composition (RFC 6962 section 2.1, with SHA-384 and domain tags).
//!
//! Leaf 0 is the global part of the lock, leaves 1.. are the agents in name order. An agent's leaf binds its
//! name and its measurement, so its owner can check that it belongs to a composition without seeing the others.

use casemate_canon::Sha384;
use serde::{Deserialize, Serialize};

use crate::lock::AgentName;

/// Most levels of a proof: trees of up to 2^32 leaves.
pub const PROOF_LEVELS_MAX: usize = 32;

/// Shows that one leaf belongs to a tree (RFC 6962 section 2.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Position of the leaf.
    pub index: u32,
    /// Number of leaves.
    pub size: u32,
    /// Sibling hashes from the leaf to the root.
    pub path: Vec<Sha384>,
}

impl Proof {
    /// The root that follows from `leaf` and this proof; none where the path has not exactly the length that
    /// position and size ask for (RFC 9162 section 2.1.3.2).
    #[must_use]
    pub fn root(&self, leaf: &Sha384) -> Option<Sha384> {
        if self.index >= self.size || self.path.len() > PROOF_LEVELS_MAX {
            return None;
        }
        let (mut position, mut last) = (self.index, self.size.checked_sub(1)?);
        let mut hash = *leaf;
        for sibling in &self.path {
            if last == 0 {
                return None;
            }
            if position & 1 == 1 || position == last {
                hash = node(sibling, &hash);
                while position & 1 == 0 && position != 0 {
                    position >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node(&hash, sibling);
            }
            position >>= 1;
            last >>= 1;
        }
        (last == 0).then_some(hash)
    }
}

/// The leaf of an agent.
#[must_use]
pub fn agent_leaf(name: &AgentName, measurement: &Sha384) -> Sha384 {
    // A name has no zero byte and at most 63 bytes, so the parts cannot be confused.
    Sha384::of_parts(&[b"\x00casemate:agent/1\x00", name.as_str().as_bytes(), b"\x00", &measurement.0])
}

/// The leaf of the global part, given its RFC 8785 form.
pub(crate) fn global_leaf(canonical: &[u8]) -> Sha384 {
    Sha384::of_parts(&[b"\x00casemate:global/1\x00", canonical])
}

/// The root over `leaves`; none for no leaf.
pub(crate) fn root(leaves: &[Sha384]) -> Option<Sha384> {
    match leaves {
        [] => None,
        [leaf] => Some(*leaf),
        _ => {
            let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
            Some(node(&root(left)?, &root(right)?))
        }
    }
}

/// The sibling hashes of leaf `index`, from the leaf to the root.
pub(crate) fn path(leaves: &[Sha384], index: usize) -> Option<Vec<Sha384>> {
    if leaves.len() <= 1 {
        return (index == 0 && leaves.len() == 1).then(Vec::new);
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at_checked(middle)?;
    let mut hashes;
    if index < middle {
        hashes = path(left, index)?;
        hashes.push(root(right)?);
    } else {
        hashes = path(right, index.checked_sub(middle)?)?;
        hashes.push(root(left)?);
    }
    Some(hashes)
}

/// The largest power of two smaller than `count`, for `count` of 2 or more.
fn split(count: usize) -> usize {
    let half = count.next_power_of_two() >> 1;
    if half == count { count >> 1 } else { half }
}

fn node(left: &Sha384, right: &Sha384) -> Sha384 {
    Sha384::of_parts(&[b"\x01", &left.0, &right.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Sha384> {
        (0..count).map(|i| Sha384::of(&i.to_le_bytes())).collect()
    }

    fn proof(leaves: &[Sha384], index: usize) -> Proof {
        Proof {
            index: u32::try_from(index).unwrap(),
            size: u32::try_from(leaves.len()).unwrap(),
            path: path(leaves, index).unwrap(),
        }
    }

    #[test]
    fn every_leaf_of_every_size_proves_the_root() {
        for count in 1..40 {
            let leaves = leaves(count);
            for (index, leaf) in leaves.iter().enumerate() {
                assert_eq!(proof(&leaves, index).root(leaf), root(&leaves), "{index} of {count}");
            }
        }
    }

    #[test]
    fn no_changed_proof_gives_the_root() {
        for count in 2..20 {
            let leaves = leaves(count);
            let wanted = root(&leaves);
            for (index, leaf) in leaves.iter().enumerate() {
                let good = proof(&leaves, index);
                assert_ne!(good.root(&Sha384::ZERO), wanted);
                let mut shorter = good.clone();
                shorter.path.pop();
                assert_ne!(shorter.root(leaf), wanted, "shorter {index} of {count}");
                let mut longer = good.clone();
                longer.path.push(Sha384::ZERO);
                assert_ne!(longer.root(leaf), wanted, "longer {index} of {count}");
                for step in 0..good.path.len() {
                    let mut changed = good.clone();
                    changed.path[step] = Sha384::ZERO;
                    assert_ne!(changed.root(leaf), wanted, "step {step} of {index} of {count}");
                }
                let outside = Proof { index: good.size, ..good };
                assert_eq!(outside.root(leaf), None);
            }
        }
    }

    #[test]
    fn leaf_and_node_hashes_have_domains_of_their_own() {
        let two = leaves(2);
        assert_ne!(root(&two), Some(Sha384::of_parts(&[&two[0].0, &two[1].0])));
        let name: AgentName = "a".parse().unwrap();
        assert_ne!(agent_leaf(&name, &Sha384::ZERO), global_leaf(&[]));
    }
}
