//! A bucket, for who only reads what all sites put there.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::Failure;
use super::client::CustomerKey;
use super::config::{Config, MIB};
use super::store::Store;
use super::trouble::Trouble;
use super::upload::Notify;
use crate::batch::{self, Digest, Digester};

/// Bytes of an object that are asked for at once, and are in memory.
const PIECE: u64 = 8 * MIB;

/// Reads below the prefix of its configuration. It tries again as an uploader does, and says nothing of it.
pub struct Reader {
    store: Store,
    on: Notify,
}

impl Reader {
    /// Reads credentials; asks nothing of the bucket yet.
    ///
    /// # Errors
    /// [`Failure::Configuration`]
    pub async fn connect(config: Config) -> Result<Self, Failure> {
        let root = config.prefix.clone();
        Ok(Self { store: Store::below(config, root).await?, on: Arc::new(|_| {}) })
    }

    /// `s3://BUCKET/PREFIX`, for people.
    #[must_use]
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.store.config.bucket, self.store.config.prefix)
    }

    /// One page of what lies below the prefix and this, with sizes, and from where the next goes on.
    pub(crate) async fn list(
        &self,
        below: &str,
        from: Option<String>,
    ) -> Result<(Vec<(String, u64)>, Option<String>), Failure> {
        let (store, root) = (&self.store, self.store.root());
        let prefix = format!("{root}{below}");
        let what = format!("listing {prefix}");
        let listed = store.insist(&self.on, &what, |client| {
            let request = client.list_objects_v2().bucket(&store.config.bucket).prefix(&prefix);
            let request = request.set_continuation_token(from.clone());
            async move { store.answered(async { Ok(request.send().await?) }).await }
        });
        let page = listed.await.map_err(|stop| stop.of(&what))?;
        let there = page.contents().iter().filter_map(|object| {
            let path = object.key()?.strip_prefix(root)?;
            Some((path.to_owned(), u64::try_from(object.size?).ok()?))
        });
        Ok((there.collect(), page.next_continuation_token.clone().filter(|_| page.is_truncated == Some(true))))
    }

    /// The bytes of a small object; nothing where there is none.
    pub(crate) async fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.store.get(&self.on, &format!("{}{path}", self.store.root()), most).await
    }

    /// Copies an object of so many bytes into a new file, piece by piece.
    pub(crate) async fn fetch(&self, path: &str, to: &Path, bytes: u64) -> Result<Digest, Failure> {
        let (store, key) = (&self.store, format!("{}{path}", self.store.root()));
        let mut file = File::create_new(to).map_err(batch::Failure::disk(to))?;
        let mut digester = Digester::default();
        let (what, mut from) = (format!("GET of {key}"), 0);
        while from < bytes {
            let until = bytes.min(from + PIECE);
            let customer_key = store.customer_key.as_ref();
            let read = store.insist(&self.on, &what, |client| {
                let request = client
                    .get_object()
                    .bucket(&store.config.bucket)
                    .key(&key)
                    .range(format!("bytes={from}-{}", until - 1))
                    .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
                    .set_sse_customer_key(customer_key.map(CustomerKey::encoded))
                    .set_sse_customer_key_md5(customer_key.map(|key| key.md5.clone()));
                async move {
                    let answered = store.answered(async {
                        let got = request.send().await?;
                        let broke_off = |error| Trouble::passing(format!("the answer broke off: {error}"));
                        Ok(got.body.collect().await.map_err(broke_off)?.into_bytes())
                    });
                    let piece = answered.await?;
                    match piece.len() as u64 == until - from {
                        true => Ok(piece),
                        false => Err(Trouble::passing("the answer has another length than was asked for")),
                    }
                }
            });
            let piece = read.await.map_err(|stop| stop.of(&key))?;
            file.write_all(&piece).map_err(batch::Failure::disk(to))?;
            digester.update(&piece);
            from = until;
        }
        Ok(digester.finish().0)
    }
}
