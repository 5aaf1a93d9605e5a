//! Studies that are made up as they are sent: valid, of the size that real ones have, and the same in every run.

use anyhow::{Context, Result};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

/// The transfer syntax of all of them.
pub(crate) const TRANSFER_SYNTAX: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

/// UIDs count from here: more than a hospital sends fits below each study.
const FIRST_UID: u64 = 730_000_000_000;
const UIDS_OF_STUDY: u64 = 100_000;
const STUDY: u64 = UIDS_OF_STUDY - 1;
const SERIES: u64 = UIDS_OF_STUDY - 2;
const FRAME_OF_REFERENCE: u64 = UIDS_OF_STUDY - 3;

/// What made the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A digital radiograph, about 9 MB.
    Radiograph,
    /// A still of ultrasound in colour, about 1 MB.
    Ultrasound,
    /// A slice of CT, about 525 kB.
    Ct,
    /// A slice of MR, about 130 kB.
    Mr,
}

/// One study of one series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Study {
    pub(crate) kind: Kind,
    /// Tells it from all others.
    pub(crate) number: u64,
    /// How many images it has, and says that it has.
    pub(crate) images: usize,
}

/// One image, encoded.
pub(crate) struct Image {
    /// SOP Class UID.
    pub(crate) class: &'static str,
    /// SOP Instance UID.
    pub(crate) uid: String,
    /// The data set.
    pub(crate) data_set: Vec<u8>,
}

/// How pixels of a kind lie.
struct Layout {
    rows: u16,
    columns: u16,
    samples: u16,
    bits_allocated: u16,
    bits_stored: u16,
    photometric: &'static str,
}

impl Kind {
    /// SOP Class UID.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Radiograph => uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
            Self::Ultrasound => uids::ULTRASOUND_IMAGE_STORAGE,
            Self::Ct => uids::CT_IMAGE_STORAGE,
            Self::Mr => uids::MR_IMAGE_STORAGE,
        }
    }

    fn modality(self) -> &'static str {
        match self {
            Self::Radiograph => "DX",
            Self::Ultrasound => "US",
            Self::Ct => "CT",
            Self::Mr => "MR",
        }
    }

    fn layout(self) -> Layout {
        let grey = |side, bits_stored| Layout {
            rows: side,
            columns: side,
            samples: 1,
            bits_allocated: 16,
            bits_stored,
            photometric: "MONOCHROME2",
        };
        match self {
            Self::Radiograph => grey(2140, 14),
            Self::Ultrasound => {
                Layout { rows: 540, columns: 648, samples: 3, bits_allocated: 8, bits_stored: 8, photometric: "RGB" }
            }
            Self::Ct => grey(512, 12),
            Self::Mr => grey(256, 12),
        }
    }

    /// Whether its images are slices of a volume.
    fn is_volume(self) -> bool {
        matches!(self, Self::Ct | Self::Mr)
    }
}

impl Study {
    /// Study Instance UID.
    pub(crate) fn uid(&self) -> String {
        self.uid_of(STUDY)
    }

    /// Image `index`, from 0.
    pub(crate) fn image(&self, index: usize) -> Result<Image> {
        let uid = self.uid_of(index as u64);
        let (header, layout) = (self.header(index, &uid), self.kind.layout());
        let mut data_set = Vec::new();
        header.write_dataset_with_ts(&mut data_set, &EXPLICIT_VR_LITTLE_ENDIAN.erased())?;
        append_pixels(&mut data_set, &layout, self.number * UIDS_OF_STUDY + index as u64)?;
        Ok(Image { class: self.kind.class(), uid, data_set })
    }

    fn uid_of(&self, index: u64) -> String {
        format!("2.25.{}", FIRST_UID + self.number * UIDS_OF_STUDY + index)
    }

