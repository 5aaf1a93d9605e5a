//! Pages of other sites. A browser sends what they ask for with the client certificate of whoever looks at them, and to loopback,
//! and says where the page is from.

use axum::http::{HeaderMap, HeaderValue, header};

use super::error::WebError;

/// What newer browsers say, also where they leave out Origin.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Refuses what a page of another site asks for. Programs that are no browsers say nothing of pages.
pub(super) fn own(headers: &HeaderMap, public_url: Option<&str>) -> Result<(), WebError> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let ours = [host, public_url.and_then(authority)];
    let is_ours = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(authority);
        origin.is_some_and(|from| ours.into_iter().flatten().any(|own| own.eq_ignore_ascii_case(from)))
    };
    let is_elsewhere = |site: &HeaderValue| site.as_bytes().eq_ignore_ascii_case(b"cross-site");
    let origins = headers.get_all(header::ORIGIN).iter().all(is_ours);
    match origins && !headers.get_all(SEC_FETCH_SITE).iter().any(is_elsewhere) {
        true => Ok(()),
        false => Err(WebError::OtherSite),
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> Option<&str> {
    let host = url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    host.filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_told_by_its_host() {
        for (url, host) in
            [("http://a:80/x", Some("a:80")), ("https://a", Some("a")), ("null", None), ("", None), ("http:///x", None)]
        {
            assert_eq!(authority(url), host, "{url}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_told_from_ours() {
        let said = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            own(&headers, Some("https://images.example/gantry")).is_ok()
        };
        assert!(said(&[("host", "h:1")]), "no browser");
        assert!(said(&[("host", "h:1"), ("origin", "http://H:1")]));
        assert!(said(&[("host", "h:1"), ("origin", "https://images.example")]), "behind a proxy");
        assert!(said(&[("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-origin")]));
        for other in ["http://h:2", "http://h", "http://h:1.example", "null", "", "http://"] {
            assert!(!said(&[("host", "h:1"), ("origin", other)]), "{other}");
        }
        assert!(!said(&[("origin", "http://")]), "no host");
        assert!(!said(&[("host", "h:1"), ("origin", "http://h:1"), ("origin", "http://evil.example")]), "two of them");
        assert!(!said(&[("host", "h:1"), ("sec-fetch-site", "Cross-Site")]));
    }
}
