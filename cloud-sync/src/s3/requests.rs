//! One request each, as the configuration has it and as the server answers it.

use std::sync::Arc;
use std::time::Duration;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, DateTime, SdkBody};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ObjectLockMode, ServerSideEncryption, StorageClass,
};
use aws_smithy_types::base64;
use bytes::Bytes;

use super::Failure;
use super::body::{Paced, Progress};
use super::client::CustomerKey;
use super::config::{Encryption, LockMode};
use super::pages::Pages;
use super::store::{Stop, Store};
use super::trouble::{Kind, Trouble};
use super::upload::Notify;
use crate::batch::Digest;

/// The metadata that holds an object's SHA-256.
const SHA256: &str = "sha256";

/// What an object is to the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) key: &'a str,
    pub(super) sha256: Digest,
    pub(super) media_type: &'a str,
}

/// What HEAD says.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) bytes: u64,
    pub(super) sha256: Option<Digest>,
}

/// A part that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: i32,
    pub(super) etag: String,
    pub(super) bytes: u64,
}

/// A multipart upload that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) key: String,
    pub(super) upload_id: String,
}

/// Puts our own key, where there is one, into a request.
macro_rules! with_customer_key {
    ($store:expr, $request:expr) => {{
        let key = $store.customer_key.as_ref();
        $request
            .set_sse_customer_algorithm(key.map(|_| "AES256".to_owned()))
            .set_sse_customer_key(key.map(CustomerKey::encoded))
            .set_sse_customer_key_md5(key.map(|key| key.md5.clone()))
    }};
}

/// Says how the server keeps an object: for PUT and for the beginning of a multipart upload.
macro_rules! kept_as_configured {
    ($store:expr, $request:expr) => {{
        let config = &$store.config;
        let (encryption, kms_key) = match &config.encryption {
            Encryption::Bucket | Encryption::SseC { .. } => (None, None),
            Encryption::SseS3 => (Some(ServerSideEncryption::Aes256), None),
            Encryption::SseKms { key_id } => (Some(ServerSideEncryption::AwsKms), key_id.clone()),
        };
        let lock = config.object_lock.as_ref();
        let until = lock.map(|lock| {
            DateTime::from(std::time::SystemTime::now() + Duration::from_secs(u64::from(lock.days) * 86_400))
        });
        with_customer_key!($store, $request)
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(kms_key)
            .set_storage_class(config.storage_class.as_deref().map(StorageClass::from))
            .set_object_lock_mode(lock.map(|lock| match lock.mode {
                LockMode::Governance => ObjectLockMode::Governance,
                LockMode::Compliance => ObjectLockMode::Compliance,
            }))
            .set_object_lock_retain_until_date(until)
            .set_tagging(config.tagging())
    }};
}

impl Store {
    /// Creates an object, or nothing when there is one (`only_new`). The body is that of which `object` has the digest.
    pub(super) async fn put(&self, on: &Notify, object: &Object<'_>, body: Bytes, only_new: bool) -> Result<(), Stop> {
        self.insist_on(on, &format!("PUT of {}", object.key), Some(body.len()), |client| {
            let progress = Arc::new(Progress::default());
            let request = kept_as_configured!(self, client.put_object())
                .bucket(&self.config.bucket)
                .key(object.key)
                .content_type(object.media_type)
                .metadata(SHA256, object.sha256.to_string())
                // Object lock is refused where this is not said too, whatever the checksum.
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .checksum_sha256(base64::encode(object.sha256.as_bytes()))
                .set_if_none_match(only_new.then(|| "*".to_owned()))
                .content_length(body.len() as i64)
                .body(self.paced(&body, &progress))
                .customize()
                .interceptor(Signs(object.sha256));
            async move { progress.watch(self.stall_max(), async { Ok(request.send().await?) }).await.map(drop) }
        })
        .await
    }

    /// Puts a manifest in place of one that is damaged.
    pub(super) async fn replace(&self, on: &Notify, key: &str, envelope: &[u8]) -> Result<(), Failure> {
        let object = Object { key, sha256: Digest::of(envelope), media_type: "application/json" };
        let body = Bytes::copy_from_slice(envelope);
        self.put(on, &object, body, false).await.map_err(|stop| stop.of(key))
    }

