//! The objects that we write, module by module (PS3.3 annexes A and C).
//!
//! A table has what the standard requires (types 1, 1C where the condition can be told, and 2), and what else it fixes:
//! values, multiplicities, items. Attributes of type 3 are here only where something is said of their items.

use dicom_dictionary_std::{tags, uids};

use super::read::DataSet;
use super::rules::{Attribute, Group, Iod, Module, never, one, one_if, three, two};

/// The definition of an object of this SOP class; `None` for one that we do not write.
pub(super) fn of(class: &str) -> Option<&'static Iod> {
    IODS.iter().find(|iod| iod.class == class)
}

static IODS: [Iod; 5] = [
    Iod {
        name: "Segmentation",
        section: "A.51",
        class: uids::SEGMENTATION_STORAGE,
        modules: &[
            PATIENT,
            STUDY,
            Module { name: "Segmentation Series", section: "C.8.20.1", attributes: &series("SEG") },
            FRAME_OF_REFERENCE,
            EQUIPMENT,
            Module { name: "Segmentation Image", section: "C.8.20.2", attributes: SEGMENTATION_IMAGE },
            Module { name: "Content Identification", section: "10.9", attributes: CONTENT },
            PIXELS,
            MULTIFRAME,
            DIMENSIONS,
            REFERENCES,
            COMMON,
        ],
        groups: &[PIXEL_MEASURES, ORIENTATION, POSITION, FRAME_CONTENT, DERIVATION, SEGMENT_IDENTIFICATION],
    },
    Iod {
        name: "Parametric Map",
        section: "A.75",
        class: uids::PARAMETRIC_MAP_STORAGE,
        modules: &[
            PATIENT,
            STUDY,
            Module { name: "Parametric Map Series", section: "C.8.32.1", attributes: &series("") },
            FRAME_OF_REFERENCE,
            EQUIPMENT,
            Module {
                name: "Acquisition Context",
                section: "C.7.6.14",
                attributes: &[two(tags::ACQUISITION_CONTEXT_SEQUENCE)],
            },
            Module { name: "Floating Point Image Pixel", section: "C.7.6.24", attributes: FLOAT_PIXELS },
            Module { name: "Parametric Map Image", section: "C.8.32.2", attributes: PARAMETRIC_IMAGE },
            Module { name: "Content Identification", section: "10.9", attributes: CONTENT },
            MULTIFRAME,
            DIMENSIONS,
            REFERENCES,
            COMMON,
        ],
        groups: &[
            PIXEL_MEASURES,
            ORIENTATION,
            POSITION,
            FRAME_CONTENT,
            DERIVATION,
            VOI,
            REAL_WORLD,
            TRANSFORMATION,
            FRAME_TYPE,
        ],
    },
    Iod {
        name: "Secondary Capture",
        section: "A.8.1",
        class: uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        modules: &[
            PATIENT,
            STUDY,
            Module { name: "General Series", section: "C.7.3.1", attributes: &series("") },
            EQUIPMENT,
            Module { name: "SC Equipment", section: "C.8.6.1", attributes: CONVERSION },
            Module { name: "General Image", section: "C.7.6.1", attributes: CAPTURED_IMAGE },
            PIXELS,
            Module {
                name: "SC Image",
                section: "C.8.6.2",
                attributes: &[one(tags::DATE_OF_SECONDARY_CAPTURE), one(tags::TIME_OF_SECONDARY_CAPTURE)],
            },
            COMMON,
        ],
        groups: &[],
    },
    Iod {
        name: "Grayscale Softcopy Presentation State",
        section: "A.33.1",
        class: uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
        modules: &[
            PATIENT,
            STUDY,
            Module { name: "Presentation Series", section: "C.11.9", attributes: &series("PR") },
            EQUIPMENT,
            Module { name: "Presentation State Identification", section: "C.11.10", attributes: IDENTIFICATION },
            Module { name: "Content Identification", section: "10.9", attributes: CONTENT },
            Module { name: "Presentation State Relationship", section: "C.11.11", attributes: RELATIONSHIP },
            Module { name: "Displayed Area", section: "C.10.4", attributes: DISPLAYED_AREA },
            Module { name: "Graphic Annotation", section: "C.10.5", attributes: ANNOTATION },
            Module { name: "Graphic Layer", section: "C.10.7", attributes: LAYERS },
            Module { name: "Modality LUT", section: "C.11.1", attributes: MODALITY_LUT },
            Module { name: "Softcopy VOI LUT", section: "C.11.8", attributes: SOFTCOPY_VOI },
            Module { name: "Softcopy Presentation LUT", section: "C.11.6", attributes: PRESENTATION_LUT },
            COMMON,
        ],
        groups: &[],
    },
    Iod {
        name: "Comprehensive 3D SR",
        section: "A.35.13",
        class: uids::COMPREHENSIVE3_DSR_STORAGE,
        modules: &[
            PATIENT,
            STUDY,
            Module { name: "SR Document Series", section: "C.17.1", attributes: REPORT_SERIES },
            EQUIPMENT,
            Module { name: "SR Document General", section: "C.17.2", attributes: REPORT_GENERAL },
            Module { name: "SR Document Content", section: "C.17.3", attributes: REPORT_CONTENT },
            COMMON,
        ],
        groups: &[],
    },
];

