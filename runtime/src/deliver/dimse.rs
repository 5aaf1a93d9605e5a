//! C-STORE (PS3.4 annex B): one association a delivery, a presentation context for each class and transfer syntax, and each file as
//! it lies there. Only a destination that takes nothing but Implicit VR gets another encoding.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use dicom_dictionary_std::uids;
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::{DefaultDicomObject, FileMetaTable};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::commitment::{self, Asked};
use super::folder::digest;
use super::{CALL_WITHIN, Delivery, Failure, PIECE_BYTES, Promises, Sent, Trouble};
use crate::config::{DimseConfig, DimseDestination};
use crate::dimse::client::{Client, Context, Limits, Peer, SERVICES_MAX, Service};
use crate::dimse::command::{C_STORE_RQ, Command, N_ACTION_RQ, N_EVENT_REPORT_RQ, Status};
use crate::dimse::promise::{self, REPORT_MAX_BYTES, REQUEST_COMMITMENT, Report};
use crate::dimse::wire::{Broken, Within};
use crate::ingest::blocking;
use crate::outputs::Written;
use crate::tls;

/// How long a promise is waited for on the association on which it was asked for.
const PROMISE_WAIT: Duration = Duration::from_secs(2);

/// Bytes before the elements of the file meta information: preamble, `DICM`, and the element with their length.
const PREAMBLE_BYTES: u64 = 128;
const META_BYTES: u64 = PREAMBLE_BYTES + 4 + 12;
/// File meta information is a few hundred bytes.
const META_MAX_BYTES: u64 = 1 << 20;

/// Duplicate SOP Instance (PS3.7 annex C.5.6).
pub(super) const DUPLICATE: u16 = 0x0111;

pub(super) struct Sender {
    to: DimseDestination,
    calling: String,
    limits: Limits,
    tls: Option<tls::Client>,
    promises: Promises,
}

pub(super) fn check(to: &DimseDestination) -> Result<(), String> {
    to.tls.as_ref().map(tls::Client::new).transpose().map(|_| ()).map_err(|e| format!("dimse.tls.{e}"))
}

/// C-ECHO: whether it is there and talks to us.
pub(super) async fn echo(to: &DimseDestination, own: &DimseConfig) -> Result<String, String> {
    let tls = to.tls.as_ref().map(tls::Client::new).transpose().map_err(|e| format!("dimse.tls.{e}"))?;
    let peer = Peer { address: &to.address, called: &to.ae_title, calling: &own.ae_title, tls: tls.as_ref() };
    let within = Within { limit: "the time of this check", ms: CALL_WITHIN.as_secs() * 1000 };
    let limits = Limits { associate: within, message: within, ..Limits::new(own) };
    let transfer_syntaxes = &[uids::IMPLICIT_VR_LITTLE_ENDIAN];
    let service = Service { abstract_syntax: uids::VERIFICATION, transfer_syntaxes, roles: None };
    let said = async {
        let mut client = Client::associate(&peer, limits, &service).await?;
        let said = async {
            client.send_in(1, &Command::echo(1, uids::VERIFICATION), None).await?;
            client.receive(0).await.map(|(answer, _)| answer.status)
        };
        let said = said.await;
        client.end(said).await
    };
    match said.await.map_err(|e| crate::printable(&e.to_string()))? {
        Some(0) => Ok("it answers C-ECHO".into()),
        status => Err(format!("it answers C-ECHO with status {:04X}", status.unwrap_or_default())),
    }
}

/// A file that is sent.
struct Object {
    /// In the result's folder.
    file_name: String,
    sha256: String,
    class: String,
    instance: String,
    syntax: String,
    /// At the first byte of the data set, and so many bytes from there.
    file: File,
    bytes: u64,
}

/// What became of one object.
#[derive(Debug)]
pub(super) enum Stored {
    Yes,
    /// With this status.
    Warned(u16),
    No(Failure),
}

/// To keep what was taken.
enum Promise {
    NotAsked,
    Given,
    /// Yet to come, under this UID.
    Awaited(String),
}

impl From<&Object> for Asked {
    fn from(object: &Object) -> Self {
        let Object { class, instance, sha256, .. } = object;
        Self { class: class.clone(), instance: instance.clone(), sha256: sha256.clone() }
    }
}

