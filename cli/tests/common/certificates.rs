//! Certificates for tests, made by the program `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What `openssl ca` needs to be told.
const CONFIG: &str = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n\
    unique_subject=no\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n";
/// Times that hold for every test, and times that are over.
const VALID: [&str; 2] = ["20200101000000Z", "20991231235959Z"];
const EXPIRED: [&str; 2] = ["20200101000000Z", "20210101000000Z"];

/// A CA with a folder of its own.
pub struct Authority(TempDir);

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let ca = Authority(TempDir::new().unwrap());
        fs::write(ca.path("ca.cnf"), CONFIG).unwrap();
        fs::write(ca.path("index.txt"), "").unwrap();
        key(&ca.path("ca.key"));
        ca.openssl("req -x509 -new -key ca.key -subj /CN=CA -days 3650 -out ca.pem");
        ca
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The file of its own certificate.
    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A certificate for these names (`DNS:a,IP:127.0.0.1`), which is in files of this name.
    pub fn issue(&self, name: &str, names: &str) -> Pair {
        self.issue_for(name, names, VALID)
    }

    pub fn issue_expired(&self, name: &str, names: &str) -> Pair {
        self.issue_for(name, names, EXPIRED)
    }

    fn issue_for(&self, name: &str, names: &str, [from, until]: [&str; 2]) -> Pair {
        key(&self.path(&format!("{name}.key")));
        fs::write(self.path("ext"), format!("subjectAltName={names}\n")).unwrap();
        self.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem \
            -extfile ext -startdate {from} -enddate {until}"
        ));
        Pair { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) }
    }

    fn openssl(&self, line: &str) {
        run(Command::new("openssl").args(line.split_whitespace()).current_dir(self.0.path()));
    }
}

fn key(path: &Path) {
    let arguments = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
    run(Command::new("openssl").args(arguments).arg(path));
}

fn run(command: &mut Command) {
    let output = command.output().expect("the tests need the program openssl");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
