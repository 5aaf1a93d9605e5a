//! WADO-RS (PS3.18 section 10.4): studies, series, instances and their parts go out.
//!
//! Files are found in the journal alone: no path is made of what a client sends.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::uids;
use dicom_object::InMemDicomObject;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::accept::{Media, accepted, choose};
use super::body::{Piece, boundary, closing, multipart, part_head, pieced, streamed};
use super::error::WebError;
use super::{Shared, answer, blocking, uid, ups};
use crate::module::manifest::Sha256Hex;
use crate::outputs::OUTPUT_FILES;
use crate::review;
use crate::store::{InstanceRow, Part};
use crate::study::{self, Kept, ReadError, ReadOptions};

const DICOM: &str = "application/dicom";
const DICOM_JSON: &str = "application/dicom+json";
const OCTETS: &str = "application/octet-stream";
const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
/// Frames of one request.
const FRAMES_MAX: usize = 10_000;
/// Transfer syntaxes that an error names.
const SYNTAXES_NAMED_MAX: usize = 4;

pub(super) type Answer = Result<Response<Body>, WebError>;

/// What the path names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    study: String,
    series: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) frames: Option<String>,
    path: Option<String>,
}

/// What may follow the path.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    pub(super) accept: Option<String>,
    pub(super) quality: Option<String>,
    pub(super) window: Option<String>,
    pub(super) viewport: Option<String>,
}

impl Shared {
    /// The instances that a path names; at least one.
    pub(super) async fn named(&self, named: &Named) -> Result<Vec<InstanceRow>, WebError> {
        let study = uid(&named.study)?;
        let series = named.series.as_deref().map(uid).transpose()?;
        let instance = named.instance.as_deref().map(uid).transpose()?;
        let part = Part {
            series_instance_uid: series.as_ref().map(|uid| uid.as_str()),
            sop_instance_uid: instance.as_ref().map(|uid| uid.as_str()),
        };
        let mut rows = self.store.instances_of(study.as_str(), part).await?;
        if let (true, Some(series)) = (rows.is_empty(), part.series_instance_uid) {
            rows = self.outputs_of(study.as_str(), series, part.sop_instance_uid).await?;
        }
        let what = match (&named.series, &named.instance) {
            (_, Some(_)) => "instance",
            (Some(_), None) => "series",
            (None, None) => "study",
        };
        if rows.is_empty() { Err(WebError::NotFound(what)) } else { Ok(rows) }
    }

    /// Instances of results that may leave: they are in no study here, and the workitems of their jobs name them. A result that
    /// is not what its job left costs nobody the others.
    async fn outputs_of(
        &self,
        study: &str,
        series: &str,
        instance: Option<&str>,
    ) -> Result<Vec<InstanceRow>, WebError> {
        let mut rows = Vec::new();
        for job in self.store.delivered_jobs(study).await? {
            let Some(path) = &job.result_path else { continue };
            let (folder, sha256) = (self.data.join(path), self.store.result_sha256(&job).await?);
            let of_job = folder.clone();
            let outputs = match blocking(move || review::open(&of_job, sha256)).await? {
                Ok(opened) => ups::outputs(&opened.result),
                Err(e) => Err(WebError::internal(&e)),
            };
            let Ok(outputs) = outputs else {
                tracing::error!(job = job.id, "the outputs of this job are left out of what is asked for");
                continue;
            };
            for output in outputs {
                let of_series = output.series_instance_uid.as_deref() == Some(series);
                if let (true, Some(class), Some(uid)) =
                    (of_series, output.sop_class_uid.clone(), output.sop_instance_uid.clone())
                    && instance.is_none_or(|wanted| wanted == uid)
                    && OUTPUT_FILES.contains(&output.file.as_str())
                {
                    let row = InstanceRow {
                        id: 0,
                        study_instance_uid: study.to_owned(),
                        series_instance_uid: series.to_owned(),
                        sop_instance_uid: uid,
                        sop_class_uid: class,
                        transfer_syntax_uid: EXPLICIT.to_owned(),
                        path: format!("{path}/{}", output.file),
                        bytes: output.bytes,
                        sha256: Sha256Hex::try_from(output.sha256.clone()).map(|digest| digest.0).unwrap_or_default(),
                    };
                    let (of_job, verified) = (folder.clone(), self.verified.clone());
                    match blocking(move || verified.check(&of_job, &output)).await? {
                        Ok(()) => rows.push(row),
                        Err(e) => tracing::error!(job = job.id, "an output is not given: {}", e.text),
                    }
                }
            }
        }
        Ok(rows)
    }

