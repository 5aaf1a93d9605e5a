//! What a module may have: what its manifest asks for *and* the operator granted. Nothing else is linked.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::config::GrantConfig;
use crate::module::needs::{Interface, Needs};

/// Granted to any module that asks: its own study or stream, voxels, findings, marks, log and models carry no authority
/// beyond the images that the operator handed over, and an empty WASI carries none at all.
pub const DEFAULT_INTERFACES: [Interface; 10] = [
    Interface::Study,
    Interface::Volumes,
    Interface::Filters,
    Interface::Patches,
    Interface::Findings,
    Interface::Marks,
    Interface::Frames,
    Interface::Log,
    Interface::Nn,
    Interface::Empty,
];

/// Granted to any module that asks: how the images were made, not whose they are.
pub const DEFAULT_ATTRIBUTES: [&str; 44] = [
    "AcquisitionMatrix",
    "AcquisitionNumber",
    "BitsStored",
    "BodyPartExamined",
    "ComplexImageComponent",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "Exposure",
    "FlipAngle",
    "FrameReferenceTime",
    "FrameType",
    "GantryDetectorTilt",
    "ImageOrientationPatient",
    "ImageType",
    "ImagerPixelSpacing",
    "InversionTime",
    "KVP",
    "Laterality",
    "MagneticFieldStrength",
    "Modality",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "NominalScannedPixelSpacing",
    "PatientPosition",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ReconstructionDiameter",
    "RepetitionTime",
    "RescaleType",
    "ScanningSequence",
    "SequenceVariant",
    "SliceThickness",
    "SpacingBetweenSlices",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
    "ViewPosition",
    "WindowCenter",
    "WindowWidth",
];

/// May be granted by name: they describe the patient or the machine without naming either. Free text that people type,
/// such as a series' description or a protocol's name, is not among them: it may hold anybody's name.
pub const GRANTABLE_ATTRIBUTES: [&str; 7] = [
    "Manufacturer",
    "ManufacturerModelName",
    "PatientAge",
    "PatientSex",
    "PatientSize",
    "PatientWeight",
    "SoftwareVersions",
];

/// Whether any operator could let a module see this attribute.
#[must_use]
pub fn can_be_granted(keyword: &str) -> bool {
    DEFAULT_ATTRIBUTES.contains(&keyword) || GRANTABLE_ATTRIBUTES.contains(&keyword)
}

/// What one module has in one job.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Grants {
    /// Interfaces that are linked.
    pub interfaces: BTreeSet<Interface>,
    /// Attributes that `series.attribute` answers.
    pub attributes: BTreeSet<String>,
}

/// What the operator allows any module that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    interfaces: BTreeSet<Interface>,
    attributes: BTreeSet<String>,
    /// Those of `--grant`, as they were given: meant for this one module.
    extra: Vec<String>,
}

/// A grant that cannot be given. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No such interface.
    #[error("there is no interface `{0}` to grant; there are: {known}", known = Interface::known())]
    Interface(String),
    /// Not an attribute that a module may see.
    #[error(
        "the attribute `{0}` cannot be granted: modules see attributes that name nobody; beside the default ones \
         these can be granted: {known}",
        known = GRANTABLE_ATTRIBUTES.join(", ")
    )]
    Attribute(String),
}

impl Policy {
    /// From the configuration and the `--grant` options: an interface's name, or `attribute:KEYWORD`.
    pub fn new(config: &GrantConfig, extra: &[String]) -> Result<Self, GrantError> {
        let mut policy = Self { interfaces: BTreeSet::new(), attributes: BTreeSet::new(), extra: extra.to_vec() };
        for name in &config.interfaces {
            policy.allow_interface(name)?;
        }
        for keyword in &config.attributes {
            policy.allow_attribute(keyword)?;
        }
        for grant in extra {
            match grant.strip_prefix("attribute:") {
                Some(keyword) => policy.allow_attribute(keyword)?,
                None => policy.allow_interface(grant)?,
            }
        }
        Ok(policy)
    }

    /// Those of `--grant` that a module with these needs does not ask for: perhaps a slip of the operator's.
    #[must_use]
    pub fn unasked(&self, needs: &Needs) -> Vec<&str> {
        let asked = |grant: &str| match grant.strip_prefix("attribute:") {
            Some(keyword) => needs.attributes.iter().any(|a| a == keyword),
            None => Interface::from_str(grant).is_ok_and(|interface| needs.interfaces.contains(&interface)),
        };
        self.extra.iter().map(String::as_str).filter(|grant| !asked(grant)).collect()
    }

    fn allow_interface(&mut self, name: &str) -> Result<(), GrantError> {
        let interface = Interface::from_str(name).map_err(|_| GrantError::Interface(name.to_owned()))?;
        self.interfaces.insert(interface);
        Ok(())
    }

    fn allow_attribute(&mut self, keyword: &str) -> Result<(), GrantError> {
        if !can_be_granted(keyword) {
            return Err(GrantError::Attribute(keyword.to_owned()));
        }
        self.attributes.insert(keyword.to_owned());
        Ok(())
    }

