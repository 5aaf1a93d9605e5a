//! The last door before the bucket: asked before each request that carries something out.
//!
//! ```text
//!  upload ─▶ who opted out, as the list is now ─▶ limits of the policy ─▶ journal ─▶ request
//! ```

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use gantry_cloud_sync::batch::Id;
use gantry_cloud_sync::policy::{Ledger, Meter, OptOut, Room};
use gantry_cloud_sync::s3;

use super::site::{Site, SiteError};
use super::{SyncError, ledger};
use crate::store::{Store, StoreError};

/// How long it waits for room at most before it looks again who opted out.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Lets bytes leave, or waits, or ends what they are of.
pub struct Gate {
    site: Arc<Site>,
    store: Store,
    meter: Arc<Mutex<Meter>>,
    /// Waits until there is room.
    patient: bool,
    /// One asks at a time, so that who waits for room is not overtaken for ever.
    turn: tokio::sync::Mutex<()>,
    of: Mutex<Of>,
    waits: Mutex<Option<String>>,
    /// As the journal has it.
    kept: Mutex<Ledger>,
}

/// Whose the batch is that is on its way.
#[derive(Default)]
struct Of {
    /// Pseudonyms.
    patients: Vec<String>,
    /// On which none of them is.
    list: Option<Arc<OptOut>>,
}

/// A request that is on its way.
struct Leaving {
    meter: Arc<Mutex<Meter>>,
    bytes: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        locked(&self.meter).left(self.bytes, Utc::now());
    }
}

impl Gate {
    /// With what left in the last day.
    ///
    /// # Errors
    /// The journal's.
    pub async fn patient(site: Arc<Site>, store: Store) -> Result<Self, SyncError> {
        Self::new(site, store, true).await
    }

    /// One that ends what there is no room for now: somebody waits for it.
    ///
    /// # Errors
    /// The journal's.
    pub async fn impatient(site: Arc<Site>, store: Store) -> Result<Self, SyncError> {
        Self::new(site, store, false).await
    }

    async fn new(site: Arc<Site>, store: Store, patient: bool) -> Result<Self, SyncError> {
        let kept = ledger(&store).await?;
        let meter = Arc::new(Mutex::new(Meter::new(site.policy.limits, kept.clone(), Utc::now())));
        let (turn, of, waits) = Default::default();
        Ok(Self { site, store, meter, patient, turn, of, waits, kept: Mutex::new(kept) })
    }

    /// A batch of these patients goes through it from now on.
    pub(super) fn of(&self, patients: Vec<String>) {
        *locked(&self.of) = Of { patients, list: None };
    }

    /// Anything that was ever handed in may go through it from now on, as a repair sends some of it again. Gives the records of those who
    /// opted out, of which nothing may; it shuts when somebody else does.
    ///
    /// # Errors
    /// Nobody knows who opted out; the journal's.
    pub async fn of_all(&self) -> Result<HashSet<Id>, SyncError> {
        let (mut patients, mut opted_out) = (HashSet::<String>::new(), HashSet::new());
        if let Some(list) = self.site.opt_out()? {
            let tell = |record: &str, patient: &str| match list.has(patient) {
                true => opted_out.extend(record.parse::<Id>().ok()),
                false if patients.contains(patient) => {}
                false => {
                    patients.insert(patient.to_owned());
                }
            };
            self.store.sync_records(tell).await?;
        }
        self.of(patients.into_iter().collect());
        Ok(opted_out)
    }

    /// For what it waits, if it does.
    pub(super) fn waits(&self) -> Option<String> {
        locked(&self.waits).clone()
    }

    /// Reads the journal again, since another process may have had the bucket meanwhile.
    pub(super) async fn reopen(&self) -> Result<(), SyncError> {
        let kept = ledger(&self.store).await?;
        *locked(&self.meter) = Meter::new(self.site.policy.limits, kept, Utc::now());
        Ok(())
    }

    /// Nothing is on its way for a while: the journal gets what left, and no more.
    ///
    /// # Errors
    /// The journal's.
    pub async fn settle(&self) -> Result<(), StoreError> {
        locked(&self.meter).settle();
        let ledger = locked(&self.meter).ledger();
        *locked(&self.waits) = None;
        if *locked(&self.kept) == ledger {
            return Ok(());
        }
        self.keep(ledger).await
    }

    async fn keep(&self, ledger: Ledger) -> Result<(), StoreError> {
        let text = serde_json::to_string(&ledger).expect("a ledger is pairs of numbers");
        self.store.keep_sync_ledger(&text).await?;
        *locked(&self.kept) = ledger;
        Ok(())
    }

    async fn leave(&self, bytes: u64) -> Result<Box<dyn Send>, String> {
        let _turn = self.turn.lock().await;
        loop {
            self.nobody_opted_out()?;
            let room = locked(&self.meter).ask(bytes, Utc::now());
            match room {
                Room::Now => {}
                Room::Keep(ledger) => {
                    let leaving = Leaving { meter: self.meter.clone(), bytes };
                    self.keep(ledger).await.map_err(|error| error.to_string())?;
                    *locked(&self.waits) = None;
                    return Ok(Box::new(leaving));
                }
                Room::From(opens) if !self.patient => return Err(no_room(opens)),
                Room::From(opens) => {
                    *locked(&self.waits) = Some(no_room(opens));
                    let time = (opens - Utc::now()).to_std().unwrap_or_default();
                    tokio::time::sleep(time.min(LOOK_AGAIN)).await;
                    continue;
                }
                Room::Never(limit, most) => {
                    return Err(format!(
                        "a request of {bytes} bytes is larger than {limit} = {most}: raise it, or lower batch.batch_studies_max"
                    ));
                }
            }
            return Ok(Box::new(Leaving { meter: self.meter.clone(), bytes }));
        }
    }

    /// Reads the list only when it changed, and looks through it once for each list and batch.
    fn nobody_opted_out(&self) -> Result<(), String> {
        let list = self.site.opt_out().map_err(|error: SiteError| error.to_string())?;
        let mut of = locked(&self.of);
        if let Some(list) = list.filter(|list| of.list.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, list))) {
            if of.patients.iter().any(|patient| list.has(patient)) {
                return Err("a patient of the batch opted out meanwhile".to_owned());
            }
            of.list = Some(list);
        }
        Ok(())
    }
}

impl s3::Gate for Gate {
    fn leave(&self, bytes: u64) -> s3::Leave<'_> {
        Box::pin(Self::leave(self, bytes))
    }
}

fn no_room(opens: DateTime<Utc>) -> String {
    let opens = opens.with_timezone(&Local).format("%Y-%m-%d %H:%M");
    format!("the limits of the policy leave room for more at {opens}")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
