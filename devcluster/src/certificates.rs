//! The cluster's certificates and the kubeconfig files made of them.
//!
//! One authority for everybody who talks to the API server and one for its own front proxy,
//! both made anew for each cluster and gone with its state folder. Keys are ECDSA P-256.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::cache::{make_dir, write, write_private};

/// Who a kubeconfig speaks for: a certificate's common name and, optionally, its organisation.
struct Identity {
    file: &'static str,
    user: &'static str,
    group: Option<&'static str>,
}

const IDENTITIES: [Identity; 5] = [
    Identity {
        file: "admin",
        user: "admin",
        group: Some("system:masters"),
    },
    Identity {
        file: "kube-controller-manager",
        user: "system:kube-controller-manager",
        group: None,
    },
    Identity {
        file: "kube-scheduler",
        user: "system:kube-scheduler",
        group: None,
    },
    Identity {
        file: "kube-proxy",
        user: "system:kube-proxy",
        group: None,
    },
    // A user of its own, so that the audit log tells its writes from the tester's.
    Identity {
        file: "kwok",
        user: "kwok",
        group: Some("system:masters"),
    },
];

/// The folder with a cluster's keys, certificates and component kubeconfigs.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

/// What the certificates have to name.
pub(crate) struct Names<'a> {
    /// The API server's port on loopback.
    pub(crate) api_port: u16,
    /// Addresses besides 127.0.0.1 at which the API server is reached.
    pub(crate) api_addresses: &'a [Ipv4Addr],
    /// The real node's name, if there is one.
    pub(crate) node: Option<&'a str>,
}

impl Certificates {
    /// The file `name` in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The kubeconfig of a component.
    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.kubeconfig"))
    }

    /// Makes everything, new.
    pub(crate) fn make(folder: &Path, names: &Names<'_>) -> Result<Self> {
        make_dir(folder)?;
        let certificates = Self {
            folder: folder.to_owned(),
        };
        let authority = certificates.authority("ca", "operon-devcluster")?;
        let front = certificates.authority("front-proxy-ca", "operon-devcluster-front-proxy")?;

        let mut addresses = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        addresses.extend(
            names
                .api_addresses
                .iter()
                .map(|address| SanType::IpAddress(IpAddr::V4(*address))),
        );
        for host in [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ] {
            addresses.push(SanType::DnsName(host.try_into()?));
        }
        addresses.push(SanType::DnsName(
            "kubernetes.default.svc.cluster.local".try_into()?,
        ));
        certificates.leaf(
            "kube-apiserver",
            &authority,
            &leaf_params("kube-apiserver", None, addresses),
        )?;
        certificates.leaf(
            "front-proxy",
            &front,
            &leaf_params("front-proxy-client", None, Vec::new()),
        )?;
        let group = Some("system:masters");
        certificates.leaf(
            "kubelet-client",
            &authority,
            &leaf_params("kube-apiserver-kubelet-client", group, vec![]),
        )?;
        for Identity { file, user, group } in IDENTITIES {
            certificates.client(file, user, group, &authority, names.api_port)?;
        }
        if let Some(node) = names.node {
            let user = format!("system:node:{node}");
            certificates.client(
                "kubelet",
                &user,
                Some("system:nodes"),
                &authority,
                names.api_port,
            )?;
            let addresses = vec![
                SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                SanType::DnsName("localhost".try_into()?),
                SanType::DnsName(node.try_into()?),
            ];
            certificates.leaf(
                "kubelet-server",
                &authority,
                &leaf_params(node, None, addresses),
            )?;
        }
        let key = KeyPair::generate().context("failed to make a key")?;
        write_private(
            &certificates.file("service-accounts.key"),
            key.serialize_pem(),
        )?;
        write(
            &certificates.file("service-accounts.pub"),
            key.public_key_pem(),
        )?;
        Ok(certificates)
    }

    fn authority(&self, name: &str, common_name: &str) -> Result<Issuer<'static, KeyPair>> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().context("failed to make a key")?;
        let certificate = params
            .self_signed(&key)
            .with_context(|| format!("failed to sign {common_name}"))?;
        write(&self.file(&format!("{name}.crt")), certificate.pem())?;
        write_private(&self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(Issuer::new(params, key))
    }

    fn leaf(
        &self,
        name: &str,
        issuer: &Issuer<'_, KeyPair>,
        params: &CertificateParams,
    ) -> Result<()> {
        let key = KeyPair::generate().context("failed to make a key")?;
        let certificate = params
            .signed_by(&key, issuer)
            .with_context(|| format!("failed to sign {name}"))?;
        write(&self.file(&format!("{name}.crt")), certificate.pem())?;
        write_private(&self.file(&format!("{name}.key")), key.serialize_pem())
    }

    fn client(
        &self,
        name: &str,
        user: &str,
        group: Option<&str>,
        issuer: &Issuer<'_, KeyPair>,
        api_port: u16,
    ) -> Result<()> {
        self.leaf(name, issuer, &leaf_params(user, group, Vec::new()))?;
        // The certificates are in the file itself, so that it can be copied and used elsewhere.
        let authority = base64(&read(&self.file("ca.crt"))?);
        let certificate = base64(&read(&self.file(&format!("{name}.crt")))?);
        let key = base64(&read(&self.file(&format!("{name}.key")))?);
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: operon-devcluster\n\
             clusters:\n- name: operon-devcluster\n  cluster:\n    server: https://127.0.0.1:{api_port}\n    \
             certificate-authority-data: {authority}\n\
             users:\n- name: {name}\n  user:\n    client-certificate-data: {certificate}\n    \
             client-key-data: {key}\n\
             contexts:\n- name: operon-devcluster\n  context:\n    cluster: operon-devcluster\n    user: {name}\n"
        );
        write_private(&self.kubeconfig(name), config)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))
}

fn leaf_params(user: &str, group: Option<&str>, addresses: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if addresses.is_empty() {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    }];
    params.subject_alt_names = addresses;
    params.use_authority_key_identifier_extension = true;
    params
}

/// Standard base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let letter = if place <= chunk.len() {
                char::from(ALPHABET[index as usize])
            } else {
                '='
            };
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_the_examples_of_its_rfc() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in examples {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn keys_and_kubeconfigs_are_readable_by_their_owner_alone() -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir()?;
        let names = Names {
            api_port: 6443,
            api_addresses: &[],
            node: Some("node-1"),
        };
        let certificates = Certificates::make(folder.path(), &names)?;
        let files = [
            "ca.key",
            "service-accounts.key",
            "kubelet-server.key",
            "admin.kubeconfig",
        ];
        for file in files.map(|name| certificates.file(name)) {
            assert_eq!(
                std::fs::metadata(&file)?.permissions().mode() & 0o777,
                0o600,
                "{}",
                file.display()
            );
        }
        Ok(())
    }
}