    pub(super) async fn begin(&self, on: &Notify, object: &Object<'_>) -> Result<String, Stop> {
        self.insist(on, &format!("beginning the multipart upload of {}", object.key), |client| {
            let request = kept_as_configured!(self, client.create_multipart_upload())
                .bucket(&self.config.bucket)
                .key(object.key)
                .content_type(object.media_type)
                .metadata(SHA256, object.sha256.to_string())
                .checksum_algorithm(ChecksumAlgorithm::Sha256);
            async move {
                let begun = self.answered(async { Ok(request.send().await?) }).await?;
                begun.upload_id.ok_or_else(|| Trouble::passing("the answer has no upload ID"))
            }
        })
        .await
    }

    /// Gives the part's ETag.
    pub(super) async fn put_part(
        &self,
        on: &Notify,
        upload: &Unfinished,
        number: i32,
        body: Bytes,
        digest: Digest,
    ) -> Result<String, Stop> {
        self.insist_on(on, &format!("part {number} of {}", upload.key), Some(body.len()), |client| {
            let progress = Arc::new(Progress::default());
            let request = with_customer_key!(self, client.upload_part())
                .bucket(&self.config.bucket)
                .key(&upload.key)
                .upload_id(&upload.upload_id)
                .part_number(number)
                .checksum_sha256(base64::encode(digest.as_bytes()))
                .content_length(body.len() as i64)
                .body(self.paced(&body, &progress))
                .customize()
                .interceptor(Signs(digest));
            async move {
                let sent = progress.watch(self.stall_max(), async { Ok(request.send().await?) }).await?;
                sent.e_tag.ok_or_else(|| Trouble::passing("the answer has no ETag"))
            }
        })
        .await
    }

