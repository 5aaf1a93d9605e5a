//! Pictures for people (PS3.18 section 10.4.1.1.3): of a frame, of an instance (its first frame), and of each instance of
//! a series or a study that can be shown, in parts.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::accept::{accepted, choose_parts};
use super::body::{boundary, closing, multipart, part_head_of, streamed};
use super::error::WebError;
use super::render::{Format, GIF, JPEG, PNG, Picture, Window, quality, viewport};
use super::wado::{Answer, Named, Wanted, frame_numbers};
use super::{Shared, answer, blocking};
use crate::config::Config;
use crate::store::InstanceRow;
use crate::study::{self, ReadError, ReadOptions, Shown};
use crate::worker::Decoders;

/// Fits into this, in pixels.
const THUMBNAIL: (u32, u32) = (128, 128);

const NO_PIXELS: &str = "there are no pixels to make a picture of";

/// Why there is no picture of an instance.
enum Unshown {
    NoPixels,
    Because(WebError),
}

/// How pictures are made.
#[derive(Clone, Copy)]
struct Recipe {
    format: Format,
    window: Option<Window>,
    size: Option<(u32, u32)>,
    pixels_max: u64,
}

/// One frame of an instance, to become a picture.
struct Subject {
    row: InstanceRow,
    frame: u32,
    /// What it is a picture of, below the URL of the service.
    url: String,
}

/// There is no picture.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoPicture(String);

/// A PNG of a frame of a file, counted from 1, as a request for it would have it: with the window that the file states, decoded where
/// the configuration says, within `web.rendered_pixels_max`.
///
/// # Errors
/// It has no such frame, or that cannot be shown.
pub fn picture(config: &Config, path: &std::path::Path, frame: u32) -> Result<Vec<u8>, NoPicture> {
    let decoders = Decoders::new(config).map_err(|e| NoPicture(e.to_string()))?;
    let options = ReadOptions { decoders, ..ReadOptions::new(&config.limits, false) }.apart();
    let recipe = Recipe { format: Format::Png, window: None, size: None, pixels_max: config.web.rendered_pixels_max };
    let picture = draw(path, &options, frame, &recipe).and_then(|picture| picture.encode(recipe.format));
    picture.map_err(|e| NoPicture(e.to_string()))
}

/// A picture of one frame, or pictures of several.
pub(super) async fn rendered(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let numbers = named.frames.as_deref().map(frame_numbers).transpose()?;
    let several = named.instance.is_none() || numbers.as_ref().is_some_and(|numbers| numbers.len() > 1);
    let (recipe, parts) = recipe(&shared, &wanted, &headers, several, None)?;
    let rows = shared.named(&named).await?;
    let count = rows.len().max(numbers.as_ref().map_or(0, Vec::len));
    let most = shared.config.rendered_images_max;
    if count > most {
        let text = format!(
            "{count} pictures would pass web.rendered_images_max = {most}; ask for those of one series, instance or frame"
        );
        return Err(WebError::NotAcceptable(text));
    }
    let (rows, left_out) = match named.instance {
        None => shared.showable(rows).await?,
        Some(_) => (rows, 0),
    };
    let numbers = numbers.as_deref();
    let subjects = rows.iter().flat_map(|row| match numbers {
        Some(numbers) => numbers.iter().map(|number| Subject::of(row.clone(), Some(*number))).collect(),
        None => vec![Subject::of(row.clone(), None)],
    });
    let subjects = subjects.collect();
    let base = shared.base_url(&headers);
    let mut answer = pictures(shared, subjects, recipe, parts, base).await?;
    if left_out > 0 {
        let text = format!("299 gantry \"{left_out} instances have pixels that cannot be shown, and are left out\"");
        answer.headers_mut().extend(HeaderValue::from_str(&text).ok().map(|text| (header::WARNING, text)));
    }
    Ok(answer)
}

