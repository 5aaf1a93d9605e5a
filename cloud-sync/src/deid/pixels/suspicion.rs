//! What is said of an image, and what must be suspected from it.

use dicom_dictionary_std::tags;

use super::super::charset::Charset;
use super::super::subject::charset_of;
use super::super::text::{fold, spelled, words};
use super::{DataSet, Doubt, Encoding, Rectangle, Value, find, number, text};

/// Attributes that tell what an image may show.
#[derive(Debug, Default)]
pub(in super::super) struct Features {
    pub(super) sop_class: String,
    pub(super) modality: String,
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) rows: Option<u16>,
    pub(super) columns: Option<u16>,
    image_type: Vec<String>,
    /// One sample of more than 8 bits at a place in the patient.
    placed: bool,
    coloured: bool,
    captured: bool,
    burned_in: Option<bool>,
    /// Burned In Annotation is `NO`.
    pub(super) says_no: bool,
    recognizable: Option<bool>,
    /// Body part, region and descriptions.
    region: String,
    /// Body Part Examined (0018,0015) ends below the neck.
    below: bool,
}

/// Modalities whose images are calculated from measurements, without letters in them.
const CALCULATED: [&str; 4] = ["CT", "MR", "PT", "NM"];
/// Modalities whose detectors see letters of lead at most, but whose consoles may write more.
const PROJECTED: [&str; 7] = ["CR", "DX", "MG", "IO", "PX", "RG", "RTIMAGE"];
/// How words begin that name what has a face, in parts of the body and descriptions.
const HEAD: [&str; 27] = [
    "head",
    "brain",
    "skull",
    "face",
    "facial",
    "neuro",
    "crani",
    "cerebr",
    "orbit",
    "sinus",
    "maxill",
    "mandib",
    "nasal",
    "temporal",
    "iac",
    "pituitary",
    "sella",
    "tmj",
    "stroke",
    "schaedel",
    "kopf",
    "gehirn",
    "crane",
    "cerveau",
    "neck",
    "wholebody",
    "jaw",
];
/// Parts of the body (PS3.16 annex L) that end below the neck.
const BELOW: [&str; 26] = [
    "CHEST",
    "THORAX",
    "LUNG",
    "HEART",
    "BREAST",
    "ABDOMEN",
    "LIVER",
    "PELVIS",
    "PROSTATE",
    "KIDNEY",
    "HIP",
    "KNEE",
    "ANKLE",
    "FOOT",
    "LEG",
    "ARM",
    "ELBOW",
    "WRIST",
    "HAND",
    "FINGER",
    "LSPINE",
    "TSPINE",
    "LUMBAR",
    "UTERUS",
    "CHESTABDOMEN",
    "ABDOMENPELVIS",
];