    /// The one instance that a path names.
    async fn one(&self, named: &Named) -> Result<InstanceRow, WebError> {
        self.named(named).await?.pop().ok_or(WebError::NotFound("instance"))
    }
}

/// Whole files of a study, a series or an instance (PS3.18 section 10.4.1.1.1): as received, or in Explicit VR Little
/// Endian.
pub(super) async fn retrieve(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let media = accepted(&headers, wanted.accept.as_deref())?;
    let rows = shared.named(&named).await?;
    let (single, syntax) = shared.chosen(&rows, &media).await?;
    let form = |row: &InstanceRow| {
        let path = shared.intake.path(&row.path);
        match syntax {
            Some(uid) if uid != row.transfer_syntax_uid => (EXPLICIT.to_owned(), Piece::Explicit(path)),
            _ => (row.transfer_syntax_uid.clone(), Piece::File(path)),
        }
    };
    let boundary = boundary();
    let mut pieces = VecDeque::new();
    let mut whole = String::new();
    for row in &rows {
        let (syntax, piece) = form(row);
        let kind = format!("{DICOM}; transfer-syntax={syntax}");
        if single {
            pieces.push_back(piece);
            whole = kind;
            continue;
        }
        pieces.push_back(Piece::Bytes(part_head(&boundary, &kind)));
        pieces.push_back(piece);
        pieces.push_back(Piece::Bytes(Bytes::from_static(b"\r\n")));
    }
    if !single {
        pieces.push_back(Piece::Bytes(closing(&boundary)));
        whole = multipart(DICOM, &boundary);
    }
    Ok(answer(StatusCode::OK, &whole, pieced(shared, pieces)))
}

/// The transfer syntaxes that a range asks for, `None` for those of the files: Explicit VR Little Endian where it says
/// nothing (PS3.18 section 8.7.3.5.2), and then any where it is of everything.
fn syntaxes(range: &Media) -> Vec<Option<&str>> {
    match range.parameter("transfer-syntax") {
        Some("*") => vec![None],
        Some(uid) => vec![Some(uid)],
        None if range.is("*/*") => vec![Some(EXPLICIT), None],
        None => vec![Some(EXPLICIT)],
    }
}

/// Says what there is instead, and why not what was asked for.
fn unavailable(rows: &[InstanceRow], reason: Option<WebError>) -> WebError {
    let stored: BTreeSet<&str> = rows.iter().map(|row| row.transfer_syntax_uid.as_str()).collect();
    let named: Vec<&str> = stored.iter().copied().take(SYNTAXES_NAMED_MAX).collect();
    let more = if stored.len() > named.len() { " and others" } else { "" };
    let reason = reason.map(|e| format!("; not as asked for: {e}")).unwrap_or_default();
    WebError::NotAcceptable(format!(
        "this is available as multipart/related; type=\"{DICOM}\"; transfer-syntax=*: as received, in {}{more}{reason}",
        named.join(", ")
    ))
}

impl Shared {
    /// The first that is asked for and can be given: whether alone instead of in parts, and in which transfer syntax.
    async fn chosen<'a>(&self, rows: &[InstanceRow], media: &'a [Media]) -> Result<(bool, Option<&'a str>), WebError> {
        let mut reason = None;
        for range in media {
            let single = rows.len() == 1 && range.is(DICOM);
            if !single && !range.covers_parts(DICOM) {
                continue;
            }
            for syntax in syntaxes(range) {
                match self.prepared(rows, syntax).await {
                    Ok(()) => return Ok((single, syntax)),
                    Err(e @ WebError::Internal) => return Err(e),
                    Err(e) => reason = reason.or(Some(e)),
                }
            }
        }
        Err(unavailable(rows, reason))
    }

    /// Whether all instances can be given in a transfer syntax, before the first of them goes out.
    async fn prepared(&self, rows: &[InstanceRow], syntax: Option<&str>) -> Result<(), WebError> {
        let Some(syntax) = syntax else { return Ok(()) };
        let others = rows.iter().filter(|row| row.transfer_syntax_uid != syntax);
        let undecoded = |row: &&InstanceRow| syntax != EXPLICIT || !study::decodes(&row.transfer_syntax_uid);
        if let Some(row) = others.clone().find(undecoded) {
            let stored = &row.transfer_syntax_uid;
            return Err(WebError::NotAcceptable(match syntax {
                EXPLICIT => format!("{stored} is not decoded by this version"),
                _ => format!("of transfer syntaxes, only those received and {EXPLICIT} are offered"),
            }));
        }
        for row in others {
            let (path, options) = (self.intake.path(&row.path), self.options.clone());
            let ready = blocking(move || study::rewrite(&path, &options).map(drop)).await?;
            ready.map_err(|e| WebError::unreadable(&e))?;
        }
        Ok(())
    }
}

