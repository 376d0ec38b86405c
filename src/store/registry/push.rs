//! An image from the store to a registry, through `oci-client`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use reqwest::header::HeaderValue;

use super::authorization::{Right, login_hint};
use super::credentials::Password;
use super::endpoint::Endpoint;
use super::{ImageName, Registry};
use crate::error::{Error, Result};
use crate::net::{Failure, Progress, Reason, Request};
use crate::store::manifest::media_type;
use crate::store::{Descriptor, Index, Manifest, Store};
use crate::ui::Task;

/// How often one document or blob is sent: the pauses between are 0.5, 1, 2 s.
const ATTEMPTS: u32 = 4;
/// A blob is sent in pieces of this many bytes.
const PIECE: usize = 64 << 10;
/// A registry that takes nothing for so long is given up. Some take minutes to store a large blob at the end.
const STALL: Duration = Duration::from_secs(300);

/// A registry to send to.
struct Target<'a> {
    client: Client,
    endpoint: Endpoint,
    name: &'a ImageName,
}

impl Registry<'_> {
    /// Sends an image, or an index with all its images, from the store to a registry: first the blobs that the
    /// registry does not have, then the manifests, then the tag. Mirrors are not used.
    pub fn push(&self, store: &Store, name: &ImageName, descriptor: &Descriptor) -> Result<()> {
        self.push_named(store, name, descriptor).map_err(|error| error.context(format_args!("pushing {name}")))
    }

    fn push_named(&self, store: &Store, name: &ImageName, descriptor: &Descriptor) -> Result<()> {
        if self.net.options().offline {
            return Err(Failure::offline(&name.registry).into());
        }
        let endpoint = self.origin(&name.registry)?;
        let mut target = Target { client: self.push_client(&endpoint, name)?, endpoint, name };
        if media_type::is_index(&descriptor.media_type) {
            let index: Index = store.read_json(&descriptor.digest)?;
            if let Some(missing) = index.manifests.iter().find(|child| !store.has_blob(child)) {
                let platform = missing.platform.as_ref().map(|p| format!(" ({p})")).unwrap_or_default();
                let missing = missing.digest;
                return Err(Error::failed(format!(
                    "the store has only part of the image: {missing}{platform} is missing"
                ))
                .hint("pull or build the image for every platform of its index, or push one platform's manifest"));
            }
            for child in &index.manifests {
                self.push_image(&mut target, store, child, &child.digest.to_string())?;
            }
            return self.push_document(&mut target, store, descriptor, &name.reference());
        }
        self.push_image(&mut target, store, descriptor, &name.reference())
    }

    fn push_image(
        &self,
        target: &mut Target<'_>,
        store: &Store,
        descriptor: &Descriptor,
        reference: &str,
    ) -> Result<()> {
        let manifest: Manifest = store.read_json(&descriptor.digest)?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.push_blob(target, store, blob)?;
        }
        self.push_document(target, store, descriptor, reference)
    }

    fn push_blob(&self, target: &mut Target<'_>, store: &Store, blob: &Descriptor) -> Result<()> {
        if !store.has_blob(blob) {
            return Err(Error::failed(format!("the blob {} is not in the store", blob.digest))
                .hint("pull or build the image again"));
        }
        self.push_file(target, &store.blob_path(&blob.digest), blob)
    }

    fn push_file(&self, target: &mut Target<'_>, path: &Path, blob: &Descriptor) -> Result<()> {
        let digest = blob.digest.to_string();
        let reference = target.reference(&digest);
        let there = self.sent(target, |client| {
            let (reference, digest) = (reference.clone(), digest.clone());
            async move { client.blob_exists(&reference, &digest).await }
        })?;
        if there {
            return Ok(());
        }
        let subject = format!("{} {}", target.name.repository, blob.digest.hex().get(..12).unwrap_or_default());
        let task = self.net.ui().task("push", subject, Some(blob.size));
        self.sent(target, |client| {
            let (reference, digest, size) = (reference.clone(), digest.clone(), blob.size);
            let moved = Arc::new(AtomicU64::new(0));
            let pieces = File::open(path).map(|file| Pieces { file, task: task.clone(), moved: moved.clone() });
            async move {
                let stream = futures_util::stream::iter(pieces?.map(|piece| Ok(piece?.into())));
                while_moving(&moved, client.push_blob_stream(&reference, stream, &digest, Some(size))).await
            }
        })
        .map(drop)
        .map_err(|error| error.context(format_args!("the blob {digest}")))
    }

    fn push_document(
        &self,
        target: &mut Target<'_>,
        store: &Store,
        descriptor: &Descriptor,
        reference: &str,
    ) -> Result<()> {
        self.push_bytes(target, store.read_document(&descriptor.digest)?, descriptor, reference)
    }

    fn push_bytes(
        &self,
        target: &mut Target<'_>,
        bytes: Vec<u8>,
        descriptor: &Descriptor,
        reference: &str,
    ) -> Result<()> {
        let kind = HeaderValue::from_str(&descriptor.media_type)
            .map_err(|_| Error::failed(format!("the media type of {} cannot be sent", descriptor.digest)))?;
        let reference = target.reference(reference);
        self.sent(target, |client| {
            let (reference, bytes, kind) = (reference.clone(), bytes.clone(), kind.clone());
            async move { client.push_manifest_raw(&reference, bytes, kind).await }
        })
        .map(drop)
        .map_err(|error| error.context(format_args!("the manifest {}", descriptor.digest)))
    }

    /// Does one thing with the registry: renews the credentials once, repeats what may work later.
    fn sent<T, F>(&self, target: &mut Target<'_>, act: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, OciDistributionError>>,
    {
        let mut attempt = 0;
        let mut renewed = false;
        loop {
            let error = match self.net.runtime().block_on(act(target.client.clone())) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            attempt += 1;
            let failure = of_client(&target.endpoint.host, error);
            match failure.reason() {
                Reason::Unauthorized if !renewed => {
                    renewed = true;
                    target.client = self.push_client(&target.endpoint, target.name)?;
                }
                Reason::Unavailable | Reason::TooManyRequests | Reason::Unreachable | Reason::Broken
                    if attempt < ATTEMPTS =>
                {
                    std::thread::sleep(Duration::from_millis(250 << attempt));
                }
                Reason::Unauthorized => return Err(login_hint(&target.endpoint, failure).into()),
                _ => return Err(failure.into()),
            }
        }
    }

    /// A client with credentials. They are fetched here, not by the client: it would send a password to whatever
    /// token service a registry names, in plain http too.
    fn push_client(&self, endpoint: &Endpoint, name: &ImageName) -> Result<Client> {
        // Its constructor panics without system certificates, even if it is given others.
        if !self.net.has_system_certificates() {
            return Err(Error::network("this machine has no certificates, and pushing needs some")
                .hint("install the ca-certificates package, or name a file of certificates in SSL_CERT_FILE"));
        }
        let credentials = self.push_credentials(endpoint, &name.repository)?;
        let certificate = |pem: Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: pem };
        let config = ClientConfig {
            protocol: if endpoint.is_plain() { ClientProtocol::Http } else { ClientProtocol::Https },
            // One PUT per blob, streamed. In pieces, every 64 KiB would be a request of its own.
            use_monolithic_push: true,
            extra_root_certificates: self.net.certificate_pems().into_iter().map(certificate).collect(),
            connect_timeout: Some(self.net.options().connect_timeout),
            user_agent: concat!("moby/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // Not `Client::new`: when the configuration is wrong, it goes on with another.
        let client = Client::try_from(config)
            .map_err(|error| Error::network(format!("setting up the registry client: {error}")))?;
        self.net.runtime().block_on(client.store_auth_if_needed(&endpoint.host, &credentials));
        Ok(client)
    }

    fn push_credentials(&self, endpoint: &Endpoint, repository: &str) -> Result<RegistryAuth> {
        let url = endpoint.root();
        let refusal =
            match self.net.transfer(&Request::get(&url, 1 << 20), &mut Progress::default(), &mut Vec::new(), None) {
                Err(failure) if failure.reason() == Reason::Unauthorized => failure,
                Err(failure) => return Err(failure.into()),
                Ok(_) => return Ok(RegistryAuth::Anonymous),
            };
        self.authorize(endpoint, repository, Right::Push, refusal)?;
        let header = self.remembered(endpoint, repository, Right::Push);
        let token = header.as_ref().and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("Bearer "));
        Ok(match (token, self.password(endpoint)?) {
            (Some(token), _) => RegistryAuth::Bearer(token.to_string()),
            (None, Some(Password { user, password })) => RegistryAuth::Basic(user, password),
            (None, None) => RegistryAuth::Anonymous,
        })
    }
}

