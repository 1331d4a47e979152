//! Numbers that look random, and are the same in every run: the last steps of splitmix64.

/// A seeded generator.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD129_0B26_0DB9_3D5F))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`.
    pub(crate) fn of(&mut self, count: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % count
    }

    /// Whether something happens that happens once in `count` times.
    pub(crate) fn once_in(&mut self, count: usize) -> bool {
        self.of(count) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.of(values.len())].clone()
    }

    pub(crate) fn seconds(&mut self, count: usize) -> i64 {
        i64::try_from(self.of(count)).unwrap_or(0)
    }
}