/// An instance without its pixels.
async fn keep(path: PathBuf, options: ReadOptions) -> Result<Kept, WebError> {
    blocking(move || study::keep(&path, &options)).await?.map_err(|e| WebError::unreadable(&e))
}

/// Data sets without bulk data (PS3.18 section 10.4.1.1.2).
pub(super) async fn metadata(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let kind = choose(&accepted(&headers, wanted.accept.as_deref())?, &[DICOM_JSON, "application/json"])?;
    let rows = VecDeque::from(shared.named(&named).await?);
    let base = shared.base_url(&headers);
    let list = stream::try_unfold((shared, rows, base, true), |(shared, mut rows, base, first)| async move {
        let Some(row) = rows.pop_front() else { return Ok(None) };
        let mut text = String::from(if first { "[" } else { "," });
        let url = format!(
            "{base}/studies/{}/series/{}/instances/{}/bulkdata",
            row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid
        );
        // A data set of many small elements takes many times its bytes while it is parsed.
        let place = shared.renders.acquire().await.map_err(|e| WebError::internal(&e))?;
        let kept = keep(shared.intake.path(&row.path), shared.options.apart()).await?;
        let inline_max = shared.config.inline_max_bytes;
        let object = blocking(move || described(&kept, &url, inline_max)).await??;
        text.push_str(&object.to_string());
        drop((object, place));
        if rows.is_empty() {
            text.push(']');
        }
        Ok::<_, WebError>(Some((Bytes::from(text), (shared, rows, base, false))))
    });
    Ok(answer(StatusCode::OK, kind, streamed(list)))
}

/// One data set in DICOM JSON (PS3.18 annex F).
fn described(kept: &Kept, url: &str, inline_max: u64) -> Result<Value, WebError> {
    let mut object = dicom_json::to_value(&kept.dataset).map_err(|e| WebError::internal(&e))?;
    refer(&mut object, url, inline_max);
    // Text in JSON is UTF-8, whatever it was in the file.
    object["00080005"] = json!({"vr": "CS", "Value": ["ISO_IR 192"]});
    if let Some(vr) = kept.pixel_vr {
        object["7FE00010"] = json!({"vr": vr.to_string(), "BulkDataURI": format!("{url}/7FE00010")});
    }
    if let Some(elements) = object.as_object_mut() {
        elements.sort_keys();
    }
    Ok(object)
}

/// Gives large binary values by reference.
fn refer(object: &mut Value, url: &str, inline_max: u64) {
    for (tag, element) in object.as_object_mut().into_iter().flatten() {
        let Some(element) = element.as_object_mut() else { continue };
        let encoded = element.get("InlineBinary").and_then(Value::as_str).map_or(0, str::len) as u64;
        if encoded / 4 * 3 > inline_max {
            element.remove("InlineBinary");
            element.insert("BulkDataURI".into(), json!(format!("{url}/{tag}")));
        }
        let items = element.get_mut("Value").and_then(Value::as_array_mut);
        for (index, item) in items.into_iter().flatten().enumerate().filter(|(_, item)| item.is_object()) {
            refer(item, &format!("{url}/{tag}/{}", index + 1), inline_max);
        }
    }
}

