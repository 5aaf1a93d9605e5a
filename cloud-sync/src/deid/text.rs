//! Free text without what identifies.
//!
//! What goes: identifiers of the data set itself, in whatever order, case and spelling; then what looks like an identifier,
//! whoever's it is: addresses of e-mail and web, dates, numbers of telephones and of patients, what follows a title or a label. In
//! text that people write, words that are not in the vocabulary of the field are doubtful: they may be names.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::OnceLock;

use super::dates;
use super::subject::Subject;

mod patterns;

/// A text after cleaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cleaned {
    pub(super) text: String,
    /// Something was taken out.
    pub(super) changed: bool,
    /// Something was doubtful, and taken out.
    pub(super) doubtful: bool,
}

/// How much is asked of what stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rigour {
    /// What an option retains: no identifier of the data set but its own.
    Retained,
    /// Names of devices, kernels, codes: no identifier and nothing that looks like one.
    Coded,
    /// What people write: only words of the vocabulary besides.
    Written,
}

/// The words of radiology and of the names of attributes in PS3.6, in lower case.
fn vocabulary() -> &'static HashSet<&'static str> {
    static WORDS: OnceLock<HashSet<&'static str>> = OnceLock::new();
    WORDS.get_or_init(|| include_str!("text/vocabulary.txt").split_ascii_whitespace().collect())
}

/// Whether a folded word belongs to the field.
pub(super) fn is_common(word: &str) -> bool {
    let vocabulary = vocabulary();
    word.len() < 3 || vocabulary.contains(word) || word.strip_suffix('s').is_some_and(|one| vocabulary.contains(one))
}

/// Runs of letters and digits.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    // With marks that combine with a letter.
    c.is_alphanumeric() || ('\u{300}'..='\u{36F}').contains(&c)
}

/// In lower case, without accents on Latin letters but the German ones, which have spellings of their own.
pub(super) fn fold(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    let plain = |c: char| match c {
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'ı' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ø' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' => 's',
        'ť' | 'ţ' => 't',
        'ù' | 'ú' | 'û' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    };
    word.chars().flat_map(char::to_lowercase).filter(|c| !('\u{300}'..='\u{36F}').contains(c)).map(plain).collect()
}

/// A folded word as it is written where there are no German letters.
pub(super) fn spelled(folded: &str) -> String {
    folded.replace('ä', "ae").replace('ö', "oe").replace('ü', "ue").replace('ß', "ss")
}

/// A word of a text.
#[derive(Debug)]
struct Token {
    at: Range<usize>,
    folded: String,
}

impl Token {
    fn digits(&self) -> usize {
        self.folded.bytes().filter(u8::is_ascii_digit).count()
    }

    fn is_number(&self) -> bool {
        self.folded.bytes().all(|b| b.is_ascii_digit())
    }
}

/// A text in words, and which of them go.
struct Page<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    gone: Vec<bool>,
}

impl<'t> Page<'t> {
    fn new(text: &'t str) -> Self {
        let mut tokens = Vec::new();
        let mut start = None;
        for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
            match (is_word(c), start) {
                (true, None) => start = Some(at),
                (false, Some(from)) => {
                    tokens.push(Token { at: from..at, folded: fold(&text[from..at]) });
                    start = None;
                }
                _ => {}
            }
        }
        let gone = vec![false; tokens.len()];
        Self { text, tokens, gone }
    }

    fn word(&self, n: usize) -> &'t str {
        self.tokens.get(n).map_or("", |token| &self.text[token.at.clone()])
    }

    /// What stands between this word and the next one.
    fn gap(&self, n: usize) -> &'t str {
        let end = self.tokens.get(n + 1).map_or(self.text.len(), |next| next.at.start);
        self.tokens.get(n).map_or("", |token| &self.text[token.at.end..end])
    }

    fn take(&mut self, range: Range<usize>) {
        self.gone.iter_mut().take(range.end).skip(range.start).for_each(|gone| *gone = true);
    }

    /// Takes the words that lie within these bytes.
    fn take_bytes(&mut self, bytes: Range<usize>) {
        for (token, gone) in self.tokens.iter().zip(&mut self.gone) {
            *gone |= token.at.start < bytes.end && bytes.start < token.at.end;
        }
    }

    fn take_known(&mut self, subject: &Subject) {
        const JOINED_MAX: usize = 5;
        for n in 0..self.tokens.len() {
            let mut joined = String::new();
            for end in n..(n + JOINED_MAX).min(self.tokens.len()) {
                joined += &self.tokens[end].folded;
                let known = subject.words.contains(&joined) || end == n && known_within(&joined, subject);
                if known {
                    self.take(n..end + 1);
                }
                if self.gap(end).chars().count() > 2 {
                    break;
                }
            }
        }
        for phrase in &subject.phrases {
            for n in 0..self.tokens.len() {
                let here = self.tokens.iter().skip(n).map(|token| &token.folded).take(phrase.len());
                if here.eq(phrase.iter()) {
                    self.take(n..n + phrase.len());
                }
            }
        }
    }

    fn take_unknown(&mut self) -> bool {
        let mut doubtful = false;
        for n in 0..self.tokens.len() {
            if self.gone[n] {
                continue;
            }
            let token = &self.tokens[n].folded;
            // `t2w`, `br38f`: what letters stand together.
            let spelled = spelled(token);
            let plain = spelled.chars().all(|c| c.is_ascii() || "µ²³°".contains(c));
            if !plain || !spelled.split(|c: char| !c.is_ascii_alphabetic()).all(is_common) {
                self.take(n..n + 1);
                doubtful = true;
            }
        }
        doubtful
    }

    fn rest(&self) -> String {
        if !self.gone.contains(&true) {
            return self.text.into();
        }
        let mut rest = String::with_capacity(self.text.len());
        let mut from = 0;
        let mut holes = false;
        for (token, gone) in self.tokens.iter().zip(&self.gone) {
            let gap = &self.text[from..token.at.start];
            from = token.at.end;
            if *gone {
                // A space or an end of line stays of what stood before; signs that belonged to the word do not.
                rest.extend(gap.chars().filter(|c| c.is_whitespace()));
                holes = true;
                continue;
            }
            let gap =
                if std::mem::take(&mut holes) { gap.trim_start_matches(|c: char| !c.is_whitespace()) } else { gap };
            rest += gap;
            rest += &self.text[token.at.clone()];
        }
        if !holes {
            rest += &self.text[from..];
        }
        let tidy: Vec<String> =
            rest.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        tidy.join("\r\n").trim_matches(|c: char| c.is_whitespace() || ",;:-_/^".contains(c)).into()
    }
}

fn known_within(word: &str, subject: &Subject) -> bool {
    subject.within.iter().any(|part| part.len() <= word.len() && word.contains(part.as_str()))
}

/// Whether a text holds an identifier of this subject.
pub(super) fn names(text: &str, subject: &Subject) -> bool {
    let mut page = Page::new(text);
    page.take_known(subject);
    page.gone.contains(&true)
}

/// A text without what identifies.
pub(super) fn clean(text: &str, subject: &Subject, rigour: Rigour) -> Cleaned {
    let mut page = Page::new(text);
    page.take_known(subject);
    if rigour != Rigour::Retained {
        patterns::take(&mut page);
    }
    let doubtful = rigour == Rigour::Written && page.take_unknown();
    let changed = page.gone.contains(&true);
    Cleaned { text: page.rest(), changed, doubtful }
}

#[cfg(test)]
mod tests;
