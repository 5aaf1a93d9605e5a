//! A bucket, for who only reads what all sites put there.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::Failure;
use super::config::Config;
use super::read::Fetched;
use super::store::Store;
use super::upload::Notify;
use crate::batch::{self, Digest, Digester};

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
        let key = format!("{}{path}", self.store.root());
        let mut file = File::create_new(to).map_err(batch::Failure::disk(to))?;
        let mut keep = |piece: &[u8]| file.write_all(piece);
        let read = self.store.read(&self.on, &key, Digester::default(), bytes, &mut keep).await?;
        match read {
            Fetched::Whole(digest, whole) if whole == bytes => Ok(digest),
            Fetched::NotKept(source) => Err(batch::Failure::Disk { path: to.to_owned(), source }.into()),
            Fetched::Missing => Err(Failure::Refused { what: key, why: "it is not there any more".to_owned() }),
            Fetched::Whole(..) | Fetched::TooLong => {
                Err(Failure::Refused { what: key, why: "it has another length than was asked for".to_owned() })
            }
        }
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
