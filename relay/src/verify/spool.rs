//! Entries in, entries of one bucket at a time out, in bounded memory: what has no room goes to a
//! file without a name, which is gone when the verifier ends, however it ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Entries with the same key lie in the same bucket; a bucket is held in memory whole.
pub(super) const BUCKETS: usize = 256;

#[derive(Debug)]
pub(super) struct Spool {
    buckets: Vec<Vec<u8>>,
    /// In memory, in all buckets.
    bytes: usize,
    bytes_max: usize,
    file: Option<File>,
    /// The file's length.
    end: u64,
    /// By bucket: where its parts lie in the file, in the order of their entries.
    parts: Vec<Vec<(u64, usize)>>,
}

impl Spool {
    /// Keeps so many bytes in memory before it writes any to disk.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS],
            bytes: 0,
            bytes_max,
            file: None,
            end: 0,
            parts: vec![Vec::new(); BUCKETS],
        }
    }

    /// Appends an entry to the bucket of a hash.
    pub(super) fn push(&mut self, hash: u64, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        // The upper bits: the lower ones choose within a bucket's own table.
        let at = (hash >> 56) as usize % BUCKETS;
        let Some(bucket) = self.buckets.get_mut(at) else { return Ok(()) };
        let before = bucket.len();
        write(bucket);
        self.bytes += bucket.len() - before;
        if self.bytes > self.bytes_max { self.spill() } else { Ok(()) }
    }

    /// The entries of a bucket, in the order in which they came. They are not kept.
    pub(super) fn take(&mut self, at: usize) -> io::Result<Vec<u8>> {
        let late = self.buckets.get_mut(at).map(std::mem::take).unwrap_or_default();
        let parts = self.parts.get_mut(at).map(std::mem::take).unwrap_or_default();
        let Some(file) = self.file.as_ref().filter(|_| !parts.is_empty()) else { return Ok(late) };
        let mut bytes = vec![0; parts.iter().map(|(_, length)| length).sum()];
        let mut rest = bytes.as_mut_slice();
        for (start, length) in parts {
            let (part, more) = rest.split_at_mut(length.min(rest.len()));
            file.read_exact_at(part, start)?;
            rest = more;
        }
        bytes.extend_from_slice(&late);
        Ok(bytes)
    }

    /// Bytes that went to disk.
    pub(super) fn spilled(&self) -> u64 {
        self.end
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        for (bucket, parts) in self.buckets.iter_mut().zip(&mut self.parts) {
            if bucket.is_empty() {
                continue;
            }
            file.write_all_at(bucket, self.end)?;
            parts.push((self.end, bucket.len()));
            self.end += bucket.len() as u64;
            bucket.clear();
        }
        self.bytes = 0;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of eight bytes, the hash of each its own.
    fn filled(bytes_max: usize) -> (Spool, Vec<Vec<u64>>) {
        let mut spool = Spool::new(bytes_max);
        let mut expected = vec![Vec::new(); BUCKETS];
        for number in 0..10_000u64 {
            let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            spool.push(hash, |out| out.extend_from_slice(&number.to_le_bytes())).expect("a disk");
            expected[(hash >> 56) as usize % BUCKETS].push(number);
        }
        (spool, expected)
    }

    #[test]
    fn every_entry_comes_back_in_its_bucket_and_in_order_on_disk_and_off() {
        for bytes_max in [0, 1_000, 17_000, usize::MAX] {
            let (mut spool, expected) = filled(bytes_max);
            assert_eq!(spool.spilled() > 0, bytes_max < 80_000, "{bytes_max}");
            for (at, expected) in expected.iter().enumerate() {
                let bytes = spool.take(at).expect("the bucket");
                let numbers = bytes
                    .chunks_exact(8)
                    .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
                assert_eq!(numbers.collect::<Vec<_>>(), *expected, "{bytes_max} {at}");
                assert!(spool.take(at).expect("nothing").is_empty());
            }
        }
    }

    #[test]
    fn what_is_in_memory_stays_below_its_bound() {
        let mut spool = Spool::new(1_000);
        for number in 0..100_000u64 {
            let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            spool.push(hash, |out| out.extend_from_slice(&[0; 8])).expect("a disk");
            assert!(spool.bytes <= 1_000, "{}", spool.bytes);
        }
        assert!(spool.spilled() >= 799_000);
    }
}