/// A small picture of the instance, or of the middle one of those that can be shown.
pub(super) async fn thumbnail(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let (recipe, parts) = recipe(&shared, &wanted, &headers, false, Some(THUMBNAIL))?;
    let mut rows = shared.named(&named).await?;
    // From the middle on, and then what is before it.
    let middle = rows.len() / 2;
    rows.rotate_left(middle);
    rows.truncate(shared.config.rendered_images_max);
    let mut reason = None;
    for row in rows {
        match shared.shows(&row).await? {
            Ok(()) => {
                let base = shared.base_url(&headers);
                return pictures(shared, VecDeque::from([Subject::of(row, None)]), recipe, parts, base).await;
            }
            Err(Unshown::Because(e)) => reason = reason.or(Some(e)),
            Err(Unshown::NoPixels) => {}
        }
    }
    Err(reason.unwrap_or_else(|| WebError::NotAcceptable(NO_PIXELS.into())))
}

/// Everything that is wrong with the request, before anything is read. Whether pictures go in parts.
fn recipe(
    shared: &Shared,
    wanted: &Wanted,
    headers: &HeaderMap,
    several: bool,
    size: Option<(u32, u32)>,
) -> Result<(Recipe, bool), WebError> {
    // PS3.18 table 8.7.4-1: JPEG is the default for single frames. For several it has none.
    let (kind, parts) = choose_parts(&accepted(headers, wanted.accept.as_deref())?, &[JPEG, PNG, GIF], several)?;
    let quality = quality(wanted.quality.as_deref())?;
    let pixels_max = shared.config.rendered_pixels_max;
    let recipe = Recipe {
        format: match kind {
            PNG => Format::Png,
            GIF => Format::Gif,
            _ => Format::Jpeg { quality },
        },
        window: wanted.window.as_deref().map(Window::parse).transpose()?,
        size: wanted.viewport.as_deref().map(|text| viewport(text, pixels_max)).transpose()?.or(size),
        pixels_max,
    };
    Ok((recipe, parts))
}

impl Subject {
    fn of(row: InstanceRow, frame: Option<u32>) -> Self {
        let instance = format!(
            "/studies/{}/series/{}/instances/{}",
            row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid
        );
        let url = match frame {
            Some(frame) => format!("{instance}/frames/{frame}/rendered"),
            None => format!("{instance}/rendered"),
        };
        Self { row, frame: frame.unwrap_or(1), url }
    }
}

impl Shared {
    /// Whether the first frame of an instance can be shown, as far as its header tells.
    async fn shows(&self, row: &InstanceRow) -> Result<Result<(), Unshown>, WebError> {
        let (path, options) = (self.intake.path(&row.path), self.options.clone());
        let pixels_max = self.config.rendered_pixels_max;
        let shows = blocking(move || -> Result<_, ReadError> {
            let kept = study::keep(&path, &options)?;
            if kept.pixel_vr.is_none() {
                return Ok(Err(Unshown::NoPixels));
            }
            kept.can_be_shown()?;
            let (rows, columns) = kept.size()?;
            let passes = u64::from(rows) * u64::from(columns) > pixels_max;
            Ok(if passes { Err(Unshown::Because(too_large(pixels_max))) } else { Ok(()) })
        });
        match shows.await?.map_err(|e| WebError::unreadable(&e)) {
            Err(WebError::Internal) => Err(WebError::Internal),
            Err(e) => Ok(Err(Unshown::Because(e))),
            Ok(shows) => Ok(shows),
        }
    }

    /// Those that can be shown, at least one, and how many others have pixels.
    async fn showable(&self, rows: Vec<InstanceRow>) -> Result<(Vec<InstanceRow>, usize), WebError> {
        let (mut showable, mut left_out) = (Vec::new(), 0);
        let mut reason = None;
        for row in rows {
            match self.shows(&row).await? {
                Ok(()) => showable.push(row),
                Err(Unshown::NoPixels) => {}
                Err(Unshown::Because(e)) => {
                    left_out += 1;
                    reason = reason.or(Some(e));
                }
            }
        }
        if showable.is_empty() {
            return Err(reason.unwrap_or_else(|| WebError::NotAcceptable(NO_PIXELS.into())));
        }
        Ok((showable, left_out))
    }

