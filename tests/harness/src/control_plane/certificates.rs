//! The keys and certificates of one control plane, as files in its folder.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// The first address of the Services' range: the `kubernetes` Service has it.
const SERVICE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));

/// The files, in one folder. Made once and found again when a control plane is started on the same state.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Finds the files in `directory`, or makes them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(directory: &Path) -> Result<Self> {
        let certificates = Self {
            directory: directory.to_owned(),
        };
        if !certificates.service_account_public_key().exists() {
            std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
            certificates.make()?;
        }
        Ok(certificates)
    }

    fn make(&self) -> Result<()> {
        let authority = self.authority("ca")?;
        self.sign(&authority, "apiserver", "kube-apiserver", None)?;
        self.sign(&authority, "admin", "admin", Some("system:masters"))?;
        self.sign(&authority, "controller-manager", "system:kube-controller-manager", None)?;
        let front_proxy = self.authority("front-proxy-ca")?;
        self.sign(&front_proxy, "front-proxy-client", "front-proxy-client", None)?;
        let service_accounts = KeyPair::generate()?;
        self.write("service-accounts.key", &service_accounts.serialize_pem())?;
        // Last, because its presence says that all the others are there.
        self.write("service-accounts.pub", &service_accounts.public_key_pem())
    }

    fn authority(&self, name: &str) -> Result<Issuer<'static, KeyPair>> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.crt"), &parameters.self_signed(&key)?.pem())?;
        Ok(Issuer::new(parameters, key))
    }

    fn sign(&self, authority: &Issuer<'_, KeyPair>, file: &str, user: &str, group: Option<&str>) -> Result<()> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.subject_alt_names = vec![
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(SERVICE_ADDRESS),
        ];
        for name in [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ] {
            parameters.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        let key = KeyPair::generate()?;
        self.write(&format!("{file}.crt"), &parameters.signed_by(&key, authority)?.pem())?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.directory.join(file);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// The authority that signed the server's and all clients' certificates.
    pub fn authority_certificate(&self) -> PathBuf {
        self.certificate("ca")
    }

    /// The certificate with this name.
    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.crt"))
    }

    /// The private key with this name.
    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    /// The key that verifies the tokens of ServiceAccounts.
    pub(super) fn service_account_public_key(&self) -> PathBuf {
        self.directory.join("service-accounts.pub")
    }
}