impl Sender {
    pub(super) fn new(
        to: &DimseDestination,
        timeout_ms: u64,
        own: &DimseConfig,
        promises: Promises,
    ) -> Result<Self, String> {
        let tls = to.tls.as_ref().map(tls::Client::new).transpose().map_err(|e| format!("dimse.tls.{e}"))?;
        let within = Within { limit: "destinations.timeout_ms", ms: timeout_ms };
        let limits = Limits { associate: within, message: within, ..Limits::new(own) };
        Ok(Self { to: to.clone(), calling: own.ae_title.clone(), limits, tls, promises })
    }

    pub(super) async fn send(&self, delivery: &Arc<Delivery>) -> Result<Sent, Trouble> {
        let of = delivery.clone();
        let objects = blocking(move || of.outputs().map(|output| object(&of, output)).collect::<Result<Vec<_>, _>>());
        let objects = objects.await?;
        if objects.is_empty() {
            return Ok(Sent { detail: "the result has nothing that it takes".into(), ..Sent::default() });
        }
        let asked: Vec<_> = objects.iter().map(Asked::from).collect();
        // A presentation context for each class and encoding.
        let mut kinds: Vec<(String, String)> = Vec::new();
        for Object { class, syntax, .. } in &objects {
            if !kinds.iter().any(|(c, s)| c == class && s == syntax) {
                kinds.push((class.clone(), syntax.clone()));
            }
        }
        let mut client = self.associate(&kinds).await?;
        let done = self.exchange(&mut client, delivery.id, &kinds, objects, &asked).await;
        // Whoever hangs up in the middle of an object may do so because of it: that uses up an attempt.
        let (said, promised) = client.end(done).await.map_err(|e| Failure::again(crate::printable(&e.to_string())))?;
        let detail = verdict(&said)?;
        let outputs = asked.iter().filter_map(|asked| digest(&asked.sha256)).collect();
        Ok(match promised? {
            Promise::NotAsked => Sent { outputs, detail, awaits: None },
            Promise::Given => Sent { outputs, detail: listed(&[&detail, "promised to be kept"]), awaits: None },
            Promise::Awaited(transaction) => Sent { outputs, detail, awaits: Some(transaction) },
        })
    }

    async fn associate(&self, kinds: &[(String, String)]) -> Result<Client, Trouble> {
        let encodings: Vec<Vec<&str>> = kinds.iter().map(|(_, syntax)| encodings(syntax)).collect();
        let mut services: Vec<Service<'_>> = Vec::new();
        for ((class, _), encodings) in kinds.iter().zip(&encodings) {
            services.push(Service { abstract_syntax: class, transfer_syntaxes: encodings, roles: None });
        }
        if self.to.commitment {
            let transfer_syntaxes = &[uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN];
            let abstract_syntax = uids::STORAGE_COMMITMENT_PUSH_MODEL;
            services.push(Service { abstract_syntax, transfer_syntaxes, roles: None });
        }
        if services.len() > SERVICES_MAX {
            return Err(Failure::for_good(format!("more than {SERVICES_MAX} classes of objects")).into());
        }
        let DimseDestination { address, ae_title, .. } = &self.to;
        let peer = Peer { address, called: ae_title, calling: &self.calling, tls: self.tls.as_ref() };
        let client = Client::associate_for_some(&peer, self.limits, &services).await;
        client.map_err(|e| Trouble::Unreachable(crate::printable(&e.to_string())))
    }

    /// Sends every object, also after one that was not taken, and then asks for the promise to keep them.
    async fn exchange(
        &self,
        client: &mut Client,
        delivery: i64,
        kinds: &[(String, String)],
        objects: Vec<Object>,
        asked: &[Asked],
    ) -> Result<(Vec<(String, Stored)>, Result<Promise, Trouble>), Broken> {
        let mut said = Vec::new();
        for (number, object) in (1..).zip(objects) {
            let kind = kinds.iter().position(|(class, syntax)| *class == object.class && *syntax == object.syntax);
            let context = kind.and_then(|kind| client.context(kind));
            said.push((object.file_name.clone(), store(client, number, object, context).await?));
        }
        let all = said.iter().all(|(_, stored)| !matches!(stored, Stored::No(_)));
        let promised = match self.to.commitment && all {
            true => self.ask(client, delivery, kinds.len(), asked).await?,
            false => Ok(Promise::NotAsked),
        };
        Ok((said, promised))
    }

