//! Certificates made by `openssl` for one test. In: names. Out: files and PEM texts.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use xtask::stack::Tls;

/// An authority, a server's certificate and a client's that it signed, and an authority that signed
/// nothing.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
    /// The server's.
    pub tls: Tls,
    /// The authority's certificate.
    pub file: PathBuf,
    /// The other one's.
    pub other: PathBuf,
}

impl Authority {
    /// The client's certificate and its key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("client.crt"), self.dir.path().join("client.key"))
    }
}

/// `names` is a subjectAltName of the server, such as `IP:127.0.0.1`.
pub fn authority(names: &str) -> Authority {
    let dir = tempfile::tempdir().expect("a folder");
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for name in ["ca", "other"] {
        let out = format!("-keyout {name}.key -out {name}.crt");
        openssl(dir.path(), &format!("req -x509 {curve} {out} -days 2 -subj /CN={name}"));
    }
    for (name, names) in [("server", names), ("client", "DNS:client")] {
        let out = format!("-keyout {name}.key -out {name}.csr");
        openssl(dir.path(), &format!("req {curve} {out} -subj /CN={name}"));
        std::fs::write(dir.path().join("names"), format!("subjectAltName={names}"))
            .expect("a file");
        let by = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names";
        openssl(dir.path(), &format!("x509 -req -in {name}.csr -out {name}.crt {by}"));
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
    let tls =
        Tls { certificate: read("server.crt"), key: read("server.key"), client_authority: None };
    let (file, other) = (dir.path().join("ca.crt"), dir.path().join("other.crt"));
    Authority { dir, tls, file, other }
}

fn openssl(dir: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(arguments.split_whitespace());
    let output = command.output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
