//! The content tree of a structured report: content items, and how they become sequence items (PS3.3 C.17.3).

use dicom_core::{PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::findings::Code;
use crate::outputs::codes::{self, put_code};
use crate::outputs::dataset::{decimal, put, reference, sequence};

/// One content item with the items below it.
///
/// A tree is stated from the top down, each child behind the relation that it has to its parent:
///
/// ```text
/// Item::container(REPORT).modified_by(Item::code(LANGUAGE, ENGLISH)).contains(Item::container(MEASUREMENTS))
/// ```
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    concept: Option<Code>,
    value: Value,
    children: Vec<(&'static str, Item)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Container,
    Text(String),
    Code(Code),
    Number {
        value: f64,
        unit: Code,
    },
    Uid(String),
    /// `YYYYMMDD`.
    Date(String),
    /// `HHMMSS`, and a fraction.
    Time(String),
    /// A closed outline in an image, (column, row) pair after pair; the first pixel reaches from 0\0 to 1\1 (PS3.3 C.18.6).
    Outline(Vec<f32>),
    Image {
        class: String,
        instance: String,
        segment: Option<u16>,
        /// Frames by number from 1; none: all of it.
        frames: Vec<u32>,
    },
}

impl Item {
    /// CONTAINER.
    pub(super) fn container(concept: impl Into<Code>) -> Self {
        Self::new(Some(concept.into()), Value::Container)
    }

    /// TEXT.
    pub(super) fn text(concept: impl Into<Code>, text: impl Into<String>) -> Self {
        // Line ends are the only control characters that everybody shows as what they are.
        let shown = |c: char| if c.is_control() && !matches!(c, '\r' | '\n') { ' ' } else { c };
        Self::new(Some(concept.into()), Value::Text(text.into().chars().map(shown).collect()))
    }

    /// CODE.
    pub(super) fn code(concept: impl Into<Code>, code: impl Into<Code>) -> Self {
        Self::new(Some(concept.into()), Value::Code(code.into()))
    }

    /// NUM.
    pub(super) fn number(concept: impl Into<Code>, value: f64, unit: impl Into<Code>) -> Self {
        Self::new(Some(concept.into()), Value::Number { value, unit: unit.into() })
    }

    /// UIDREF.
    pub(super) fn uid(concept: impl Into<Code>, uid: impl Into<String>) -> Self {
        Self::new(Some(concept.into()), Value::Uid(uid.into()))
    }

    /// DATE.
    pub(super) fn date(concept: impl Into<Code>, date: impl Into<String>) -> Self {
        Self::new(Some(concept.into()), Value::Date(date.into()))
    }

    /// TIME.
    pub(super) fn time(concept: impl Into<Code>, time: impl Into<String>) -> Self {
        Self::new(Some(concept.into()), Value::Time(time.into()))
    }

    /// SCOORD: a closed outline, selected from `image`.
    pub(super) fn outline(concept: impl Into<Code>, points: &[[f32; 2]], image: Self) -> Self {
        let closed = points.iter().chain(points.first()).flatten().copied().collect();
        Self::new(Some(concept.into()), Value::Outline(closed)).with("SELECTED FROM", image)
    }

    /// IMAGE without a concept name: an instance, or a frame of one.
    pub(super) fn image(class: &str, instance: &str, frame: Option<u32>) -> Self {
        Self::frames(class, instance, frame.into_iter())
    }

    /// IMAGE: one segment of a segmentation.
    pub(super) fn segment(concept: impl Into<Code>, class: &str, instance: &str, number: u16) -> Self {
        let (class, instance, segment) = (class.into(), instance.into(), Some(number));
        Self::new(Some(concept.into()), Value::Image { class, instance, segment, frames: Vec::new() })
    }

    /// IMAGE without a concept name: some of its frames.
    pub(super) fn frames(class: &str, instance: &str, frames: impl Iterator<Item = u32>) -> Self {
        let (class, instance, frames) = (class.into(), instance.into(), frames.collect());
        Self::new(None, Value::Image { class, instance, segment: None, frames })
    }

    fn new(concept: Option<Code>, value: Value) -> Self {
        Self { concept, value, children: Vec::new() }
    }

    /// With a child by CONTAINS.
    pub(super) fn contains(self, item: Self) -> Self {
        self.with("CONTAINS", item)
    }

    /// With children by CONTAINS.
    pub(super) fn contains_all(self, items: impl IntoIterator<Item = Self>) -> Self {
        items.into_iter().fold(self, Self::contains)
    }

    /// With a child by HAS OBS CONTEXT.
    pub(super) fn observed_in(self, item: Self) -> Self {
        self.with("HAS OBS CONTEXT", item)
    }

    /// With a child by HAS ACQ CONTEXT.
    pub(super) fn acquired_in(self, item: Self) -> Self {
        self.with("HAS ACQ CONTEXT", item)
    }

    /// With a child by HAS CONCEPT MOD.
    pub(super) fn modified_by(self, item: Self) -> Self {
        self.with("HAS CONCEPT MOD", item)
    }

    /// With a child by INFERRED FROM.
    pub(super) fn inferred_from(self, item: Self) -> Self {
        self.with("INFERRED FROM", item)
    }

    /// With a child by HAS PROPERTIES.
    pub(super) fn with_property(self, item: Self) -> Self {
        self.with("HAS PROPERTIES", item)
    }

    fn with(mut self, relation: &'static str, item: Self) -> Self {
        self.children.push((relation, item));
        self
    }

    /// Every text in the tree that is written as it was stated.
    pub(super) fn texts(&mut self) -> Vec<&mut String> {
        let mut texts: Vec<&mut String> = self.concept.iter_mut().flat_map(of_code).collect();
        match &mut self.value {
            Value::Text(text) => texts.push(text),
            Value::Code(code) | Value::Number { unit: code, .. } => texts.extend(of_code(code)),
            // Of the standard's own characters.
            Value::Container | Value::Uid(_) | Value::Date(_) | Value::Time(_) => {}
            Value::Outline(_) | Value::Image { .. } => {}
        }
        texts.extend(self.children.iter_mut().flat_map(|(_, child)| child.texts()));
        texts
    }

    /// Puts what the item is into `object`: the root into the report itself, the rest into their sequence items.
    pub(super) fn put_into(&self, object: &mut InMemDicomObject) {
        put(object, tags::VALUE_TYPE, VR::CS, self.value.name());
        if let Some(concept) = &self.concept {
            put_code(object, tags::CONCEPT_NAME_CODE_SEQUENCE, concept);
        }
        self.value.put_into(object);
        if !self.children.is_empty() {
            let children = self.children.iter().map(|(relation, child)| {
                let mut item = InMemDicomObject::new_empty();
                put(&mut item, tags::RELATIONSHIP_TYPE, VR::CS, *relation);
                child.put_into(&mut item);
                item
            });
            sequence(object, tags::CONTENT_SEQUENCE, children.collect());
        }
    }
}

impl Value {
    /// Value Type (0040,A040).
    fn name(&self) -> &'static str {
        match self {
            Self::Container => "CONTAINER",
            Self::Text(_) => "TEXT",
            Self::Code(_) => "CODE",
            Self::Number { .. } => "NUM",
            Self::Uid(_) => "UIDREF",
            Self::Date(_) => "DATE",
            Self::Time(_) => "TIME",
            Self::Outline(_) => "SCOORD",
            Self::Image { .. } => "IMAGE",
        }
    }

    fn put_into(&self, object: &mut InMemDicomObject) {
        match self {
            Self::Container => put(object, tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE"),
            Self::Text(text) => put(object, tags::TEXT_VALUE, VR::UT, text.as_str()),
            Self::Code(code) => put_code(object, tags::CONCEPT_CODE_SEQUENCE, code),
            Self::Number { value, unit } => {
                let item = measured(*value, unit);
                sequence(object, tags::MEASURED_VALUE_SEQUENCE, vec![item]);
            }
            Self::Uid(uid) => put(object, tags::UID, VR::UI, uid.as_str()),
            Self::Date(date) => put(object, tags::DATE, VR::DA, date.as_str()),
            Self::Time(time) => put(object, tags::TIME, VR::TM, time.as_str()),
            Self::Outline(points) => {
                put(object, tags::GRAPHIC_DATA, VR::FL, PrimitiveValue::F32(points.iter().copied().collect()));
                put(object, tags::GRAPHIC_TYPE, VR::CS, "POLYLINE");
            }
            Self::Image { class, instance, segment, frames } => {
                let mut item = reference(class, instance);
                if let Some(number) = segment {
                    put(&mut item, tags::REFERENCED_SEGMENT_NUMBER, VR::US, *number);
                }
                if !frames.is_empty() {
                    let numbers = frames.iter().map(u32::to_string).collect();
                    put(&mut item, tags::REFERENCED_FRAME_NUMBER, VR::IS, PrimitiveValue::Strs(numbers));
                }
                sequence(object, tags::REFERENCED_SOP_SEQUENCE, vec![item]);
            }
        }
    }
}

/// The item of a Measured Value Sequence (PS3.3 C.18.1).
fn measured(value: f64, unit: &Code) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    let text = decimal(value);
    // 16 characters do not hold every f64; where they do not, the number itself stands beside them.
    if text.parse() != Ok(value) {
        put(&mut item, tags::FLOATING_POINT_VALUE, VR::FD, value);
    }
    put(&mut item, tags::NUMERIC_VALUE, VR::DS, text);
    sequence(&mut item, tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![codes::item(unit)]);
    item
}

fn of_code(code: &mut Code) -> [&mut String; 3] {
    [&mut code.value, &mut code.scheme, &mut code.meaning]
}