    /// Asks for the promise to keep what was taken.
    async fn ask(
        &self,
        client: &mut Client,
        delivery: i64,
        service: usize,
        asked: &[Asked],
    ) -> Result<Result<Promise, Trouble>, Broken> {
        let again = |text: String| Ok(Err(Failure::again(text).into()));
        let Some(context) = client.context(service) else {
            return again("it does not offer storage commitment; set dimse.commitment = false for it".into());
        };
        let transaction = match self.promises.ask(delivery, asked).await {
            Ok(transaction) => transaction,
            Err(e) => return again(e.to_string()),
        };
        let instances: Vec<_> = asked.iter().map(|asked| (asked.class.clone(), asked.instance.clone())).collect();
        let data = promise::request(&transaction, &instances, &context.transfer_syntax).map_err(Broken::Malformed)?;
        let number = u16::try_from(asked.len() + 1).unwrap_or(u16::MAX);
        let (class, instance) = (uids::STORAGE_COMMITMENT_PUSH_MODEL, uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE);
        let request = Command::action(number, class, instance, REQUEST_COMMITMENT);
        client.send_in(context.id, &request, Some(&data)).await?;
        let (answer, _) = client.receive(REPORT_MAX_BYTES).await?;
        match answer.status.filter(|_| answer.answers(N_ACTION_RQ, number)) {
            Some(0) => {}
            Some(status) => return again(format!("it refuses storage commitment with status {status:04X}")),
            None => return Err(Broken::Unexpected("the peer does not answer the request for storage commitment")),
        }
        // Most destinations report later, on an association of their own: that none comes here breaks nothing.
        let Ok(Ok((event, data))) = tokio::time::timeout(PROMISE_WAIT, client.receive(REPORT_MAX_BYTES)).await else {
            return Ok(Ok(Promise::Awaited(transaction)));
        };
        if event.field != N_EVENT_REPORT_RQ {
            return Err(Broken::Unexpected("a message came that is no report of storage commitment"));
        }
        let report = Report::parse(&data, &context.transfer_syntax).map_err(|e| Broken::Malformed(e.to_string()))?;
        client.send_in(context.id, &event.response(&Status::success()), None).await?;
        if report.transaction != transaction {
            return Ok(Ok(Promise::Awaited(transaction)));
        }
        Ok(commitment::kept(&report, asked).map(|()| Promise::Given).map_err(Trouble::from))
    }
}

/// A file of which every byte is what the job wrote, at its data set.
fn object(delivery: &Delivery, output: &Written) -> Result<Object, Failure> {
    let unsound = || Failure::for_good(format!("{} is no DICOM file", output.file));
    let unread = |e: std::io::Error| Failure::again(format!("{} cannot be read: {e}", output.file));
    let mut file = delivery.open(output)?;
    file.seek(SeekFrom::Start(PREAMBLE_BYTES)).map_err(unread)?;
    let meta = FileMetaTable::from_reader((&mut file).take(META_MAX_BYTES)).map_err(|_| unsound())?;
    let data = META_BYTES + u64::from(meta.information_group_length);
    file.seek(SeekFrom::Start(data)).map_err(unread)?;
    Ok(Object {
        file_name: output.file.clone(),
        sha256: output.sha256.clone(),
        class: meta.media_storage_sop_class_uid().to_owned(),
        instance: meta.media_storage_sop_instance_uid().to_owned(),
        syntax: meta.transfer_syntax().to_owned(),
        bytes: output.bytes.checked_sub(data).ok_or_else(unsound)?,
        file,
    })
}

/// What is proposed for a file: as it is, and for those who know nothing else the encoding that everybody must know (PS3.5
/// section 10.1).
fn encodings(syntax: &str) -> Vec<&str> {
    match syntax {
        uids::EXPLICIT_VR_LITTLE_ENDIAN => vec![syntax, uids::IMPLICIT_VR_LITTLE_ENDIAN],
        _ => vec![syntax],
    }
}

async fn store(client: &mut Client, number: u16, object: Object, context: Option<Context>) -> Result<Stored, Broken> {
    let Some(context) = context else {
        return Ok(Stored::No(Failure::for_good(format!("it does not take objects of class {}", object.class))));
    };
    let command = Command::store(number, &object.class, &object.instance);
    if context.transfer_syntax == object.syntax {
        // Each read of tokio's file is a way to another thread and back: not one for each PDU.
        let file = tokio::fs::File::from_std(object.file);
        let mut file = tokio::io::BufReader::with_capacity(PIECE_BYTES, file);
        client.send_from(context.id, &command, &mut file, object.bytes).await?;
    } else {
        let syntax = context.transfer_syntax;
        let data = blocking(move || encoded(object.file, &syntax)).await.map_err(Broken::Source)?;
        client.send_in(context.id, &command, Some(&data)).await?;
    }
    let (answer, _) = client.receive(0).await?;
    let status = answer.status.filter(|_| answer.answers(C_STORE_RQ, number));
    Ok(judge(status.ok_or(Broken::Unexpected("the peer does not answer a C-STORE"))?))
}

