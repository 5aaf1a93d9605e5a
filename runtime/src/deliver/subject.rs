//! Whose study a result is about, as messages tell it.

use super::{Delivery, Failure};
use crate::ingest::blocking;
use crate::messages::{Subject, Told};
use crate::store::{Store, StoreError};
use crate::study::{self, ReadOptions};

/// The result and its study, from `result.json` and the journal.
pub(super) async fn told(
    delivery: &Delivery,
    store: &Store,
    options: &ReadOptions,
) -> Result<(Told, Subject), Failure> {
    let told = Told::read(&delivery.result_bytes).map_err(|e| Failure::for_good(e.to_string()))?;
    let uid = told.study_instance_uid();
    if uid != delivery.job.study_instance_uid {
        return Err(Failure::for_good("result.json is about another study than the job"));
    }
    let journal = |e: StoreError| Failure::again(e.to_string());
    let placer = store.placer_of_study(uid).await.map_err(journal)?;
    let modalities = store.prior_key(uid).await.map_err(journal)?.map(|key| key.modalities);
    let identity = delivery.identity.clone();
    let subject = Subject {
        patient: identity.patient,
        study_date: identity.study_date,
        study_time: identity.study_time,
        accession_number: identity.accession_number,
        study_description: identity.study_description,
        placer_order_number: placer.unwrap_or_default(),
        character_set: character_set(delivery, options).await?,
        modalities: modalities.unwrap_or_default(),
    };
    Ok((told, subject))
}

/// That of the images, which an object that was made of them keeps; nothing where none was made.
async fn character_set(delivery: &Delivery, options: &ReadOptions) -> Result<String, Failure> {
    let Some(object) = delivery.written.iter().find(|file| file.sop_class_uid.is_some()) else {
        return Ok(String::new());
    };
    // Its digest is right; what is read of it is a word.
    drop(delivery.open(object)?);
    let (path, options) = (delivery.folder.join(&object.file), options.clone());
    let read = blocking(move || study::character_set(&path, &options)).await;
    read.map_err(|e| Failure::for_good(e.for_record(&|_| "an output".into()).to_string()))
}
