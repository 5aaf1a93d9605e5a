//! DICOM files, written byte by byte: what no library would write too.

/// An element and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) tag: u32,
    pub(crate) vr: [u8; 2],
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    /// Items of a sequence.
    Items(Vec<DataSet>),
    /// Encapsulated pixel data, after an empty offset table.
    Fragments(Vec<Vec<u8>>),
}

/// Elements, which are sorted when they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct DataSet(pub(crate) Vec<Element>);

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    Explicit,
    Implicit,
    BigEndian,
    Deflated,
    /// Explicit little endian, with pixel data in fragments.
    Rle,
}

pub(crate) const SYNTAXES: [Syntax; 4] = [Syntax::Explicit, Syntax::Implicit, Syntax::BigEndian, Syntax::Deflated];

impl Syntax {
    pub(crate) fn uid(self) -> &'static str {
        match self {
            Syntax::Explicit => "1.2.840.10008.1.2.1",
            Syntax::Implicit => "1.2.840.10008.1.2",
            Syntax::BigEndian => "1.2.840.10008.1.2.2",
            Syntax::Deflated => "1.2.840.10008.1.2.1.99",
            Syntax::Rle => "1.2.840.10008.1.2.5",
        }
    }
}

impl DataSet {
    /// Puts a value, in the place of one that is there.
    pub(crate) fn put(&mut self, tag: u32, vr: &[u8; 2], value: impl Into<Vec<u8>>) -> &mut Self {
        let mut value = value.into();
        if value.len() % 2 == 1 {
            value.push(if matches!(vr, b"UI" | b"OB" | b"UN") { 0 } else { b' ' });
        }
        self.set(Element { tag, vr: *vr, value: Value::Bytes(value) })
    }

    pub(crate) fn put_items(&mut self, tag: u32, items: Vec<DataSet>) -> &mut Self {
        self.set(Element { tag, vr: *b"SQ", value: Value::Items(items) })
    }

    pub(crate) fn set(&mut self, element: Element) -> &mut Self {
        self.0.retain(|known| known.tag != element.tag);
        self.0.push(element);
        self
    }

    /// A file with this preamble and what file meta information needs, and these elements in it besides.
    pub(crate) fn file(&self, syntax: Syntax, preamble: &[u8; 128], meta: &[(u32, [u8; 2], Vec<u8>)]) -> Vec<u8> {
        let text = |tag: u32| {
            let found = self.0.iter().find(|element| element.tag == tag);
            match found.map(|element| &element.value) {
                Some(Value::Bytes(bytes)) => bytes.clone(),
                _ => Vec::new(),
            }
        };
        let mut head = DataSet::default();
        head.put(0x0002_0001, b"OB", [0, 1])
            .put(0x0002_0002, b"UI", text(0x0008_0016))
            .put(0x0002_0003, b"UI", text(0x0008_0018))
            .put(0x0002_0010, b"UI", syntax.uid())
            .put(0x0002_0012, b"UI", "1.2.276.0.7230010.3.0.3.6.7");
        for (tag, vr, value) in meta {
            head.put(*tag, vr, value.clone());
        }
        let mut group = Vec::new();
        head.write(Writing { explicit: true, big: false }, &mut group);
        let mut file = preamble.to_vec();
        file.extend(b"DICM");
        let mut length = DataSet::default();
        length.put(0x0002_0000, b"UL", (group.len() as u32).to_le_bytes());
        length.write(Writing { explicit: true, big: false }, &mut file);
        file.extend(group);
        let mut body = Vec::new();
        let writing = Writing { explicit: syntax != Syntax::Implicit, big: syntax == Syntax::BigEndian };
        self.write(writing, &mut body);
        if syntax == Syntax::Deflated {
            body = deflated(&body);
        }
        file.extend(body);
        file
    }

    fn write(&self, writing: Writing, out: &mut Vec<u8>) {
        let mut elements: Vec<&Element> = self.0.iter().collect();
        elements.sort_by_key(|element| element.tag);
        for element in elements {
            element.write(writing, out);
        }
    }
}

#[derive(Clone, Copy)]
struct Writing {
    explicit: bool,
    big: bool,
}

impl Writing {
    fn tag(self, tag: u32, out: &mut Vec<u8>) {
        self.u16((tag >> 16) as u16, out);
        self.u16(tag as u16, out);
    }

    fn u16(self, n: u16, out: &mut Vec<u8>) {
        out.extend(if self.big { n.to_be_bytes() } else { n.to_le_bytes() });
    }

    fn u32(self, n: u32, out: &mut Vec<u8>) {
        out.extend(if self.big { n.to_be_bytes() } else { n.to_le_bytes() });
    }
}

impl Element {
    fn write(&self, writing: Writing, out: &mut Vec<u8>) {
        match &self.value {
            Value::Bytes(bytes) => {
                self.header(bytes.len() as u32, writing, out);
                match (&self.vr, writing.big) {
                    (b"US" | b"SS" | b"OW", true) => out.extend(bytes.chunks(2).flat_map(|pair| pair.iter().rev())),
                    (b"UL" | b"SL" | b"FL", true) => out.extend(bytes.chunks(4).flat_map(|four| four.iter().rev())),
                    _ => out.extend(bytes),
                }
            }
            // Every second sequence and item of undefined length.
            Value::Items(items) => {
                let undefined = self.tag & 1 == 0;
                let mut inside = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    let mut bytes = Vec::new();
                    item.write(writing, &mut bytes);
                    writing.tag(0xFFFE_E000, &mut inside);
                    if at % 2 == 0 {
                        writing.u32(u32::MAX, &mut inside);
                        inside.extend(bytes);
                        writing.tag(0xFFFE_E00D, &mut inside);
                        writing.u32(0, &mut inside);
                    } else {
                        writing.u32(bytes.len() as u32, &mut inside);
                        inside.extend(bytes);
                    }
                }
                self.header(if undefined { u32::MAX } else { inside.len() as u32 }, writing, out);
                out.extend(inside);
                if undefined {
                    writing.tag(0xFFFE_E0DD, out);
                    writing.u32(0, out);
                }
            }
            Value::Fragments(fragments) => {
                self.header(u32::MAX, writing, out);
                for fragment in std::iter::once(&Vec::new()).chain(fragments) {
                    writing.tag(0xFFFE_E000, out);
                    writing.u32(fragment.len() as u32, out);
                    out.extend(fragment);
                }
                writing.tag(0xFFFE_E0DD, out);
                writing.u32(0, out);
            }
        }
    }

    fn header(&self, length: u32, writing: Writing, out: &mut Vec<u8>) {
        writing.tag(self.tag, out);
        if !writing.explicit {
            return writing.u32(length, out);
        }
        out.extend(self.vr);
        let long = [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];
        if long.contains(&&self.vr) {
            writing.u16(0, out);
            writing.u32(length, out);
        } else {
            writing.u16(u16::try_from(length).expect("values of tests are short"), out);
        }
    }
}

fn deflated(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).expect("memory takes what is written");
    encoder.finish().expect("memory takes what is written")
}
