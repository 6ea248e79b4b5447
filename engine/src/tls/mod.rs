//! TLS 1.3 (rustls, with ring): what a port or a client needs, made of files, and errors in words for users.

mod files;
mod gossip;
mod validity;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError, ConfigBuilder, Error, WantsVerifier, version};
pub use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned};

pub use self::files::{Own, TlsError};
pub use self::gossip::GossipTls;

/// A server's files, read; a reload replaces them while connections go on.
pub type Current = Arc<ArcSwap<ServerConfig>>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The server side of a port: its own certificate, and the CA that clients' certificates must be signed by. Without a
/// CA clients need none.
///
/// # Errors
/// A file can't be used.
pub fn server(own: &Own, clients_ca: Option<&Path>) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = own.read()?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .expect("ring has the ciphers of TLS 1.3");
    let builder = match clients_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(files::authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder
                .with_client_cert_verifier(verifier.build().expect("there is a CA, and no list of revoked"))
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| own.refused(&error))?;
    // Clients connect rarely; tickets of earlier sessions would only take memory.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The client side: the CA that the server's certificate must be signed by, and the client's own certificate.
///
/// # Errors
/// A file can't be used.
pub fn client(ca: &Path, own: Option<&Own>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = Arc::new(files::authorities(ca)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider());
    let builder = client_builder()
        .with_webpki_verifier(verifier.build().expect("there is a CA, and no list of revoked"));
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.read()?;
            builder.with_client_auth_cert(chain, key).map_err(|error| own.refused(&error))?
        }
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn client_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .expect("ring has the ciphers of TLS 1.3")
}

/// Why a handshake failed, in words for users: what is wrong with the other side, or what it says of this one.
pub fn reason(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => explain(error),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the other side closed the connection during the handshake: does its port speak TLS?".to_owned()
        }
        None => error.to_string(),
    }
}

fn explain(error: &Error) -> String {
    let text = match error {
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let names = if presented.is_empty() { "no name".to_owned() } else { named(presented) };
            return format!("its certificate is for {names}, not for {}", expected.to_str());
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: check both clocks",
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not signed by the CA of the CA file"
        }
        Error::NoCertificatesPresented => "it shows no certificate, which is wanted here",
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the other side wants a certificate: give one, with its key"
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the other side refuses this side's certificate: it has expired"
        }
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            "the other side refuses this side's certificate: it is not signed by its CA"
        }
        Error::AlertReceived(AlertDescription::BadCertificate) => {
            "the other side refuses this side's certificate"
        }
        Error::InvalidMessage(_) => "the other side speaks no TLS",
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the other side speaks no TLS 1.3"
        }
        error => return error.to_string(),
    };
    text.to_owned()
}

/// The names of a certificate without the kinds that rustls puts around them: `DnsName("a")`.
fn named(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}
