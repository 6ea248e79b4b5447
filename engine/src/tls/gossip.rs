//! TLS of the streams between members: both sides show a certificate that the cluster's CA signed. Names don't count,
//! because a node that joins knows addresses alone.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme, StreamOwned,
};

use super::files::{self, Own, TlsError};

/// What a node needs to speak TLS with other members. [`reload`](Self::reload) replaces it while streams go on.
pub struct GossipTls {
    server: ArcSwap<ServerConfig>,
    client: ArcSwap<ClientConfig>,
    required: bool,
}

impl GossipTls {
    /// Reads the node's own certificate and key, and the CA that other members' certificates must be signed by.
    /// `required`: the node refuses plain streams, and opens none.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn new(own: &Own, ca: &Path, required: bool) -> Result<GossipTls, TlsError> {
        let (server, client) = read(own, ca)?;
        Ok(GossipTls { server: ArcSwap::new(server), client: ArcSwap::new(client), required })
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// A file can't be used. What was read before stays in use.
    pub fn reload(&self, own: &Own, ca: &Path) -> Result<(), TlsError> {
        let (server, client) = read(own, ca)?;
        self.server.store(server);
        self.client.store(client);
        Ok(())
    }

    /// Whether plain streams are refused.
    pub fn required(&self) -> bool {
        self.required
    }

    /// Speaks TLS on a connection to `addr`, as a program that is no node: the returned stream blocks.
    ///
    /// # Errors
    /// Why there is no TLS, in words for users.
    pub fn over(
        &self,
        addr: SocketAddr,
        mut stream: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let mut connection =
            ClientConnection::new(self.client(), addr.ip().into()).map_err(|error| error.to_string())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| super::reason(&error))?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.load_full()
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client.load_full()
    }
}

impl std::fmt::Debug for GossipTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GossipTls(required: {})", self.required)
    }
}

fn read(own: &Own, ca: &Path) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), TlsError> {
    let server = super::server(own, Some(ca))?;
    let roots = files::authorities(ca)?;
    let algorithms = super::provider().signature_verification_algorithms;
    let (chain, key) = own.read()?;
    let mut client = super::client_builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByAuthority { roots, algorithms }))
        .with_client_auth_cert(chain, key)
        .map_err(|error| own.refused(&error))?;
    client.resumption = rustls::client::Resumption::disabled();
    client.enable_sni = false;
    Ok((server, Arc::new(client)))
}

/// Takes every certificate that the CA signed, whatever its name.
#[derive(Debug)]
struct ByAuthority {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ByAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
