//! The SDK's client, as the configuration has it. It tries nothing twice: what is tried again, and when, is decided in `store`.

use std::path::Path;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_types::base64;
use md5::{Digest as _, Md5};

use super::Failure;
use super::config::{Config, Encryption};

/// SSE-C's key as headers want it.
#[derive(Debug, Clone)]
pub(super) struct CustomerKey {
    key: Secret,
    pub(super) md5: String,
}

/// What no log gets to see.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl CustomerKey {
    pub(super) fn load(config: &Config) -> Result<Option<Self>, Failure> {
        let Encryption::SseC { key_file } = &config.encryption else {
            return Ok(None);
        };
        let key = read(key_file, "s3.encryption.key_file")?;
        if key.len() != 32 {
            return Err(wrong("s3.encryption.key_file", key_file, "must hold exactly 32 bytes (`openssl rand 32`)"));
        }
        let md5 = base64::encode(Md5::digest(&key));
        Ok(Some(Self { key: Secret(base64::encode(&key)), md5 }))
    }

    pub(super) fn encoded(&self) -> String {
        self.key.0.clone()
    }
}

/// Connections of one client, with its proxy and its authorities.
pub(super) fn http(config: &Config) -> Result<SharedHttpClient, Failure> {
    let trust = match &config.ca_file {
        None => TrustStore::default(),
        Some(path) => {
            let pem = read(path, "s3.ca_file")?;
            if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(wrong("s3.ca_file", path, "holds no certificate in PEM"));
            }
            TrustStore::empty().with_pem_certificate(pem)
        }
    };
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls = tls.map_err(|error| Failure::Configuration(format!("s3.ca_file cannot be used: {error}")))?;
    let proxy = proxy(config)?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        if let Some(settings) = settings {
            connector = connector.connector_settings(settings.clone());
        }
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
        connector.proxy_config(proxy.clone()).tls_provider(provider).tls_context(tls.clone()).build()
    }))
}

/// A client with credentials as the chain has them now.
pub(super) async fn connect(config: &Config, http: &SharedHttpClient) -> Result<Client, Failure> {
    let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_millis(config.connect_max_ms)).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        // Ours counts what we hold back ourselves.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Ours are SHA-256, in headers that every server takes; trailers are not.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(path) = &config.credentials_file {
        // What it says is read when credentials are asked for; here only whether it is there.
        read(path, "s3.credentials_file")?;
        let files = EnvConfigFiles::builder().include_default_config_file(true);
        loader = loader.profile_files(files.with_file(EnvConfigFileKind::Credentials, path).build());
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(Failure::Configuration("no region: set s3.region, or AWS_REGION".to_owned()));
    }
    let mut builder = aws_sdk_s3::config::Builder::from(&shared).force_path_style(config.path_style);
    if let Some(url) = &config.endpoint_url {
        builder = builder.endpoint_url(url);
    }
    Ok(Client::from_conf(builder.build()))
}

fn proxy(config: &Config) -> Result<ProxyConfig, Failure> {
    let Some(url) = &config.proxy_url else {
        return Ok(ProxyConfig::from_env());
    };
    let proxy = ProxyConfig::all(url.as_str())
        .map_err(|_| Failure::Configuration("s3.proxy_url is no URL of a proxy, such as http://proxy:3128".to_owned()))?
        // Credentials of an instance or a container are asked of the machine itself.
        .no_proxy("169.254.169.254,169.254.170.2,169.254.170.23");
    let Some(path) = &config.proxy_credentials_file else {
        return Ok(proxy);
    };
    let text = read(path, "s3.proxy_credentials_file")?;
    let text = String::from_utf8_lossy(&text);
    match text.trim_end().split_once(':') {
        Some((name, password)) => Ok(proxy.with_basic_auth(name, password)),
        None => Err(wrong("s3.proxy_credentials_file", path, "must be one line, name:password")),
    }
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| wrong(key, path, &format!("cannot be read: {error}")))
}

fn wrong(key: &str, path: &Path, why: &str) -> Failure {
    Failure::Configuration(format!("{key} ({}) {why}", path.display()))
}
