//! Whom TLS trusts, and refusals in words.
//!
//! Trust is webpki's, with one case it lacks and OpenSSL has: a bundle may hold a server's own self-signed
//! certificate. `openssl req -x509` marks such a certificate as a CA, which webpki refuses in a server.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::Error;

/// A client configuration: ring, TLS 1.2 and 1.3, HTTP/1.1 only, the built-in roots and those of the PEM
/// files in `extra_ca`. Reads the files, so it belongs at the start of a run.
///
/// # Errors
/// `Usage` for a file that cannot be read or holds no certificate.
pub fn client_config(extra_ca: &[PathBuf]) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut own = Vec::new();
    for path in extra_ca {
        let wrong = |why: String| Error::Usage(format!("CA bundle {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let before = own.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            // Bundles of distributions hold the odd certificate webpki cannot use as a root: skip those.
            if roots.add(certificate.clone()).is_ok() {
                own.push(certificate);
            }
        }
        if own.len() == before {
            return Err(wrong("no usable certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let web = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| internal(&error))?;
    config(provider, Arc::new(Verifier { web, own }))
}

/// A client configuration that takes any certificate: for a source whose user turned verification off. The
/// connection is secret to onlookers only, and the peer may be anybody.
///
/// # Errors
/// `Internal` when none can be made.
pub fn unverified_config() -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    config(Arc::clone(&provider), Arc::new(Unverified(provider)))
}

fn internal(why: &dyn std::error::Error) -> Error {
    Error::Internal(format!("TLS: {why}"))
}

fn config(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| internal(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// webpki's judgement, plus certificates the user put into a bundle themselves.
#[derive(Debug)]
struct Verifier {
    web: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.web.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // Dates, issuers and signatures have variants of their own; `Other` holds "a CA used as a server". The
            // certificate is byte for byte one the user trusts: only its name remains to be checked.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if self.own.contains(end_entity) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.web.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.web.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.web.supported_verify_schemes()
    }
}

/// Nobody's judgement: any certificate will do, if the peer has its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A failed handshake in words a person can act on.
pub(super) fn describe(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::UnknownIssuer => {
                "the certificate is signed by an unknown authority (is a CA bundle missing?)".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for another host".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet".to_owned()
            }
            other => super::refusal::clean(&format!("the certificate is refused: {other}")),
        },
        Some(rustls::Error::InvalidMessage(_)) => "the peer does not speak TLS".to_owned(),
        Some(other) => super::refusal::clean(&other.to_string()),
        None => super::refusal::clean(&error.to_string()),
    }
}
