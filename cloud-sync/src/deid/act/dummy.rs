//! Values that say nothing and keep an object valid.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::{Action, DataSet, Element, Held, Item, Place, Value, Work};

const REMOVED: &str = "REMOVED";

impl Work<'_> {
    /// The same element with a value of its VR that says nothing.
    pub(super) fn dummy<'a>(&mut self, element: Element<'a>, place: &Place) -> Result<Element<'a>, Held> {
        let (tag, vr) = (element.tag, element.vr);
        self.report.note(tag, Action::Dummy);
        let text = match vr {
            VR::SQ => return self.dummy_sequence(element, place),
            VR::UI => {
                let uid = String::from_utf8_lossy(element.bytes()).into_owned();
                &self.by.secret.uid(uid.trim_matches([' ', '\0']))
            }
            VR::AS => "000D",
            VR::DA => "19000101",
            VR::DT => "19000101000000",
            VR::TM => "000000",
            VR::DS | VR::IS => "0",
            VR::UR => "urn:oid:2.25.0",
            _ if super::is_text(vr) => REMOVED,
            // One number.
            VR::US | VR::SS | VR::OB | VR::OW | VR::UN => return Ok(Element::new(tag, vr, vec![0; 2])),
            VR::FD | VR::SV | VR::UV | VR::OD | VR::OV => return Ok(Element::new(tag, vr, vec![0; 8])),
            _ => return Ok(Element::new(tag, vr, vec![0; 4])),
        };
        Ok(Element::text(tag, vr, text))
    }

    fn dummy_sequence<'a>(&mut self, element: Element<'a>, place: &Place) -> Result<Element<'a>, Held> {
        let (tag, vr) = (element.tag, element.vr);
        let Value::Items(items, defined) = element.value else { return Ok(element) };
        let items = match tag {
            tags::CONTENT_SEQUENCE => vec![item(content())],
            tags::GRAPHIC_ANNOTATION_SEQUENCE => self.annotations(items, place)?,
            _ => self.items(items, &Place { stripped: true, ..place.clone() })?,
        };
        Ok(Element { tag, vr, value: Value::Items(items, defined) })
    }

    /// Annotations on the same layers of the same images, each a point.
    fn annotations<'a>(&mut self, items: Vec<Item<'a>>, place: &Place) -> Result<Vec<Item<'a>>, Held> {
        let drawn = [tags::TEXT_OBJECT_SEQUENCE, tags::GRAPHIC_OBJECT_SEQUENCE, tags::COMPOUND_GRAPHIC_SEQUENCE];
        let mut items = self.items(items, &Place { stripped: true, ..place.clone() })?;
        for annotation in &mut items {
            annotation.elements.retain(|e| !drawn.contains(&e.tag));
            let at = self.encoding;
            let us = |value: u16| if at.big { value.to_be_bytes() } else { value.to_le_bytes() }.to_vec();
            let one = if at.big { 1f32.to_be_bytes() } else { 1f32.to_le_bytes() };
            let point = vec![
                Element::text(tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "PIXEL"),
                Element::new(tags::GRAPHIC_DIMENSIONS, VR::US, us(2)),
                Element::new(tags::NUMBER_OF_GRAPHIC_POINTS, VR::US, us(1)),
                Element::new(tags::GRAPHIC_DATA, VR::FL, [one, one].concat()),
                Element::text(tags::GRAPHIC_TYPE, VR::CS, "POINT"),
            ];
            super::super::pixels::put(&mut annotation.elements, sequence(tags::GRAPHIC_OBJECT_SEQUENCE, point));
        }
        Ok(items)
    }
}

fn item(elements: DataSet<'_>) -> Item<'_> {
    Item { elements, defined: true }
}

/// A sequence of one item.
pub(in super::super) fn sequence(tag: Tag, elements: DataSet<'_>) -> Element<'_> {
    Element { tag, vr: VR::SQ, value: Value::Items(vec![item(elements)], true) }
}

/// A code sequence of one code of DCM (PS3.16).
pub(in super::super) fn code(value: &str, meaning: &str) -> DataSet<'static> {
    vec![
        Element::text(tags::CODE_VALUE, VR::SH, value),
        Element::text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM"),
        Element::text(tags::CODE_MEANING, VR::LO, meaning),
    ]
}

/// A content item that says that there was something.
fn content() -> DataSet<'static> {
    vec![
        Element::text(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS"),
        Element::text(tags::VALUE_TYPE, VR::CS, "TEXT"),
        sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, code("121071", "Finding")),
        Element::text(tags::TEXT_VALUE, VR::UT, REMOVED),
    ]
}
