//! `[[modules]]`, `[[rules]]` and `[schedule]`: what runs on which study, in which order, and how often again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Range;
use crate::findings::Urgency;
use crate::sandbox::grants::can_be_granted;

/// What rules may look at, beside what modules may see. Their values stay in the node.
pub const RULE_ATTRIBUTES: [&str; 8] = [
    "InstitutionName",
    "InstitutionalDepartmentName",
    "ProtocolName",
    "RequestedProcedureDescription",
    "SOPClassUID",
    "SeriesDescription",
    "StationName",
    "StudyDescription",
];

/// Requested Procedure Priority (0040,1003).
pub const ORDER_PRIORITIES: [&str; 5] = ["STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW"];

/// One module that runs on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleConfig {
    /// Its package: a folder that `gantry module build` made.
    pub package: PathBuf,
    /// What it is called here; the manifest's name when not set. Two of one package need two names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What this module may have beyond `[grants]`, as `--grant`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Modules that end before this one starts, where they run on the study at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Runs only when another module found something, or did not. That module comes before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// Where its jobs stand in the queue at least.
    #[serde(default, skip_serializing_if = "is_routine")]
    pub priority: Urgency,
    /// What becomes of its results.
    #[serde(default, skip_serializing_if = "is_at_once")]
    pub release: Release,
}

/// What becomes of the results of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// They are delivered.
    #[default]
    AtOnce,
    /// They wait until a person releases them.
    Hold,
    /// They are kept and never delivered, and move nothing.
    Shadow,
}

impl Release {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::AtOnce, Self::Hold, Self::Shadow];

    /// In the configuration and in the journal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at-once",
            Self::Hold => "hold",
            Self::Shadow => "shadow",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_at_once(release: &Release) -> bool {
    *release == Release::AtOnce
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_routine(priority: &Urgency) -> bool {
    *priority == Urgency::Routine
}

/// A condition on what another module found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which module.
    pub module: String,
    /// Code value, code meaning or segment label of a finding; case does not count.
    pub finding: String,
    /// Whether it must be there.
    pub is: Presence,
    /// From this probability on a finding is present.
    #[serde(default = "half")]
    pub probability_min: f64,
}

fn half() -> f64 {
    0.5
}

/// Whether something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It was.
    Present,
    /// It was not, by a module that could tell.
    Absent,
}

/// One rule of the site. It holds for a study when everything that is set does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// For people.
    pub name: String,
    /// What becomes of the module where the rule holds.
    pub effect: Effect,
    /// Which modules it is about; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Keyword → value, with `*` and `?`: one series that the module accepts has all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// One of these application entities sent some of the study; `*` and `?` as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ae: Vec<String>,
    /// Of the day, local time: `"07:00-19:00"`; may pass midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// The order's priority is one of these: `STAT`, `HIGH`, `ROUTINE`, `MEDIUM`, `LOW`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order_priority: Vec<String>,
    /// With `raise`: how urgent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Urgency>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The module runs only where one of its `run` rules holds.
    Run,
    /// The module does not run, whatever other rules say.
    Skip,
    /// Where the module runs, its job is at least as urgent as the rule's `priority`.
    Raise,
}

/// A part of the day: from a minute on, until before another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    from: u16,
    until: u16,
}

impl Hours {
    /// Whether a minute of the day, 0 to 1439, is in it.
    #[must_use]
    pub fn contains(self, minute: u16) -> bool {
        match self.from < self.until {
            true => (self.from..self.until).contains(&minute),
            false => minute >= self.from || minute < self.until,
        }
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str, max: u16| {
                let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
                text.parse::<u16>().ok().filter(|n| digits && *n <= max)
            };
            Some(number(hour, 23)? * 60 + number(minute, 59)?)
        };
        let hours = text.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
        match hours {
            Some((from, until)) if from != until => Ok(Self { from, until }),
            _ => Err("hours are written \"07:00-19:00\", from one minute of the day to another".into()),
        }
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        let [from, until] = [hours.from, hours.until].map(|minute| format!("{:02}:{:02}", minute / 60, minute % 60));
        format!("{from}-{until}")
    }
}

/// `[schedule]`: how often a job is tried, and when again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Runs of a job, the first one counted, before it is dead.
    pub attempts_max: u32,
    /// From the first failed run to the second; twice as long each time after.
    pub retry_first_ms: u64,
    /// The longest time between two runs.
    pub retry_max_ms: u64,
    /// How often the journal is asked for what `gantry job` changed.
    pub poll_ms: u64,
    /// How long a module that is to see earlier studies waits for an archive to give them.
    pub priors_wait_ms: u64,
    /// Whether each result gets a picture, as with `gantry run --overlay`: it shows the patient's images.
    pub overlay: bool,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            retry_first_ms: 5_000,
            retry_max_ms: 600_000,
            poll_ms: 500,
            priors_wait_ms: 120_000,
            overlay: false,
        }
    }
}

