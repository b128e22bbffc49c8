//! The program in a folder of its own, as CI runs it: no servers, no configuration but what a test
//! writes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with files, perhaps a git repository.
pub struct Folder {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(&path, text).expect("a file");
        path
    }

    pub fn walpost(&self, words: &[&str]) -> Ended {
        self.walpost_with(words, "")
    }

    pub fn walpost_with(&self, words: &[&str], stdin: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walpost"));
        command.args(words);
        self.run(command, stdin)
    }

    pub fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=test", "-c", "user.email=test@localhost"]).args(words);
        let ended = self.run(command, "");
        assert_eq!(ended.code, 0, "git {words:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Everything in the folder as one commit.
    pub fn commit(&self, message: &str) {
        if !self.path().join(".git").exists() {
            self.git(&["init", "--quiet", "--initial-branch=main"]);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    pub fn shell(&self, line: &str) -> Ended {
        let program = Path::new(env!("CARGO_BIN_EXE_walpost")).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", format!("{}:{path}", program.display()));
        self.run(command, "")
    }

    fn run(&self, mut command: Command, stdin: &str) -> Ended {
        command.current_dir(self.path());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["WALPOST_", "GIT_", "GITHUB_"].iter().any(|start| name.starts_with(start)) {
                command.env_remove(&*name);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut input = child.stdin.take().expect("a pipe");
        let stdin = stdin.to_owned();
        // A large input and a large output would wait for each other.
        let writer = std::thread::spawn(move || {
            // A program that does not read its input closes it.
            let _ = input.write_all(stdin.as_bytes());
        });
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("the input was written");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Ended {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}
