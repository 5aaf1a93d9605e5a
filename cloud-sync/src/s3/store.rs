//! A bucket, and who waits for whom on the way to it: requests are made until they are answered, in `requests`.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use tokio::sync::{RwLock, Semaphore, SemaphorePermit};

use super::Failure;
use super::body::Progress;
use super::client::{self, CustomerKey};
use super::config::Config;
use super::gate::Gate;
use super::pace::Pacer;
use super::trouble::{Kind, Trouble, after};
use super::upload::{Event, Notify};
use crate::batch::Site;

/// A bucket, and the part of it that is looked at.
pub(super) struct Store {
    pub(super) config: Config,
    http: SharedHttpClient,
    client: RwLock<(u64, Client)>,
    pub(super) customer_key: Option<CustomerKey>,
    pub(super) sends: Arc<Pacer>,
    pub(super) receives: Pacer,
    requests: Semaphore,
    /// In KiB.
    memory: Semaphore,
    root: String,
    /// Of whoever must be asked; nothing where nobody must.
    gate: Option<Arc<dyn Gate>>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// It has one that whoever asked must understand: 404, 409, 412, a broken upload.
    Answer(Kind, String),
    End(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::End(failure)
    }
}

impl Store {
    pub(super) async fn connect(config: Config, site: &Site, gate: Option<Arc<dyn Gate>>) -> Result<Self, Failure> {
        let root = format!("{}{site}/", config.prefix);
        Ok(Self { gate, ..Self::below(config, root).await? })
    }

    pub(super) async fn below(config: Config, root: String) -> Result<Self, Failure> {
        config.check()?;
        let http = client::http(&config)?;
        let client = client::connect(&config, &http).await?;
        Ok(Self {
            client: RwLock::new((0, client)),
            customer_key: CustomerKey::load(&config)?,
            sends: Arc::new(Pacer::new(config.bandwidth_max_kib_s)),
            receives: Pacer::new(config.bandwidth_max_kib_s),
            requests: Semaphore::new(config.parallel_requests_max),
            memory: Semaphore::new(usize::try_from(config.memory_max_mib * 1024).unwrap_or(Semaphore::MAX_PERMITS)),
            root,
            gate: None,
            http,
            config,
        })
    }

    /// Before every key of this part.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// Waits until memory for a body of this size is free.
    pub(super) async fn memory_for(&self, bytes: u64) -> SemaphorePermit<'_> {
        let most = self.config.memory_max_mib * 1024;
        let kib = u32::try_from(bytes.div_ceil(1024).clamp(1, most)).unwrap_or(u32::MAX);
        self.memory.acquire_many(kib).await.expect("it is never closed")
    }

    /// Tries until there is an answer, or none is to be had.
    pub(super) async fn insist<T, F>(
        &self,
        on: &Notify,
        what: &str,
        request: impl FnMut(Client) -> F,
    ) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        self.insist_on(on, what, None, request).await
    }

    /// The same of a request whose body takes so many bytes out of the hospital, if it has one.
    pub(super) async fn insist_on<T, F>(
        &self,
        on: &Notify,
        what: &str,
        leaves: Option<usize>,
        mut request: impl FnMut(Client) -> F,
    ) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut attempt = 1;
        loop {
            let (generation, client) = self.client.read().await.clone();
            let trouble = {
                let _turn = self.requests.acquire().await.expect("it is never closed");
                // Last of all: what was right before it waited for its turn may not be any more.
                let _leaves = match (&self.gate, leaves) {
                    (Some(gate), Some(bytes)) => Some(gate.leave(bytes as u64).await.map_err(Failure::Withheld)?),
                    _ => None,
                };
                match request(client).await {
                    Ok(answer) => return Ok(answer),
                    Err(trouble) => trouble,
                }
            };
            let Trouble { kind, why, retry_after } = trouble;
            match kind {
                Kind::Passing | Kind::Garbled | Kind::Expired | Kind::Unsaid if attempt < self.config.attempts_max => {}
                Kind::Passing => {
                    return Err(Failure::Unreachable { what: what.to_owned(), attempts: attempt, why }.into());
                }
                Kind::Expired | Kind::Unsaid | Kind::Denied => {
                    return Err(Failure::Denied(format!("{what}: {why}")).into());
                }
                Kind::NoBucket => return Err(Failure::NoBucket(self.config.bucket.clone()).into()),
                Kind::Refused => {
                    return Err(Failure::Refused { what: what.to_owned(), why }.into());
                }
                Kind::Garbled | Kind::Exists | Kind::Conflict | Kind::Missing | Kind::Broken => {
                    return Err(Stop::Answer(kind, why));
                }
            }
            // A new client has yet to learn what time it is, so where it may be about time the old one tries first.
            if kind == Kind::Expired || kind == Kind::Unsaid && attempt % 2 == 0 {
                self.renew(generation).await?;
            }
            let after = after(&self.config, attempt, retry_after);
            on(&Event::Again { what: what.to_owned(), why, attempt, after });
            tokio::time::sleep(after).await;
            attempt += 1;
        }
    }

    /// Asks the chain for credentials again, once for all requests that failed with the same.
    async fn renew(&self, generation: u64) -> Result<(), Failure> {
        let mut current = self.client.write().await;
        if current.0 == generation {
            *current = (generation + 1, client::connect(&self.config, &self.http).await?);
        }
        Ok(())
    }

    pub(super) async fn answered<T>(&self, request: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        Progress::default().watch(self.stall_max(), request).await
    }

    pub(super) fn stall_max(&self) -> Duration {
        Duration::from_secs(self.config.stall_max_s)
    }
}

impl Stop {
    /// As a failure, where no answer was expected to need understanding.
    pub(super) fn of(self, what: &str) -> Failure {
        match self {
            Self::End(failure) => failure,
            Self::Answer(_, why) => Failure::Refused { what: what.to_owned(), why },
        }
    }
}