// What all have in common. What is copied from the source has as many values as it has there: several accession numbers of one
// study, or bytes of a character that are the backslash's too.

const PATIENT: Module = Module {
    name: "Patient",
    section: "C.7.1.1",
    attributes: &[
        two(tags::PATIENT_NAME).many(),
        two(tags::PATIENT_ID).many(),
        two(tags::PATIENT_BIRTH_DATE).many(),
        two(tags::PATIENT_SEX).many(),
    ],
};

const STUDY: Module = Module {
    name: "General Study",
    section: "C.7.2.1",
    attributes: &[
        one(tags::STUDY_INSTANCE_UID),
        two(tags::STUDY_DATE).many(),
        two(tags::STUDY_TIME).many(),
        two(tags::REFERRING_PHYSICIAN_NAME).many(),
        two(tags::STUDY_ID).many(),
        two(tags::ACCESSION_NUMBER).many(),
    ],
};

/// Of a series of its own, whose number is always known.
const fn series(modality: &'static str) -> [Attribute; 3] {
    let of = match modality.as_bytes() {
        b"SEG" => one(tags::MODALITY).terms(&["SEG"]),
        b"PR" => one(tags::MODALITY).terms(&["PR"]),
        _ => one(tags::MODALITY),
    };
    [of, one(tags::SERIES_INSTANCE_UID), one(tags::SERIES_NUMBER)]
}

const FRAME_OF_REFERENCE: Module = Module {
    name: "Frame of Reference",
    section: "C.7.4.1",
    attributes: &[one(tags::FRAME_OF_REFERENCE_UID), two(tags::POSITION_REFERENCE_INDICATOR)],
};

/// What made it is always said, also where General Equipment alone would leave it out.
const EQUIPMENT: Module = Module {
    name: "Enhanced General Equipment",
    section: "C.7.5.2",
    attributes: &[
        one(tags::MANUFACTURER),
        one(tags::MANUFACTURER_MODEL_NAME),
        one(tags::DEVICE_SERIAL_NUMBER),
        one(tags::SOFTWARE_VERSIONS).many(),
    ],
};

const COMMON: Module = Module {
    name: "SOP Common",
    section: "C.12.1",
    attributes: &[one(tags::SOP_CLASS_UID), one(tags::SOP_INSTANCE_UID), three(tags::SPECIFIC_CHARACTER_SET).many()],
};

