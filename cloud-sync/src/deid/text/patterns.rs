//! What looks like an identifier, whoever's it is.

use super::{Page, dates};

const MONTHS: [&str; 20] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mrz", "mai", "okt", "dez",
    "fev", "avr", "juin", "abr",
];
/// As they are written before names. `MR` and `DR` are modalities too: those count with a full stop.
const TITLES: [&str; 19] = [
    "Dr",
    "Drs",
    "Doctor",
    "Prof",
    "Professor",
    "Mr",
    "Mrs",
    "Ms",
    "Miss",
    "MRS",
    "PROF",
    "Herr",
    "Frau",
    "Mme",
    "Monsieur",
    "Sra",
    "Señor",
    "Sig",
    "Pt",
];
/// Behind which, and a colon, comes what identifies.
const LABELS: [&str; 33] = [
    "acc",
    "accession",
    "address",
    "adresse",
    "author",
    "born",
    "by",
    "contact",
    "dob",
    "fax",
    "id",
    "mobile",
    "mrn",
    "name",
    "nhs",
    "no",
    "operator",
    "pat",
    "patient",
    "phone",
    "physician",
    "pid",
    "radiologist",
    "reader",
    "referrer",
    "referring",
    "reported",
    "ssn",
    "tech",
    "technician",
    "technologist",
    "tel",
    "telephone",
];
const STREETS: [&str; 20] = [
    "avenue",
    "ave",
    "blvd",
    "boulevard",
    "close",
    "court",
    "crescent",
    "drive",
    "gasse",
    "lane",
    "ln",
    "platz",
    "rd",
    "road",
    "square",
    "st",
    "str",
    "strasse",
    "street",
    "weg",
];
/// So many digits in one word are a number of somebody or something.
const DIGITS_MAX: usize = 4;
const TELEPHONE_DIGITS_MIN: usize = 7;

/// Takes all of it from a page.
pub(super) fn take(page: &mut Page<'_>) {
    addresses_of_machines(page);
    for n in 0..page.tokens.len() {
        long_numbers(page, n);
        day(page, n);
        telephone(page, n);
        titled(page, n);
        labelled(page, n);
        street(page, n);
    }
}

/// E-mail, web, UIDs and addresses of hosts: what has no space in it.
fn addresses_of_machines(page: &mut Page<'_>) {
    let mut from = 0;
    for part in page.text.split_inclusive(char::is_whitespace) {
        let bytes = from..from + part.len();
        from = bytes.end;
        let part = part.trim();
        let dotted =
            part.bytes().filter(|&b| b == b'.').count() >= 3 && part.bytes().filter(u8::is_ascii_digit).count() >= 4;
        let uid = dotted && part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let mail = part.contains('@') && part.len() > 3;
        if uid || mail || part.contains("://") || part.starts_with("www.") || part.contains("\\\\") {
            page.take_bytes(bytes);
        }
    }
}

/// Whether this word is behind the point of a number, or before it.
fn is_decimal(page: &Page<'_>, n: usize) -> bool {
    let number = |n: usize| page.tokens.get(n).is_some_and(super::Token::is_number);
    let behind = n > 0 && page.gap(n - 1) == "." && number(n - 1) && !(n > 1 && page.gap(n - 2) == ".");
    behind && number(n) && page.gap(n) != "."
}

fn long_numbers(page: &mut Page<'_>, n: usize) {
    if page.tokens[n].digits() > DIGITS_MAX && !is_decimal(page, n) {
        page.take(n..n + 1);
    }
}

fn number(page: &Page<'_>, n: usize) -> Option<(u32, usize)> {
    let token = page.tokens.get(n)?;
    (token.is_number() && token.folded.len() <= 4)
        .then(|| token.folded.parse().ok().map(|value| (value, token.folded.len())))?
}

fn is_month(word: &str) -> bool {
    word.chars().count() >= 3
        && word.chars().count() <= 9
        && MONTHS.iter().any(|month| word.starts_with(month))
        && is_month_name(word)
}

