//! A clock that jumps. In: how far it is off. Out: the environment of a process that sees it.
//!
//! Only the time of day jumps, as when somebody sets it; the monotonic clock goes on. The relay's
//! program is the one that is shipped: a small library that is loaded before it (`clock.c`) answers
//! for the time of day. `libfaketime` does not do: it asks the dynamic linker for names that are
//! missing, and the program's allocator cannot free what the linker had before it was ready.

use std::os::unix::fs::FileExt;
use std::process::Command;

use tempfile::TempDir;

const SOURCE: &str = include_str!("clock.c");

/// The time of day of one process.
#[derive(Debug)]
pub(crate) struct Clock {
    _dir: TempDir,
    library: String,
    path: String,
    file: std::fs::File,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let [source, library, path] = ["clock.c", "clock.so", "offset"]
            .map(|name| dir.path().join(name).display().to_string());
        std::fs::write(&source, SOURCE).expect("a file");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread", "-o"]);
        command.args([&library, &source]);
        if let Err(error) = xtask::process::output(&mut command) {
            panic!("a clock that jumps needs a C compiler, as the build does: {error:#}");
        }
        let file = std::fs::File::create(&path).expect("a file");
        let clock = Self { _dir: dir, library, path, file };
        clock.set(0);
        clock
    }

    /// So many seconds before or behind the real time from now on.
    pub(crate) fn set(&self, offset_seconds: i64) {
        self.file.write_all_at(&offset_seconds.to_ne_bytes(), 0).expect("written");
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", &self.library), ("CHAOS_CLOCK", &self.path)]
    }
}