    /// What a module with these needs gets, and what it asked for and does not get.
    #[must_use]
    pub fn grant(&self, needs: &Needs) -> (Grants, Vec<String>) {
        let mut denied = Vec::new();
        let mut granted = Grants::default();
        for &interface in &needs.interfaces {
            if self.interfaces.contains(&interface) {
                granted.interfaces.insert(interface);
            } else {
                denied.push(interface.name().to_owned());
            }
        }
        for keyword in &needs.attributes {
            if self.attributes.contains(keyword) {
                granted.attributes.insert(keyword.clone());
            } else {
                denied.push(format!("attribute:{keyword}"));
            }
        }
        (granted, denied)
    }
}

impl Grants {
    /// Whether a component may import `name`, such as `gantry:imaging/volumes@0.1.0`.
    pub fn check_import(&self, name: &str) -> Result<(), ImportError> {
        let refused = |reason| Err(ImportError { import: name.to_owned(), reason });
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        if path == "gantry:imaging/types" {
            return Ok(());
        }
        let Some(interface) = Interface::of_import(path) else {
            return refused(ImportReason::Unknown);
        };
        if !interface.offers(version) {
            return refused(ImportReason::Version(interface.offered()));
        }
        // `volumes` speaks of tensors, so it brings their interface along.
        let tensors = path == "wasi:nn/tensor" && self.interfaces.contains(&Interface::Volumes);
        let empty = interface.is_wasi() && self.interfaces.contains(&Interface::Empty);
        if self.interfaces.contains(&interface) || tensors || empty {
            Ok(())
        } else {
            refused(ImportReason::NotGranted(interface.name()))
        }
    }
}

/// A component imports what it may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the component imports `{import}`, {reason}")]
pub struct ImportError {
    /// The import's name in the component.
    pub import: String,
    /// Why not.
    pub reason: ImportReason,
}

/// Why an import was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportReason {
    /// The runtime has no such interface.
    #[error("which this runtime does not offer to any module")]
    Unknown,
    /// Another version.
    #[error("but this runtime offers version {0}")]
    Version(&'static str),
    /// The manifest does not ask for it, or the operator did not grant it.
    #[error(
        "which was not granted: the manifest must list `{0}` under needs.interfaces and the operator must allow it (--grant {0})"
    )]
    NotGranted(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(interfaces: &[Interface], attributes: &[&str]) -> Needs {
        Needs {
            interfaces: interfaces.to_vec(),
            attributes: attributes.iter().map(|&a| a.to_owned()).collect(),
            ..Needs::default()
        }
    }

    #[test]
    fn a_module_gets_what_it_asks_for_and_was_granted() {
        let policy = Policy::new(&GrantConfig::default(), &["attribute:PatientSex".into()]).expect("a policy");
        let (grants, denied) = policy
            .grant(&needs(&[Interface::Volumes, Interface::Clocks], &["SliceThickness", "PatientSex", "PatientAge"]));
        assert_eq!(grants.interfaces, BTreeSet::from([Interface::Volumes]));
        assert_eq!(grants.attributes, BTreeSet::from(["SliceThickness".into(), "PatientSex".into()]));
        assert_eq!(denied, ["wasi:clocks", "attribute:PatientAge"]);
    }

    #[test]
    fn identity_cannot_be_granted() {
        for keyword in ["PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "SeriesDescription"] {
            let error = Policy::new(&GrantConfig::default(), &[format!("attribute:{keyword}")]).expect_err(keyword);
            assert!(error.to_string().contains("attributes that name nobody"), "{error}");
        }
    }

    #[test]
    fn an_empty_wasi_covers_all_of_it_and_nothing_else() {
        let grants = Grants { interfaces: BTreeSet::from([Interface::Empty]), ..Grants::default() };
        for name in ["clocks/wall-clock", "random/random", "sockets/tcp", "cli/exit", "filesystem/types", "io/poll"] {
            assert_eq!(grants.check_import(&format!("wasi:{name}@0.2.12")), Ok(()), "{name}");
        }
        for name in ["wasi:http/types@0.2.10", "wasi:clocks/wall-clock@0.3.0", "wasi:nn/graph@0.2.0-rc-2024-10-28"] {
            assert!(grants.check_import(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_import_is_refused_by_name_with_the_remedy() {
        let grants = Grants { interfaces: BTreeSet::from([Interface::Volumes, Interface::Study]), ..Grants::default() };
        let refused = |name: &str| grants.check_import(name).expect_err(name).to_string();
        assert_eq!(grants.check_import("gantry:imaging/volumes@0.1.0"), Ok(()));
        assert_eq!(grants.check_import("wasi:nn/tensor@0.2.0-rc-2024-10-28"), Ok(()));
        assert!(refused("wasi:nn/graph@0.2.0-rc-2024-10-28").contains("--grant wasi:nn"));
        assert!(refused("wasi:clocks/wall-clock@0.2.6").contains("--grant wasi:clocks"));
        assert!(refused("wasi:sockets/tcp@0.2.0").contains("--grant wasi:empty"));
        assert!(refused("wasi:http/types@0.2.0").contains("does not offer"));
        assert!(refused("gantry:imaging/volumes@0.9.0").contains("offers version 0.1"));
        assert!(refused("evil").contains("does not offer"));
    }
}