impl Features {
    pub(in super::super) fn of(set: &DataSet<'_>, encoding: Encoding) -> Self {
        let yes = |tag| match text(set, tag).as_str() {
            "YES" => Some(true),
            "NO" => Some(false),
            _ => None,
        };
        let parts = [
            tags::BODY_PART_EXAMINED,
            tags::STUDY_DESCRIPTION,
            tags::SERIES_DESCRIPTION,
            tags::PROTOCOL_NAME,
            tags::REQUESTED_PROCEDURE_DESCRIPTION,
            tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION,
        ];
        let charset = charset_of(set, &Charset::default());
        let any = |set: &DataSet<'_>, tag| {
            find(set, tag).map(|e| charset.guess(e.bytes()).into_owned() + "\n").unwrap_or_default()
        };
        let mut region: String = parts.iter().map(|&tag| any(set, tag)).collect();
        let regions =
            [tags::ANATOMIC_REGION_SEQUENCE, tags::PRIMARY_ANATOMIC_STRUCTURE_SEQUENCE, tags::PROCEDURE_CODE_SEQUENCE];
        for element in regions.iter().filter_map(|&tag| find(set, tag)) {
            let Value::Items(items, _) = &element.value else { continue };
            region.extend(items.iter().map(|item| any(&item.elements, tags::CODE_MEANING)));
        }
        let burned_in = yes(tags::BURNED_IN_ANNOTATION);
        Self {
            sop_class: text(set, tags::SOP_CLASS_UID),
            modality: text(set, tags::MODALITY),
            manufacturer: text(set, tags::MANUFACTURER),
            model: text(set, tags::MANUFACTURER_MODEL_NAME),
            rows: number(set, tags::ROWS, encoding),
            columns: number(set, tags::COLUMNS, encoding),
            image_type: text(set, tags::IMAGE_TYPE).split('\\').map(|part| part.trim().to_owned()).collect(),
            placed: number(set, tags::BITS_STORED, encoding).is_some_and(|bits| bits > 8)
                && find(set, tags::IMAGE_POSITION_PATIENT).is_some_and(|e| !e.is_empty()),
            coloured: number(set, tags::SAMPLES_PER_PIXEL, encoding) == Some(3),
            captured: find(set, tags::CONVERSION_TYPE).is_some_and(|e| !e.is_empty()),
            burned_in,
            says_no: burned_in == Some(false),
            recognizable: yes(tags::RECOGNIZABLE_VISUAL_FEATURES),
            below: BELOW.contains(&text(set, tags::BODY_PART_EXAMINED).as_str()),
            region,
        }
    }

    /// Why there may be text in the pixels; nothing where there is none for all that is known.
    pub(super) fn doubt(&self, believe_no: bool) -> Option<Doubt> {
        if self.burned_in == Some(true) {
            return Some(Doubt::Stated);
        }
        // Values of voxels, not pictures: segmentation, label map, parametric map, dose.
        let values = ["66.4", "66.7", "30", "481.2"].map(|rest| format!("1.2.840.10008.5.1.4.1.1.{rest}"));
        if values.contains(&self.sop_class) {
            return None;
        }
        let screen = |part: &String| {
            matches!(part.as_str(), "SAVE" | "PRINT" | "REPORT" | "DOSE" | "PROTOCOL") || part.contains("SCREEN")
        };
        let secondary = self.image_type.iter().any(|part| part == "SECONDARY");
        if self.captured
            || self.sop_class.starts_with("1.2.840.10008.5.1.4.1.1.7.")
            || self.sop_class == "1.2.840.10008.5.1.4.1.1.7"
        {
            return Some(Doubt::Captured);
        }
        let calculated = CALCULATED.contains(&self.modality.as_str());
        // A reformatted CT is `DERIVED\SECONDARY` too; what was captured lies nowhere in the patient.
        let captured = self.coloured || secondary && !self.placed;
        if self.image_type.iter().any(screen) || calculated && captured || !calculated && secondary {
            return Some(Doubt::Captured);
        }
        if calculated {
            return None;
        }
        if PROJECTED.contains(&self.modality.as_str()) {
            return if self.says_no && believe_no { None } else { Some(Doubt::Unknown) };
        }
        Some(Doubt::Kind)
    }

    /// Whether a face could be rendered; nothing where it is not known and none is assumed.
    pub(super) fn shows_head(&self, unknown_is_head: bool) -> Option<bool> {
        let volume = ["CT", "MR", "PT"].contains(&self.modality.as_str());
        let photograph = ["XC", "OP", "ES", "GM", "DMS"].contains(&self.modality.as_str());
        // Labels of a head are no face.
        if !volume {
            return photograph.then_some(true).or(self.recognizable);
        }
        let said = |word: &str| {
            let word = spelled(&fold(word));
            HEAD.iter().any(|head| word.starts_with(head))
        };
        let whole = fold(&self.region).contains("whole body");
        match (whole || words(&self.region).any(said), self.recognizable) {
            (_, Some(stated)) => Some(stated),
            (true, None) => Some(true),
            (false, None) if self.below => Some(false),
            (false, None) => unknown_is_head.then_some(true),
        }
    }
}

/// Sequence of Ultrasound Regions (0018,6011): where the device drew an image.
pub(super) fn ultrasound_regions(set: &DataSet<'_>, encoding: Encoding) -> Vec<Rectangle> {
    let Some(Value::Items(items, _)) = find(set, tags::SEQUENCE_OF_ULTRASOUND_REGIONS).map(|e| &e.value) else {
        return Vec::new();
    };
    let corner = |set: &DataSet<'_>, tag| match *find(set, tag)?.bytes() {
        [a, b, c, d] => Some(encoding.u32([a, b, c, d])),
        _ => None,
    };
    let rectangle = |set: &DataSet<'_>| {
        let (x, y) = (corner(set, tags::REGION_LOCATION_MIN_X0)?, corner(set, tags::REGION_LOCATION_MIN_Y0)?);
        let (right, bottom) = (corner(set, tags::REGION_LOCATION_MAX_X1)?, corner(set, tags::REGION_LOCATION_MAX_Y1)?);
        let size = |from: u32, to: u32| to.checked_sub(from)?.checked_add(1);
        Some(Rectangle { x, y, width: size(x, right)?, height: size(y, bottom)? })
    };
    items.iter().filter_map(|item| rectangle(&item.elements)).collect()
}