    pub(super) async fn complete(
        &self,
        on: &Notify,
        upload: &Unfinished,
        parts: &[(Part, Digest)],
        only_new: bool,
    ) -> Result<(), Stop> {
        let parts = parts.iter().map(|(part, digest)| {
            let part = CompletedPart::builder().part_number(part.number).e_tag(&part.etag);
            part.checksum_sha256(base64::encode(digest.as_bytes())).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        self.insist(on, &format!("completing the multipart upload of {}", upload.key), |client| {
            let request = with_customer_key!(self, client.complete_multipart_upload())
                .bucket(&self.config.bucket)
                .key(&upload.key)
                .upload_id(&upload.upload_id)
                .set_if_none_match(only_new.then(|| "*".to_owned()))
                .multipart_upload(parts.clone());
            async move { self.answered(async { Ok(request.send().await?) }).await.map(drop) }
        })
        .await
    }

    /// Ends an upload and frees its parts; one that is not there has ended.
    pub(super) async fn abort(&self, on: &Notify, upload: &Unfinished) -> Result<(), Failure> {
        let aborted = self
            .insist(on, &format!("aborting the multipart upload of {}", upload.key), |client| {
                let request = client
                    .abort_multipart_upload()
                    .bucket(&self.config.bucket)
                    .key(&upload.key)
                    .upload_id(&upload.upload_id);
                async move { self.answered(async { Ok(request.send().await?) }).await.map(drop) }
            })
            .await;
        match aborted {
            Err(Stop::Answer(Kind::Missing, _)) => Ok(()),
            other => other.map_err(|stop| stop.of("aborting a multipart upload")),
        }
    }

    /// All parts of an upload that the server has.
    pub(super) async fn parts(&self, on: &Notify, upload: &Unfinished) -> Result<Vec<Part>, Stop> {
        let mut parts = Vec::new();
        let (mut pages, mut marker) = (Pages::of("listing parts"), None::<String>);
        loop {
            let page = self
                .insist(on, &format!("listing the parts of {}", upload.key), |client| {
                    let request = with_customer_key!(self, client.list_parts())
                        .bucket(&self.config.bucket)
                        .key(&upload.key)
                        .upload_id(&upload.upload_id)
                        .set_part_number_marker(marker.clone());
                    async move { self.answered(async { Ok(request.send().await?) }).await }
                })
                .await?;
            parts.extend(page.parts().iter().filter_map(|part| {
                let bytes = u64::try_from(part.size?).ok()?;
                Some(Part { number: part.part_number?, etag: part.e_tag.clone()?, bytes })
            }));
            let next = page.next_part_number_marker().filter(|_| page.is_truncated == Some(true));
            let next = pages.next(page.parts().len(), next.map(str::to_owned));
            marker = next.map_err(|endless| Stop::Answer(Kind::Refused, endless.to_string()))?;
            if marker.is_none() {
                return Ok(parts);
            }
        }
    }

    /// All uploads of this site that are not complete, also to the catalogue, where other sites' are too.
    pub(super) async fn unfinished(&self, on: &Notify) -> Result<Vec<Unfinished>, Failure> {
        let mut found = self.unfinished_below(on, self.root()).await?;
        let site = self.root().trim_start_matches(self.config.prefix.as_str()).trim_end_matches('/');
        let catalog = self.unfinished_below(on, &format!("{}catalog/", self.config.prefix)).await?;
        found.extend(catalog.into_iter().filter(|upload| upload.key.contains(&format!("/site={site}/"))));
        Ok(found)
    }

    async fn unfinished_below(&self, on: &Notify, below: &str) -> Result<Vec<Unfinished>, Failure> {
        let mut found = Vec::new();
        let (mut pages, mut from) = (Pages::of("listing multipart uploads"), None::<(String, Option<String>)>);
        loop {
            let (key_marker, id_marker) = from.clone().map_or((None, None), |(key, id)| (Some(key), id));
            let page = self
                .insist(on, "listing multipart uploads", |client| {
                    let request = client
                        .list_multipart_uploads()
                        .bucket(&self.config.bucket)
                        .prefix(below)
                        .set_key_marker(key_marker.clone())
                        .set_upload_id_marker(id_marker.clone());
                    async move { self.answered(async { Ok(request.send().await?) }).await }
                })
                .await
                .map_err(|stop| stop.of("listing multipart uploads"))?;
            found.extend(page.uploads().iter().filter_map(|upload| {
                let key = upload.key.clone().filter(|key| key.starts_with(below))?;
                Some(Unfinished { key, upload_id: upload.upload_id.clone()? })
            }));
            let uploads = page.uploads().len();
            let next = page.next_key_marker.filter(|_| page.is_truncated == Some(true));
            from = pages.next(uploads, next.map(|key| (key, page.next_upload_id_marker)))?;
            if from.is_none() {
                return Ok(found);
            }
        }
    }

    /// One page of the keys of manifests, and from where the next goes on.
    pub(super) async fn manifests(
        &self,
        on: &Notify,
        from: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Failure> {
        let prefix = format!("{}batches/", self.root());
        let page = self
            .insist(on, "listing batches", |client| {
                let request = client
                    .list_objects_v2()
                    .bucket(&self.config.bucket)
                    .prefix(&prefix)
                    .set_continuation_token(from.clone());
                async move { self.answered(async { Ok(request.send().await?) }).await }
            })
            .await
            .map_err(|stop| stop.of("listing batches"))?;
        let keys = page.contents().iter().filter_map(|object| object.key.clone()).collect();
        Ok((keys, page.next_continuation_token.filter(|_| page.is_truncated == Some(true))))
    }

    /// Nothing where there is nothing.
    pub(super) async fn head(&self, on: &Notify, key: &str) -> Result<Option<Head>, Failure> {
        let answer = self
            .insist(on, &format!("HEAD of {key}"), |client| {
                let request = with_customer_key!(self, client.head_object()).bucket(&self.config.bucket).key(key);
                async move { self.answered(async { Ok(request.send().await?) }).await }
            })
            .await;
        match answer {
            Ok(head) => Ok(Some(Head {
                bytes: head.content_length.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
                sha256: head.metadata.and_then(|all| all.get(SHA256)?.parse().ok()),
            })),
            Err(Stop::Answer(Kind::Missing, _)) => Ok(None),
            Err(stop) => Err(stop.of(key)),
        }
    }

    fn paced(&self, body: &Bytes, progress: &Arc<Progress>) -> ByteStream {
        let paced = Paced::new(body.clone(), Arc::clone(&self.sends), Arc::clone(progress));
        ByteStream::new(SdkBody::from_body_1_x(paced))
    }
}

/// Signs a body by the digest that is known already: a server that checks signatures then checks it, too.
#[derive(Debug)]
struct Signs(Digest);

impl Intercept for Signs {
    fn name(&self) -> &'static str {
        "Signs"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.to_string()));
        Ok(())
    }
}
