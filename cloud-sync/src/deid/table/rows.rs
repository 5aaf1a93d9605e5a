//! The rows of table E.1-1 of PS3.15, in the order of tags.

use super::Basic::{D, U, X, XD, XZ, XZD, XZU, Z, ZD};
use super::Row;
use super::option::*;

#[rustfmt::skip]
pub(super) const ROWS: [Row; 621] = [
    // Affected SOP Instance UID
    Row::new(0x0000_1000, X, UIDS_K),
    // Requested SOP Instance UID
    Row::new(0x0000_1001, U, UIDS_K),
    // Private Attributes
    Row::new(0x0001_0001, X, PRIVATE_C),
    // Media Storage SOP Instance UID
    Row::new(0x0002_0003, U, UIDS_K),
    // Referenced SOP Instance UID in File
    Row::new(0x0004_1511, U, UIDS_K),
    // Instance Creation Date
    Row::new(0x0008_0012, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Instance Creation Time
    Row::new(0x0008_0013, XZD, FULL_DATES_K | MODIFIED_DATES_C),
    // Instance Creator UID
    Row::new(0x0008_0014, U, UIDS_K),
    // Instance Coercion DateTime
    Row::new(0x0008_0015, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Acquisition UID
    Row::new(0x0008_0017, U, UIDS_K),
    // SOP Instance UID
    Row::new(0x0008_0018, U, UIDS_K),
    // Pyramid UID
    Row::new(0x0008_0019, U, UIDS_K),
    // Study Date
    Row::new(0x0008_0020, Z, FULL_DATES_K | MODIFIED_DATES_C),
    // Series Date
    Row::new(0x0008_0021, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Acquisition Date
    Row::new(0x0008_0022, XZ, FULL_DATES_K | MODIFIED_DATES_C),
    // Content Date
    Row::new(0x0008_0023, ZD, FULL_DATES_K | MODIFIED_DATES_C),
    // Overlay Date
    Row::new(0x0008_0024, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Curve Date
    Row::new(0x0008_0025, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Acquisition DateTime
    Row::new(0x0008_002A, XZD, FULL_DATES_K | MODIFIED_DATES_C),
    // Study Time
    Row::new(0x0008_0030, Z, FULL_DATES_K | MODIFIED_DATES_C),
    // Series Time
    Row::new(0x0008_0031, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Acquisition Time
    Row::new(0x0008_0032, XZ, FULL_DATES_K | MODIFIED_DATES_C),
    // Content Time
    Row::new(0x0008_0033, ZD, FULL_DATES_K | MODIFIED_DATES_C),
    // Overlay Time
    Row::new(0x0008_0034, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Curve Time
    Row::new(0x0008_0035, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Accession Number
    Row::new(0x0008_0050, Z, 0),
    // Retrieve AE Title
    Row::new(0x0008_0054, X, DEVICE_C),
    // Station AE Title
    Row::new(0x0008_0055, X, DEVICE_C),
    // Failed SOP Instance UID List
    Row::new(0x0008_0058, U, UIDS_K),
    // Institution Name
    Row::new(0x0008_0080, XZD, INSTITUTION_K),
    // Institution Address
    Row::new(0x0008_0081, X, INSTITUTION_K),
    // Institution Code Sequence
    Row::new(0x0008_0082, XZD, INSTITUTION_K),
    // Referring Physician's Name
    Row::new(0x0008_0090, Z, 0),
    // Referring Physician's Address
    Row::new(0x0008_0092, X, 0),
    // Referring Physician's Telephone Numbers
    Row::new(0x0008_0094, X, 0),
    // Referring Physician Identification Sequence
    Row::new(0x0008_0096, X, 0),
    // Consulting Physician's Name
    Row::new(0x0008_009C, Z, 0),
    // Consulting Physician Identification Sequence
    Row::new(0x0008_009D, X, 0),
    // Context Group Version
    Row::new(0x0008_0106, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Context Group Local Version
    Row::new(0x0008_0107, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Timezone Offset From UTC
    Row::new(0x0008_0201, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Network ID
    Row::new(0x0008_1000, X, DEVICE_C),
    // Station Name
    Row::new(0x0008_1010, XZD, DEVICE_K),
    // Study Description
    Row::new(0x0008_1030, X, DESCRIPTORS_C),
    // Series Description
    Row::new(0x0008_103E, X, DESCRIPTORS_C),
    // Institutional Department Name
    Row::new(0x0008_1040, X, INSTITUTION_K),
    // Institutional Department Type Code Sequence
    Row::new(0x0008_1041, X, INSTITUTION_K),
    // Physician(s) of Record
    Row::new(0x0008_1048, X, 0),
    // Physician(s) of Record Identification Sequence
    Row::new(0x0008_1049, X, 0),
    // Performing Physician's Name
    Row::new(0x0008_1050, X, 0),
    // Performing Physician Identification Sequence
    Row::new(0x0008_1052, X, 0),
    // Name of Physician(s) Reading Study
    Row::new(0x0008_1060, X, 0),
    // Physician(s) Reading Study Identification Sequence
    Row::new(0x0008_1062, X, 0),
    // Operators' Name
    Row::new(0x0008_1070, XZD, 0),
    // Operator Identification Sequence
    Row::new(0x0008_1072, XD, 0),
    // Admitting Diagnoses Description
    Row::new(0x0008_1080, X, DESCRIPTORS_C),
    // Admitting Diagnoses Code Sequence
    Row::new(0x0008_1084, X, DESCRIPTORS_C),
    // Pyramid Description
    Row::new(0x0008_1088, X, DESCRIPTORS_C),
    // Referenced Study Sequence
    Row::new(0x0008_1110, XZ, UIDS_K),
    // Referenced Performed Procedure Step Sequence
    Row::new(0x0008_1111, XZD, UIDS_K),
    // Referenced Patient Sequence
    Row::new(0x0008_1120, X, UIDS_K),
    // Referenced Image Sequence
    Row::new(0x0008_1140, XZU, UIDS_K),
    // Referenced SOP Instance UID
    Row::new(0x0008_1155, U, UIDS_K),
    // Transaction UID
    Row::new(0x0008_1195, U, UIDS_K),
    // Derivation Description
    Row::new(0x0008_2111, X, DESCRIPTORS_C),
    // Source Image Sequence
    Row::new(0x0008_2112, XZU, UIDS_K),
    // Irradiation Event UID
    Row::new(0x0008_3010, U, UIDS_K),
    // Identifying Comments
    Row::new(0x0008_4000, X, DESCRIPTORS_C),
    // Patient's Name
    Row::new(0x0010_0010, Z, 0),
    // Patient ID
    Row::new(0x0010_0020, ZD, 0),
    // Issuer of Patient ID
    Row::new(0x0010_0021, X, 0),
    // Patient's Birth Date
    Row::new(0x0010_0030, Z, 0),
    // Patient's Birth Time
    Row::new(0x0010_0032, X, 0),
    // Patient's Sex
    Row::new(0x0010_0040, Z, PATIENT_K),
    // Patient's Insurance Plan Code Sequence
    Row::new(0x0010_0050, X, 0),
    // Patient's Primary Language Code Sequence
    Row::new(0x0010_0101, X, 0),
    // Patient's Primary Language Modifier Code Sequence
    Row::new(0x0010_0102, X, 0),
    // Other Patient IDs
    Row::new(0x0010_1000, X, 0),
    // Other Patient Names
    Row::new(0x0010_1001, X, 0),
    // Other Patient IDs Sequence
    Row::new(0x0010_1002, X, 0),
    // Patient's Birth Name
    Row::new(0x0010_1005, X, 0),
    // Patient's Age
    Row::new(0x0010_1010, X, PATIENT_K),
    // Patient's Size
    Row::new(0x0010_1020, X, PATIENT_K),
    // Patient's Weight
    Row::new(0x0010_1030, X, PATIENT_K),
    // Patient's Address
    Row::new(0x0010_1040, X, 0),
    // Insurance Plan Identification
    Row::new(0x0010_1050, X, 0),
    // Patient's Mother's Birth Name
    Row::new(0x0010_1060, X, 0),
    // Military Rank
    Row::new(0x0010_1080, X, 0),
    // Branch of Service
    Row::new(0x0010_1081, X, 0),
    // Medical Record Locator
    Row::new(0x0010_1090, X, 0),
    // Referenced Patient Photo Sequence
    Row::new(0x0010_1100, X, 0),
    // Medical Alerts
    Row::new(0x0010_2000, X, DESCRIPTORS_C),
    // Allergies
    Row::new(0x0010_2110, X, PATIENT_C | DESCRIPTORS_C),
    // Country of Residence
    Row::new(0x0010_2150, X, 0),
    // Region of Residence
    Row::new(0x0010_2152, X, 0),
    // Patient's Telephone Numbers
    Row::new(0x0010_2154, X, 0),
    // Patient's Telecom Information
    Row::new(0x0010_2155, X, 0),
    // Ethnic Group
    Row::new(0x0010_2160, X, PATIENT_K),
    // Occupation
    Row::new(0x0010_2180, X, DESCRIPTORS_C),
    // Smoking Status
    Row::new(0x0010_21A0, X, PATIENT_K),
    // Additional Patient History
    Row::new(0x0010_21B0, X, DESCRIPTORS_C),
    // Pregnancy Status
    Row::new(0x0010_21C0, X, PATIENT_K),
    // Last Menstrual Date
    Row::new(0x0010_21D0, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Patient's Religious Preference
    Row::new(0x0010_21F0, X, 0),
    // Patient's Sex Neutered
    Row::new(0x0010_2203, XZ, PATIENT_K),
    // Responsible Person
    Row::new(0x0010_2297, X, 0),
    // Responsible Organization
    Row::new(0x0010_2299, X, 0),
    // Patient Comments
    Row::new(0x0010_4000, X, DESCRIPTORS_C),
    // Clinical Trial Sponsor Name
    Row::new(0x0012_0010, D, 0),
    // Clinical Trial Protocol ID
    Row::new(0x0012_0020, D, 0),
    // Clinical Trial Protocol Name
    Row::new(0x0012_0021, Z, 0),
    // Issuer of Clinical Trial Protocol ID
    Row::new(0x0012_0022, X, 0),
    // Other Clinical Trial Protocol IDs Sequence
    Row::new(0x0012_0023, X, 0),
    // Clinical Trial Site ID
    Row::new(0x0012_0030, Z, INSTITUTION_K),
    // Clinical Trial Site Name
    Row::new(0x0012_0031, Z, INSTITUTION_K),
    // Issuer of Clinical Trial Site ID
    Row::new(0x0012_0032, X, 0),
    // Clinical Trial Subject ID
    Row::new(0x0012_0040, D, 0),
    // Issuer of Clinical Trial Subject ID
    Row::new(0x0012_0041, X, 0),
    // Clinical Trial Subject Reading ID
    Row::new(0x0012_0042, D, 0),
    // Issuer of Clinical Trial Subject Reading ID
    Row::new(0x0012_0043, X, 0),
    // Clinical Trial Time Point ID
    Row::new(0x0012_0050, Z, 0),
    // Clinical Trial Time Point Description
    Row::new(0x0012_0051, X, DESCRIPTORS_C),
    // Issuer of Clinical Trial Time Point ID
    Row::new(0x0012_0055, X, 0),
    // Clinical Trial Coordinating Center Name
    Row::new(0x0012_0060, Z, INSTITUTION_K),
    // Clinical Trial Series ID
    Row::new(0x0012_0071, X, 0),
    // Clinical Trial Series Description
    Row::new(0x0012_0072, X, DESCRIPTORS_C),
    // Issuer of Clinical Trial Series ID
    Row::new(0x0012_0073, X, 0),
    // Clinical Trial Protocol Ethics Committee Name
    Row::new(0x0012_0081, D, INSTITUTION_K),
    // Clinical Trial Protocol Ethics Committee Approval Number
    Row::new(0x0012_0082, X, 0),
    // Ethics Committee Approval Effectiveness Start Date
    Row::new(0x0012_0086, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Ethics Committee Approval Effectiveness End Date
    Row::new(0x0012_0087, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Calibration Time
    Row::new(0x0014_407C, X, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Calibration Date
    Row::new(0x0014_407E, X, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Maker Note
    Row::new(0x0016_002B, X, DESCRIPTORS_C),
    // Device Setting Description
    Row::new(0x0016_004B, X, DESCRIPTORS_C),
    // Camera Owner Name
    Row::new(0x0016_004D, X, 0),
    // Lens Specification
    Row::new(0x0016_004E, X, DEVICE_K),
    // Lens Make
    Row::new(0x0016_004F, X, DEVICE_K),
    // Lens Model
    Row::new(0x0016_0050, X, DEVICE_K),
    // Lens Serial Number
    Row::new(0x0016_0051, X, DEVICE_K),
    // GPS Version ID
    Row::new(0x0016_0070, X, 0),
    // GPS Latitude Ref
    Row::new(0x0016_0071, X, 0),
    // GPS Latitude
    Row::new(0x0016_0072, X, 0),
    // GPS Longitude Ref
    Row::new(0x0016_0073, X, 0),
    // GPS Longitude
    Row::new(0x0016_0074, X, 0),
    // GPS Altitude Ref
    Row::new(0x0016_0075, X, 0),
    // GPS Altitude
    Row::new(0x0016_0076, X, 0),
    // GPS Time Stamp
    Row::new(0x0016_0077, X, 0),
    // GPS Satellites
    Row::new(0x0016_0078, X, 0),
    // GPS Status
    Row::new(0x0016_0079, X, 0),
    // GPS Measure Mode
    Row::new(0x0016_007A, X, 0),
    // GPS DOP
    Row::new(0x0016_007B, X, 0),
    // GPS Speed Ref
    Row::new(0x0016_007C, X, 0),
    // GPS Speed
    Row::new(0x0016_007D, X, 0),
    // GPS Track Ref
    Row::new(0x0016_007E, X, 0),
    // GPS Track
    Row::new(0x0016_007F, X, 0),
    // GPS Img Direction Ref
    Row::new(0x0016_0080, X, 0),
    // GPS Img Direction
    Row::new(0x0016_0081, X, 0),
    // GPS Map Datum
    Row::new(0x0016_0082, X, 0),
    // GPS Dest Latitude Ref
    Row::new(0x0016_0083, X, 0),
    // GPS Dest Latitude
    Row::new(0x0016_0084, X, 0),
    // GPS Dest Longitude Ref
    Row::new(0x0016_0085, X, 0),
    // GPS Dest Longitude
    Row::new(0x0016_0086, X, 0),
    // GPS Dest Bearing Ref
    Row::new(0x0016_0087, X, 0),
    // GPS Dest Bearing
    Row::new(0x0016_0088, X, 0),
    // GPS Dest Distance Ref
    Row::new(0x0016_0089, X, 0),
    // GPS Dest Distance
    Row::new(0x0016_008A, X, 0),
    // GPS Processing Method
    Row::new(0x0016_008B, X, 0),
    // GPS Area Information
    Row::new(0x0016_008C, X, 0),
    // GPS Date Stamp
    Row::new(0x0016_008D, X, FULL_DATES_K | MODIFIED_DATES_C),
    // GPS Differential
    Row::new(0x0016_008E, X, 0),
    // Contrast/Bolus Agent
    Row::new(0x0018_0010, ZD, DESCRIPTORS_C),
    // Intervention Drug Stop Time
    Row::new(0x0018_0027, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Intervention Drug Start Time
    Row::new(0x0018_0035, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Device Serial Number
    Row::new(0x0018_1000, XZD, DEVICE_K),
    // Device UID
    Row::new(0x0018_1002, U, UIDS_K | DEVICE_K),
    // Plate ID
    Row::new(0x0018_1004, X, DEVICE_K),
    // Generator ID
    Row::new(0x0018_1005, X, DEVICE_K),
    // Cassette ID
    Row::new(0x0018_1007, X, DEVICE_K),
    // Gantry ID
    Row::new(0x0018_1008, X, DEVICE_K),
    // Unique Device Identifier
    Row::new(0x0018_1009, X, DEVICE_K),
    // UDI Sequence
    Row::new(0x0018_100A, X, DEVICE_K),
    // Manufacturer's Device Class UID
    Row::new(0x0018_100B, U, UIDS_K | DEVICE_K),
    // Date of Secondary Capture
    Row::new(0x0018_1012, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Time of Secondary Capture
    Row::new(0x0018_1014, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Protocol Name
    Row::new(0x0018_1030, XD, DESCRIPTORS_C),
    // Contrast/Bolus Start Time
    Row::new(0x0018_1042, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Contrast/Bolus Stop Time
    Row::new(0x0018_1043, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Radiopharmaceutical Start Time
    Row::new(0x0018_1072, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Radiopharmaceutical Stop Time
    Row::new(0x0018_1073, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Radiopharmaceutical Start DateTime
    Row::new(0x0018_1078, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Radiopharmaceutical Stop DateTime
    Row::new(0x0018_1079, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Acquisition Field Of View Label
    Row::new(0x0018_11BB, D, DESCRIPTORS_C),
    // Date of Last Calibration
    Row::new(0x0018_1200, X, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Time of Last Calibration
    Row::new(0x0018_1201, X, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // DateTime of Last Calibration
    Row::new(0x0018_1202, X, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Calibration DateTime
    Row::new(0x0018_1203, Z, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Date of Manufacture
    Row::new(0x0018_1204, X, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Date of Installation
    Row::new(0x0018_1205, X, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Acquisition Device Processing Description
    Row::new(0x0018_1400, XD, DESCRIPTORS_C),
    // Target UID
    Row::new(0x0018_2042, U, UIDS_K),
    // Acquisition Comments
    Row::new(0x0018_4000, X, DESCRIPTORS_C),
    // Transducer Identification Sequence
    Row::new(0x0018_5011, X, DEVICE_K),
    // Detector ID
    Row::new(0x0018_700A, XD, DEVICE_K),
    // Date of Last Detector Calibration
    Row::new(0x0018_700C, XD, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Time of Last Detector Calibration
    Row::new(0x0018_700E, XD, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Frame Acquisition DateTime
    Row::new(0x0018_9074, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Frame Reference DateTime
    Row::new(0x0018_9151, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Respiratory Motion Compensation Technique Description
    Row::new(0x0018_9185, X, DESCRIPTORS_C),
    // X-Ray Source ID
    Row::new(0x0018_9367, D, DEVICE_K),
    // Source Start DateTime
    Row::new(0x0018_9369, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Source End DateTime
    Row::new(0x0018_936A, D, FULL_DATES_K | MODIFIED_DATES_C),
    // X-Ray Detector ID
    Row::new(0x0018_9371, D, DEVICE_K),
    // X-Ray Detector Label
    Row::new(0x0018_9373, X, DEVICE_K),
    // Multi-energy Acquisition Description
    Row::new(0x0018_937B, X, DESCRIPTORS_C),
    // Decomposition Description
    Row::new(0x0018_937F, X, DESCRIPTORS_C),
    // Acquisition Protocol Description
    Row::new(0x0018_9424, X, DESCRIPTORS_C),
    // Start Acquisition DateTime
    Row::new(0x0018_9516, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // End Acquisition DateTime
    Row::new(0x0018_9517, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Functional Sync Pulse
    Row::new(0x0018_9623, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Decay Correction DateTime
    Row::new(0x0018_9701, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Exclusion Start DateTime
    Row::new(0x0018_9804, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Instruction Performed DateTime
    Row::new(0x0018_9919, ZD, FULL_DATES_K | MODIFIED_DATES_C),
    // Requested Series Description
    Row::new(0x0018_9937, X, DESCRIPTORS_C),
    // Contribution DateTime
    Row::new(0x0018_A002, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Contribution Description
    Row::new(0x0018_A003, X, DESCRIPTORS_C),
    // Study Instance UID
    Row::new(0x0020_000D, U, UIDS_K),
    // Series Instance UID
    Row::new(0x0020_000E, U, UIDS_K),
    // Study ID
    Row::new(0x0020_0010, Z, 0),
    // Pyramid Label
    Row::new(0x0020_0027, X, DESCRIPTORS_C),
    // Frame of Reference UID
    Row::new(0x0020_0052, U, UIDS_K),
    // Synchronization Frame of Reference UID
    Row::new(0x0020_0200, U, UIDS_K),
    // Modifying Device ID
    Row::new(0x0020_3401, X, DEVICE_K),
    // Modified Image Date
    Row::new(0x0020_3403, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Modified Image Time
    Row::new(0x0020_3405, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Modified Image Description
    Row::new(0x0020_3406, X, 0),
    // Image Comments
    Row::new(0x0020_4000, X, DESCRIPTORS_C),
    // Frame Comments
    Row::new(0x0020_9158, X, DESCRIPTORS_C),
    // Concatenation UID
    Row::new(0x0020_9161, U, UIDS_K),
    // Dimension Organization UID
    Row::new(0x0020_9164, U, UIDS_K),
    // Palette Color Lookup Table UID
    Row::new(0x0028_1199, U, UIDS_K),
    // Large Palette Color Lookup Table UID
    Row::new(0x0028_1214, U, UIDS_K),
    // Image Presentation Comments
    Row::new(0x0028_4000, X, 0),
    // Study ID Issuer
    Row::new(0x0032_0012, X, 0),
    // Study Verified Date
    Row::new(0x0032_0032, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Study Verified Time
    Row::new(0x0032_0033, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Study Read Date
    Row::new(0x0032_0034, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Study Read Time
    Row::new(0x0032_0035, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Study Start Date
    Row::new(0x0032_1000, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Study Start Time
    Row::new(0x0032_1001, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Study Stop Date
    Row::new(0x0032_1010, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Study Stop Time
    Row::new(0x0032_1011, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Study Location
    Row::new(0x0032_1020, X, DEVICE_K),
    // Scheduled Study Location AE Title
    Row::new(0x0032_1021, X, DEVICE_C),
    // Reason for Study
    Row::new(0x0032_1030, X, DESCRIPTORS_C),
    // Requesting Physician
    Row::new(0x0032_1032, X, 0),
    // Requesting Service
    Row::new(0x0032_1033, X, 0),
    // Study Arrival Date
    Row::new(0x0032_1040, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Study Arrival Time
    Row::new(0x0032_1041, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Study Completion Date
    Row::new(0x0032_1050, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Study Completion Time
    Row::new(0x0032_1051, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Requested Procedure Description
    Row::new(0x0032_1060, XZ, DESCRIPTORS_C),
    // Reason for Visit
    Row::new(0x0032_1066, X, DESCRIPTORS_C),
    // Reason for Visit Code Sequence
    Row::new(0x0032_1067, X, DESCRIPTORS_C),
    // Requested Contrast Agent
    Row::new(0x0032_1070, X, DESCRIPTORS_C),
    // Study Comments
    Row::new(0x0032_4000, X, DESCRIPTORS_C),
    // Flow Identifier Sequence
    Row::new(0x0034_0001, D, 0),
    // Flow Identifier
    Row::new(0x0034_0002, D, 0),
    // Source Identifier
    Row::new(0x0034_0005, D, 0),
    // Frame Origin Timestamp
    Row::new(0x0034_0007, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Referenced Patient Alias Sequence
    Row::new(0x0038_0004, X, 0),
    // Admission ID
    Row::new(0x0038_0010, X, 0),
    // Issuer of Admission ID
    Row::new(0x0038_0011, X, 0),
    // Issuer of Admission ID Sequence
    Row::new(0x0038_0014, X, 0),
    // Scheduled Admission Date
    Row::new(0x0038_001A, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Admission Time
    Row::new(0x0038_001B, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Discharge Date
    Row::new(0x0038_001C, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Discharge Time
    Row::new(0x0038_001D, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Patient Institution Residence
    Row::new(0x0038_001E, X, 0),
    // Admitting Date
    Row::new(0x0038_0020, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Admitting Time
    Row::new(0x0038_0021, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Discharge Date
    Row::new(0x0038_0030, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Discharge Time
    Row::new(0x0038_0032, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Discharge Diagnosis Description
    Row::new(0x0038_0040, X, DESCRIPTORS_C),
    // Special Needs
    Row::new(0x0038_0050, X, PATIENT_C),
    // Service Episode ID
    Row::new(0x0038_0060, X, 0),
    // Issuer of Service Episode ID
    Row::new(0x0038_0061, X, 0),
    // Service Episode Description
    Row::new(0x0038_0062, X, DESCRIPTORS_C),
    // Issuer of Service Episode ID Sequence
    Row::new(0x0038_0064, X, 0),
    // Current Patient Location
    Row::new(0x0038_0300, X, 0),
    // Patient's Institution Residence
    Row::new(0x0038_0400, X, 0),
    // Patient State
    Row::new(0x0038_0500, X, PATIENT_C | DESCRIPTORS_C),
    // Visit Comments
    Row::new(0x0038_4000, X, DESCRIPTORS_C),
    // Multiplex Group UID
    Row::new(0x003A_0310, U, UIDS_K),
    // Impedance Measurement DateTime
    Row::new(0x003A_0314, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Waveform Filter Description
    Row::new(0x003A_0329, X, DESCRIPTORS_C),
    // Filter Lookup Table Description
    Row::new(0x003A_032B, X, DESCRIPTORS_C),
    // Scheduled Station AE Title
    Row::new(0x0040_0001, X, DEVICE_C),
    // Scheduled Procedure Step Start Date
    Row::new(0x0040_0002, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Procedure Step Start Time
    Row::new(0x0040_0003, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Procedure Step End Date
    Row::new(0x0040_0004, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Procedure Step End Time
    Row::new(0x0040_0005, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Performing Physician's Name
    Row::new(0x0040_0006, X, 0),
    // Scheduled Procedure Step Description
    Row::new(0x0040_0007, X, DESCRIPTORS_C),
    // Scheduled Procedure Step ID
    Row::new(0x0040_0009, X, 0),
    // Scheduled Performing Physician Identification Sequence
    Row::new(0x0040_000B, X, 0),
    // Scheduled Station Name
    Row::new(0x0040_0010, X, DEVICE_K),
    // Scheduled Procedure Step Location
    Row::new(0x0040_0011, X, DEVICE_K),
    // Pre-Medication
    Row::new(0x0040_0012, X, PATIENT_C),
    // Performed Station AE Title
    Row::new(0x0040_0241, X, DEVICE_C),
    // Performed Station Name
    Row::new(0x0040_0242, X, DEVICE_K),
    // Performed Location
    Row::new(0x0040_0243, X, 0),
    // Performed Procedure Step Start Date
    Row::new(0x0040_0244, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Performed Procedure Step Start Time
    Row::new(0x0040_0245, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Performed Procedure Step End Date
    Row::new(0x0040_0250, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Performed Procedure Step End Time
    Row::new(0x0040_0251, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Performed Procedure Step ID
    Row::new(0x0040_0253, X, 0),
    // Performed Procedure Step Description
    Row::new(0x0040_0254, X, DESCRIPTORS_C),
    // Request Attributes Sequence
    Row::new(0x0040_0275, X, DESCRIPTORS_C),
    // Comments on the Performed Procedure Step
    Row::new(0x0040_0280, X, DESCRIPTORS_C),
    // Comments on Radiation Dose
    Row::new(0x0040_0310, X, DESCRIPTORS_C),
    // Specimen Accession Number
    Row::new(0x0040_050A, X, 0),
    // Container Identifier
    Row::new(0x0040_0512, D, 0),
    // Issuer of the Container Identifier Sequence
    Row::new(0x0040_0513, Z, 0),
    // Container Description
    Row::new(0x0040_051A, X, DESCRIPTORS_C),
    // Specimen Identifier
    Row::new(0x0040_0551, D, 0),
    // Specimen UID
    Row::new(0x0040_0554, U, UIDS_K),
    // Acquisition Context Sequence
    Row::new(0x0040_0555, XZ, STRUCTURED_C),
    // Issuer of the Specimen Identifier Sequence
    Row::new(0x0040_0562, Z, 0),
    // Specimen Short Description
    Row::new(0x0040_0600, X, DESCRIPTORS_C),
    // Specimen Detailed Description
    Row::new(0x0040_0602, X, DESCRIPTORS_C),
    // Specimen Preparation Sequence
    Row::new(0x0040_0610, Z, STRUCTURED_C),
    // Slide Identifier
    Row::new(0x0040_06FA, X, 0),
    // Requested Procedure ID
    Row::new(0x0040_1001, X, 0),
    // Reason for the Requested Procedure
    Row::new(0x0040_1002, X, DESCRIPTORS_C),
    // Patient Transport Arrangements
    Row::new(0x0040_1004, X, 0),
    // Requested Procedure Location
    Row::new(0x0040_1005, X, 0),
    // Reason for Requested Procedure Code Sequence
    Row::new(0x0040_100A, X, DESCRIPTORS_C),
    // Names of Intended Recipients of Results
    Row::new(0x0040_1010, X, 0),
    // Intended Recipients of Results Identification Sequence
    Row::new(0x0040_1011, X, 0),
    // Person Identification Code Sequence
    Row::new(0x0040_1101, D, 0),
    // Person's Address
    Row::new(0x0040_1102, X, 0),
    // Person's Telephone Numbers
    Row::new(0x0040_1103, X, 0),
    // Person's Telecom Information
    Row::new(0x0040_1104, X, 0),
    // Requested Procedure Comments
    Row::new(0x0040_1400, X, DESCRIPTORS_C),
    // Reason for the Imaging Service Request
    Row::new(0x0040_2001, X, DESCRIPTORS_C),
    // Issue Date of Imaging Service Request
    Row::new(0x0040_2004, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Issue Time of Imaging Service Request
    Row::new(0x0040_2005, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Order Entered By
    Row::new(0x0040_2008, X, 0),
    // Order Enterer's Location
    Row::new(0x0040_2009, X, 0),
    // Order Callback Phone Number
    Row::new(0x0040_2010, X, 0),
    // Order Callback Telecom Information
    Row::new(0x0040_2011, X, 0),
    // Placer Order Number / Imaging Service Request
    Row::new(0x0040_2016, Z, 0),
    // Filler Order Number / Imaging Service Request
    Row::new(0x0040_2017, Z, 0),
    // Imaging Service Request Comments
    Row::new(0x0040_2400, X, DESCRIPTORS_C),
    // Confidentiality Constraint on Patient Data Description
    Row::new(0x0040_3001, X, 0),
    // Scheduled Procedure Step Start DateTime
    Row::new(0x0040_4005, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Procedure Step Expiration DateTime
    Row::new(0x0040_4008, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Scheduled Procedure Step Modification DateTime
    Row::new(0x0040_4010, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Expected Completion DateTime
    Row::new(0x0040_4011, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Referenced General Purpose Scheduled Procedure Step Transaction UID
    Row::new(0x0040_4023, U, UIDS_K),
    // Scheduled Station Name Code Sequence
    Row::new(0x0040_4025, X, DEVICE_K),
    // Scheduled Station Geographic Location Code Sequence
    Row::new(0x0040_4027, X, DEVICE_K),
    // Performed Station Name Code Sequence
    Row::new(0x0040_4028, X, DEVICE_K),
    // Performed Station Geographic Location Code Sequence
    Row::new(0x0040_4030, X, DEVICE_K),
    // Scheduled Human Performers Sequence
    Row::new(0x0040_4034, X, 0),
    // Actual Human Performers Sequence
    Row::new(0x0040_4035, X, 0),
    // Human Performer's Organization
    Row::new(0x0040_4036, X, 0),
    // Human Performer's Name
    Row::new(0x0040_4037, X, 0),
    // Performed Procedure Step Start DateTime
    Row::new(0x0040_4050, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Performed Procedure Step End DateTime
    Row::new(0x0040_4051, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Procedure Step Cancellation DateTime
    Row::new(0x0040_4052, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Findings Group Recording Date (Trial)
    Row::new(0x0040_A023, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Findings Group Recording Time (Trial)
    Row::new(0x0040_A024, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Verifying Organization
    Row::new(0x0040_A027, D, 0),
    // Verification DateTime
    Row::new(0x0040_A030, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Observation DateTime
    Row::new(0x0040_A032, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Observation Start DateTime
    Row::new(0x0040_A033, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Verifying Observer Sequence
    Row::new(0x0040_A073, D, 0),
    // Verifying Observer Name
    Row::new(0x0040_A075, D, 0),
    // Author Observer Sequence
    Row::new(0x0040_A078, X, 0),
    // Participant Sequence
    Row::new(0x0040_A07A, X, 0),
    // Custodial Organization Sequence
    Row::new(0x0040_A07C, X, 0),
    // Participation DateTime
    Row::new(0x0040_A082, Z, FULL_DATES_K | MODIFIED_DATES_C),
    // Verifying Observer Identification Code Sequence
    Row::new(0x0040_A088, Z, 0),
    // Date of Document or Verbal Transaction (Trial)
    Row::new(0x0040_A110, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Time of Document Creation or Verbal Transaction (Trial)
    Row::new(0x0040_A112, X, FULL_DATES_K | MODIFIED_DATES_C),
    // DateTime
    Row::new(0x0040_A120, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Date
    Row::new(0x0040_A121, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Time
    Row::new(0x0040_A122, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Person Name
    Row::new(0x0040_A123, D, 0),
    // UID
    Row::new(0x0040_A124, U, 0),
    // Referenced DateTime
    Row::new(0x0040_A13A, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Observation UID
    Row::new(0x0040_A171, U, UIDS_K),
    // Referenced Observation UID (Trial)
    Row::new(0x0040_A172, U, UIDS_K),
    // Observation Date (Trial)
    Row::new(0x0040_A192, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Observation Time (Trial)
    Row::new(0x0040_A193, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Current Observer (Trial)
    Row::new(0x0040_A307, X, 0),
    // Verbal Source (Trial)
    Row::new(0x0040_A352, X, 0),
    // Address (Trial)
    Row::new(0x0040_A353, X, 0),
    // Telephone Number (Trial)
    Row::new(0x0040_A354, X, 0),
    // Verbal Source Identifier Code Sequence (Trial)
    Row::new(0x0040_A358, X, 0),
    // Observation Subject UID (Trial)
    Row::new(0x0040_A402, U, UIDS_K),
    // Content Sequence
    Row::new(0x0040_A730, D, STRUCTURED_C),
    // Template Version
    Row::new(0x0040_DB06, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Template Local Version
    Row::new(0x0040_DB07, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Template Extension Organization UID
    Row::new(0x0040_DB0C, U, UIDS_K),
    // Template Extension Creator UID
    Row::new(0x0040_DB0D, U, UIDS_K),
    // HL7 Document Effective Time
    Row::new(0x0040_E004, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Encapsulated Document
    Row::new(0x0042_0011, D, 0),
    // Approval Status DateTime
    Row::new(0x0044_0004, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Product Expiration DateTime
    Row::new(0x0044_000B, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Substance Administration DateTime
    Row::new(0x0044_0010, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Assertion DateTime
    Row::new(0x0044_0104, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Assertion Expiration DateTime
    Row::new(0x0044_0105, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Container Component ID
    Row::new(0x0050_001B, X, 0),
    // Device Description
    Row::new(0x0050_0020, X, DEVICE_K),
    // Long Device Description
    Row::new(0x0050_0021, X, DESCRIPTORS_C),
    // Tracking UID
    Row::new(0x0062_0021, U, UIDS_K),
    // Source Frame of Reference UID
    Row::new(0x0064_0003, U, UIDS_K),
    // Effective DateTime
    Row::new(0x0068_6226, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Information Issue DateTime
    Row::new(0x0068_6270, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Annotation Group UID
    Row::new(0x006A_0003, D, UIDS_K),
    // Annotation Group Label
    Row::new(0x006A_0005, D, DESCRIPTORS_C),
    // Annotation Group Description
    Row::new(0x006A_0006, X, DESCRIPTORS_C),
    // Graphic Annotation Sequence
    Row::new(0x0070_0001, D, GRAPHICS_C),
    // Presentation Creation Date
    Row::new(0x0070_0082, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Presentation Creation Time
    Row::new(0x0070_0083, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Content Creator's Name
    Row::new(0x0070_0084, ZD, 0),
    // Content Creator's Identification Code Sequence
    Row::new(0x0070_0086, X, 0),
    // Fiducial UID
    Row::new(0x0070_031A, U, UIDS_K),
    // Presentation Display Collection UID
    Row::new(0x0070_1101, U, UIDS_K),
    // Presentation Sequence Collection UID
    Row::new(0x0070_1102, U, UIDS_K),
    // Hanging Protocol Creation DateTime
    Row::new(0x0072_000A, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Selector AE Value
    Row::new(0x0072_005E, D, DEVICE_C),
    // Selector AS Value
    Row::new(0x0072_005F, D, PATIENT_K),
    // Selector DA Value
    Row::new(0x0072_0061, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Selector DT Value
    Row::new(0x0072_0063, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Selector OB Value
    Row::new(0x0072_0065, D, 0),
    // Selector LO Value
    Row::new(0x0072_0066, D, DESCRIPTORS_C),
    // Selector LT Value
    Row::new(0x0072_0068, D, DESCRIPTORS_C),
    // Selector PN Value
    Row::new(0x0072_006A, D, 0),
    // Selector TM Value
    Row::new(0x0072_006B, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Selector SH Value
    Row::new(0x0072_006C, D, DESCRIPTORS_C),
    // Selector UN Value
    Row::new(0x0072_006D, D, 0),
    // Selector ST Value
    Row::new(0x0072_006E, D, DESCRIPTORS_C),
    // Selector UT Value
    Row::new(0x0072_0070, D, DESCRIPTORS_C),
    // Selector UR Value
    Row::new(0x0072_0071, D, 0),
    // Receiving AE
    Row::new(0x0074_1234, X, DEVICE_C),
    // Requesting AE
    Row::new(0x0074_1236, X, DEVICE_C),
    // Storage Media File-set UID
    Row::new(0x0088_0140, U, UIDS_K),
    // Icon Image Sequence
    Row::new(0x0088_0200, X, 0),
    // Topic Title
    Row::new(0x0088_0904, X, 0),
    // Topic Subject
    Row::new(0x0088_0906, X, 0),
    // Topic Author
    Row::new(0x0088_0910, X, 0),
    // Topic Keywords
    Row::new(0x0088_0912, X, 0),
    // SOP Authorization DateTime
    Row::new(0x0100_0420, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Digital Signature UID
    Row::new(0x0400_0100, U, 0),
    // Digital Signature DateTime
    Row::new(0x0400_0105, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Certificate of Signer
    Row::new(0x0400_0115, D, 0),
    // Certified Timestamp
    Row::new(0x0400_0310, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Referenced Digital Signature Sequence
    Row::new(0x0400_0402, X, 0),
    // Referenced SOP Instance MAC Sequence
    Row::new(0x0400_0403, X, 0),
    // MAC
    Row::new(0x0400_0404, X, 0),
    // Modified Attributes Sequence
    Row::new(0x0400_0550, X, 0),
    // Nonconforming Modified Attributes Sequence
    Row::new(0x0400_0551, X, 0),
    // Nonconforming Data Element Value
    Row::new(0x0400_0552, X, 0),
    // Original Attributes Sequence
    Row::new(0x0400_0561, X, 0),
    // Attribute Modification DateTime
    Row::new(0x0400_0562, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Modifying System
    Row::new(0x0400_0563, D, DEVICE_K),
    // Source of Previous Values
    Row::new(0x0400_0564, Z, INSTITUTION_K),
    // Reason for the Attribute Modification
    Row::new(0x0400_0565, D, DESCRIPTORS_C),
    // Instance Origin Status
    Row::new(0x0400_0600, X, 0),
    // Text String
    Row::new(0x2030_0020, X, 0),
    // Creation Date
    Row::new(0x2100_0040, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Creation Time
    Row::new(0x2100_0050, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Originator
    Row::new(0x2100_0070, X, DEVICE_C),
    // Destination AE
    Row::new(0x2100_0140, D, DEVICE_C),
    // Label Text
    Row::new(0x2200_0002, XZ, DESCRIPTORS_C),
    // Barcode Value
    Row::new(0x2200_0005, XZ, 0),
    // Position Acquisition Template Name
    Row::new(0x3002_0121, X, DESCRIPTORS_C),
    // Position Acquisition Template Description
    Row::new(0x3002_0123, X, DESCRIPTORS_C),
    // Structure Set Label
    Row::new(0x3006_0002, D, DESCRIPTORS_C),
    // Structure Set Name
    Row::new(0x3006_0004, X, DESCRIPTORS_C),
    // Structure Set Description
    Row::new(0x3006_0006, X, DESCRIPTORS_C),
    // Structure Set Date
    Row::new(0x3006_0008, Z, FULL_DATES_K | MODIFIED_DATES_C),
    // Structure Set Time
    Row::new(0x3006_0009, Z, FULL_DATES_K | MODIFIED_DATES_C),
    // Referenced Frame of Reference UID
    Row::new(0x3006_0024, U, UIDS_K),
    // ROI Name
    Row::new(0x3006_0026, Z, DESCRIPTORS_C),
    // ROI Description
    Row::new(0x3006_0028, X, DESCRIPTORS_C),
    // ROI DateTime
    Row::new(0x3006_002D, X, FULL_DATES_K | MODIFIED_DATES_C),
    // ROI Observation DateTime
    Row::new(0x3006_002E, X, FULL_DATES_K | MODIFIED_DATES_C),
    // ROI Generation Description
    Row::new(0x3006_0038, X, DESCRIPTORS_C),
    // ROI Creator Sequence
    Row::new(0x3006_004D, X, 0),
    // ROI Interpreter Sequence
    Row::new(0x3006_004E, X, 0),
    // ROI Observation Label
    Row::new(0x3006_0085, X, DESCRIPTORS_C),
    // ROI Observation Description
    Row::new(0x3006_0088, X, DESCRIPTORS_C),
    // ROI Interpreter
    Row::new(0x3006_00A6, Z, 0),
    // Related Frame of Reference UID
    Row::new(0x3006_00C2, U, UIDS_K),
    // Treatment Control Point Date
    Row::new(0x3008_0024, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Treatment Control Point Time
    Row::new(0x3008_0025, D, FULL_DATES_K | MODIFIED_DATES_C),
    // First Treatment Date
    Row::new(0x3008_0054, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Most Recent Treatment Date
    Row::new(0x3008_0056, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Source Serial Number
    Row::new(0x3008_0105, XZ, DEVICE_K),
    // Safe Position Exit Date
    Row::new(0x3008_0162, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Safe Position Exit Time
    Row::new(0x3008_0164, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Safe Position Return Date
    Row::new(0x3008_0166, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Safe Position Return Time
    Row::new(0x3008_0168, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Treatment Date
    Row::new(0x3008_0250, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Treatment Time
    Row::new(0x3008_0251, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // RT Plan Label
    Row::new(0x300A_0002, D, DESCRIPTORS_C),
    // RT Plan Name
    Row::new(0x300A_0003, X, DESCRIPTORS_C),
    // RT Plan Description
    Row::new(0x300A_0004, X, DESCRIPTORS_C),
    // RT Plan Date
    Row::new(0x300A_0006, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // RT Plan Time
    Row::new(0x300A_0007, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Treatment Sites
    Row::new(0x300A_000B, X, DESCRIPTORS_C),
    // Prescription Description
    Row::new(0x300A_000E, X, DESCRIPTORS_C),
    // Dose Reference UID
    Row::new(0x300A_0013, U, UIDS_K),
    // Dose Reference Description
    Row::new(0x300A_0016, X, DESCRIPTORS_C),
    // Fraction Group Description
    Row::new(0x300A_0072, X, DESCRIPTORS_C),
    // Referenced Dose Reference UID
    Row::new(0x300A_0083, U, UIDS_K),
    // Treatment Machine Name
    Row::new(0x300A_00B2, XZ, DEVICE_K),
    // Beam Description
    Row::new(0x300A_00C3, X, DESCRIPTORS_C),
    // Bolus Description
    Row::new(0x300A_00DD, X, DESCRIPTORS_C),
    // Fixation Device Description
    Row::new(0x300A_0196, X, DESCRIPTORS_C),
    // Shielding Device Description
    Row::new(0x300A_01A6, X, DESCRIPTORS_C),
    // Setup Technique Description
    Row::new(0x300A_01B2, X, DESCRIPTORS_C),
    // Source Manufacturer
    Row::new(0x300A_0216, X, DEVICE_K),
    // Source Strength Reference Date
    Row::new(0x300A_022C, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Source Strength Reference Time
    Row::new(0x300A_022E, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Compensator Description
    Row::new(0x300A_02EB, X, DESCRIPTORS_C),
    // Treatment Position Group Label
    Row::new(0x300A_0608, D, DESCRIPTORS_C),
    // Treatment Position Group UID
    Row::new(0x300A_0609, U, UIDS_K),
    // RT Accessory Holder Slot ID
    Row::new(0x300A_0611, Z, 0),
    // RT Accessory Device Slot ID
    Row::new(0x300A_0615, Z, 0),
    // Radiation Dose Identification Label
    Row::new(0x300A_0619, D, DESCRIPTORS_C),
    // Radiation Dose In-Vivo Measurement Label
    Row::new(0x300A_0623, D, DESCRIPTORS_C),
    // RT Tolerance Set Label
    Row::new(0x300A_062A, D, DESCRIPTORS_C),
    // Patient Setup UID
    Row::new(0x300A_0650, U, UIDS_K),
    // Equipment Frame of Reference Description
    Row::new(0x300A_0676, X, DESCRIPTORS_C),
    // Radiation Generation Mode Label
    Row::new(0x300A_067C, D, DESCRIPTORS_C),
    // Radiation Generation Mode Description
    Row::new(0x300A_067D, Z, DESCRIPTORS_C),
    // Treatment Session UID
    Row::new(0x300A_0700, U, UIDS_K),
    // Treatment Tolerance Violation Description
    Row::new(0x300A_0734, D, DESCRIPTORS_C),
    // Treatment Tolerance Violation DateTime
    Row::new(0x300A_0736, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Recorded RT Control Point DateTime
    Row::new(0x300A_073A, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Interlock DateTime
    Row::new(0x300A_0741, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Interlock Description
    Row::new(0x300A_0742, D, DESCRIPTORS_C),
    // Override DateTime
    Row::new(0x300A_0760, D, FULL_DATES_K | MODIFIED_DATES_C),
    // Interlock Origin Description
    Row::new(0x300A_0783, D, DESCRIPTORS_C),
    // Referenced Treatment Position Group UID
    Row::new(0x300A_0785, U, UIDS_K),
    // Patient Treatment Preparation Procedure Parameter Description
    Row::new(0x300A_078E, X, DESCRIPTORS_C),
    // Patient Treatment Preparation Method Description
    Row::new(0x300A_0792, X, DESCRIPTORS_C),
    // Patient Setup Photo Description
    Row::new(0x300A_0794, X, DESCRIPTORS_C),
    // Displacement Reference Label
    Row::new(0x300A_079A, X, DESCRIPTORS_C),
    // Reason for Omission Description
    Row::new(0x300C_0113, X, DESCRIPTORS_C),
    // Beam Hold Transition DateTime
    Row::new(0x300C_0127, D, DEVICE_K | FULL_DATES_K | MODIFIED_DATES_C),
    // Review Date
    Row::new(0x300E_0004, Z, FULL_DATES_K | MODIFIED_DATES_C),
    // Review Time
    Row::new(0x300E_0005, Z, FULL_DATES_K | MODIFIED_DATES_C),
    // Reviewer Name
    Row::new(0x300E_0008, XZ, 0),
    // Conceptual Volume UID
    Row::new(0x3010_0006, U, UIDS_K),
    // Referenced Conceptual Volume UID
    Row::new(0x3010_000B, U, UIDS_K),
    // Conceptual Volume Combination Description
    Row::new(0x3010_000F, Z, DESCRIPTORS_C),
    // Constituent Conceptual Volume UID
    Row::new(0x3010_0013, U, UIDS_K),
    // Source Conceptual Volume UID
    Row::new(0x3010_0015, U, UIDS_K),
    // Conceptual Volume Description
    Row::new(0x3010_0017, Z, DESCRIPTORS_C),
    // Device Alternate Identifier
    Row::new(0x3010_001B, Z, 0),
    // Device Label
    Row::new(0x3010_002D, D, DEVICE_K),
    // Referenced Fiducials UID
    Row::new(0x3010_0031, U, UIDS_K),
    // User Content Label
    Row::new(0x3010_0033, D, DESCRIPTORS_C),
    // User Content Long Label
    Row::new(0x3010_0034, D, DESCRIPTORS_C),
    // Entity Label
    Row::new(0x3010_0035, D, DESCRIPTORS_C),
    // Entity Name
    Row::new(0x3010_0036, X, DESCRIPTORS_C),
    // Entity Description
    Row::new(0x3010_0037, X, DESCRIPTORS_C),
    // Entity Long Label
    Row::new(0x3010_0038, D, DESCRIPTORS_C),
    // RT Treatment Phase UID
    Row::new(0x3010_003B, U, UIDS_K),
    // Manufacturer's Device Identifier
    Row::new(0x3010_0043, Z, DEVICE_K),
    // Intended Phase Start Date
    Row::new(0x3010_004C, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // Intended Phase End Date
    Row::new(0x3010_004D, XD, FULL_DATES_K | MODIFIED_DATES_C),
    // RT Prescription Label
    Row::new(0x3010_0054, D, DESCRIPTORS_C),
    // RT Treatment Approach Label
    Row::new(0x3010_0056, XD, DESCRIPTORS_C),
    // RT Physician Intent Narrative
    Row::new(0x3010_005A, Z, DESCRIPTORS_C),
    // Reason for Superseding
    Row::new(0x3010_005C, Z, DESCRIPTORS_C),
    // Prior Treatment Dose Description
    Row::new(0x3010_0061, X, DESCRIPTORS_C),
    // Dosimetric Objective UID
    Row::new(0x3010_006E, U, UIDS_K),
    // Referenced Dosimetric Objective UID
    Row::new(0x3010_006F, U, UIDS_K),
    // Treatment Site
    Row::new(0x3010_0077, XD, DESCRIPTORS_C),
    // Treatment Technique Notes
    Row::new(0x3010_007A, Z, DESCRIPTORS_C),
    // Prescription Notes
    Row::new(0x3010_007B, Z, DESCRIPTORS_C),
    // Fractionation Notes
    Row::new(0x3010_007F, Z, DESCRIPTORS_C),
    // Prescription Notes Sequence
    Row::new(0x3010_0081, Z, DESCRIPTORS_C),
    // Intended Fraction Start Time
    Row::new(0x3010_0085, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Arbitrary
    Row::new(0x4000_0010, X, 0),
    // Text Comments
    Row::new(0x4000_4000, X, 0),
    // Results ID
    Row::new(0x4008_0040, X, 0),
    // Results ID Issuer
    Row::new(0x4008_0042, X, 0),
    // Interpretation Recorded Date
    Row::new(0x4008_0100, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Interpretation Recorded Time
    Row::new(0x4008_0101, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Interpretation Recorder
    Row::new(0x4008_0102, X, 0),
    // Interpretation Transcription Date
    Row::new(0x4008_0108, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Interpretation Transcription Time
    Row::new(0x4008_0109, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Interpretation Transcriber
    Row::new(0x4008_010A, X, 0),
    // Interpretation Text
    Row::new(0x4008_010B, X, DESCRIPTORS_C),
    // Interpretation Author
    Row::new(0x4008_010C, X, 0),
    // Interpretation Approver Sequence
    Row::new(0x4008_0111, X, 0),
    // Interpretation Approval Date
    Row::new(0x4008_0112, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Interpretation Approval Time
    Row::new(0x4008_0113, X, FULL_DATES_K | MODIFIED_DATES_C),
    // Physician Approving Interpretation
    Row::new(0x4008_0114, X, 0),
    // Interpretation Diagnosis Description
    Row::new(0x4008_0115, X, DESCRIPTORS_C),
    // Results Distribution List Sequence
    Row::new(0x4008_0118, X, 0),
    // Distribution Name
    Row::new(0x4008_0119, X, 0),
    // Distribution Address
    Row::new(0x4008_011A, X, 0),
    // Interpretation ID
    Row::new(0x4008_0200, X, 0),
    // Interpretation ID Issuer
    Row::new(0x4008_0202, X, 0),
    // Impressions
    Row::new(0x4008_0300, X, DESCRIPTORS_C),
    // Results Comments
    Row::new(0x4008_4000, X, DESCRIPTORS_C),
    // Curve Data
    Row::new(0x5000_0000, X, GRAPHICS_C),
    // Overlay Data
    Row::new(0x6000_3000, X, GRAPHICS_C),
    // Overlay Comments
    Row::new(0x6000_4000, X, GRAPHICS_C),
    // Digital Signatures Sequence
    Row::new(0xFFFA_FFFA, X, 0),
    // Data Set Trailing Padding
    Row::new(0xFFFC_FFFC, X, 0),
];