impl ScheduleConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("attempts_max", self.attempts_max.into(), 1, 100),
            ("retry_first_ms", self.retry_first_ms, 1, 24 * 3_600_000),
            ("retry_max_ms", self.retry_max_ms, 1, 24 * 3_600_000),
            ("poll_ms", self.poll_ms, 10, 60_000),
            ("priors_wait_ms", self.priors_wait_ms, 1, 24 * 3_600_000),
        ]
    }
}

/// What can be told without the packages; [`crate::routing::Plan`] does the rest.
pub(super) fn check(modules: &[ModuleConfig], rules: &[RuleConfig]) -> Result<(), String> {
    for module in modules {
        let named = module.name.clone().unwrap_or_else(|| module.package.display().to_string());
        if module.name.as_ref().is_some_and(|name| !is_module_name(name)) {
            return Err(format!("modules.name = {named:?}: 1 to 64 of a-z, 0-9 and -"));
        }
        if let Some(when) = &module.when {
            if !(0.0..=1.0).contains(&when.probability_min) {
                return Err(format!(
                    "modules ({named}): when.probability_min = {} is not in 0..=1",
                    when.probability_min
                ));
            }
            if when.finding.trim().is_empty() {
                return Err(format!("modules ({named}): when.finding is empty; name a code, its meaning or a segment"));
            }
        }
    }
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = &rule.name;
        if !(1..=64).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(format!("rules.name = {name:?}: 1 to 64 characters on one line"));
        }
        if !names.insert(name) {
            return Err(format!("rules: two are called {name:?}"));
        }
        if let Some(keyword) = rule.attributes.keys().find(|keyword| !is_rule_attribute(keyword)) {
            return Err(format!(
                "rules ({name}): attributes.{keyword} cannot be asked for; there are those that modules may be granted, and {}",
                RULE_ATTRIBUTES.join(", ")
            ));
        }
        if (rule.effect == Effect::Raise) != rule.priority.is_some() {
            return Err(format!("rules ({name}): `priority` goes with effect = \"raise\", and that with `priority`"));
        }
        if let Some(other) = rule.order_priority.iter().find(|p| !ORDER_PRIORITIES.contains(&p.as_str())) {
            return Err(format!("rules ({name}): order_priority {other:?} is none of {}", ORDER_PRIORITIES.join(", ")));
        }
    }
    Ok(())
}

/// Names become folders.
pub(crate) fn is_module_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Nothing that names a patient: the text of a configuration is no place for one.
fn is_rule_attribute(keyword: &str) -> bool {
    can_be_granted(keyword) || RULE_ATTRIBUTES.contains(&keyword)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn refused(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Config::read(file.path()).map(|_| ()).expect_err(text).to_string()
    }

    #[test]
    fn hours_are_parts_of_a_day() {
        let hours = |text: &str| super::Hours::try_from(text.to_owned());
        let night = hours("19:00-07:30").expect("hours");
        assert_eq!(String::from(night), "19:00-07:30");
        assert_eq!([18 * 60 + 59, 19 * 60, 0, 449, 450].map(|m| night.contains(m)), [false, true, true, true, false]);
        let day = hours("07:00-19:00").expect("hours");
        assert_eq!([419, 420, 1139, 1140].map(|m| day.contains(m)), [false, true, true, false]);
        for wrong in ["7:00-19:00", "07:00", "07:00-24:00", "07:60-08:00", "07:00-07:00", "+7:00-08:00", ""] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wild_values_are_refused_by_name() {
        let rule = "[[rules]]\nname = \"r\"\neffect = \"skip\"\n";
        for (text, expected) in [
            ("[[modules]]\npackage = \"p\"\nname = \"../x\"\n".to_owned(), "modules.name"),
            ("[[modules]]\npackage = \"p\"\nclass = 1\n".into(), "class"),
            (format!("{rule}attributes = {{ PatientName = \"*\" }}\n"), "attributes.PatientName cannot be asked for"),
            (format!("{rule}priority = \"urgent\"\n"), "`priority` goes with effect = \"raise\""),
            (rule.replace("\"skip\"", "\"raise\""), "`priority` goes with effect = \"raise\""),
            (format!("{rule}order_priority = [\"NOW\"]\n"), "order_priority \"NOW\" is none of STAT"),
            (format!("{rule}hours = \"9-17\"\n"), "07:00-19:00"),
            (format!("{rule}{rule}"), "two are called \"r\""),
            ("[schedule]\nattempts_max = 0\n".into(), "schedule.attempts_max = 0 is not in 1..=100"),
            (
                "[[modules]]\npackage = \"p\"\nwhen = { module = \"a\", finding = \"b\", is = \"present\", probability_min = 2.0 }\n"
                    .into(),
                "probability_min = 2 is not in 0..=1",
            ),
        ] {
            let said = refused(&text);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
