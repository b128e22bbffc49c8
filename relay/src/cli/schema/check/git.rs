//! A revision of the local repository in, the schema files in it out.
//!
//! Objects are read as they are (`git cat-file --batch`): nothing is cloned, fetched or checked
//! out. Where the revision or its history is not there because the clone is shallow, that is said
//! with the commands that mend it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cli::schema::files;
use crate::cli::schema::judged::Unjudged;

/// Versions of one file that are looked at for a transitive level.
const VERSIONS_MAX: usize = 200;

/// What to do about a shallow clone, for people and for CI.
const DEEPEN: &str = "this clone is shallow: `git fetch --unshallow`, or in GitHub Actions \
                      actions/checkout with `fetch-depth: 0`, in GitLab CI `GIT_DEPTH: 0`";

/// A folder of a repository at a revision.
#[derive(Debug)]
pub(in crate::cli::schema) struct Revision {
    /// The repository's top folder.
    top: PathBuf,
    /// The folder of schema files within it, with a slash at its end unless it is the top.
    prefix: String,
    /// As the user named it.
    name: String,
    commit: String,
}

/// A file as it was at a commit.
#[derive(Debug)]
pub(in crate::cli::schema) struct Version {
    pub(in crate::cli::schema) commit: String,
    pub(in crate::cli::schema) path: String,
    pub(in crate::cli::schema) text: String,
}

