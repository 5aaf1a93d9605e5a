//! WADO-RS (PS3.18 section 10.4): studies, series, instances and their parts go out.
//!
//! Files are found in the journal alone: no path is made of what a client sends.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::accept::{Media, accepted, choose};
use super::error::WebError;
use super::render::{Function, Picture, Window, viewport};
use super::{Shared, answer, blocking, uid};
use crate::store::{InstanceRow, Part};
use crate::study::{self, Kept, ReadError, ReadOptions, Shown};

const DICOM: &str = "application/dicom";
const DICOM_JSON: &str = "application/dicom+json";
const OCTETS: &str = "application/octet-stream";
const PNG: &str = "image/png";
/// A piece of a file.
const PIECE_BYTES: usize = 256 << 10;
/// Frames of one request.
const FRAMES_MAX: usize = 10_000;
const THUMBNAIL: (u32, u32) = (128, 128);

type Answer = Result<Response<Body>, WebError>;

/// What the path names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    study: String,
    series: Option<String>,
    instance: Option<String>,
    frames: Option<String>,
    path: Option<String>,
}

/// What may follow the path.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    accept: Option<String>,
    window: Option<String>,
    viewport: Option<String>,
}

impl Shared {
    /// The instances that a path names; at least one.
    async fn named(&self, named: &Named) -> Result<Vec<InstanceRow>, WebError> {
        let study = uid(&named.study)?;
        let series = named.series.as_deref().map(uid).transpose()?;
        let instance = named.instance.as_deref().map(uid).transpose()?;
        let part = Part {
            series_instance_uid: series.as_ref().map(|uid| uid.as_str()),
            sop_instance_uid: instance.as_ref().map(|uid| uid.as_str()),
        };
        let rows = self.store.instances_of(study.as_str(), part).await?;
        let what = match (&named.series, &named.instance) {
            (_, Some(_)) => "instance",
            (Some(_), None) => "series",
            (None, None) => "study",
        };
        if rows.is_empty() { Err(WebError::NotFound(what)) } else { Ok(rows) }
    }

    /// The one instance that a path names, or the middle one.
    async fn middle(&self, named: &Named) -> Result<InstanceRow, WebError> {
        let mut rows = self.named(named).await?;
        let middle = rows.len() / 2;
        Ok(rows.swap_remove(middle))
    }
}

/// Whole files of a study, a series or an instance, as received.
pub(super) async fn retrieve(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let media = accepted(&headers, wanted.accept.as_deref())?;
    let rows = shared.named(&named).await?;
    let stored = |range: &Media| {
        let wanted = range.parameter("transfer-syntax").unwrap_or("*");
        wanted == "*" || rows.iter().all(|row| row.transfer_syntax_uid == wanted)
    };
    let single = |range: &Media| rows.len() == 1 && range.kind == DICOM;
    let fitting = media.iter().find(|m| (m.covers_parts(DICOM) || single(m)) && stored(m));
    let Some(chosen) = fitting else {
        let text = "this is available as multipart/related; type=\"application/dicom\"; transfer-syntax=*: as received";
        return Err(WebError::NotAcceptable(text.into()));
    };
    if single(chosen) {
        let pieces = rows.iter().map(|row| Piece::File(shared.intake.path(&row.path))).collect();
        return Ok(answer(StatusCode::OK, DICOM, Body::from_stream(pieced(pieces))));
    }
    let boundary = boundary();
    let mut pieces = VecDeque::new();
    for row in &rows {
        let kind = format!("{DICOM}; transfer-syntax={}", row.transfer_syntax_uid);
        pieces.push_back(Piece::Bytes(part_head(&boundary, &kind)));
        pieces.push_back(Piece::File(shared.intake.path(&row.path)));
        pieces.push_back(Piece::Bytes(Bytes::from_static(b"\r\n")));
    }
    pieces.push_back(Piece::Bytes(closing(&boundary)));
    Ok(answer(StatusCode::OK, &multipart(DICOM, &boundary), Body::from_stream(pieced(pieces))))
}

/// A part of a body.
enum Piece {
    Bytes(Bytes),
    File(PathBuf),
    /// From a place in it, so many bytes.
    Range(PathBuf, u64, u64),
    Open(tokio::io::Take<tokio::fs::File>),
}

