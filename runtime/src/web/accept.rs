//! Media types: what a client sends, and what it wants in the order in which it wants it (RFC 9110 section 12.5.1).

use axum::http::{HeaderMap, HeaderValue, header};

use super::error::WebError;

/// Media types in one Accept header.
const RANGES_MAX: usize = 64;

/// A media type or range with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Media {
    /// `type/subtype`, lower-case.
    pub(crate) kind: String,
    /// Names are lower-case; values are without quotes.
    parameters: Vec<(String, String)>,
    quality: f32,
}

impl Media {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut pieces = split(text, ';').into_iter();
        let kind = pieces.next()?.trim().to_ascii_lowercase();
        let token =
            |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b));
        let (main, sub) = kind.split_once('/')?;
        if !token(main) || !token(sub) {
            return None;
        }
        let mut media = Self { kind, parameters: Vec::new(), quality: 1.0 };
        for piece in pieces.filter(|p| !p.trim().is_empty()) {
            let (name, value) = piece.split_once('=')?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            let value = match value.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"')?.replace("\\\"", "\""),
                None => value.to_owned(),
            };
            if name == "q" {
                media.quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
            }
            media.parameters.push((name, value));
        }
        Some(media)
    }

    /// A parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is wanted at all, and is this type.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.quality > 0.0 && self.kind == kind
    }

    /// Whether a type is in the range.
    pub(super) fn covers(&self, kind: &str) -> bool {
        let family = self.kind.strip_suffix("/*").is_some_and(|f| kind.split('/').next() == Some(f));
        self.quality > 0.0 && (self.kind == "*/*" || self.kind == kind || family)
    }

    /// Whether the range is of multipart/related with parts of a type.
    pub(super) fn covers_parts(&self, kind: &str) -> bool {
        if self.quality == 0.0 {
            return false;
        }
        if self.kind != "multipart/related" {
            return self.kind == "*/*" || self.kind == "multipart/*";
        }
        let parts = self.parameter("type").map(str::to_ascii_lowercase);
        parts.is_none_or(|parts| Self::parse(&parts).is_some_and(|range| range.covers(kind)))
    }
}

/// What a client wants, what it wants most first. Everything when it says nothing.
pub(super) fn accepted(headers: &HeaderMap, parameter: Option<&str>) -> Result<Vec<Media>, WebError> {
    // PS3.18 section 8.3.3.1: for clients that cannot set headers, and before the header.
    let header: Option<Vec<&str>> =
        headers.contains_key(header::ACCEPT).then(|| headers.get_all(header::ACCEPT).iter().filter_map(text).collect());
    let said = parameter.map(str::to_owned).or(header.map(|lines| lines.join(","))).unwrap_or_default();
    if said.trim().is_empty() {
        return Ok(Media::parse("*/*").into_iter().collect());
    }
    let ranges = split(&said, ',');
    if ranges.len() > RANGES_MAX {
        return Err(WebError::BadRequest(format!("Accept has more than {RANGES_MAX} media types")));
    }
    let parsed: Option<Vec<Media>> = ranges.into_iter().filter(|r| !r.trim().is_empty()).map(Media::parse).collect();
    let mut media = parsed.ok_or_else(|| WebError::BadRequest("Accept is no list of media types".into()))?;
    media.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    Ok(media)
}

/// The first of `offers`, by what the client wants most.
pub(super) fn choose(wanted: &[Media], offers: &[&'static str]) -> Result<&'static str, WebError> {
    choose_with(wanted, offers, |range, offer| range.covers(offer).then_some(())).map(|(kind, ())| kind)
}

/// As [`choose`], of one resource (`several` is false) or several: the kind, and whether in parts of multipart/related,
/// as several always are.
pub(super) fn choose_parts(
    wanted: &[Media],
    offers: &[&'static str],
    several: bool,
) -> Result<(&'static str, bool), WebError> {
    choose_with(wanted, offers, |range, offer| match (range.covers(offer), range.covers_parts(offer)) {
        (true, _) => Some(several),
        (false, true) => Some(true),
        (false, false) => None,
    })
}

fn choose_with<T>(
    wanted: &[Media],
    offers: &[&'static str],
    fits: impl Fn(&Media, &str) -> Option<T>,
) -> Result<(&'static str, T), WebError> {
    let refused = |offer: &str| wanted.iter().any(|media| media.quality == 0.0 && media.kind == offer);
    let offered = offers.iter().copied().filter(|offer| !refused(offer));
    let chosen = wanted.iter().find_map(|range| offered.clone().find_map(|kind| Some((kind, fits(range, kind)?))));
    chosen.ok_or_else(|| WebError::NotAcceptable(format!("this is available as {}", offers.join(", "))))
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// Splits outside quoted strings.
fn split(text: &str, by: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let was = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !was => escaped = true,
            '"' if !was => quoted = !quoted,
            _ => return c == by && !quoted,
        }
        false
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Result<Vec<Media>, WebError> {
        accepted(&HeaderMap::new(), Some(text))
    }

    #[test]
    fn what_is_wanted_most_comes_first() {
        let media = wanted("image/jpeg;q=0.2, image/png; q=0.9, application/dicom;q=0, */*;q=0.1").expect("sound");
        let kinds: Vec<_> = media.iter().map(|m| m.kind.as_str()).collect();
        assert_eq!(kinds, ["image/png", "image/jpeg", "*/*", "application/dicom"]);
        assert_eq!(choose(&media, &["image/png"]).expect("offered"), "image/png");
        assert!(choose(&media, &["application/dicom"]).is_err(), "what has no quality is not wanted");
    }

    #[test]
    fn pictures_are_jpeg_unless_the_client_says_otherwise() {
        let chosen =
            |text: &str, several| choose_parts(&wanted(text).expect("sound"), &["image/jpeg", "image/png"], several);
        for (text, several, kind, parts) in [
            ("", false, "image/jpeg", false),
            ("*/*", true, "image/jpeg", true),
            ("image/*, image/jpeg;q=0", false, "image/png", false),
            ("text/html, image/png", true, "image/png", true),
            ("image/jpeg;q=0.5, image/png", false, "image/png", false),
            ("multipart/related; type=\"image/png\"", false, "image/png", true),
            ("multipart/related", true, "image/jpeg", true),
        ] {
            assert_eq!(chosen(text, several).expect("offered"), (kind, parts), "{text}");
        }
        assert!(chosen("image/gif, text/html", false).is_err() && chosen("*/*;q=0", true).is_err());
    }

    #[test]
    fn parameters_may_be_quoted() {
        let media = wanted("multipart/related; type=\"application/dicom\"; transfer-syntax=*").expect("sound");
        assert!(media[0].covers_parts("application/dicom") && !media[0].covers_parts("application/octet-stream"));
        assert_eq!(media[0].parameter("transfer-syntax"), Some("*"));
        let odd = wanted("a/b; x=\"1,2;\\\"3\", c/d").expect("sound");
        assert_eq!((odd.len(), odd[0].parameter("x")), (2, Some("1,2;\"3")));
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        for text in ["nonsense", "a/b; q=2", "a/b; x", "a/b; x=\"y", "/", &"a/b,".repeat(100)] {
            assert!(wanted(text).is_err(), "{text}");
        }
        assert!(choose(&wanted("application/dicom+xml").expect("sound"), &["application/dicom+json"]).is_err());
    }
}
