//! What a test run leaves behind when it is killed. In: servers and folders as they are made. Out:
//! notes, from which `cargo x test` ends and removes what is still there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::Identity;

/// The variable with the folder for notes; without it none are taken.
pub const NOTES: &str = "WALPOST_TEST_NOTES";

/// A fast shutdown of a server whose data nobody needs.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
enum Thing {
    Server(Identity),
    Folder(PathBuf),
}

/// A note, torn up when dropped.
#[derive(Debug)]
pub(crate) struct Note {
    file: Option<PathBuf>,
}

impl Note {
    pub(crate) fn server(identity: Identity) -> Self {
        Self::take(&Thing::Server(identity))
    }

    pub(crate) fn folder(folder: &Path) -> Self {
        Self::take(&Thing::Folder(folder.to_owned()))
    }

    fn take(thing: &Thing) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let file = std::env::var_os(NOTES).map(|folder| {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{count}.json", std::process::id());
            let file = Path::new(&folder).join(name);
            // A note that cannot be taken costs tidiness after a kill, nothing else.
            let _ = fs::write(&file, serde_json::to_vec(thing).unwrap_or_default());
            file
        });
        Self { file }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}

/// Ends every server and then removes every folder that is still noted; returns how many servers.
pub fn end_noted(notes: &Path) -> usize {
    let entries = fs::read_dir(notes).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs::read(entry.path()).ok());
    let things = texts.filter_map(|text| serde_json::from_slice(&text).ok());
    let (mut servers, mut folders) = (Vec::new(), Vec::new());
    for thing in things {
        match thing {
            Thing::Server(identity) if identity.is_alive() => servers.push(identity),
            Thing::Server(_) => {}
            Thing::Folder(folder) => folders.push(folder),
        }
    }
    for server in &servers {
        // A fast shutdown to PostgreSQL, an ordinary one to a JVM; a frozen server wakes first.
        server.signal(Signal::INT);
        server.signal(Signal::CONT);
    }
    for server in &servers {
        if !server.is_gone_within(STOP_DEADLINE) {
            server.kill9();
        }
    }
    for folder in folders {
        let _ = fs::remove_dir_all(folder);
    }
    servers.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn what_is_noted_is_ended_and_removed() {
        let base = std::env::temp_dir().join(format!("xtask-notes-{}", std::process::id()));
        let (notes, folder) = (base.join("notes"), base.join("data"));
        fs::create_dir_all(&notes).expect("a folder");
        fs::create_dir_all(&folder).expect("a folder");
        let mut sleep = Command::new("sleep");
        let mut child = sleep.arg("60").process_group(0).spawn().expect("sleep");
        let identity = Identity::of(child.id()).expect("it runs");
        for (name, thing) in [("a", Thing::Server(identity)), ("b", Thing::Folder(folder.clone()))]
        {
            let text = serde_json::to_vec(&thing).expect("JSON");
            fs::write(notes.join(name), text).expect("a note");
        }
        fs::write(notes.join("c"), "half a no").expect("a note");
        assert_eq!(end_noted(&notes), 1);
        assert!(!identity.is_alive() && !folder.exists());
        child.wait().expect("reaped");
        fs::remove_dir_all(base).expect("removed");
    }
}