/// Reads as the client takes it.
fn pieced(pieces: VecDeque<Piece>) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(pieces, |mut pieces| async move {
        loop {
            match pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Bytes(bytes)) => return Ok(Some((bytes, pieces))),
                Some(Piece::File(path)) => pieces.push_front(Piece::Range(path, 0, u64::MAX)),
                Some(Piece::Range(path, at, length)) => {
                    let mut file = tokio::fs::File::open(path).await?;
                    file.seek(SeekFrom::Start(at)).await?;
                    pieces.push_front(Piece::Open(file.take(length)));
                }
                Some(Piece::Open(mut file)) => {
                    let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
                    if file.read_buf(&mut bytes).await? > 0 {
                        pieces.push_front(Piece::Open(file));
                        return Ok(Some((bytes.freeze(), pieces)));
                    }
                }
            }
        }
    })
}

fn boundary() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

fn multipart(kind: &str, boundary: &str) -> String {
    format!("multipart/related; type=\"{kind}\"; boundary={boundary}")
}

fn part_head(boundary: &str, kind: &str) -> Bytes {
    format!("--{boundary}\r\nContent-Type: {kind}\r\n\r\n").into()
}

fn closing(boundary: &str) -> Bytes {
    format!("--{boundary}--\r\n").into()
}

/// What is told of a file that cannot be given in this form.
fn unreadable(error: &ReadError) -> WebError {
    match error {
        ReadError::Io { .. } | ReadError::NotDicom(_) | ReadError::Changed(_) => WebError::internal(error),
        // Without the path, which is ours.
        _ => WebError::NotAcceptable(error.for_record(&|_| "the instance".into()).to_string()),
    }
}

/// An instance without its pixels.
async fn keep(path: PathBuf, options: ReadOptions) -> Result<Kept, WebError> {
    blocking(move || study::keep(&path, &options)).await?.map_err(|e| unreadable(&e))
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
        let kept = keep(shared.intake.path(&row.path), shared.options.clone()).await?;
        let inline_max = shared.config.inline_max_bytes;
        let object = blocking(move || described(&kept, &url, inline_max)).await??;
        text.push_str(&object.to_string());
        if rows.is_empty() {
            text.push(']');
        }
        Ok::<_, WebError>(Some((Bytes::from(text), (shared, rows, base, false))))
    });
    Ok(answer(StatusCode::OK, kind, Body::from_stream(list)))
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
    let row = shared.middle(&named).await?;
    let path = shared.intake.path(&row.path);
    let kept = keep(path.clone(), shared.options.clone()).await?;
    let place = named.path.unwrap_or_default();
    if place == "7FE00010" && kept.pixel_vr.is_some() {
        return match kept.native_value() {
            Some((at, length)) => octets(&media, VecDeque::from([Piece::Range(path, at, length)])),
            None => {
                let frames = kept.frames().map_err(|e| unreadable(&e))?.min(FRAMES_MAX as u32);
                framed(shared, kept, (1..=frames).collect(), &media).await
            }
        };
    }
    let value = value_at(&kept.dataset, &place).ok_or(WebError::NotFound("bulk data"))?;
    octets(&media, VecDeque::from([Piece::Bytes(value)]))
}

