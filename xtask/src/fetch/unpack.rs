//! Archives to folders: tar by the system's program, zip by this small reader (a bare Debian has no
//! unzip).
//!
//! The reader takes the central directory at its word and is meant for archives whose digest was
//! checked before: no zip64, no encryption, methods stored and deflate.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::DeflateDecoder;

use crate::process;

/// Unpacks a tar archive, of any compression that tar recognizes.
pub(super) fn tar(archive: &Path, into: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.arg("--no-same-owner").arg("-xf").arg(archive).arg("-C").arg(into);
    process::output(&mut command).map(drop)
}

/// Unpacks a whole zip archive.
pub(super) fn zip(archive: &Path, into: &Path) -> Result<()> {
    let bytes = read(archive)?;
    for entry in entries(&bytes)? {
        let name = PathBuf::from(&entry.name);
        let is_inside = name.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(is_inside, "{} holds the path {}", archive.display(), entry.name);
        let file = into.join(name);
        if entry.name.ends_with('/') {
            fs::create_dir_all(&file)
                .with_context(|| format!("cannot create {}", file.display()))?;
            continue;
        }
        write(&file, &entry.content(&bytes)?)?;
    }
    Ok(())
}

/// Unpacks the one member whose name fits.
pub(super) fn zip_member(archive: &Path, fits: impl Fn(&str) -> bool, file: &Path) -> Result<()> {
    let bytes = read(archive)?;
    let entry = entries(&bytes)?.into_iter().find(|entry| fits(&entry.name));
    let entry =
        entry.with_context(|| format!("{} does not hold what was sought", archive.display()))?;
    write(file, &entry.content(&bytes)?)
}

fn read(archive: &Path) -> Result<Vec<u8>> {
    fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))
}

fn write(file: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))
}

struct Entry {
    name: String,
    method: u16,
    packed_bytes: usize,
    unpacked_bytes: usize,
    header_at: usize,
}

/// End of central directory record: signature and fixed length.
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const ENTRY_SIGNATURE: &[u8] = b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;

fn entries(zip: &[u8]) -> Result<Vec<Entry>> {
    let last = zip.len().checked_sub(END_BYTES).context("too short for a zip archive")?;
    let is_end = |at: &usize| zip.get(*at..*at + 4) == Some(END_SIGNATURE);
    let end = (0..=last).rev().find(is_end).context("not a zip archive")?;
    let count = u16_at(zip, end + 10)?;
    let mut at = u32_at(zip, end + 16)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        ensure!(
            zip.get(at..at + 4) == Some(ENTRY_SIGNATURE),
            "the zip archive's directory is damaged"
        );
        let name_bytes = u16_at(zip, at + 28)?;
        let name = slice(zip, at + ENTRY_BYTES, name_bytes)?;
        entries.push(Entry {
            name: std::str::from_utf8(name)
                .context("a name in the zip archive is not UTF-8")?
                .to_owned(),
            method: u16::try_from(u16_at(zip, at + 10)?)?,
            packed_bytes: u32_at(zip, at + 20)?,
            unpacked_bytes: u32_at(zip, at + 24)?,
            header_at: u32_at(zip, at + 42)?,
        });
        at += ENTRY_BYTES + name_bytes + u16_at(zip, at + 30)? + u16_at(zip, at + 32)?;
    }
    Ok(entries)
}

impl Entry {
    fn content(&self, zip: &[u8]) -> Result<Vec<u8>> {
        let lengths = u16_at(zip, self.header_at + 26)? + u16_at(zip, self.header_at + 28)?;
        let packed = slice(zip, self.header_at + LOCAL_BYTES + lengths, self.packed_bytes)?;
        let mut content = Vec::with_capacity(self.unpacked_bytes);
        match self.method {
            0 => content.extend_from_slice(packed),
            8 => {
                let read = DeflateDecoder::new(packed).read_to_end(&mut content);
                read.with_context(|| format!("{} does not inflate", self.name))?;
            }
            method => bail!("{} is packed by method {method}", self.name),
        }
        ensure!(
            content.len() == self.unpacked_bytes,
            "{} has not the length it should have",
            self.name
        );
        Ok(content)
    }
}

fn slice(zip: &[u8], at: usize, count: usize) -> Result<&[u8]> {
    zip.get(at..at + count).context("the zip archive ends early")
}

fn u16_at(zip: &[u8], at: usize) -> Result<usize> {
    let bytes: [u8; 2] = slice(zip, at, 2)?.try_into()?;
    Ok(usize::from(u16::from_le_bytes(bytes)))
}

fn u32_at(zip: &[u8], at: usize) -> Result<usize> {
    let bytes: [u8; 4] = slice(zip, at, 4)?.try_into()?;
    Ok(usize::try_from(u32::from_le_bytes(bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a/b.txt` holding "hi", stored: local header, directory, end.
    fn sample() -> Vec<u8> {
        let mut zip = b"PK\x03\x04".to_vec();
        zip.extend([0; 22]);
        zip.extend([7, 0, 0, 0]);
        zip.extend(b"a/b.txthi");
        let directory = u32::try_from(zip.len()).expect("small");
        zip.extend(ENTRY_SIGNATURE);
        zip.extend([0; 16]);
        zip.extend([2, 0, 0, 0, 2, 0, 0, 0, 7, 0]);
        zip.extend([0; 16]);
        zip.extend(b"a/b.txt");
        zip.extend(END_SIGNATURE);
        zip.extend([0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
        zip.extend(directory.to_le_bytes());
        zip.extend([0, 0]);
        zip
    }

    #[test]
    fn a_stored_member_is_read() {
        let zip = sample();
        let entries = entries(&zip).expect("a directory");
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a/b.txt"]);
        assert_eq!(entries[0].content(&zip).expect("content"), b"hi");
    }

    #[test]
    fn a_cut_archive_is_an_error_and_no_panic() {
        let zip = sample();
        for length in 0..zip.len() {
            assert!(entries(&zip[..length]).is_err(), "{length}");
        }
    }
}
