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
                    let (wanted, mut piece) = (until - from, Vec::new());
                    let answered = store.answered(async {
                        let mut body = request.send().await?.body;
                        // Of what has no end no more is read than shows that it is another.
                        while piece.len() as u64 <= wanted
                            && let Some(more) = body.next().await
                        {
                            let broke_off = |error| Trouble::passing(format!("the answer broke off: {error}"));
                            piece.extend_from_slice(&more.map_err(broke_off)?);
                        }
                        Ok(())
                    });
                    answered.await?;
                    match piece.len() as u64 == wanted {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::catalog::{Mirror, Source};

    /// Answers GET of an object with bytes that do not end, and a listing with the same page again and again.
    async fn hostile() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        let read = client.read(&mut piece).await.expect("a request");
                        head.extend_from_slice(&piece[..read]);
                    }
                    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
                                <Contents><Key>catalog/x</Key><Size>1</Size></Contents></ListBucketResult>";
                    let list = head.windows(11).any(|there| there == b"list-type=2");
                    let answer = match list {
                        true => format!(
                            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}",
                            page.len()
                        ),
                        false => "HTTP/1.1 206 Partial Content\r\nconnection: close\r\n\r\n".to_owned(),
                    };
                    client.write_all(answer.as_bytes()).await.expect("it listens");
                    while !list && client.write_all(&[0; 65_536]).await.is_ok() {}
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn a_server_that_does_not_end_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let credentials = folder.path().join("credentials");
        std::fs::write(&credentials, "[default]\naws_access_key_id = a\naws_secret_access_key = b\n").expect("written");
        let config = Config {
            bucket: "bucket".to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(hostile().await),
            path_style: true,
            credentials_file: Some(credentials),
            attempts_max: 1,
            ..Config::default()
        };
        let reader = Reader::connect(config).await.expect("a reader");
        let failure = reader.fetch("x", &folder.path().join("x"), 1000).await.expect_err("it is longer");
        assert!(failure.to_string().contains("another length than was asked for"), "{failure}");
        let mirror = Mirror { folder: folder.path(), mirror_max_mib: 1 };
        let failure = Source::Bucket(Box::new(reader)).local(mirror, None).await.err().expect("it goes round");
        assert!(failure.to_string().contains("its pages go round in a circle"), "{failure}");
    }
}