/// The binary value at a place.
fn value_at(mut object: &InMemDicomObject, place: &str) -> Option<Bytes> {
    let mut steps = place.split('/');
    loop {
        let step = steps.next().filter(|step| step.len() == 8 && step.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let number = u32::from_str_radix(step, 16).ok()?;
        let tag = Tag((number >> 16) as u16, (number & 0xFFFF) as u16);
        let element = object.element_opt(tag).ok().flatten()?;
        let Some(item) = steps.next() else { return element.to_bytes().ok().map(|b| Bytes::from(b.into_owned())) };
        object = element.items()?.get(item.parse::<usize>().ok()?.checked_sub(1)?)?;
    }
}

fn octets(media: &[Media], mut pieces: VecDeque<Piece>) -> Answer {
    if media.iter().any(|m| m.kind == OCTETS) && !media.iter().any(|m| m.kind == "multipart/related") {
        return Ok(answer(StatusCode::OK, OCTETS, Body::from_stream(pieced(pieces))));
    }
    if !media.iter().any(|m| m.covers_parts(OCTETS)) {
        return Err(WebError::NotAcceptable(format!("this is available as multipart/related; type=\"{OCTETS}\"")));
    }
    let boundary = boundary();
    pieces.push_front(Piece::Bytes(part_head(&boundary, OCTETS)));
    pieces.push_back(Piece::Bytes(Bytes::from_static(b"\r\n")));
    pieces.push_back(Piece::Bytes(closing(&boundary)));
    Ok(answer(StatusCode::OK, &multipart(OCTETS, &boundary), Body::from_stream(pieced(pieces))))
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
    let row = shared.middle(&named).await?;
    let kept = keep(shared.intake.path(&row.path), shared.options.clone()).await?;
    framed(shared, kept, numbers, &media).await
}

/// `1,2,3`.
fn frame_numbers(text: &str) -> Result<Vec<u32>, WebError> {
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
        let covers = |kind: &str| range.covers_parts(kind) || alone && range.kind == kind;
        let syntax = range.parameter("transfer-syntax").unwrap_or("*");
        let mut forms = Vec::new();
        if covers(OCTETS) && (syntax == "*" || syntax == uids::EXPLICIT_VR_LITTLE_ENDIAN) {
            forms.push((Form::Native, OCTETS));
        }
        if stored != OCTETS && covers(stored) && (syntax == "*" || syntax == kept.transfer_syntax_uid) {
            forms.push((Form::Stored, stored));
        }
        for (form, kind) in forms {
            match frame(&shared, &kept, first, form).await {
                Ok(bytes) => chosen = Some((form, kind, range.kind == kind, bytes)),
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
        Form::Native => uids::EXPLICIT_VR_LITTLE_ENDIAN,
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
    Ok(answer(StatusCode::OK, &multipart(kind, &boundary), Body::from_stream(body)))
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
    bytes.await?.map_err(|e| unreadable(&e))?.ok_or(WebError::NotFound("frame"))
}

/// A picture of one frame.
pub(super) async fn rendered(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    picture(shared, named, wanted, headers, None).await
}

/// A small picture of the instance, or of the middle one.
pub(super) async fn thumbnail(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    picture(shared, named, wanted, headers, Some(THUMBNAIL)).await
}

async fn picture(
    shared: Arc<Shared>,
    named: Named,
    wanted: Wanted,
    headers: HeaderMap,
    size: Option<(u32, u32)>,
) -> Answer {
    // Everything that is wrong with the request, before anything is read.
    choose(&accepted(&headers, wanted.accept.as_deref())?, &[PNG])?;
    let pixels_max = shared.config.rendered_pixels_max;
    let size = wanted.viewport.as_deref().map(|text| viewport(text, pixels_max)).transpose()?.or(size);
    let window = wanted.window.as_deref().map(Window::parse).transpose()?;
    let numbers = frame_numbers(named.frames.as_deref().unwrap_or("1"))?;
    let [number] = numbers[..] else {
        return Err(WebError::BadRequest("one frame is rendered at a time".into()));
    };
    let row = shared.middle(&named).await?;
    let (path, options) = (shared.intake.path(&row.path), shared.options.clone());
    let _place = shared.renders.acquire().await.map_err(|e| WebError::internal(&e))?;
    let png = blocking(move || {
        let picture = draw(&path, &options, number, window, pixels_max)?;
        size.into_iter().fold(picture, Picture::fit).png()
    });
    Ok(answer(StatusCode::OK, PNG, png.await??))
}

fn draw(
    path: &std::path::Path,
    options: &ReadOptions,
    number: u32,
    window: Option<Window>,
    pixels_max: u64,
) -> Result<Picture, WebError> {
    let kept = study::keep(path, options).map_err(|e| unreadable(&e))?;
    let (rows, columns) = kept.size().map_err(|e| unreadable(&e))?;
    let (width, height) = (u32::from(columns), u32::from(rows));
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(WebError::NotAcceptable(format!("the frame passes web.rendered_pixels_max = {pixels_max}")));
    }
    let frame = kept.frame(number, options).map_err(|e| unreadable(&e))?.ok_or(WebError::NotFound("frame"))?;
    match frame.shown().map_err(|e| unreadable(&e))? {
        Shown::Colour(bytes) => Ok(Picture::colour(width, height, bytes)),
        Shown::Grey { values, inverted } => {
            let stated = kept.number(tags::WINDOW_CENTER).zip(kept.number(tags::WINDOW_WIDTH));
            let stated = stated.map(|(centre, width)| Window { centre, width, function: Function::Linear });
            let window = window.or(stated.filter(Window::is_sound)).unwrap_or_else(|| Window::whole(&values));
            Ok(Picture::grey(width, height, &values, &window, inverted))
        }
    }
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
