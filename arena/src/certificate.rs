//! A certificate for loopback that signs itself, for TLS that never leaves the process.

use std::io;

use rcgen::{CertificateParams, KeyPair};

/// A server's certificate and its key.
pub struct Certificate {
    /// The certificate, in DER. A client that has it among its roots trusts the server.
    pub certificate: Vec<u8>,
    /// The private key, in PKCS #8 DER.
    pub key: Vec<u8>,
}

impl Certificate {
    /// A new key, and a certificate of it for `localhost`.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn of_loopback() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self { certificate: certificate.der().to_vec(), key: key.serialize_der() })
    }
}
