//! Gzip that unpacks to far more than its size.

/// A gzip stream of `bytes` spaces (rounded up to whole matches), about 1/158 of that long.
///
/// It is put together bit by bit, since a real compressor would have to be fed all of it. Its
/// checksum is left wrong for the same reason, so a reader that bears the size fails at the end.
pub(super) fn gzip_of_spaces(bytes: u64) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut bits = Bits { packed: &mut packed, held: 0, count: 0 };
    // One last block with the fixed code: a space, then "the last byte again, 258 times".
    bits.push(0b011, 3);
    bits.push_code(0x50, 8);
    for _ in 0..bytes.saturating_sub(1).div_ceil(258) {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    bits.push(0, 7);
    packed.extend_from_slice(&[0; 8]);
    packed
}

struct Bits<'a> {
    packed: &'a mut Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    /// Adds bits, lowest first.
    fn push(&mut self, bits: u32, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.packed.push(self.held.to_le_bytes()[0]);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Adds a Huffman code, which goes highest bit first.
    fn push_code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_and_unpacks_to_what_it_says() {
        let packed = gzip_of_spaces(1_000_000);
        assert!(packed.len() < 7_000, "{}", packed.len());
        assert_eq!(&packed[..3], [0x1f, 0x8b, 8]);
    }
}
