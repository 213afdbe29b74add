//! The certificate that is shown to whoever connects, which may change while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::tls::{TlsError, certificates, unusable};

/// The certificate that is shown to whoever connects. Connections that are open keep the one they began with.
#[derive(Debug)]
pub(crate) struct Shown {
    chain: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Shown {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// They cannot be read, or do not go together.
    pub(super) fn read(chain: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let now = RwLock::new(Arc::new(read(&chain, &key)?));
        Ok(Self { chain, key, now })
    }

    /// Reads certificate and key anew.
    ///
    /// # Errors
    /// As at the start; what was shown so far goes on being shown.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let read = Arc::new(read(&self.chain, &self.key)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// What is shown now.
    pub(super) fn now(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let certificates = certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "a private key", &error))?;
    Ok(CertifiedKey::from_der(certificates, private, &default_provider())?)
}