const CODE: &[Attribute] = &[
    one_if(tags::CODE_VALUE, |code| !code.has(tags::LONG_CODE_VALUE) && !code.has(tags::URN_CODE_VALUE)),
    one_if(tags::CODING_SCHEME_DESIGNATOR, |code| code.has(tags::CODE_VALUE) || code.has(tags::LONG_CODE_VALUE)),
    one(tags::CODE_MEANING),
];

const SOP_REFERENCE: &[Attribute] = &[one(tags::REFERENCED_SOP_CLASS_UID), one(tags::REFERENCED_SOP_INSTANCE_UID)];

const IMAGE_REFERENCE: &[Attribute] = &[
    one(tags::REFERENCED_SOP_CLASS_UID),
    one(tags::REFERENCED_SOP_INSTANCE_UID),
    three(tags::REFERENCED_FRAME_NUMBER).many(),
    three(tags::REFERENCED_SEGMENT_NUMBER).many(),
    three(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE).of(CODE),
];

/// Content Identification macro (10.9).
const CONTENT: &[Attribute] = &[
    one(tags::INSTANCE_NUMBER),
    one(tags::CONTENT_LABEL),
    two(tags::CONTENT_DESCRIPTION),
    two(tags::CONTENT_CREATOR_NAME),
];

// Images.

/// Image Pixel module with pixels in the object.
const PIXELS: Module = Module {
    name: "Image Pixel",
    section: "C.7.6.3",
    attributes: &[
        one(tags::SAMPLES_PER_PIXEL),
        one(tags::PHOTOMETRIC_INTERPRETATION),
        one(tags::ROWS),
        one(tags::COLUMNS),
        one(tags::BITS_ALLOCATED),
        one(tags::BITS_STORED),
        one(tags::HIGH_BIT),
        one(tags::PIXEL_REPRESENTATION),
        one_if(tags::PLANAR_CONFIGURATION, |image| image.unsigned(tags::SAMPLES_PER_PIXEL) > Some(1)),
        one(tags::PIXEL_DATA),
    ],
};

const SEGMENTATION_IMAGE: &[Attribute] = &[
    one(tags::IMAGE_TYPE).times(2, 16).begins(&["DERIVED", "PRIMARY"]),
    one(tags::SAMPLES_PER_PIXEL).is(1),
    one(tags::PHOTOMETRIC_INTERPRETATION).terms(&["MONOCHROME2"]),
    one(tags::PIXEL_REPRESENTATION).is(0),
    one(tags::LOSSY_IMAGE_COMPRESSION).terms(&["00", "01"]),
    one(tags::SEGMENTATION_TYPE).terms(&["BINARY", "FRACTIONAL"]),
    one_if(tags::SEGMENTATION_FRACTIONAL_TYPE, is_fractional).terms(&["PROBABILITY", "OCCUPANCY"]),
    one_if(tags::MAXIMUM_FRACTIONAL_VALUE, is_fractional),
    three(tags::SEGMENTS_OVERLAP).terms(&["YES", "NO", "UNDEFINED"]),
    one(tags::SEGMENT_SEQUENCE).many().of(SEGMENT),
];

fn is_fractional(image: DataSet<'_>) -> bool {
    image.text(tags::SEGMENTATION_TYPE) == "FRACTIONAL"
}