/// What metadata refer to: `TAG`, or `TAG/ITEM/…/TAG` with items counted from 1.
pub(super) async fn bulkdata(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let media = accepted(&headers, wanted.accept.as_deref())?;
    let row = shared.one(&named).await?;
    let path = shared.intake.path(&row.path);
    let kept = keep(path.clone(), shared.options.apart()).await?;
    let place = named.path.unwrap_or_default();
    if place == "7FE00010" && kept.pixel_vr.is_some() {
        return match kept.native_value() {
            Some((at, length)) => octets(shared, &media, VecDeque::from([Piece::Range(path, at, length)])),
            None => {
                let frames = kept.frames().map_err(|e| WebError::unreadable(&e))?.min(FRAMES_MAX as u32);
                framed(shared, kept, (1..=frames).collect(), &media).await
            }
        };
    }
    let value = value_at(&kept.dataset, &place).ok_or(WebError::NotFound("bulk data"))?;
    octets(shared, &media, VecDeque::from([Piece::Bytes(value)]))
}

/// The binary value at a place.
fn value_at(mut object: &InMemDicomObject, place: &str) -> Option<Bytes> {
    let mut steps = place.split('/');
    loop {
        let step = steps.next().filter(|step| step.len() == 8 && step.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let number = u32::from_str_radix(step, 16).ok()?;
        let tag = Tag((number >> 16) as u16, (number & 0xFFFF) as u16);
        let element = object.get(tag)?;
        let Some(item) = steps.next() else { return element.to_bytes().ok().map(|b| Bytes::from(b.into_owned())) };
        object = element.items()?.get(item.parse::<usize>().ok()?.checked_sub(1)?)?;
    }
}

fn octets(shared: Arc<Shared>, media: &[Media], mut pieces: VecDeque<Piece>) -> Answer {
    if media.iter().any(|m| m.is(OCTETS)) && !media.iter().any(|m| m.is("multipart/related")) {
        return Ok(answer(StatusCode::OK, OCTETS, pieced(shared, pieces)));
    }
    if !media.iter().any(|m| m.covers_parts(OCTETS)) {
        return Err(WebError::NotAcceptable(format!("this is available as multipart/related; type=\"{OCTETS}\"")));
    }
    let boundary = boundary();
    pieces.push_front(Piece::Bytes(part_head(&boundary, OCTETS)));
    pieces.push_back(Piece::Bytes(Bytes::from_static(b"\r\n")));
    pieces.push_back(Piece::Bytes(closing(&boundary)));
    Ok(answer(StatusCode::OK, &multipart(OCTETS, &boundary), pieced(shared, pieces)))
}

/// Frames: uncompressed, or as stored.
pub(super) async fn frames(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let media = accepted(&headers, wanted.accept.as_deref())?;
    let numbers = frame_numbers(named.frames.as_deref().unwrap_or_default())?;
    let row = shared.one(&named).await?;
    let kept = keep(shared.intake.path(&row.path), shared.options.apart()).await?;
    framed(shared, kept, numbers, &media).await
}

/// `1,2,3`.
pub(super) fn frame_numbers(text: &str) -> Result<Vec<u32>, WebError> {
    let list: Option<Vec<u32>> = text.split(',').map(|n| n.parse().ok().filter(|n| *n > 0)).collect();
    let list = list.filter(|list| list.len() <= FRAMES_MAX);
    list.ok_or_else(|| {
        WebError::BadRequest(format!("frames are at most {FRAMES_MAX} numbers from 1 with commas between"))
    })
}

/// In which form frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Native,
    Stored,
}

/// The media type of a compressed image (PS3.18 table 8.7.3-5).
fn stored_kind(transfer_syntax: &str) -> &'static str {
    match transfer_syntax.strip_prefix("1.2.840.10008.1.2.").unwrap_or_default() {
        "5" => "image/dicom-rle",
        "4.50" | "4.51" | "4.57" | "4.70" => "image/jpeg",
        "4.80" | "4.81" => "image/jls",
        "4.90" | "4.91" => "image/jp2",
        "4.92" | "4.93" => "image/jpx",
        "4.110" | "4.111" | "4.112" => "image/jxl",
        "4.201" | "4.202" | "4.203" => "image/jphc",
        _ => OCTETS,
    }
}

