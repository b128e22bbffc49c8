//! A disk that can be full. In: its size. Out: a folder in which one folder is a file system of its
//! own.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A small file system, unmounted when dropped: whoever writes to it must have ended.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: TempDir,
    mount: PathBuf,
}

impl Disk {
    /// A folder whose folder `name` has this much room. Only root may do that; whoever may not is
    /// told so by a failing test.
    pub(crate) fn mount(name: &str, mib: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = folder.path().join(name);
        std::fs::create_dir(&mount).expect("a folder");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "walpost-chaos"]).arg(&mount);
        if let Err(error) = xtask::process::output(&mut command) {
            panic!("a disk cannot be filled without one of its own, which needs root: {error:#}");
        }
        Self { folder, mount }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Takes the last byte that is free.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        let piece = [0; 4096];
        let error = loop {
            if let Err(error) = file.write_all(&piece) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }

    /// Gives back what [`Self::fill`] took.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a child of the broker may still hold it open for a moment.
        let mut command = Command::new("umount");
        let _ = xtask::process::output(command.arg("--lazy").arg(&self.mount));
    }
}
