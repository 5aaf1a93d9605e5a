//! Which tables there are, and what their columns are. `docs/catalog.md` says what each holds, with its unit and the attribute it comes from.

use serde::{Deserialize, Serialize};

/// A table of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// What a record brought of a study's acquired instances.
    Study,
    /// What a record brought of a series.
    Series,
    /// One DICOM object.
    Instance,
    /// One statement of a result.
    Finding,
    /// What a person said of a finding.
    Verdict,
    /// One run of a module on a study.
    Run,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
}

/// What every row begins with: the batch, the record, and its place in the batch, by which records are in the order of time.
pub(super) const OF_RECORD: [Column; 3] = [
    Column { name: "batch", kind: Type::Varchar },
    Column { name: "record", kind: Type::Varchar },
    Column { name: "record_number", kind: Type::Integer },
];

/// A type, by the name that SQL has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text in UTF-8.
    Varchar,
    /// Of 32 bits, with a sign.
    Integer,
    /// Of 64 bits, with a sign.
    Bigint,
    /// IEEE 754 binary64.
    Double,
    /// True or false.
    Boolean,
    /// A day.
    Date,
}

impl Type {
    /// As in `docs/catalog.md`, and as DuckDB says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Varchar => "VARCHAR",
            Self::Integer => "INTEGER",
            Self::Bigint => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Boolean => "BOOLEAN",
            Self::Date => "DATE",
        }
    }
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Study, Self::Series, Self::Instance, Self::Finding, Self::Verdict, Self::Run];

    /// As SQL and keys have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Study => "study",
            Self::Series => "series",
            Self::Instance => "instance",
            Self::Finding => "finding",
            Self::Verdict => "verdict",
            Self::Run => "run",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Its columns, without `site` and `date`, which are in the key. The first are [`OF_RECORD`].
    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Study => &STUDY,
            Self::Series => &SERIES,
            Self::Instance => &INSTANCE,
            Self::Finding => &FINDING,
            Self::Verdict => &VERDICT,
            Self::Run => &RUN,
        }
    }
}

macro_rules! columns {
    ($($kind:ident $name:ident),+ $(,)?) => {
        [
            OF_RECORD[0],
            OF_RECORD[1],
            OF_RECORD[2],
            $(Column { name: stringify!($name), kind: Type::$kind }),+
        ]
    };
}

const STUDY: [Column; 18] = columns! {
    Varchar profile,
    Varchar study_instance_uid,
    Varchar patient,
    Date study_date,
    Varchar study_description,
    Varchar patient_sex,
    Double patient_age_years,
    Double patient_size_m,
    Double patient_weight_kg,
    Varchar modalities,
    Varchar body_parts,
    Integer series,
    Integer instances,
    Bigint bytes,
    Varchar manufacturer,
};

const SERIES: [Column; 23] = columns! {
    Varchar study_instance_uid,
    Varchar series_instance_uid,
    Varchar kind,
    Varchar modality,
    Integer series_number,
    Date series_date,
    Varchar series_description,
    Varchar protocol_name,
    Varchar body_part,
    Varchar laterality,
    Varchar manufacturer,
    Varchar manufacturer_model,
    Double kvp_kv,
    Double magnetic_field_strength_t,
    Varchar convolution_kernel,
    Double slice_thickness_mm,
    Double row_spacing_mm,
    Double column_spacing_mm,
    Integer instances,
    Bigint bytes,
};

const INSTANCE: [Column; 23] = columns! {
    Varchar study_instance_uid,
    Varchar series_instance_uid,
    Varchar sop_instance_uid,
    Varchar sop_class_uid,
    Varchar kind,
    Varchar transfer_syntax_uid,
    Integer instance_number,
    Integer rows,
    Integer columns,
    Integer frames,
    Integer bits_stored,
    Varchar photometric_interpretation,
    Double position_x_mm,
    Double position_y_mm,
    Double position_z_mm,
    Varchar burned_in_annotation,
    Varchar recognizable_visual_features,
    Varchar module_sha256,
    Varchar object_sha256,
    Bigint bytes,
};

const FINDING: [Column; 26] = columns! {
    Varchar study_instance_uid,
    Varchar module,
    Varchar module_version,
    Varchar module_sha256,
    Varchar result_sha256,
    Varchar finding,
    Varchar kind,
    Varchar code_value,
    Varchar code_scheme,
    Varchar code_meaning,
    Varchar label,
    Double value,
    Varchar unit,
    Double probability,
    Varchar level,
    Bigint segment,
    Bigint voxels,
    Bigint start_x,
    Bigint start_y,
    Bigint start_z,
    Bigint size_x,
    Bigint size_y,
    Bigint size_z,
};

const VERDICT: [Column; 18] = columns! {
    Varchar study_instance_uid,
    Varchar module,
    Varchar module_version,
    Varchar module_sha256,
    Varchar result_sha256,
    Varchar finding,
    Varchar verdict,
    Date given,
    Double corrected_value,
    Varchar corrected_unit,
    Varchar corrected_level,
    Varchar corrected_code_value,
    Varchar corrected_code_scheme,
    Varchar corrected_code_meaning,
    Boolean corrected_present,
};

const RUN: [Column; 33] = columns! {
    Varchar study_instance_uid,
    Varchar module,
    Varchar module_version,
    Varchar module_sha256,
    Varchar component_sha256,
    Varchar result_sha256,
    Varchar status,
    Date run_date,
    Varchar runtime_version,
    Boolean demonstration,
    Varchar device,
    Varchar engine,
    Integer models,
    Integer series_seen,
    Integer instances_decoded,
    Integer findings,
    Integer outputs,
    Double compute_milliseconds,
    Double analysis_milliseconds,
    Double phases_milliseconds,
    Bigint host_memory_peak_bytes,
    Varchar priority,
    Integer attempts,
    Double receive_milliseconds,
    Double close_milliseconds,
    Double queue_milliseconds,
    Double wait_milliseconds,
    Double run_milliseconds,
    Double deliver_milliseconds,
    Double turnaround_milliseconds,
};
