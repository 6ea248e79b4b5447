//! The settings of TLS: which ports use it, and with which files.

use std::path::PathBuf;
use std::sync::Arc;

use thane_engine::tls::{self, GossipTls, Own, ServerConfig, TlsError};

use super::settings::Settings;

/// TLS of the ports for clients, and of streams between members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The agent's own certificate and key.
    pub(crate) own: Own,
    /// The CA that others' certificates must be signed by.
    pub(crate) ca: Option<PathBuf>,
    /// Whether the RPC port uses TLS.
    pub(crate) rpc: bool,
    /// Whether the HTTP port uses TLS.
    pub(crate) http: bool,
    /// Whether streams between members use TLS.
    gossip: bool,
    /// Whether plain ones are refused.
    required: bool,
    /// Whether clients of both must show a certificate.
    verify_clients: bool,
}

impl Tls {
    /// Checks that the settings belong together; files are read by [`load`](Self::load). None: no port uses TLS.
    ///
    /// # Errors
    /// One line about the setting that lacks another one.
    pub(super) fn check(settings: &Settings, warnings: &mut Vec<String>) -> Result<Option<Tls>, String> {
        let file = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
        let ports = [
            ("tls_rpc", settings.tls_rpc),
            ("tls_http", settings.tls_http),
            ("tls_gossip", settings.tls_gossip),
        ];
        if settings.tls_required && !settings.tls_gossip {
            return Err("'tls_required' needs 'tls_gossip' (-tls-gossip)".to_owned());
        }
        let [cert, key, ca] =
            [&settings.tls_cert_file, &settings.tls_key_file, &settings.tls_ca_file].map(file);
        let Some((port, _)) = ports.into_iter().find(|(_, on)| *on) else {
            if cert.is_some() || key.is_some() || settings.tls_verify_clients {
                warnings.push(
                    "Warning: nothing uses TLS: set 'tls_rpc', 'tls_http' or 'tls_gossip' (-tls-rpc and so on)".to_owned(),
                );
            }
            return Ok(None);
        };
        let (Some(cert), Some(key)) = (cert, key) else {
            return Err(format!(
                "'{port}' needs a certificate and its key: set 'tls_cert_file' (-tls-cert-file) and \
                'tls_key_file' (-tls-key-file)"
            ));
        };
        if settings.tls_verify_clients && ca.is_none() {
            return Err("'tls_verify_clients' needs the CA of the clients' certificates: set 'tls_ca_file' \
                (-tls-ca-file)"
                .to_owned());
        }
        if settings.tls_gossip && ca.is_none() {
            return Err("'tls_gossip' needs the CA of the members' certificates: set 'tls_ca_file' \
                (-tls-ca-file)"
                .to_owned());
        }
        let announces = settings.enable_extensions.unwrap_or(true);
        if settings.tls_gossip && !announces && !settings.tls_required {
            warnings.push(
                "Warning: without extensions no member learns that this one speaks TLS: 'tls_gossip' only \
                answers it"
                    .to_owned(),
            );
        }
        if settings.tls_http && settings.http_addr.is_empty() {
            warnings.push("Warning: 'tls_http' has no effect without 'http_addr'".to_owned());
        }
        Ok(Some(Tls {
            own: Own { cert, key },
            ca,
            rpc: settings.tls_rpc,
            http: settings.tls_http,
            gossip: settings.tls_gossip,
            required: settings.tls_required,
            verify_clients: settings.tls_verify_clients,
        }))
    }

    /// Reads the files for streams between members; `None`: these use no TLS.
    ///
    /// # Errors
    /// As those of [`load`](Self::load).
    pub(crate) fn load_gossip(&self) -> Result<Option<GossipTls>, TlsError> {
        let ca = self.ca.as_ref().filter(|_| self.gossip);
        ca.map(|ca| GossipTls::new(&self.own, ca, self.required)).transpose()
    }

    /// Reads them again.
    ///
    /// # Errors
    /// As those of [`load`](Self::load). What was read before stays in use.
    pub(crate) fn reload_gossip(&self, gossip: &GossipTls) -> Result<(), TlsError> {
        self.ca.as_ref().map_or(Ok(()), |ca| gossip.reload(&self.own, ca))
    }

    /// Reads the files of the ports for clients.
    ///
    /// # Errors
    /// One line: what, which file, what to try.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        tls::server(&self.own, self.ca.as_deref().filter(|_| self.verify_clients))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(json: &str) -> (Result<Option<Tls>, String>, Vec<String>) {
        let mut warnings = Vec::new();
        let settings = Settings::decode(json.as_bytes(), &mut Vec::new()).unwrap();
        (Tls::check(&settings, &mut warnings), warnings)
    }

    #[test]
    fn a_setting_that_lacks_another_one_is_named_with_it() {
        for (json, error) in [
            (r#"{"tls_rpc": true}"#, "'tls_rpc' needs a certificate and its key: set 'tls_cert_file'"),
            (r#"{"tls_http": true, "tls_cert_file": "c"}"#, "'tls_http' needs a certificate and its key"),
            (
                r#"{"tls_rpc": true, "tls_cert_file": "c", "tls_key_file": "k", "tls_verify_clients": true}"#,
                "'tls_verify_clients' needs the CA of the clients' certificates: set 'tls_ca_file'",
            ),
            (
                r#"{"tls_gossip": true, "tls_cert_file": "c", "tls_key_file": "k"}"#,
                "'tls_gossip' needs the CA of the members' certificates: set 'tls_ca_file'",
            ),
            (r#"{"tls_required": true}"#, "'tls_required' needs 'tls_gossip'"),
        ] {
            let refusal = check(json).0.unwrap_err();
            assert!(refusal.starts_with(error), "{refusal}");
        }
        let (off, warnings) = check(r#"{"tls_cert_file": "c", "tls_key_file": "k"}"#);
        assert_eq!(off, Ok(None));
        assert!(warnings[0].contains("nothing uses TLS"), "{warnings:?}");
        let (on, warnings) = check(r#"{"tls_http": true, "tls_cert_file": "c", "tls_key_file": "k"}"#);
        assert!(on.unwrap().is_some_and(|tls| tls.http && !tls.rpc));
        assert_eq!(warnings, ["Warning: 'tls_http' has no effect without 'http_addr'"]);
    }
}