/// Sends several things to one repository, with the credentials of the first.
pub(in crate::store) struct Pusher<'p, 'a> {
    registry: &'p Registry<'a>,
    target: Target<'p>,
}

impl<'a> Registry<'a> {
    /// Opens the repository that `name` lies in.
    pub(in crate::store) fn pusher<'p>(&'p self, name: &'p ImageName) -> Result<Pusher<'p, 'a>> {
        if self.net.options().offline {
            return Err(Failure::offline(&name.registry).into());
        }
        let endpoint = self.origin(&name.registry)?;
        let target = Target { client: self.push_client(&endpoint, name)?, endpoint, name };
        Ok(Pusher { registry: self, target })
    }
}

impl Pusher<'_, '_> {
    /// Sends an image for one architecture from the store, under a tag.
    pub(in crate::store) fn image(&mut self, store: &Store, manifest: &Descriptor, tag: &str) -> Result<()> {
        self.registry.push_image(&mut self.target, store, manifest, tag)
    }

    /// Sends a file as a blob, if the registry does not have it.
    pub(in crate::store) fn file(&mut self, path: &Path, blob: &Descriptor) -> Result<()> {
        self.registry.push_file(&mut self.target, path, blob)
    }

    /// Sends a manifest under a tag.
    pub(in crate::store) fn manifest(&mut self, bytes: Vec<u8>, descriptor: &Descriptor, tag: &str) -> Result<()> {
        self.registry.push_bytes(&mut self.target, bytes, descriptor, tag)
    }
}

