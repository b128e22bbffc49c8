//! TLS to PostgreSQL: a mode and a file of authorities in, the configuration of rustls out.
//!
//! Modes are libpq's `sslmode`
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>): `prefer` and
//! `require` encrypt without asking who the server is, `verify-ca` checks its certificate,
//! `verify-full` the host name too.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::{AddressError, TlsMode};

pub(super) fn client_config(
    mode: TlsMode,
    ca: Option<PathBuf>,
) -> Result<Arc<ClientConfig>, AddressError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(AddressError::Tls)?;
    let verifier: Arc<dyn ServerCertVerifier> = match (mode, ca) {
        (TlsMode::Disable | TlsMode::Prefer, _) | (TlsMode::Require, None) => {
            Arc::new(AnyName { authorities: None, provider })
        }
        // libpq: with a root file present, `require` verifies the chain as `verify-ca` does.
        (TlsMode::Require | TlsMode::VerifyCa, Some(path)) => {
            let authorities = Some(verifier_from(path, Arc::clone(&provider))?);
            Arc::new(AnyName { authorities, provider })
        }
        (TlsMode::VerifyCa, None) => return Err(AddressError::NoAuthority),
        (TlsMode::VerifyFull, Some(path)) => verifier_from(path, provider)?,
        (TlsMode::VerifyFull, None) => {
            Arc::new(rustls_platform_verifier::Verifier::new(provider).map_err(AddressError::Tls)?)
        }
    };
    let config = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(config.with_no_client_auth()))
}

fn verifier_from(
    path: PathBuf,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, AddressError> {
    let bad = |reason: String| AddressError::BadAuthorities { path: path.clone(), reason };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(&path).map_err(|error| bad(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| bad(error.to_string()))
}

/// The handshake must be sound and the name is not compared: `prefer` and `require` take anybody's
/// certificate, `verify-ca` one of the named authorities.
#[derive(Debug)]
struct AnyName {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.authorities.as_ref().map(|inner| {
            inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        });
        match verdict {
            // rustls verifies the chain before the name, so a complaint about the name alone means
            // that the chain was found good.
            Some(Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )))
            | None => Ok(ServerCertVerified::assertion()),
            Some(other) => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