    /// The picture of a subject.
    async fn draw(&self, subject: &Subject, recipe: Recipe, options: ReadOptions) -> Result<Vec<u8>, WebError> {
        let _place = self.renders.acquire().await.map_err(|e| WebError::internal(&e))?;
        let (path, frame) = (self.intake.path(&subject.row.path), subject.frame);
        blocking(move || {
            let picture = draw(&path, &options, frame, &recipe)?;
            recipe.size.into_iter().fold(picture, Picture::fit).encode(recipe.format)
        })
        .await?
    }
}

/// The pictures, each drawn when the one before it is taken; the first before anything is answered.
async fn pictures(
    shared: Arc<Shared>,
    mut subjects: VecDeque<Subject>,
    recipe: Recipe,
    parts: bool,
    base: String,
) -> Answer {
    let first = subjects.pop_front().ok_or(WebError::NotFound("instance"))?;
    let options = shared.options.apart();
    let picture = shared.draw(&first, recipe, options.clone()).await?;
    let kind = recipe.format.media_type();
    if !parts {
        return Ok(answer(StatusCode::OK, kind, picture));
    }
    let boundary = boundary();
    let whole = multipart(kind, &boundary);
    let end = stream::iter([Ok(closing(&boundary))]);
    let part = move |subject: &Subject, picture: &[u8]| {
        let head = part_head_of(&boundary, kind, &format!("{base}{}", subject.url));
        Bytes::from([&head[..], picture, b"\r\n"].concat())
    };
    let ready = stream::iter([Ok(part(&first, &picture))]);
    let state = (shared, options, subjects, part);
    let rest = stream::try_unfold(state, move |(shared, options, mut subjects, part)| async move {
        let Some(subject) = subjects.pop_front() else { return Ok::<_, WebError>(None) };
        let bytes = part(&subject, &shared.draw(&subject, recipe, options.clone()).await?);
        Ok(Some((bytes, (shared, options, subjects, part))))
    });
    let body = ready.chain(rest).chain(end);
    Ok(answer(StatusCode::OK, &whole, streamed(body)))
}

fn too_large(pixels_max: u64) -> WebError {
    WebError::NotAcceptable(format!("the frame passes web.rendered_pixels_max = {pixels_max}"))
}

fn draw(path: &std::path::Path, options: &ReadOptions, number: u32, recipe: &Recipe) -> Result<Picture, WebError> {
    let kept = study::keep(path, options).map_err(|e| WebError::unreadable(&e))?;
    if kept.pixel_vr.is_none() {
        return Err(WebError::NotAcceptable(NO_PIXELS.into()));
    }
    let (rows, columns) = kept.size().map_err(|e| WebError::unreadable(&e))?;
    let (width, height) = (u32::from(columns), u32::from(rows));
    let pixels_max = recipe.pixels_max;
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(too_large(pixels_max));
    }
    let frame =
        kept.frame(number, options).map_err(|e| WebError::unreadable(&e))?.ok_or(WebError::NotFound("frame"))?;
    match frame.shown().map_err(|e| WebError::unreadable(&e))? {
        Shown::Colour(bytes) => Ok(Picture::colour(width, height, bytes)),
        Shown::Grey { values, inverted } => {
            let stated = kept.window().map(Window::from).filter(Window::is_sound);
            let window = recipe.window.or(stated);
            let parts = if window.is_none() { kept.by_table(&values) } else { None };
            let window =
                window.unwrap_or_else(|| Window::whole(if parts.is_some() { &[0.0, 1.0][..] } else { &values[..] }));
            Ok(Picture::grey(width, height, parts.as_ref().unwrap_or(&values), &window, inverted))
        }
    }
}