impl Target<'_> {
    fn reference(&self, reference: &str) -> Reference {
        // A digest goes as a tag too, which makes the same URL: the client panics if a registry answers a manifest
        // sent by digest without a `Location`, as some do.
        Reference::with_tag(self.endpoint.host.clone(), self.name.repository.clone(), reference.to_string())
    }
}

/// A blob in pieces.
struct Pieces {
    file: File,
    task: Task,
    moved: Arc<AtomicU64>,
}

impl Iterator for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        let mut piece = vec![0; PIECE];
        match self.file.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                self.task.advance(count as u64);
                self.moved.fetch_add(count as u64, Ordering::Relaxed);
                Some(Ok(piece))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Waits for a transfer as long as bytes move. The client's own time limit counts from the last byte that the
/// *registry* sent, which is none while a blob goes out.
async fn while_moving<T>(
    moved: &AtomicU64,
    push: impl Future<Output = Result<T, OciDistributionError>>,
) -> Result<T, OciDistributionError> {
    let mut push = std::pin::pin!(push);
    let mut before = None;
    loop {
        if let Ok(done) = tokio::time::timeout(STALL, &mut push).await {
            return done;
        }
        let now = moved.load(Ordering::Relaxed);
        if before == Some(now) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the registry takes nothing more").into());
        }
        before = Some(now);
    }
}

/// What the client's error stands for.
fn of_client(host: &str, error: OciDistributionError) -> Failure {
    let of_status = |status: u16, said: String| {
        let reason = match status {
            401 => Reason::Unauthorized,
            403 => Reason::Forbidden,
            404 => Reason::NotFound,
            429 => Reason::TooManyRequests,
            408 | 500 | 502 | 503 | 504 => Reason::Unavailable,
            // Every blob was sent before its manifest. Where two send the same blob at once, some registries have none
            // for the moment in which the second takes the place of the first.
            400 if said.contains("MANIFEST_BLOB_UNKNOWN") => Reason::Unavailable,
            other => Reason::Status(other),
        };
        let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        Failure::new(reason, format!("{host}: the registry answered {status} {said}"))
    };
    match error {
        OciDistributionError::RequestError(error) => match error.status() {
            Some(status) => of_status(status.as_u16(), String::new()),
            None => Failure::of_client(host, error),
        },
        OciDistributionError::ServerError { code, message, .. } => of_status(code, message),
        OciDistributionError::UnauthorizedError { .. } => of_status(401, String::new()),
        OciDistributionError::IoError(error) if error.kind() == io::ErrorKind::TimedOut => {
            Failure::new(Reason::Unreachable, format!("{host}: {error}"))
        }
        OciDistributionError::IoError(error) => {
            Failure::local(Error::failed(format!("reading a blob to send it to {host}: {error}")))
        }
        other => Failure::new(Reason::Protocol, format!("{host}: {other}")),
    }
}
