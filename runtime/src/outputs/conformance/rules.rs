//! What an object must have: tables in the words of the standard, and how they are held against an object.
//!
//! Types (PS3.5 section 7.4): 1, there with a value; 1C, so where a condition holds; 2, there, perhaps empty; 2C.

use dicom_core::{Tag, VR};

use super::Fault;
use super::read::{DataSet, Field, name};

/// An Information Object Definition, as far as it is checked.
pub(super) struct Iod {
    /// As people call it.
    pub(super) name: &'static str,
    /// Of PS3.3.
    pub(super) section: &'static str,
    /// SOP Class UID.
    pub(super) class: &'static str,
    pub(super) modules: &'static [Module],
    /// Functional groups of a multi-frame object.
    pub(super) groups: &'static [Group],
}

/// A module or macro.
pub(super) struct Module {
    pub(super) name: &'static str,
    pub(super) section: &'static str,
    pub(super) attributes: &'static [Attribute],
}

/// A functional group macro (PS3.3 C.7.6.16.2), in the shared item or in that of every frame.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) section: &'static str,
    pub(super) sequence: Attribute,
    /// Never in the shared item.
    pub(super) each: bool,
}

/// One attribute.
#[derive(Clone, Copy)]
pub(super) struct Attribute {
    pub(super) tag: Tag,
    pub(super) need: Need,
    /// Value multiplicity, or number of items.
    count: (usize, usize),
    /// Values that it may have.
    terms: &'static [&'static str],
    /// Values that it begins with, where there are several.
    begins: &'static [&'static str],
    /// The binary number that it is.
    number: Option<u32>,
    /// Of each item.
    items: &'static [Attribute],
}

pub(super) type Condition = fn(DataSet<'_>) -> bool;

#[derive(Clone, Copy)]
pub(super) enum Need {
    One,
    /// Type 1C: a condition that can be told from the same data set.
    OneIf(Condition),
    Two,
    /// What is said of it holds where it is there.
    Three,
    /// Must not be there.
    Never,
}

/// Type 1.
pub(super) const fn one(tag: Tag) -> Attribute {
    attribute(tag, Need::One)
}

/// Type 1C.
pub(super) const fn one_if(tag: Tag, condition: Condition) -> Attribute {
    attribute(tag, Need::OneIf(condition))
}

/// Type 2.
pub(super) const fn two(tag: Tag) -> Attribute {
    attribute(tag, Need::Two)
}

/// Type 3, or one whose condition cannot be told.
pub(super) const fn three(tag: Tag) -> Attribute {
    attribute(tag, Need::Three)
}

/// What another kind of object has.
pub(super) const fn never(tag: Tag) -> Attribute {
    attribute(tag, Need::Never)
}

const fn attribute(tag: Tag, need: Need) -> Attribute {
    Attribute { tag, need, count: (1, 1), terms: &[], begins: &[], number: None, items: &[] }
}

impl Attribute {
    /// So many values or items.
    pub(super) const fn times(self, least: usize, most: usize) -> Self {
        Self { count: (least, most), ..self }
    }

    /// One item at least.
    pub(super) const fn many(self) -> Self {
        self.times(1, usize::MAX)
    }

    pub(super) const fn terms(self, terms: &'static [&'static str]) -> Self {
        Self { terms, ..self }
    }

    pub(super) const fn begins(self, begins: &'static [&'static str]) -> Self {
        Self { begins, ..self }
    }

    pub(super) const fn is(self, number: u32) -> Self {
        Self { number: Some(number), ..self }
    }

    /// What each item has.
    pub(super) const fn of(self, items: &'static [Attribute]) -> Self {
        Self { items, ..self }
    }
}

impl Iod {
    pub(super) fn check(
        &self,
        data_set: DataSet<'_>,
        shared: DataSet<'_>,
        frames: &[DataSet<'_>],
    ) -> Result<(), Fault> {
        for Module { name, section, attributes } in self.modules {
            all(attributes, data_set).map_err(|fault| fault.of("module", name, section))?;
        }
        for group in self.groups {
            group.check(shared, frames).map_err(|fault| fault.of("functional group", group.name, group.section))?;
        }
        Ok(())
    }
}

impl Group {
    fn check(&self, shared: DataSet<'_>, frames: &[DataSet<'_>]) -> Result<(), Fault> {
        let (sequence, tag) = (&self.sequence, self.sequence.tag);
        let place = |fault: Fault, frame| {
            fault.in_item(frame).within(dicom_dictionary_std::tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
        };
        if shared.field(tag).is_some() && !self.each {
            if let Some(frame) = frames.iter().position(|frame| frame.field(tag).is_some()) {
                let twice = Fault::new(name(tag), "is in the shared item too (PS3.3 C.7.6.16.1.1)");
                return Err(place(twice, frame + 1));
            }
            let shared = sequence.check(shared);
            return shared.map_err(|fault| {
                fault.in_item(1).within(dicom_dictionary_std::tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE)
            });
        }
        for (frame, at) in frames.iter().zip(1..) {
            sequence.check(*frame).map_err(|fault| place(fault, at))?;
        }
        Ok(())
    }
}

/// Holds all of `attributes` against a data set or an item.
pub(super) fn all(attributes: &[Attribute], data_set: DataSet<'_>) -> Result<(), Fault> {
    attributes.iter().try_for_each(|attribute| attribute.check(data_set))
}

impl Attribute {
    fn check(&self, data_set: DataSet<'_>) -> Result<(), Fault> {
        let fault = |rule: String| Err(Fault::new(name(self.tag), rule));
        let field = data_set.field(self.tag);
        let (kind, needed, empty) = match self.need {
            Need::One => ("type 1", true, false),
            Need::OneIf(condition) if condition(data_set) => ("type 1C", true, false),
            Need::OneIf(_) => ("type 1C", false, false),
            Need::Two => ("type 2", true, true),
            Need::Three => ("type 3", false, true),
            Need::Never if field.is_some() => return fault("is no attribute of such an object".into()),
            Need::Never => return Ok(()),
        };
        match field {
            None if needed => fault(format!("{kind}, and missing")),
            None => Ok(()),
            Some(field) if field.is_empty() && !empty => fault(format!("{kind}, and empty")),
            Some(field) if field.is_empty() => Ok(()),
            Some(field) => self.value(field),
        }
    }

    fn value(&self, field: Field<'_>) -> Result<(), Fault> {
        let fault = |rule: String| Err(Fault::new(name(self.tag), rule));
        let (least, most) = self.count;
        let sequence = field.vr() == VR::SQ;
        let (count, what) = if sequence { (field.items().count(), "items") } else { (field.multiplicity(), "values") };
        if !(least..=most).contains(&count) {
            let most = if most == usize::MAX { "any number".to_owned() } else { most.to_string() };
            return fault(format!("{count} {what}, where there must be {least} to {most}"));
        }
        let mut values = field.text().split('\\').map(str::trim);
        if !self.terms.is_empty() && !values.clone().all(|value| self.terms.contains(&value)) {
            return fault(format!("must be one of {}", self.terms.join(", ")));
        }
        if !self.begins.iter().all(|begin| values.next() == Some(begin)) {
            return fault(format!("must begin with {}", self.begins.join("\\")));
        }
        if self.number.is_some_and(|number| field.unsigned() != Some(number)) {
            return fault(format!("must be {}", self.number.unwrap_or_default()));
        }
        for (item, at) in field.items().zip(1..) {
            all(self.items, item).map_err(|fault| fault.in_item(at).within(self.tag))?;
        }
        Ok(())
    }
}
