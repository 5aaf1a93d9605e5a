//! How a server is reached by us, and what is in its buckets by somebody else's eyes.

use std::ops::Deref;
use std::path::Path;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::{Client, Config};
use gantry_cloud_sync::s3;

use super::s3_server::S3Server;

/// A real server.
pub(crate) struct Server(pub(crate) S3Server);

impl Deref for Server {
    type Target = S3Server;

    fn deref(&self) -> &S3Server {
        &self.0
    }
}

impl Server {
    /// A file of credentials as AWS has them.
    pub(crate) fn credentials(&self) -> String {
        format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", self.key, self.secret)
    }

    /// How we reach it through this address.
    pub(crate) fn config(&self, bucket: &str, url: &str, credentials: &Path) -> s3::Config {
        s3::Config {
            bucket: bucket.to_owned(),
            prefix: "gantry/".to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(url.to_owned()),
            path_style: true,
            credentials_file: Some(credentials.to_owned()),
            part_mib: 5,
            multipart_above_mib: 5,
            object_max_gib: 1,
            backoff_first_ms: 20,
            backoff_max_ms: 200,
            outage_pause_s: 1,
            stall_max_s: 20,
            ..s3::Config::default()
        }
    }

    /// Somebody else's eyes and hands.
    pub(crate) fn client(&self) -> Client {
        Client::from_conf(
            Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .endpoint_url(&self.url)
                .force_path_style(true)
                .credentials_provider(Credentials::new(&self.key, &self.secret, None, None, "test"))
                .build(),
        )
    }

    pub(crate) async fn bucket(&self, name: &str, lock: bool) -> Bucket {
        let client = self.client();
        let create = client.create_bucket().bucket(name).object_lock_enabled_for_bucket(lock);
        create.send().await.expect("a bucket");
        Bucket { client, name: name.to_owned() }
    }
}

/// A bucket, without any code of ours.
pub(crate) struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
}

impl Bucket {
    pub(crate) async fn keys(&self) -> Vec<String> {
        let list = self.client.list_objects_v2().bucket(&self.name).send().await.expect("a list");
        list.contents().iter().filter_map(|object| object.key.clone()).collect()
    }

    pub(crate) async fn head(&self, key: &str) -> HeadObjectOutput {
        self.client.head_object().bucket(&self.name).key(key).send().await.expect("an object")
    }

    pub(crate) async fn get(&self, key: &str) -> Vec<u8> {
        let got = self.client.get_object().bucket(&self.name).key(key).send().await.expect("an object");
        got.body.collect().await.expect("its bytes").to_vec()
    }

    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) {
        let put = self.client.put_object().bucket(&self.name).key(key).body(bytes.to_vec().into());
        put.send().await.expect("an object");
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.client.delete_object().bucket(&self.name).key(key).send().await.expect("it is gone");
    }

    pub(crate) async fn unfinished(&self) -> usize {
        let list = self.client.list_multipart_uploads().bucket(&self.name).send().await.expect("a list");
        list.uploads().len()
    }
}
