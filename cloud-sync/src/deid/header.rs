//! What stands at the top level of an instance, for who says what was released: bounded as all reading here is, and nothing where a value is
//! not what its attribute wants.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::charset::Charset;
use super::instance::plain;
use super::parse::{self, DataSet, Encoding, ascii, find, number};
use super::{Limits, dates};

/// Attributes of an instance that was read.
pub(crate) struct Header<'a> {
    meta: &'a DataSet<'a>,
    set: &'a DataSet<'a>,
    encoding: Encoding,
    charset: Charset,
}

impl Header<'_> {
    /// Reads a file of PS3.10; nothing where it is none.
    pub(crate) fn read<R>(file: &[u8], read: impl FnOnce(&Header<'_>) -> R) -> Option<R> {
        let limits = Limits::default();
        let plain = plain(file, &limits).ok()?;
        let encoding = plain.syntax.encoding;
        let set = parse::data_set(&plain.bytes, plain.start, encoding, &limits).ok()?;
        let charset = Charset::of(ascii(find(&set, tags::SPECIFIC_CHARACTER_SET)));
        Some(read(&Header { meta: &plain.meta, set: &set, encoding, charset }))
    }

    /// The first value of an attribute of characters, without padding; nothing where it is empty or no text.
    pub(crate) fn text(&self, tag: Tag) -> Option<String> {
        let set = if tag.0 == 2 { self.meta } else { self.set };
        let whole = self.charset.decode(find(set, tag)?.bytes())?;
        let first = whole.split('\\').next().unwrap_or_default().trim_matches([' ', '\0']);
        (!first.is_empty()).then(|| first.to_owned())
    }

    /// A number of VR US, IS or DS.
    pub(crate) fn number(&self, tag: Tag) -> Option<f64> {
        self.nth(tag, 0)
    }

    /// The same, where it is a whole one.
    pub(crate) fn whole(&self, tag: Tag) -> Option<i64> {
        let number = self.number(tag)?;
        // Beyond it `f64` skips whole numbers.
        (number.fract() == 0.0 && number.abs() < 2f64.powi(53)).then_some(number as i64)
    }

    /// One of the numbers of an attribute, from 0.
    pub(crate) fn nth(&self, tag: Tag, place: usize) -> Option<f64> {
        if place == 0 && find(self.set, tag)?.vr == dicom_core::VR::US {
            return number(self.set, tag, self.encoding).map(f64::from);
        }
        let text = ascii(find(self.set, tag));
        let number: f64 = text.split('\\').nth(place)?.trim().parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// A day of VR DA as `YYYY-MM-DD`.
    pub(crate) fn date(&self, tag: Tag) -> Option<String> {
        let date: String = ascii(find(self.set, tag)).chars().filter(|&c| c != '.').collect();
        dates::days(&date)?;
        Some(format!("{}-{}-{}", date.get(..4)?, date.get(4..6)?, date.get(6..8)?))
    }

    /// An age of VR AS, in years.
    pub(crate) fn years(&self, tag: Tag) -> Option<f64> {
        let text = ascii(find(self.set, tag));
        let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let count: f64 = count.parse::<u16>().ok()?.into();
        match unit {
            "Y" => Some(count),
            "M" => Some(count / 12.0),
            "W" => Some(count * 7.0 / 365.25),
            "D" => Some(count / 365.25),
            _ => None,
        }
    }
}