impl Revision {
    /// `against` is `git:REF`; `folder` lies in the working tree.
    pub(in crate::cli::schema) fn open(against: &str, folder: &Path) -> Result<Self, Unjudged> {
        let Some(name) = against.strip_prefix("git:").filter(|name| !name.is_empty()) else {
            let reason =
                format!("--against {against}: it must be git:REF, such as git:origin/main");
            return Err(Unjudged::unusable(reason));
        };
        let asked = git(folder, &["rev-parse", "--show-toplevel", "--show-prefix"])?;
        let answer = asked.text.ok_or_else(|| {
            let folder = folder.display();
            Unjudged::unusable(format!("{folder} is in no git repository: {}", asked.complaint))
        })?;
        let mut lines = answer.lines();
        let top = PathBuf::from(lines.next().unwrap_or_default());
        let prefix = lines.next().unwrap_or_default().to_owned();
        let wanted = format!("{name}^{{commit}}");
        let found = git(&top, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted])?;
        let Some(commit) = found.text else {
            return Err(no_revision(&top, name)?);
        };
        let commit = commit.trim().to_owned();
        Ok(Self { top, prefix, name: name.to_owned(), commit })
    }

    /// A path of the working tree's folder as the repository names it.
    pub(in crate::cli::schema) fn path_of(&self, within: &Path) -> String {
        format!("{}{}", self.prefix, within.display())
    }

    /// How people know a file of this revision.
    pub(in crate::cli::schema) fn shown(&self, path: &str) -> String {
        format!("{}:{path}", self.name)
    }

    /// The whole tree of an earlier commit: the folder may have had another name.
    pub(in crate::cli::schema) fn at(&self, commit: &str) -> Self {
        let name = commit.get(..8).unwrap_or(commit).to_owned();
        Self { top: self.top.clone(), prefix: String::new(), name, commit: commit.to_owned() }
    }

    /// Schema files by their paths.
    pub(in crate::cli::schema) fn files(&self) -> Result<Vec<(String, String)>, Unjudged> {
        let folder = if self.prefix.is_empty() { "." } else { &self.prefix };
        let listed = git(&self.top, &["ls-tree", "-r", "-z", &self.commit, "--", folder])?;
        let listed = listed.text.ok_or_else(|| Unjudged::unknown(listed.complaint))?;
        let mut blobs = Vec::new();
        for entry in listed.split('\0') {
            let Some((facts, path)) = entry.split_once('\t') else { continue };
            let mut facts = facts.split(' ');
            let (kind, object) = (facts.nth(1), facts.next());
            if let (Some("blob"), Some(object)) = (kind, object)
                && Path::new(path).extension().is_some_and(|extension| extension == "avsc")
            {
                blobs.push((path.to_owned(), object.to_owned()));
            }
        }
        let objects: Vec<String> = blobs.iter().map(|(_, object)| object.clone()).collect();
        let texts = self.read(&objects)?;
        let pairs = blobs.into_iter().zip(texts);
        pairs
            .map(|((path, _), bytes)| {
                let text = files::utf8(bytes, &self.shown(&path))?;
                Ok((path, text))
            })
            .collect()
    }

    /// Files that git takes for renamed since the revision: now to then.
    pub(in crate::cli::schema) fn renames(&self) -> Result<HashMap<String, String>, Unjudged> {
        let folder = if self.prefix.is_empty() { "." } else { &self.prefix };
        let words = [
            "diff",
            "--no-ext-diff",
            "-z",
            "--find-renames",
            "--diff-filter=R",
            "--name-status",
            "--end-of-options",
            &self.commit,
            "--",
            folder,
        ];
        let answer = git(&self.top, &words)?;
        let answer = answer.text.ok_or_else(|| Unjudged::unknown(answer.complaint))?;
        let mut words = answer.split('\0');
        let mut renames = HashMap::new();
        while let (Some(status), Some(old), Some(new)) = (words.next(), words.next(), words.next())
        {
            if status.starts_with('R') {
                renames.insert(new.to_owned(), old.to_owned());
            }
        }
        Ok(renames)
    }

    /// A file along the history of the revision, newest first; as it is at the revision itself is
    /// the first.
    pub(in crate::cli::schema) fn history(&self, path: &str) -> Result<Vec<Version>, Unjudged> {
        if self.is_shallow()? {
            let reason = "the earlier versions that a transitive level asks for are not all there";
            return Err(Unjudged::unknown(reason).of_file(path).with_help(DEEPEN));
        }
        let words = [
            "log",
            "--follow",
            "-z",
            "--format=%H",
            "--name-only",
            "--diff-filter=AMR",
            "--end-of-options",
            &self.commit,
            "--",
            path,
        ];
        let answer = git(&self.top, &words)?;
        let answer = answer.text.ok_or_else(|| Unjudged::unknown(answer.complaint))?;
        let words: Vec<&str> = answer.split(['\0', '\n']).filter(|word| !word.is_empty()).collect();
        let mut versions = Vec::new();
        for pair in words.chunks(2) {
            if let [commit, path] = pair {
                versions.push((*commit, *path));
            }
        }
        if versions.len() > VERSIONS_MAX {
            let reason = format!("has more than {VERSIONS_MAX} versions in the history");
            return Err(Unjudged::unknown(reason).of_file(path));
        }
        let object = |(commit, path): &(&str, &str)| format!("{commit}:{path}");
        let objects: Vec<String> = versions.iter().map(object).collect();
        let texts = self.read(&objects)?;
        let mut found: Vec<Version> = Vec::new();
        for ((commit, path), bytes) in versions.into_iter().zip(texts) {
            let text = files::utf8(bytes, &self.at(commit).shown(path))?;
            if found.last().is_none_or(|last| last.text != text) {
                found.push(Version { commit: commit.to_owned(), path: path.to_owned(), text });
            }
        }
        Ok(found)
    }

    fn is_shallow(&self) -> Result<bool, Unjudged> {
        let answer = git(&self.top, &["rev-parse", "--is-shallow-repository"])?;
        Ok(answer.text.is_some_and(|text| text.trim() == "true"))
    }

    /// The contents of objects, in their order.
    fn read(&self, objects: &[String]) -> Result<Vec<Vec<u8>>, Unjudged> {
        let mut child = command(&self.top, &["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Unjudged::unknown(format!("git cannot be run: {error}")))?;
        let texts = exchange(&mut child, objects, &self.name);
        // Its input is closed by now, so it ends; how, says nothing that its answers do not.
        let _ = child.wait();
        texts
    }
}

/// Why a revision is not there, and how to get it.
fn no_revision(top: &Path, name: &str) -> Result<Unjudged, Unjudged> {
    let shallow = git(top, &["rev-parse", "--is-shallow-repository"])?;
    let reason = format!("git knows no revision {name:?} here");
    Ok(if shallow.text.is_some_and(|text| text.trim() == "true") {
        Unjudged::unknown(reason).with_help(DEEPEN)
    } else {
        let branch = name.strip_prefix("origin/").unwrap_or(name);
        let help =
            format!("`git fetch origin {branch}`, or name a branch, tag or commit of `git log`");
        Unjudged::unusable(reason).with_help(help)
    })
}

/// Asks on a thread of its own: both pipes have bounds.
fn exchange(
    child: &mut Child,
    objects: &[String],
    revision: &str,
) -> Result<Vec<Vec<u8>>, Unjudged> {
    let broken = |error: std::io::Error| Unjudged::unknown(format!("git cat-file: {error}"));
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Unjudged::unknown("git cat-file has no pipes"));
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> std::io::Result<()> {
            for object in objects {
                writeln!(input, "{object}")?;
            }
            Ok(())
        });
        let mut output = BufReader::new(output);
        let mut texts = Vec::with_capacity(objects.len());
        for object in objects {
            let mut header = String::new();
            output.read_line(&mut header).map_err(broken)?;
            let size = header.trim_end().rsplit(' ').next().and_then(|size| size.parse().ok());
            let is_blob = header.split(' ').nth(1) == Some("blob");
            let Some(size) = size.filter(|_| is_blob) else {
                let reason = format!("{object} of {revision} is not in this clone");
                return Err(Unjudged::unknown(reason).with_help(DEEPEN));
            };
            let mut bytes = vec![0; bounded(size, object)? + 1];
            // The line end behind each object is read with it.
            output.read_exact(&mut bytes).map_err(broken)?;
            bytes.pop();
            texts.push(bytes);
        }
        match writer.join() {
            Ok(Ok(())) => Ok(texts),
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(Unjudged::unknown("git cat-file took no input")),
        }
    })
}

fn bounded(size: usize, object: &str) -> Result<usize, Unjudged> {
    let limit = walpost_schema::avro::SCHEMA_BYTES_MAX;
    if size > limit {
        return Err(Unjudged::unusable(format!("{object} has {size} bytes, more than {limit}")));
    }
    Ok(size)
}

/// What git said: its output if it succeeded, else its complaint.
struct Said {
    text: Option<String>,
    complaint: String,
}

fn git(folder: &Path, words: &[&str]) -> Result<Said, Unjudged> {
    let output = command(folder, words).stdin(Stdio::null()).output().map_err(|error| {
        let help = "install git, or check against a registry instead";
        Unjudged::unknown(format!("git cannot be run: {error}")).with_help(help)
    })?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let text =
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned());
    Ok(Said { text, complaint })
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "core.quotePath=false"]).args(words);
    // No network, whatever kind of clone this is, and no questions.
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    command
}
