//! The certificate: one of an authority, or one that the server has made for itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_rustls::TlsAcceptor;

use super::shown::Shown;
use crate::configuration::Certificate;
use crate::secrets::{sha256_hex, write_secret};

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with a certificate or a key.
    #[error("cannot use {} for TLS: {reason}; it holds {wanted} in PEM", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error("certificate and key cannot be used for TLS: {0}")]
    Unfit(#[from] rustls::Error),
    /// No certificate can be made.
    #[error("cannot make a certificate: {0}")]
    NotMade(#[from] rcgen::Error),
}

/// How TLS is served.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(super) shown: Arc<Shown>,
    /// Of the server's own certificate, which nobody else vouches for.
    pub(crate) fingerprint: Option<String>,
}

impl Tls {
    /// Loads the certificate; the server's own is made where there is none.
    ///
    /// # Errors
    /// It cannot be read or made, or cannot be used.
    pub(crate) fn load(certificate: &Certificate, data: &Path, address: SocketAddr) -> Result<Self, TlsError> {
        let (chain, key, is_own) = match certificate {
            Certificate::Given { chain, key } => (chain.clone(), key.clone(), false),
            Certificate::Own => {
                let (chain, key) = (data.join("tls.crt"), data.join("tls.key"));
                if !chain.exists() || !key.exists() {
                    make(&chain, &key, address)?;
                }
                (chain, key, true)
            }
        };
        let shown = Arc::new(Shown::read(chain, key)?);
        let fingerprint = is_own.then(|| shown.now().cert.first().map(|first| sha256_hex(first))).flatten();
        let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Shown>::clone(&shown));
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), shown, fingerprint })
    }
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wanted = "the certificate and those that lead to its authority";
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, wanted, &error))?.collect();
    let read = read.map_err(|error| unusable(path, wanted, &error))?;
    if read.is_empty() {
        return Err(unusable(path, wanted, &"there is none in it"));
    }
    Ok(read)
}

pub(super) fn unusable(path: &Path, wanted: &'static str, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), wanted, reason: error.to_string() }
}

/// Makes a certificate that vouches for itself. The key is written first: a certificate without one is made anew.
fn make(chain: &Path, key: &Path, address: SocketAddr) -> Result<(), TlsError> {
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()])?;
    parameters.distinguished_name.push(DnType::CommonName, "offtake");
    if !address.ip().is_unspecified() {
        parameters.subject_alt_names.push(SanType::IpAddress(address.ip()));
    }
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname")
        && let Ok(host) = host.trim().try_into()
    {
        parameters.subject_alt_names.push(SanType::DnsName(host));
    }
    let pair = KeyPair::generate()?;
    let certificate = parameters.self_signed(&pair)?;
    let written = |path: &Path, wanted, text: String| {
        write_secret(path, text.as_bytes()).map_err(|error| unusable(path, wanted, &error))
    };
    written(key, "a private key", pair.serialize_pem())?;
    written(chain, "the server's certificate", certificate.pem())
}
