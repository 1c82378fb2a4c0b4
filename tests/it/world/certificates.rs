//! An authority of its own for one test, and certificates that it signs: made with openssl, valid for two days.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Nothing of this machine's own configuration of openssl.
const CONFIGURATION: &str = "[req]\ndistinguished_name = name\n[name]\n";
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Signs certificates. Its files are gone when dropped.
pub struct Authority(TempDir);

/// Where a certificate and its key are.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// One that nobody knows.
    pub fn new() -> Self {
        let authority = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(authority.path("configuration"), CONFIGURATION).expect("it can be written");
        authority.request("authority", &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"], &[]);
        authority
    }

    /// The file that whoever trusts it needs.
    pub fn file(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// A certificate for these names, like `IP:127.0.0.1,DNS:localhost`.
    pub fn issue(&self, names: &str) -> Certificate {
        let (authority, key) = (self.file(), self.path("authority.key"));
        let signed_by = ["-CA", text(&authority), "-CAkey", text(&key)];
        self.request("server", &["basicConstraints=critical,CA:FALSE", &format!("subjectAltName={names}")], &signed_by);
        Certificate { certificate: self.path("server.pem"), key: self.path("server.key") }
    }

    fn request(&self, name: &str, extensions: &[&str], more: &[&str]) {
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        let configuration = self.path("configuration");
        let mut command = Command::new("openssl");
        // No two authorities have one name.
        let subject = format!("/O={}/CN={name}", self.0.path().file_name().expect("a name").display());
        command.args(["req", "-x509", "-days", "2", "-subj", &subject, "-config", text(&configuration)]);
        command.args(NEW_KEY).args(["-keyout", text(&key), "-out", text(&certificate)]).args(more);
        command.args(extensions.iter().flat_map(|extension| ["-addext", extension]));
        let made = command.output().expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Certificate {
    /// What makes a redis-server speak TLS on this port, beside its ordinary one.
    pub fn arguments(&self, port: u16) -> Vec<String> {
        let (certificate, key) = (text(&self.certificate), text(&self.key));
        let port = port.to_string();
        let words = ["--tls-port", &port, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"];
        words.map(str::to_owned).to_vec()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}
