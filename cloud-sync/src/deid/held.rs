//! Why something stays in the hospital.

use dicom_core::Tag;

/// The reason for quarantine. It holds tags, kinds and limits, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Held {
    /// The operating system refused.
    #[error("cannot be read: {0}; check the file and its permissions")]
    Io(std::io::ErrorKind),
    /// No DICOM file: neither a preamble with `DICM` nor a data set.
    #[error("not a DICOM file")]
    NotDicom,
    /// Not well-formed.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Offset in the file, or in the inflated data set.
        at: usize,
    },
    /// A limit of the profile.
    #[error("limits.{limit} ({maximum}) is exceeded")]
    Limit {
        /// Its key in the profile.
        limit: &'static str,
        /// Its value.
        maximum: u64,
    },
    /// The transfer syntax is not known, so it cannot be said where values end.
    #[error("its transfer syntax is unknown")]
    TransferSyntax,
    /// Objects of this kind are never released: encapsulated documents, raw data, directories, what has no SOP class.
    #[error("objects of this kind are not released: {0}")]
    Kind(&'static str),
    /// An attribute without which nothing can be decided is missing or has more than one meaning.
    #[error("attribute {0} is missing, repeated or unreadable")]
    Attribute(Tag),
    /// Pixel data may show text and nothing masks it.
    #[error("pixel data may show text ({0}); add a mask for the device or a text detector, or release it by policy")]
    BurnedIn(Doubt),
    /// Text was found in pixel data, and the policy is to hold such objects.
    #[error("text was found in pixel data")]
    TextInPixels,
    /// Pixel data must be masked and cannot be.
    #[error("pixel data cannot be masked: {0}")]
    Mask(&'static str),
    /// Compressed frames cannot be decoded, so nobody can look at them.
    #[error("pixel data may show text and cannot be decoded: {0}")]
    Undecoded(String),
    /// The text detector failed: what was not looked at is not clean.
    #[error("pixel data could not be searched for text: {0}")]
    Unsearched(String),
    /// A face could be rendered from it.
    #[error("a head that could be recognized; `pixels.head` decides")]
    Recognizable,
    /// Free text of which it cannot be said whether it names somebody.
    #[error("text of attribute {0} is doubtful; `unclear_text` decides")]
    Text(Tag),
    /// A result without the instances of one patient, by which it could be known what identifies in it.
    #[error("whose result it is cannot be known; give the instances of one patient with it")]
    Patient,
    /// Not JSON, or nested too deep.
    #[error("the JSON cannot be read")]
    Json,
}

/// Why pixel data are suspected of showing text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Doubt {
    /// Burned In Annotation (0028,0301) says so.
    Stated,
    /// Modality or SOP class that commonly shows text: ultrasound, secondary capture, fluoroscopy, photographs.
    Kind,
    /// Image Type or Conversion Type says that a screen or film was captured.
    Captured,
    /// Nothing says that it does not.
    Unknown,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stated => "Burned In Annotation says so",
            Self::Kind => "images of this kind often do",
            Self::Captured => "a captured screen or film",
            Self::Unknown => "nothing says that it does not",
        })
    }
}

impl From<std::io::Error> for Held {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}
