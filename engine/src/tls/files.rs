//! Certificates and keys from PEM files. Each error is one line: what, which file, what to try.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::validity;

/// Why the files can't be used: what, which file, what to try, in one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TlsError(pub(super) String);

impl TlsError {
    fn of(what: &str, path: &Path, why: impl Display) -> TlsError {
        TlsError(format!("TLS {what} file '{}': {why}", path.display()))
    }
}

/// The files of one side's own certificate: the certificate, followed by those between it and its CA, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Certificates in PEM form.
    pub cert: PathBuf,
    /// The private key in PEM form.
    pub key: PathBuf,
}

const CERTIFICATE: &str = "certificate";
const KEY: &str = "key";
const CA: &str = "CA";

impl Own {
    /// Reads both files. The certificate is valid now.
    pub(super) fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = certificates(CERTIFICATE, &self.cert)?;
        if let Some(outside) = validity::outside(&chain[0], SystemTime::now()) {
            return Err(TlsError::of(CERTIFICATE, &self.cert, format_args!("the certificate {outside}")));
        }
        let text = read(KEY, &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let encrypted = text.windows(9).any(|part| part == b"ENCRYPTED");
            let why = if encrypted {
                "the key is encrypted: store it without a passphrase, readable for the agent only"
            } else {
                "no private key in PEM form: it begins with -----BEGIN PRIVATE KEY-----"
            };
            TlsError::of(KEY, &self.key, why)
        })?;
        Ok((chain, key))
    }

    /// Why the pair was refused.
    pub(super) fn refused(&self, error: &rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                let why = format!("this is not the key of the certificate in '{}'", self.cert.display());
                TlsError::of(KEY, &self.key, why)
            }
            rustls::Error::InvalidCertificate(_) => {
                TlsError::of(CERTIFICATE, &self.cert, format_args!("{error}: it must be X.509 version 3"))
            }
            error => TlsError::of(
                KEY,
                &self.key,
                format_args!("{error}: use an ECDSA (P-256), Ed25519 or RSA key"),
            ),
        }
    }
}

/// The certificates of a CA file. At least one is valid now.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut outside = None;
    for certificate in certificates(CA, path)? {
        if let Some(why) = validity::outside(&certificate, SystemTime::now()) {
            outside = Some(why);
        } else {
            let added = roots.add(certificate);
            added.map_err(|error| TlsError::of(CA, path, format_args!("not a CA's certificate: {error}")))?;
        }
    }
    match outside {
        Some(why) if roots.is_empty() => {
            Err(TlsError::of(CA, path, format_args!("the CA's certificate {why}")))
        }
        _ => Ok(roots),
    }
}

/// The certificates of a file; at least one.
fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => {
            let why = "no certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----";
            Err(TlsError::of(what, path, why))
        }
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "the agent's user must be able to read it",
            _ => "check the file",
        };
        TlsError::of(what, path, format_args!("{text}: {advice}"))
    })
}
