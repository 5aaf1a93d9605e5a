//! The way to a server: TLS, a proxy, names, and where credentials come from.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use gantry_cloud_sync::s3::{Config, Failure};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificates::Root;
use super::proxy::Proxy;
use super::servers::Server;
use super::spooled::noise;
use super::{Scene, connect};

/// What stands before a server and ends TLS; the address as a server's.
async fn front(server: &Server, [certificate, key]: [PathBuf; 2]) -> String {
    let chain = CertificateDer::pem_file_iter(certificate).expect("a file").collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config =
        ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("they fit");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server: SocketAddr = server.url.trim_start_matches("http://").parse().expect("an address");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                tokio::io::copy_bidirectional(&mut client, &mut TcpStream::connect(server).await?).await
            });
        }
    });
    format!("http://{address}")
}

pub(super) async fn tls_by_an_authority_of_ones_own_through_a_proxy_that_asks_for_a_password(server: &Server) {
    let scene = Scene::new(server, "tls").await;
    let folder = scene.spooled.folder.path().to_owned();
    let root = Root::new(&folder, "authority");
    let proxy = Proxy::start(&front(server, root.sign("localhost")).await, &[]).await;
    proxy.ask_for("Basic c2l0ZTpodW50ZXIy");
    let password = folder.join("password");
    let reached = async |ca: &PathBuf, said: &str| {
        fs::write(&password, said).expect("written");
        let change = |config: &mut Config| {
            config.ca_file = Some(ca.clone());
            config.proxy_url = Some(proxy.url.clone());
            config.proxy_credentials_file = Some(password.clone());
            config.attempts_max = 2;
        };
        connect(server, "tls", "https://127.0.0.1", &scene.credentials, change).await
    };
    let uploader = reached(&root.path, "site:hunter2\n").await;
    scene.upload(&uploader).await.unwrap_or_else(|failure| panic!("{}: {failure}", server.name));
    scene.assert_whole("tls").await;
    let asked = proxy.seen();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.starts_with("CONNECT 127.0.0.1:443 ")), "{asked:?}");

    let failure = scene.upload(&reached(&root.path, "site:hunter3").await).await.expect_err("another password");
    let said = format!("{failure} {failure:?}");
    assert!(said.contains("s3.proxy_credentials_file") && !said.contains("hunter"), "{said}");
    let stranger = Root::new(&folder, "stranger");
    let failure = scene.upload(&reached(&stranger.path, "site:hunter2").await).await.expect_err("another authority");
    assert!(failure.to_string().contains("s3.ca_file"), "{failure}");
}

/// The proxy makes a name lead to the server that no resolver knows.
pub(super) async fn a_bucket_may_be_in_the_host_name(server: &Server) {
    let scene = Scene::new(server, "hosted").await;
    let proxy = Proxy::start(&server.url, &[]).await;
    let change = |config: &mut Config| {
        config.path_style = false;
        config.proxy_url = Some(proxy.url.clone());
    };
    let uploader = connect(server, "hosted", "http://s3.test", &scene.credentials, change).await;
    scene.upload(&uploader).await.unwrap_or_else(|failure| panic!("{}: {failure}", server.name));
    let seen = proxy.seen();
    assert!(
        seen.iter()
            .all(|line| line.split(' ').nth(1).is_some_and(|url| url.starts_with("http://hosted.s3.test/gantry/"))),
        "{seen:?}"
    );
    scene.assert_whole("hosted").await;
}

pub(super) async fn credentials_come_from_where_the_chain_finds_them(server: &Server) {
    let scene = Scene::with(server, "chain", vec![noise(80, 1000)]).await;
    let token = scene.spooled.folder.path().join("token");
    fs::write(&token, "a token of the site's identity provider").expect("written");
    let found = async |profile: Option<&str>, text: String| {
        fs::write(&scene.credentials, text).expect("written");
        let change = |config: &mut Config| {
            config.profile = profile.map(str::to_owned);
            config.attempts_max = 2;
        };
        scene.upload(&connect(server, "chain", &server.url, &scene.credentials, change).await).await
    };
    let wrong = "[default]\naws_access_key_id = X\naws_secret_access_key = x\n";
    let named = server.credentials().replace("[default]", "[gantry]");
    found(Some("gantry"), format!("{wrong}{named}")).await.expect("those of the profile");

    // STS gives a key for the token.
    let role = format!(
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/r\nweb_identity_token_file = {}\nendpoint_url = {}\n",
        token.display(),
        server.url
    );
    found(None, role).await.expect("those of the role");

    let program = "[default]\ncredential_process = /bin/cat /etc/hunter2\n";
    let failure = found(None, program.to_owned()).await.expect_err("no program is started");
    let said = format!("{failure} {failure:?}");
    assert!(matches!(failure, Failure::Denied(_)) && said.contains("credential_process"), "{said}");
    assert!(said.contains("s3.credentials_file") && !said.contains("hunter2"), "{said}");
}
