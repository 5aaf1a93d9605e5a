//! Files as another library reads them: every value by its path.

use std::collections::BTreeMap;

use dicom_core::header::Header;
use dicom_core::value::Value;
use dicom_object::{InMemDicomObject, OpenFileOptions};

/// Tags and item numbers from the outermost sequence on; the number of the element itself is 0.
pub(crate) type At = Vec<(u32, usize)>;

/// A value as text, and as bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) vr: String,
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
}

/// The values of a file, and the paths of its sequences.
pub(crate) struct Read {
    pub(crate) values: BTreeMap<At, Entry>,
    pub(crate) sequences: Vec<At>,
}

impl Read {
    pub(crate) fn of(file: &[u8]) -> Read {
        let object = OpenFileOptions::new().from_reader(file).expect("another library reads the file");
        let mut read = Read { values: BTreeMap::new(), sequences: Vec::new() };
        let media = object.meta().media_storage_sop_instance_uid.trim_end_matches('\0').to_owned();
        read.values.insert(vec![(0x0002_0003, 0)], Entry { vr: "UI".into(), bytes: media.clone().into(), text: media });
        read.take(&object, &Vec::new());
        read
    }

    fn take(&mut self, object: &InMemDicomObject, around: &At) {
        for element in object {
            let tag = u32::from(element.tag().0) << 16 | u32::from(element.tag().1);
            let at = |item| around.iter().copied().chain([(tag, item)]).collect::<At>();
            match element.value() {
                Value::Sequence(sequence) => {
                    self.sequences.push(at(0));
                    for (number, item) in sequence.items().iter().enumerate() {
                        self.take(item, &at(number));
                    }
                }
                Value::PixelSequence(fragments) => {
                    let bytes = fragments.fragments().concat();
                    self.values.insert(at(0), Entry { vr: "OB".into(), text: String::new(), bytes });
                }
                Value::Primitive(value) => {
                    let text = value.to_str().trim_end_matches(['\0', ' ']).to_owned();
                    let bytes = value.to_bytes().into_owned();
                    self.values.insert(at(0), Entry { vr: element.vr().to_string().into(), text, bytes });
                }
            }
        }
    }

    /// A value of the data set itself.
    pub(crate) fn text(&self, tag: u32) -> Option<&str> {
        self.values.get(&vec![(tag, 0)]).map(|entry| entry.text.as_str())
    }

    pub(crate) fn bytes(&self, tag: u32) -> Option<&[u8]> {
        self.values.get(&vec![(tag, 0)]).map(|entry| entry.bytes.as_slice())
    }

    /// UIDs that are not the standard's, by path.
    pub(crate) fn uids(&self) -> impl Iterator<Item = (&At, &str)> {
        self.values
            .iter()
            .filter(|(_, entry)| {
                entry.vr == "UI" && !entry.text.is_empty() && !entry.text.starts_with("1.2.840.10008.")
            })
            .map(|(at, entry)| (at, entry.text.as_str()))
    }
}