async fn framed(shared: Arc<Shared>, kept: Kept, numbers: Vec<u32>, media: &[Media]) -> Answer {
    let stored = stored_kind(&kept.transfer_syntax_uid);
    let kept = Arc::new(kept);
    let first = numbers.first().copied().unwrap_or(1);
    let (mut chosen, mut reason) = (None, None);
    for range in media {
        let alone = numbers.len() == 1;
        let covers = |kind: &str| range.covers_parts(kind) || alone && range.is(kind);
        let syntax = range.parameter("transfer-syntax").unwrap_or("*");
        let mut forms = Vec::new();
        if covers(OCTETS) && (syntax == "*" || syntax == EXPLICIT) {
            forms.push((Form::Native, OCTETS));
        }
        if stored != OCTETS && covers(stored) && (syntax == "*" || syntax == kept.transfer_syntax_uid) {
            forms.push((Form::Stored, stored));
        }
        for (form, kind) in forms {
            match frame(&shared, &kept, first, form).await {
                Ok(bytes) => chosen = Some((form, kind, range.is(kind), bytes)),
                Err(e @ (WebError::NotFound(_) | WebError::Internal)) => return Err(e),
                Err(e) => reason = Some(e),
            }
            if chosen.is_some() {
                break;
            }
        }
        if chosen.is_some() {
            break;
        }
    }
    let Some((form, kind, single, bytes)) = chosen else {
        let text = format!("frames are available as multipart/related; type=\"{OCTETS}\" or type=\"{stored}\"");
        return Err(reason.unwrap_or(WebError::NotAcceptable(text)));
    };
    if single {
        return Ok(answer(StatusCode::OK, kind, bytes));
    }
    let syntax = match form {
        Form::Native => EXPLICIT,
        Form::Stored => kept.transfer_syntax_uid.as_str(),
    };
    let boundary = boundary();
    let head = part_head(&boundary, &format!("{kind}; transfer-syntax={syntax}"));
    let end = closing(&boundary);
    let rest = numbers.get(1..).map(<[u32]>::to_vec).unwrap_or_default();
    let state = (shared, kept, VecDeque::from(rest), Some(Bytes::from(bytes)), head, Some(end));
    let body = stream::try_unfold(state, move |(shared, kept, mut rest, ready, head, end)| async move {
        let bytes = match (ready, rest.pop_front()) {
            (Some(bytes), next) => {
                next.into_iter().for_each(|n| rest.push_front(n));
                bytes
            }
            (None, Some(number)) => frame(&shared, &kept, number, form).await?.into(),
            (None, None) => {
                return Ok::<_, WebError>(end.map(|last| (last, (shared, kept, rest, None, head, None))));
            }
        };
        let part = [&head[..], &bytes, b"\r\n"].concat();
        Ok(Some((Bytes::from(part), (shared, kept, rest, None, head, end))))
    });
    Ok(answer(StatusCode::OK, &multipart(kind, &boundary), streamed(body)))
}

async fn frame(shared: &Arc<Shared>, kept: &Arc<Kept>, number: u32, form: Form) -> Result<Vec<u8>, WebError> {
    let _place = shared.renders.acquire().await.map_err(|e| WebError::internal(&e))?;
    let (kept, options) = (kept.clone(), shared.options.clone());
    let bytes = blocking(move || -> Result<_, ReadError> {
        let Some(frame) = kept.frame(number, &options)? else { return Ok(None) };
        match form {
            Form::Native => frame.native().map(Some),
            Form::Stored => Ok(Some(frame.bytes)),
        }
    });
    bytes.await?.map_err(|e| WebError::unreadable(&e))?.ok_or(WebError::NotFound("frame"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_from_one() {
        assert_eq!(frame_numbers("1,3").expect("sound"), [1, 3]);
        for text in ["", "0", "1,", "-1", "4294967296", "1/../2", &"1,".repeat(20_000)] {
            assert!(frame_numbers(text).is_err());
        }
    }

    #[test]
    fn large_values_are_given_by_reference() {
        let mut object = json!({
            "00091010": {"vr": "OB", "InlineBinary": "AAAA"},
            "00091020": {"vr": "SQ", "Value": [{"00091030": {"vr": "OB", "InlineBinary": "A".repeat(400)}}]},
        });
        refer(&mut object, "u", 100);
        assert_eq!(object["00091010"]["InlineBinary"], "AAAA");
        assert_eq!(
            object["00091020"]["Value"][0]["00091030"],
            json!({"vr": "OB", "BulkDataURI": "u/00091020/1/00091030"})
        );
    }
}