    fn header(&self, index: usize, uid: &str) -> InMemDicomObject {
        let layout = self.kind.layout();
        let mut header = InMemDicomObject::new_empty();
        let (count, number) = (self.images.to_string(), (index + 1).to_string());
        for (tag, vr, value) in [
            (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY"),
            (tags::SOP_CLASS_UID, VR::UI, self.kind.class()),
            (tags::SOP_INSTANCE_UID, VR::UI, uid),
            (tags::STUDY_DATE, VR::DA, "20240102"),
            (tags::STUDY_TIME, VR::TM, "030405"),
            (tags::ACCESSION_NUMBER, VR::SH, ""),
            (tags::MODALITY, VR::CS, self.kind.modality()),
            (tags::MANUFACTURER, VR::LO, "Synthetic"),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
            (tags::PATIENT_NAME, VR::PN, "Bench^Synthetic"),
            (tags::PATIENT_ID, VR::LO, &format!("BENCH-{}", self.number)),
            (tags::PATIENT_BIRTH_DATE, VR::DA, ""),
            (tags::PATIENT_SEX, VR::CS, "O"),
            (tags::STUDY_INSTANCE_UID, VR::UI, &self.uid()),
            (tags::SERIES_INSTANCE_UID, VR::UI, &self.uid_of(SERIES)),
            (tags::STUDY_ID, VR::SH, "1"),
            (tags::SERIES_NUMBER, VR::IS, "1"),
            (tags::INSTANCE_NUMBER, VR::IS, &number),
            (tags::NUMBER_OF_STUDY_RELATED_SERIES, VR::IS, "1"),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, &count),
            (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, &count),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, layout.photometric),
        ] {
            header.put_str(tag, vr, value);
        }
        if self.kind.is_volume() {
            self.place(index, &mut header);
        }
        let mut put = |tag: Tag, value: u16| header.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        put(tags::SAMPLES_PER_PIXEL, layout.samples);
        put(tags::ROWS, layout.rows);
        put(tags::COLUMNS, layout.columns);
        put(tags::BITS_ALLOCATED, layout.bits_allocated);
        put(tags::BITS_STORED, layout.bits_stored);
        put(tags::HIGH_BIT, layout.bits_stored - 1);
        put(tags::PIXEL_REPRESENTATION, 0);
        if layout.samples > 1 {
            put(tags::PLANAR_CONFIGURATION, 0);
        }
        header
    }

    /// Where a slice lies: 1 mm above the one before it.
    fn place(&self, index: usize, header: &mut InMemDicomObject) {
        for (tag, vr, value) in [
            (tags::FRAME_OF_REFERENCE_UID, VR::UI, self.uid_of(FRAME_OF_REFERENCE).as_str()),
            (tags::POSITION_REFERENCE_INDICATOR, VR::LO, ""),
            (tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("-180\\-180\\{index}")),
            (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0"),
            (tags::PIXEL_SPACING, VR::DS, "0.7\\0.7"),
            (tags::SLICE_THICKNESS, VR::DS, "1"),
        ] {
            header.put_str(tag, vr, value);
        }
        if self.kind == Kind::Ct {
            header.put_str(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
            header.put_str(tags::RESCALE_SLOPE, VR::DS, "1");
            header.put_str(tags::KVP, VR::DS, "120");
        }
    }
}

impl Image {
    /// As a file (PS3.10).
    pub(crate) fn file(&self) -> Result<Vec<u8>> {
        let meta = FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(self.class)
            .media_storage_sop_instance_uid(self.uid.as_str())
            .transfer_syntax(TRANSFER_SYNTAX)
            .build()?;
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        meta.write(&mut file)?;
        file.extend_from_slice(&self.data_set);
        Ok(file)
    }
}

/// Pixel Data (7FE0,0010) in explicit VR: noise within the bits that are stored.
fn append_pixels(data_set: &mut Vec<u8>, layout: &Layout, seed: u64) -> Result<()> {
    let samples = usize::from(layout.rows) * usize::from(layout.columns) * usize::from(layout.samples);
    let (vr, bytes, mask) = match layout.bits_allocated {
        8 => (b"OB", samples, u64::MAX),
        _ => (b"OW", samples * 2, u64::from(u16::MAX >> (16 - layout.bits_stored)) * 0x0001_0001_0001_0001),
    };
    let bytes = bytes.next_multiple_of(2);
    data_set.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00]);
    data_set.extend_from_slice(vr);
    data_set.extend_from_slice(&[0, 0]);
    data_set.extend_from_slice(&u32::try_from(bytes).context("pixels of one image")?.to_le_bytes());
    let end = data_set.len() + bytes;
    data_set.reserve(bytes + 8);
    // Xorshift: no statistics are asked of it, only that nothing compresses it and no two images are the same.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while data_set.len() < end {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data_set.extend_from_slice(&(state & mask).to_le_bytes());
    }
    data_set.truncate(end);
    Ok(())
}
