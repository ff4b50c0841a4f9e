//! CRC-32C (RFC 3720, 12.1), the checksum that a header of version 2 can carry.

/// The polynomial of Castagnoli, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What each value of a byte does to the sum.
const TABLE: [u32; 256] = table();

/// A checksum that grows byte after byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksum(u32);

impl Default for Checksum {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Checksum {
    pub(super) fn push(&mut self, byte: u8) {
        let [low, ..] = self.0.to_le_bytes();
        // The index is a byte, and there is an entry for each.
        let step = TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
        self.0 = (self.0 >> 8) ^ step;
    }

    pub(super) const fn value(self) -> u32 {
        !self.0
    }
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}