/// `mar` and `march`, not `marrow`.
fn is_month_name(word: &str) -> bool {
    const NAMES: [&str; 40] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "januar",
        "februar",
        "märz",
        "maerz",
        "mai",
        "juni",
        "juli",
        "oktober",
        "dezember",
        "janvier",
        "fevrier",
        "mars",
        "avril",
        "juin",
        "juillet",
        "aout",
        "septembre",
        "octobre",
        "novembre",
        "decembre",
        "enero",
        "febrero",
        "marzo",
        "abril",
        "sept",
        "agosto",
        "diciembre",
        "mrz",
    ];
    word.chars().count() == 3 || NAMES.contains(&word)
}

fn is_year((value, length): (u32, usize)) -> bool {
    length == 4 && (1880..=2100).contains(&value) || length == 2
}

/// Dates, as people and machines write them.
fn day(page: &mut Page<'_>, n: usize) {
    let length = numeric_date(page, n).max(named_date(page, n));
    page.take(n..n + length);
    compact_day(page, n);
}

fn is_day((value, length): (u32, usize)) -> bool {
    (1..=31).contains(&value) && length <= 2
}

/// How many words from here are a date in numbers.
fn numeric_date(page: &Page<'_>, n: usize) -> usize {
    let tight = |n: usize| matches!(page.gap(n), "-" | "." | "/" | ". " | "_");
    let four_digits = |number: (u32, usize)| number.1 == 4 && is_year(number);
    match [0, 1, 2].map(|k| number(page, n + k)) {
        [Some(a), Some(b), Some(c)]
            if four_digits(a) && is_day(b) && is_day(c) || is_day(a) && is_day(b) && is_year(c) =>
        {
            let same = page.gap(n) == page.gap(n + 1);
            let spaced = page.gap(n) == " " && (four_digits(a) || four_digits(c));
            let date = tight(n) && tight(n + 1) && (same || four_digits(c)) || spaced && same;
            if date { 3 } else { 0 }
        }
        [Some(a), Some(b), _] if tight(n) => {
            let month = |(value, length): (u32, usize)| (1..=12).contains(&value) && length <= 2;
            if four_digits(a) && month(b) && b.1 == 2 || month(a) && four_digits(b) { 2 } else { 0 }
        }
        _ => 0,
    }
}

/// How many words from here are a date with the name of a month.
fn named_date(page: &Page<'_>, n: usize) -> usize {
    let separated =
        |n: usize| matches!(page.gap(n).trim(), "-" | "." | "/" | "" | "," | ".," | "_") && page.gap(n).len() <= 3;
    let month = |k: usize| page.tokens.get(n + k).is_some_and(|t| is_month(&t.folded));
    let numbers = [0, 1, 2].map(|k| number(page, n + k));
    let year = |k: usize| numbers[k].is_some_and(is_year);
    let first = numbers[0].is_some_and(is_day) || is_ordinal(page, n);
    if first && month(1) && separated(n) {
        return if year(2) && separated(n + 1) { 3 } else { 2 };
    }
    if !month(0) || !separated(n) {
        return 0;
    }
    let day_next = numbers[1].is_some_and(is_day) || is_ordinal(page, n + 1);
    if day_next && year(2) && separated(n + 1) {
        3
    } else if day_next || year(1) {
        2
    } else {
        0
    }
}

/// `1st`, `22nd`.
fn is_ordinal(page: &Page<'_>, n: usize) -> bool {
    let Some(token) = page.tokens.get(n) else { return false };
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|end| token.folded.strip_suffix(end));
    digits.is_some_and(|d| (1..=2).contains(&d.len()) && d.bytes().all(|b| b.is_ascii_digit()))
}

