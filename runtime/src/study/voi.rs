//! What an image says of which of its grey values are shown (PS3.3 C.11.2).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::attributes::{Attributes, text};

/// What an image states.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Voi {
    /// Neither a window nor a table.
    #[default]
    Nothing,
    /// The first of its windows.
    Window(Window),
    /// A table (VOI LUT Sequence) and no window.
    Table,
}

/// Centre and width of what is shown, in the unit of the voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Window Center (0028,1050).
    pub centre: f64,
    /// Window Width (0028,1051), above 0.
    pub width: f64,
    /// VOI LUT Function (0028,1056), where one is stated.
    pub function: Option<Function>,
}

/// VOI LUT Function (0028,1056), by which a window becomes grey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Also without one.
    Linear,
    /// With a width of any size.
    LinearExact,
    /// A curve.
    Sigmoid,
}

impl Function {
    /// In an image.
    #[must_use]
    pub fn term(self) -> &'static str {
        match self {
            Self::Linear => "LINEAR",
            Self::LinearExact => "LINEAR_EXACT",
            Self::Sigmoid => "SIGMOID",
        }
    }
}

impl Voi {
    pub(super) fn read(a: &Attributes<'_>) -> Self {
        let stated = text(a.object, tags::VOILUT_FUNCTION);
        let known = [Function::Linear, Function::LinearExact, Function::Sigmoid];
        let function = stated.and_then(|stated| known.into_iter().find(|function| function.term() == stated.trim()));
        match first_window(a.object).filter(|(_, width)| *width > 0.0) {
            Some((centre, width)) => Self::Window(Window { centre, width, function }),
            None if a.present(tags::VOILUT_SEQUENCE) => Self::Table,
            None => Self::Nothing,
        }
    }
}

/// Centre and width of the first window that is stated.
fn first_window(object: &InMemDicomObject) -> Option<(f64, f64)> {
    let first = |tag: Tag| {
        let text = text(object, tag)?;
        text.split('\\').next()?.trim().parse().ok().filter(|n: &f64| n.is_finite())
    };
    first(tags::WINDOW_CENTER).zip(first(tags::WINDOW_WIDTH))
}