/// Segment Description macro (C.8.20.4), with what we always say: which algorithm, and how it is tracked.
const SEGMENT: &[Attribute] = &[
    one(tags::SEGMENT_NUMBER),
    one(tags::SEGMENT_LABEL),
    one(tags::SEGMENT_ALGORITHM_TYPE).terms(&["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]),
    one_if(tags::SEGMENT_ALGORITHM_NAME, |segment| segment.text(tags::SEGMENT_ALGORITHM_TYPE) != "MANUAL"),
    one(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE).of(CODE),
    one(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE).of(CODE),
    three(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE).many().of(ALGORITHM),
    three(tags::ANATOMIC_REGION_SEQUENCE).many().of(CODE),
    one_if(tags::TRACKING_ID, |segment| segment.has(tags::TRACKING_UID)),
    one_if(tags::TRACKING_UID, |segment| segment.has(tags::TRACKING_ID)),
    three(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE).times(3, 3),
];

/// Algorithm Identification macro (10.16).
const ALGORITHM: &[Attribute] =
    &[one(tags::ALGORITHM_FAMILY_CODE_SEQUENCE).of(CODE), one(tags::ALGORITHM_NAME), one(tags::ALGORITHM_VERSION)];

const FLOAT_PIXELS: &[Attribute] = &[
    one(tags::SAMPLES_PER_PIXEL).is(1),
    one(tags::PHOTOMETRIC_INTERPRETATION).terms(&["MONOCHROME2"]),
    one(tags::ROWS),
    one(tags::COLUMNS),
    one(tags::BITS_ALLOCATED).is(32),
    one(tags::FLOAT_PIXEL_DATA),
    never(tags::PIXEL_DATA),
    never(tags::BITS_STORED),
    never(tags::HIGH_BIT),
    never(tags::PIXEL_REPRESENTATION),
];

const PARAMETRIC_IMAGE: &[Attribute] = &[
    one(tags::IMAGE_TYPE).times(4, 16).begins(&["DERIVED", "PRIMARY"]),
    one(tags::BURNED_IN_ANNOTATION).terms(&["NO"]),
    one(tags::RECOGNIZABLE_VISUAL_FEATURES).terms(&["YES", "NO"]),
    one(tags::LOSSY_IMAGE_COMPRESSION).terms(&["00", "01"]),
    one(tags::PRESENTATION_LUT_SHAPE).terms(&["IDENTITY"]),
    one(tags::CONTENT_QUALIFICATION).terms(&["PRODUCT", "RESEARCH", "SERVICE"]),
];

const CONVERSION: &[Attribute] =
    &[one(tags::CONVERSION_TYPE).terms(&["DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"])];

/// General Image, of a picture with something burned in.
const CAPTURED_IMAGE: &[Attribute] = &[
    two(tags::INSTANCE_NUMBER),
    // Empty where the source says nothing of where it lies; elsewhere its geometry is asked.
    two(tags::PATIENT_ORIENTATION).times(2, 2),
    one(tags::CONTENT_DATE),
    one(tags::CONTENT_TIME),
    one(tags::IMAGE_TYPE).times(2, 16).begins(&["DERIVED"]),
    one(tags::BURNED_IN_ANNOTATION).terms(&["YES"]),
    one(tags::LOSSY_IMAGE_COMPRESSION).terms(&["00", "01"]),
    one(tags::SOURCE_IMAGE_SEQUENCE).many().of(IMAGE_REFERENCE),
    three(tags::DERIVATION_CODE_SEQUENCE).many().of(CODE),
];

// Multi-frame.

const MULTIFRAME: Module = Module {
    name: "Multi-frame Functional Groups",
    section: "C.7.6.16",
    attributes: &[
        one(tags::CONTENT_DATE),
        one(tags::CONTENT_TIME),
        one(tags::NUMBER_OF_FRAMES),
        one(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE),
        one(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).many(),
    ],
};

const DIMENSIONS: Module = Module {
    name: "Multi-frame Dimension",
    section: "C.7.6.17",
    attributes: &[
        one(tags::DIMENSION_ORGANIZATION_SEQUENCE).many().of(&[one(tags::DIMENSION_ORGANIZATION_UID)]),
        one(tags::DIMENSION_INDEX_SEQUENCE).many().of(&[
            one(tags::DIMENSION_ORGANIZATION_UID),
            one(tags::DIMENSION_INDEX_POINTER),
            one(tags::FUNCTIONAL_GROUP_POINTER),
        ]),
    ],
};

const REFERENCES: Module = Module {
    name: "Common Instance Reference",
    section: "C.12.2",
    attributes: &[one(tags::REFERENCED_SERIES_SEQUENCE)
        .many()
        .of(&[one(tags::SERIES_INSTANCE_UID), one(tags::REFERENCED_INSTANCE_SEQUENCE).many().of(SOP_REFERENCE)])],
};

const PIXEL_MEASURES: Group = Group {
    name: "Pixel Measures",
    section: "C.7.6.16.2.1",
    sequence: one(tags::PIXEL_MEASURES_SEQUENCE).of(&[
        one(tags::PIXEL_SPACING).times(2, 2),
        one(tags::SLICE_THICKNESS),
        three(tags::SPACING_BETWEEN_SLICES),
    ]),
    each: false,
};

const ORIENTATION: Group = Group {
    name: "Plane Orientation (Patient)",
    section: "C.7.6.16.2.4",
    sequence: one(tags::PLANE_ORIENTATION_SEQUENCE).of(&[one(tags::IMAGE_ORIENTATION_PATIENT).times(6, 6)]),
    each: false,
};

const POSITION: Group = Group {
    name: "Plane Position (Patient)",
    section: "C.7.6.16.2.3",
    sequence: one(tags::PLANE_POSITION_SEQUENCE).of(&[one(tags::IMAGE_POSITION_PATIENT).times(3, 3)]),
    each: false,
};

const FRAME_CONTENT: Group = Group {
    name: "Frame Content",
    section: "C.7.6.16.2.2",
    sequence: one(tags::FRAME_CONTENT_SEQUENCE).of(&[one(tags::DIMENSION_INDEX_VALUES).many()]),
    each: true,
};

const DERIVATION: Group = Group {
    name: "Derivation Image",
    section: "C.7.6.16.2.6",
    sequence: one(tags::DERIVATION_IMAGE_SEQUENCE).many().of(&[
        one(tags::DERIVATION_CODE_SEQUENCE).many().of(CODE),
        one(tags::SOURCE_IMAGE_SEQUENCE).many().of(&[
            one(tags::REFERENCED_SOP_CLASS_UID),
            one(tags::REFERENCED_SOP_INSTANCE_UID),
            one(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE).of(CODE),
            three(tags::SPATIAL_LOCATIONS_PRESERVED).terms(&["YES", "NO", "REORIENTED_ONLY"]),
        ]),
    ]),
    each: false,
};

const SEGMENT_IDENTIFICATION: Group = Group {
    name: "Segmentation",
    section: "C.8.20.3.1",
    sequence: one(tags::SEGMENT_IDENTIFICATION_SEQUENCE).of(&[one(tags::REFERENCED_SEGMENT_NUMBER)]),
    each: false,
};

const VOI: Group = Group {
    name: "Frame VOI LUT with LUT",
    section: "C.7.6.16.2.10",
    sequence: one(tags::FRAME_VOILUT_SEQUENCE).of(WINDOW),
    each: false,
};

const WINDOW: &[Attribute] = &[
    one_if(tags::WINDOW_CENTER, |window| !window.has(tags::VOILUT_SEQUENCE)).many(),
    one_if(tags::WINDOW_WIDTH, |window| window.has(tags::WINDOW_CENTER)).many(),
    three(tags::VOILUT_FUNCTION).terms(&["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
];

const REAL_WORLD: Group = Group {
    name: "Real World Value Mapping",
    section: "C.7.6.16.2.11",
    sequence: one(tags::REAL_WORLD_VALUE_MAPPING_SEQUENCE).many().of(&[
        one(tags::LUT_EXPLANATION),
        one(tags::LUT_LABEL),
        one(tags::DOUBLE_FLOAT_REAL_WORLD_VALUE_FIRST_VALUE_MAPPED),
        one(tags::DOUBLE_FLOAT_REAL_WORLD_VALUE_LAST_VALUE_MAPPED),
        one(tags::REAL_WORLD_VALUE_INTERCEPT),
        one(tags::REAL_WORLD_VALUE_SLOPE),
        one(tags::MEASUREMENT_UNITS_CODE_SEQUENCE).of(CODE),
    ]),
    each: false,
};

const TRANSFORMATION: Group = Group {
    name: "Pixel Value Transformation",
    section: "C.7.6.16.2.9",
    sequence: one(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE).of(&[
        one(tags::RESCALE_INTERCEPT),
        one(tags::RESCALE_SLOPE),
        one(tags::RESCALE_TYPE),
    ]),
    each: false,
};

const FRAME_TYPE: Group = Group {
    name: "Parametric Map Frame Type",
    section: "C.8.32.3.1",
    sequence: one(tags::PARAMETRIC_MAP_FRAME_TYPE_SEQUENCE)
        .of(&[one(tags::FRAME_TYPE).times(4, 4).begins(&["DERIVED", "PRIMARY"])]),
    each: false,
};

// Presentation states.

const IDENTIFICATION: &[Attribute] = &[one(tags::PRESENTATION_CREATION_DATE), one(tags::PRESENTATION_CREATION_TIME)];

const RELATIONSHIP: &[Attribute] = &[one(tags::REFERENCED_SERIES_SEQUENCE)
    .many()
    .of(&[one(tags::SERIES_INSTANCE_UID), one(tags::REFERENCED_IMAGE_SEQUENCE).many().of(IMAGE_REFERENCE)])];

const DISPLAYED_AREA: &[Attribute] = &[one(tags::DISPLAYED_AREA_SELECTION_SEQUENCE).many().of(&[
    three(tags::REFERENCED_IMAGE_SEQUENCE).many().of(IMAGE_REFERENCE),
    one(tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER).times(2, 2),
    one(tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER).times(2, 2),
    one(tags::PRESENTATION_SIZE_MODE).terms(&["SCALE TO FIT", "TRUE SIZE", "MAGNIFY"]),
    one_if(tags::PRESENTATION_PIXEL_SPACING, |area| !area.has(tags::PRESENTATION_PIXEL_ASPECT_RATIO)).times(2, 2),
    one_if(tags::PRESENTATION_PIXEL_MAGNIFICATION_RATIO, |area| area.text(tags::PRESENTATION_SIZE_MODE) == "MAGNIFY"),
])];

const UNITS: &[&str] = &["PIXEL", "DISPLAY", "MATRIX"];

const ANNOTATION: &[Attribute] = &[three(tags::GRAPHIC_ANNOTATION_SEQUENCE).many().of(&[
    three(tags::REFERENCED_IMAGE_SEQUENCE).many().of(IMAGE_REFERENCE),
    one(tags::GRAPHIC_LAYER),
    one_if(tags::TEXT_OBJECT_SEQUENCE, |annotation| !annotation.has(tags::GRAPHIC_OBJECT_SEQUENCE)).many().of(&[
        one_if(tags::BOUNDING_BOX_ANNOTATION_UNITS, |text| text.has(tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER))
            .terms(UNITS),
        one_if(tags::ANCHOR_POINT_ANNOTATION_UNITS, |text| text.has(tags::ANCHOR_POINT)).terms(UNITS),
        one(tags::UNFORMATTED_TEXT_VALUE),
        one_if(tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER, |text| !text.has(tags::ANCHOR_POINT)).times(2, 2),
        one_if(tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER, |text| !text.has(tags::ANCHOR_POINT)).times(2, 2),
        one_if(tags::BOUNDING_BOX_TEXT_HORIZONTAL_JUSTIFICATION, |text| {
            text.has(tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER)
        })
        .terms(&["LEFT", "RIGHT", "CENTER"]),
        one_if(tags::ANCHOR_POINT, |text| !text.has(tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER)).times(2, 2),
        one_if(tags::ANCHOR_POINT_VISIBILITY, |text| text.has(tags::ANCHOR_POINT)).terms(&["Y", "N"]),
    ]),
    one_if(tags::GRAPHIC_OBJECT_SEQUENCE, |annotation| !annotation.has(tags::TEXT_OBJECT_SEQUENCE)).many().of(&[
        one(tags::GRAPHIC_ANNOTATION_UNITS).terms(UNITS),
        one(tags::GRAPHIC_DIMENSIONS).is(2),
        one(tags::NUMBER_OF_GRAPHIC_POINTS),
        one(tags::GRAPHIC_DATA).times(2, usize::MAX),
        one(tags::GRAPHIC_TYPE).terms(&["POINT", "POLYLINE", "INTERPOLATED", "CIRCLE", "ELLIPSE"]),
        one_if(tags::GRAPHIC_FILLED, |graphic| graphic.text(tags::GRAPHIC_TYPE) != "POINT").terms(&["Y", "N"]),
    ]),
])];

const LAYERS: &[Attribute] =
    &[one_if(tags::GRAPHIC_LAYER_SEQUENCE, |state| state.has(tags::GRAPHIC_ANNOTATION_SEQUENCE)).many().of(&[
        one(tags::GRAPHIC_LAYER),
        one(tags::GRAPHIC_LAYER_ORDER),
        three(tags::GRAPHIC_LAYER_RECOMMENDED_DISPLAY_CIE_LAB_VALUE).times(3, 3),
    ])];

const MODALITY_LUT: &[Attribute] = &[
    one_if(tags::RESCALE_INTERCEPT, |state| state.has(tags::RESCALE_SLOPE)),
    one_if(tags::RESCALE_SLOPE, |state| state.has(tags::RESCALE_INTERCEPT)),
    one_if(tags::RESCALE_TYPE, |state| state.has(tags::RESCALE_INTERCEPT)),
];

const SOFTCOPY_VOI: &[Attribute] = &[three(tags::SOFTCOPY_VOILUT_SEQUENCE).many().of(&[
    three(tags::REFERENCED_IMAGE_SEQUENCE).many().of(IMAGE_REFERENCE),
    one_if(tags::WINDOW_CENTER, |window| !window.has(tags::VOILUT_SEQUENCE)).many(),
    one_if(tags::WINDOW_WIDTH, |window| window.has(tags::WINDOW_CENTER)).many(),
    three(tags::VOILUT_FUNCTION).terms(&["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
])];

const PRESENTATION_LUT: &[Attribute] =
    &[one_if(tags::PRESENTATION_LUT_SHAPE, |state| !state.has(tags::PRESENTATION_LUT_SEQUENCE))
        .terms(&["IDENTITY", "INVERSE"])];

// Reports.

const REPORT_SERIES: &[Attribute] = &[
    one(tags::MODALITY).terms(&["SR"]),
    one(tags::SERIES_INSTANCE_UID),
    one(tags::SERIES_NUMBER),
    two(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE),
];

/// Hierarchical SOP Instance Reference macro (C.17.2.1).
const EVIDENCE: &[Attribute] = &[
    one(tags::STUDY_INSTANCE_UID),
    one(tags::REFERENCED_SERIES_SEQUENCE)
        .many()
        .of(&[one(tags::SERIES_INSTANCE_UID), one(tags::REFERENCED_SOP_SEQUENCE).many().of(SOP_REFERENCE)]),
];

const REPORT_GENERAL: &[Attribute] = &[
    one(tags::INSTANCE_NUMBER),
    three(tags::PRELIMINARY_FLAG).terms(&["PRELIMINARY", "FINAL"]),
    one(tags::COMPLETION_FLAG).terms(&["PARTIAL", "COMPLETE"]),
    one(tags::VERIFICATION_FLAG).terms(&["UNVERIFIED"]),
    one(tags::CONTENT_DATE),
    one(tags::CONTENT_TIME),
    two(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE).many().of(CODE),
    one(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE).many().of(EVIDENCE),
    three(tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE).many().of(EVIDENCE),
    three(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).many().of(EVIDENCE),
    three(tags::IDENTICAL_DOCUMENTS_SEQUENCE).many().of(EVIDENCE),
];

/// The root; what is below it is held against [`ITEM`].
const REPORT_CONTENT: &[Attribute] = &[
    one(tags::VALUE_TYPE).terms(&["CONTAINER"]),
    one(tags::CONCEPT_NAME_CODE_SEQUENCE).of(CODE),
    one(tags::CONTINUITY_OF_CONTENT).terms(&["SEPARATE", "CONTINUOUS"]),
    one(tags::CONTENT_TEMPLATE_SEQUENCE).of(&[one(tags::MAPPING_RESOURCE), one(tags::TEMPLATE_IDENTIFIER)]),
    one(tags::CONTENT_SEQUENCE).many(),
];

/// An item of the content tree below the root (C.17.3, C.18).
pub(super) const ITEM: Module = Module {
    name: "SR Document Content",
    section: "C.17.3",
    attributes: &[
        one(tags::RELATIONSHIP_TYPE).terms(&[
            "CONTAINS",
            "HAS PROPERTIES",
            "HAS OBS CONTEXT",
            "HAS ACQ CONTEXT",
            "INFERRED FROM",
            "SELECTED FROM",
            "HAS CONCEPT MOD",
        ]),
        one(tags::VALUE_TYPE).terms(&[
            "TEXT",
            "NUM",
            "CODE",
            "DATETIME",
            "DATE",
            "TIME",
            "UIDREF",
            "PNAME",
            "COMPOSITE",
            "IMAGE",
            "SCOORD",
            "CONTAINER",
        ]),
        // An image in a library needs no name (C.17.3.1: where the value type alone says what it is).
        one_if(tags::CONCEPT_NAME_CODE_SEQUENCE, |item| !["IMAGE", "COMPOSITE"].contains(&item.text(tags::VALUE_TYPE)))
            .of(CODE),
        one_if(tags::TEXT_VALUE, |item| item.text(tags::VALUE_TYPE) == "TEXT"),
        one_if(tags::CONCEPT_CODE_SEQUENCE, |item| item.text(tags::VALUE_TYPE) == "CODE").of(CODE),
        one_if(tags::MEASURED_VALUE_SEQUENCE, |item| item.text(tags::VALUE_TYPE) == "NUM")
            .of(&[one(tags::NUMERIC_VALUE), one(tags::MEASUREMENT_UNITS_CODE_SEQUENCE).of(CODE)]),
        one_if(tags::UID, |item| item.text(tags::VALUE_TYPE) == "UIDREF"),
        one_if(tags::DATE, |item| item.text(tags::VALUE_TYPE) == "DATE"),
        one_if(tags::TIME, |item| item.text(tags::VALUE_TYPE) == "TIME"),
        one_if(tags::DATE_TIME, |item| item.text(tags::VALUE_TYPE) == "DATETIME"),
        one_if(tags::PERSON_NAME, |item| item.text(tags::VALUE_TYPE) == "PNAME"),
        one_if(tags::REFERENCED_SOP_SEQUENCE, |item| ["IMAGE", "COMPOSITE"].contains(&item.text(tags::VALUE_TYPE)))
            .of(IMAGE_REFERENCE),
        one_if(tags::GRAPHIC_DATA, |item| item.text(tags::VALUE_TYPE) == "SCOORD").times(2, usize::MAX),
        one_if(tags::GRAPHIC_TYPE, |item| item.text(tags::VALUE_TYPE) == "SCOORD"),
        one_if(tags::CONTINUITY_OF_CONTENT, |item| item.text(tags::VALUE_TYPE) == "CONTAINER")
            .terms(&["SEPARATE", "CONTINUOUS"]),
        three(tags::CONTENT_TEMPLATE_SEQUENCE).of(&[one(tags::MAPPING_RESOURCE), one(tags::TEMPLATE_IDENTIFIER)]),
        three(tags::CONTENT_SEQUENCE).many(),
    ],
};