/// `12MAR2019`, and what starts with a date.
fn compact_day(page: &mut Page<'_>, n: usize) {
    let Some(token) = page.tokens.get(n) else { return };
    let word = token.folded.as_str();
    let letters = word.trim_matches(|c: char| c.is_ascii_digit());
    let named = is_month(letters) && word.starts_with(|c: char| c.is_ascii_digit()) && token.digits() >= 3;
    let dated = word.get(..8).is_some_and(|date| dates::days(date).is_some());
    if named || dated {
        page.take(n..n + 1);
    }
}

fn telephone(page: &mut Page<'_>, n: usize) {
    let joins = |gap: &str| gap.len() <= 3 && gap.chars().all(|c| " -./()+".contains(c)) && !gap.is_empty();
    let is_number = |page: &Page<'_>, n: usize| page.tokens.get(n).is_some_and(super::Token::is_number);
    if n > 0 && is_number(page, n - 1) && joins(page.gap(n - 1)) || !is_number(page, n) {
        return;
    }
    let mut end = n + 1;
    while is_number(page, end) && joins(page.gap(end - 1)) {
        end += 1;
    }
    let digits: usize = (n..end).map(|k| page.tokens[k].digits()).sum();
    let decimals = (n..end).filter(|&k| is_decimal(page, k)).count();
    let before = page.tokens[n].at.start;
    let international = page.text[..before].ends_with(['+', '(']) && end > n + 1;
    if end > n + 1 && decimals == 0 && (digits >= TELEPHONE_DIGITS_MIN || international && digits > DIGITS_MAX) {
        page.take(n..end);
    }
}

fn is_capitalized(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase)
}

fn titled(page: &mut Page<'_>, n: usize) {
    let (word, gap) = (page.word(n), page.gap(n));
    let abbreviated = gap.starts_with('.') && ["DR", "MR", "MS", "dr", "mr", "mrs", "ms", "prof"].contains(&word);
    if !(TITLES.contains(&word) || abbreviated) {
        return;
    }
    let mut end = n + 1;
    // Initials and two names, however the title is followed.
    while end < page.tokens.len().min(n + 5) && (is_capitalized(page.word(end)) || abbreviated && end == n + 1) {
        let more = page.gap(end).trim_end_matches(' ');
        end += 1;
        if !matches!(more, "" | "." | "-" | "'" | "," | "^") {
            break;
        }
    }
    if end > n + 1 {
        page.take(n + 1..end);
    }
}

fn labelled(page: &mut Page<'_>, n: usize) {
    let gap = page.gap(n).trim();
    let marked = gap.starts_with([':', '#', '=']) || gap == ".:" || gap == "-:";
    if !marked || !LABELS.contains(&page.tokens[n].folded.as_str()) {
        return;
    }
    let mut end = n + 1;
    while end < page.tokens.len().min(n + 6) {
        let stop = page.gap(end).contains([';', '\n', '\r', ':', '|', '=']) || page.gap(end).contains(". ");
        end += 1;
        if stop {
            break;
        }
    }
    // A label that starts the next piece stays.
    let next_label = end < page.tokens.len() && page.gap(end - 1).trim().starts_with(':');
    page.take(n + 1..if next_label && end > n + 2 { end - 1 } else { end });
}

fn street(page: &mut Page<'_>, n: usize) {
    let folded = page.tokens[n].folded.clone();
    let numbered =
        |page: &Page<'_>, k: usize| page.tokens.get(k).is_some_and(|t| t.digits() > 0 && t.folded.len() <= 5);
    let suffix = ["strasse", "straße", "gasse", "platz", "weg"]
        .iter()
        .any(|s| folded.len() > s.len() + 2 && folded.ends_with(s));
    if suffix && numbered(page, n + 1) {
        page.take(n..n + 2);
    }
    if !STREETS.contains(&folded.as_str()) || n < 2 {
        return;
    }
    // A number, then one to three capitalized words.
    for start in n.saturating_sub(4)..n - 1 {
        if numbered(page, start) && (start + 1..n).all(|k| is_capitalized(page.word(k))) {
            page.take(start..n + 1);
            return;
        }
    }
}
