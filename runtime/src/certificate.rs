//! What a certificate says (RFC 5280 section 4.1), as far as somebody must know it. Whether it is to be believed is for the TLS
//! library to find.

const VERSION: u8 = 0xA0;
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// UTF8String, PrintableString and IA5String, which are UTF-8. Others are not taken.
const TEXTS: [u8; 3] = [0x0C, 0x13, 0x16];
/// The object identifier 2.5.4.3 as an element.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

/// The common name of its subject, the last one when there are several.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, subject) = element(from_validity(certificate)?, SEQUENCE)?;
    let (mut names, _) = element(subject, SEQUENCE)?;
    let mut found = None;
    while !names.is_empty() {
        let (mut set, rest) = element(names, SET)?;
        names = rest;
        while !set.is_empty() {
            let (attribute, rest) = element(set, SEQUENCE)?;
            set = rest;
            if let Some(value) = attribute.strip_prefix(COMMON_NAME) {
                let kind = *value.first()?;
                let (text, _) = element(value, kind)?;
                found = String::from_utf8(text.to_vec()).ok().filter(|_| TEXTS.contains(&kind));
            }
        }
    }
    found.filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
}

/// The end of its validity.
pub(crate) fn not_after(certificate: &[u8]) -> Option<chrono::NaiveDateTime> {
    let (validity, _) = element(from_validity(certificate)?, SEQUENCE)?;
    let (_, end) = element(validity, *validity.first()?)?;
    let kind = *end.first()?;
    let time = std::str::from_utf8(element(end, kind)?.0).ok()?;
    let whole = match kind {
        // Years from 50 on are of the 20th century.
        UTC_TIME if time.get(..2)? >= "50" => format!("19{time}"),
        UTC_TIME => format!("20{time}"),
        GENERALIZED_TIME => time.to_owned(),
        _ => return None,
    };
    chrono::NaiveDateTime::parse_from_str(&whole, "%Y%m%d%H%M%SZ").ok()
}

/// Its fields from the validity on, which the subject follows.
fn from_validity(certificate: &[u8]) -> Option<&[u8]> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(body, SEQUENCE)?;
    // Not there in the first version.
    if fields.first() == Some(&VERSION) {
        fields = element(fields, VERSION)?.1;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    Some(fields)
}

/// The content of the DER element with this tag at the start, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        _ if found != tag => return None,
        0..=0x7F => (usize::from(length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7F))?;
            (bytes.iter().fold(0, |n, &b| n << 8 | usize::from(b)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `viewer-1`, until a day in May of a year.
    fn certificate(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Hospital");
        params.distinguished_name.push(rcgen::DnType::CommonName, "viewer-1");
        params.not_after = rcgen::date_time_ymd(year, 5, 17);
        let made = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate");
        made.der().to_vec()
    }

    #[test]
    fn a_certificate_says_whose_it_is_and_how_long() {
        // The first as UTCTime, the second as GeneralizedTime.
        for year in [2049, 2051] {
            let whole = certificate(year);
            assert_eq!(common_name(&whole).as_deref(), Some("viewer-1"));
            let end = not_after(&whole).expect("an end").to_string();
            assert_eq!(end, format!("{year}-05-17 00:00:00"));
        }
    }

    #[test]
    fn what_is_cut_or_none_says_nothing() {
        let whole = certificate(2049);
        assert!((0..whole.len()).all(|n| not_after(&whole[..n]).is_none() && common_name(&whole[..n]).is_none()));
        for none in [&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF][..], &[0x30, 0x85, 0, 0, 0, 0, 0], &[0x30, 0x80], b"text"] {
            assert!(not_after(none).is_none() && common_name(none).is_none());
        }
    }
}