/// A data set in another encoding; it is held in memory.
fn encoded(mut file: File, syntax: &str) -> Result<Vec<u8>, String> {
    file.seek(SeekFrom::Start(PREAMBLE_BYTES)).map_err(|e| e.to_string())?;
    let object = DefaultDicomObject::from_reader(BufReader::new(file)).map_err(|e| e.to_string())?;
    let syntax = TransferSyntaxRegistry.get(syntax).ok_or("an unknown transfer syntax was negotiated")?;
    let mut bytes = Vec::new();
    object.write_dataset_with_ts(&mut bytes, syntax).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// What a status means for the object that it is about (PS3.4 section B.2.3, PS3.7 annex C).
pub(super) fn judge(status: u16) -> Stored {
    let no = |again| Stored::No(Failure { again, text: format!("it refuses it with status {status:04X}") });
    match status {
        0 => Stored::Yes,
        // Coercion, elements discarded, does not fit its class; attribute list and value errors. What it has already it has under a
        // UID that stands for these bytes.
        0x0001 | 0x0107 | DUPLICATE | 0x0116 | 0xB000..=0xBFFF => Stored::Warned(status),
        // Out of resources; processing failure and resource limitation.
        0xA700..=0xA7FF | 0x0110 | 0x0213 => no(true),
        _ => no(false),
    }
}

/// What became of all together: what the destination said beside, or why it does not have all.
pub(super) fn verdict(said: &[(String, Stored)]) -> Result<String, Failure> {
    let refused: Vec<_> = said
        .iter()
        .filter_map(|(name, stored)| match stored {
            Stored::No(failure) => Some((failure.again, format!("{name}: {}", failure.text))),
            _ => None,
        })
        .collect();
    if refused.is_empty() {
        let warned = said.iter().filter_map(|(name, stored)| match stored {
            Stored::Warned(status) => Some(format!("{name}: taken with status {status:04X}")),
            _ => None,
        });
        return Ok(warned.collect::<Vec<_>>().join("; "));
    }
    let again = refused.iter().any(|(again, _)| *again);
    let mut texts: Vec<_> = refused.into_iter().map(|(_, text)| text).collect();
    let taken = said.len() - texts.len();
    if taken > 0 {
        texts.push(format!("it took {taken} of {}", said.len()));
    }
    Err(Failure { again, text: texts.join("; ") })
}

fn listed(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_accepted_tried_again_or_given_up() {
        let says = |status| match judge(status) {
            Stored::Yes | Stored::Warned(_) => "has it",
            Stored::No(Failure { again: true, .. }) => "later",
            Stored::No(_) => "never",
        };
        for status in [0, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007] {
            assert_eq!(says(status), "has it", "{status:04X}");
        }
        for status in [0xA700, 0xA7FF, 0x0110, 0x0213] {
            assert_eq!(says(status), "later", "{status:04X}");
        }
        for status in [0xA900, 0xA9FF, 0xC000, 0xC123, 0x0117, 0x0122, 0x0124, 0xFE00] {
            assert_eq!(says(status), "never", "{status:04X}");
        }
    }

    #[test]
    fn one_object_that_is_not_taken_is_told_beside_those_that_are() {
        let said = |statuses: &[u16]| -> Vec<_> {
            statuses.iter().enumerate().map(|(i, status)| (format!("{i}.dcm"), judge(*status))).collect()
        };
        assert_eq!(verdict(&said(&[0, 0])), Ok(String::new()));
        assert_eq!(verdict(&said(&[0, 0xB000])), Ok("1.dcm: taken with status B000".into()));
        let never = Failure::for_good("1.dcm: it refuses it with status C000; it took 1 of 2");
        assert_eq!(verdict(&said(&[0, 0xC000])), Err(never));
        let later = Failure::again("0.dcm: it refuses it with status A700; 1.dcm: it refuses it with status C000");
        assert_eq!(verdict(&said(&[0xA700, 0xC000])), Err(later), "what may pass is tried again");
    }
}
