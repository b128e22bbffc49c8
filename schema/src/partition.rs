//! A record key in, its partition out: the choice Java's default partitioner makes.
//!
//! Computed here and set explicitly on the record, because read-back after a start looks for a key
//! on the partition where it was put, whatever client library and partitioner setting are in use.
//! The hash is Kafka's `Utils.murmur2`, a 32-bit MurmurHash2 with the seed `0x9747b28c`.

use std::num::NonZeroU32;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// Java's `org.apache.kafka.common.utils.Utils.murmur2`, whose result is a signed number.
#[must_use]
pub fn murmur2(key: &[u8]) -> i32 {
    // Java's array length is an int, so no key that Kafka can hold is cut here.
    let mut hash = SEED ^ (key.len() as u32);
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^= hash >> 15;
    hash.cast_signed()
}

/// The partition of `key` among `partitions`.
#[must_use]
pub fn partition_for(key: &[u8], partitions: NonZeroU32) -> u32 {
    (murmur2(key).cast_unsigned() & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_the_values_of_kafkas_own_test() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn the_sign_bit_is_cleared_before_the_remainder() {
        let ten = NonZeroU32::new(10).unwrap();
        // -973932308 & 0x7fffffff = 1173551340
        assert_eq!(partition_for(b"21", ten), 0);
        assert_eq!(partition_for(b"abc", ten), 7);
        assert_eq!(partition_for(b"", NonZeroU32::MIN), 0);
    }
}
