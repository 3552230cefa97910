//! Chance that is the same in every run.

/// A number for a seed and whom it concerns; every bit of it depends on every bit of them.
pub fn drawn(seed: u64, about: &[u64]) -> u64 {
    about.iter().fold(mixed(seed), |state, n| mixed(state ^ mixed(*n)))
}

/// Below one.
pub fn share(seed: u64, about: &[u64]) -> f64 {
    (drawn(seed, about) >> 11) as f64 / (1u64 << 53) as f64
}

/// One of these.
pub fn one_of<T: Copy>(all: &[T], seed: u64, about: &[u64]) -> T {
    all[(drawn(seed, about) % all.len() as u64) as usize]
}

/// SplitMix64's finish (Steele, Lea, Flood 2014).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
