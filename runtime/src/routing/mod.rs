//! Which modules run on a study, and why.
//!
//! ```text
//! gantry.toml ─ Plan::load ─▶ modules in order ─┐
//! Study (headers) ──────────────────────────────┼─ explain ─▶ one ModuleExplanation a module: rule by rule
//! Circumstances (who sent it, the time of day) ─┘
//! ```
//!
//! A module runs when a series passes all of its manifest's `[accepts]` ([`accepts`]), the site's rules let it, and the
//! module on whose findings it depends runs too. The node queues what `gantry route explain` says would run: both call
//! [`explain`].

pub mod accepts;
mod plan;
mod rules;

use serde::Serialize;

pub use self::plan::{Plan, PlanError, Planned, PriorsWait};
use crate::findings::Urgency;
use crate::study::Study;
use crate::worklist::{Cause, Reason};

/// What is known of a study beside its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// Who sent it: AE titles, tokens or folders.
    pub sources: Vec<String>,
    /// Local time, 0 to 1439.
    pub minute_of_day: u16,
    /// What an order that was received for it says, where there is one.
    pub ordered: Option<Urgency>,
}

impl Circumstances {
    /// At this moment, in the host's time zone.
    #[must_use]
    pub fn now(sources: Vec<String>, ordered: Option<Urgency>) -> Self {
        use chrono::Timelike;
        let now = chrono::Local::now();
        let minute_of_day = u16::try_from(now.hour() * 60 + now.minute()).expect("a day has 1440 minutes");
        Self { sources, minute_of_day, ordered }
    }
}

/// Why a module would or would not run on a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleExplanation {
    /// What it is called here.
    pub module: String,
    /// Whether it would.
    pub would_run: bool,
    /// After these, which would run too.
    pub waits_for: Vec<String>,
    /// And then for earlier studies of the patient, where it asks for them and was granted them.
    pub priors: Option<PriorsWait>,
    /// Where its job would stand in the queue at least.
    pub priority: Urgency,
    /// Why it would, and the study with it.
    pub reasons: Vec<Reason>,
    /// Each rule that was looked at.
    pub rules: Vec<RuleVerdict>,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleVerdict {
    /// `accepts.KEY` of the manifest, `rules.NAME` of the site, or `when`.
    pub rule: String,
    /// Series Instance UID, where it is about one series.
    pub series: Option<String>,
    /// Whether the module may run, as far as this rule goes. Of several series one must pass all of `accepts`; of the
    /// site's `run` rules one must pass.
    pub passes: bool,
    /// Why. No patient data: of the images only codes, UIDs and lengths.
    pub reason: String,
}

/// Rule by rule, why each module would or would not run, in the order of the plan.
#[must_use]
pub fn explain(study: &Study, plan: &Plan, seen: &Circumstances) -> Vec<ModuleExplanation> {
    let mut explained: Vec<ModuleExplanation> = Vec::new();
    for module in &plan.modules {
        let (mut rules, accepted) = accept(study, module);
        let (of_site, let_run, mut reasons) = rules::judge(&plan.rules, &module.name, (study, &accepted), seen);
        rules.extend(of_site);
        if module.priority > Urgency::Routine {
            reasons.push(Reason { level: module.priority, cause: Cause::Module, what: module.name.clone() });
        }
        let runs = |name: &String| explained.iter().any(|other| &other.module == name && other.would_run);
        let condition = module.when.as_ref().map(|when| condition(when, runs(&when.module)));
        let depends = condition.as_ref().is_none_or(|verdict| verdict.passes);
        rules.extend(condition);
        explained.push(ModuleExplanation {
            module: module.name.clone(),
            would_run: !accepted.is_empty() && let_run && depends,
            waits_for: module.after.iter().filter(|name| runs(name)).cloned().collect(),
            priors: module.sees_priors().then(|| plan.priors.clone()),
            priority: reasons.iter().map(|reason| reason.level).max().unwrap_or_default(),
            reasons,
            rules,
        });
    }
    explained
}

/// Why no module runs on a study that cannot be read, or has no images.
#[must_use]
pub fn explain_unread(reason: &str, plan: &Plan) -> Vec<ModuleExplanation> {
    let rule = RuleVerdict { rule: "study".into(), series: None, passes: false, reason: reason.to_owned() };
    let explained = |module: &Planned| ModuleExplanation {
        module: module.name.clone(),
        would_run: false,
        waits_for: Vec::new(),
        priors: None,
        priority: module.priority,
        reasons: Vec::new(),
        rules: vec![rule.clone()],
    };
    plan.modules.iter().map(explained).collect()
}

/// The manifest's verdicts on every series, and the positions of those that pass.
fn accept(study: &Study, module: &Planned) -> (Vec<RuleVerdict>, Vec<usize>) {
    let (mut rules, mut accepted) = (Vec::new(), Vec::new());
    for (index, series) in study.series.iter().enumerate() {
        let verdicts = accepts::verdicts(&module.package.manifest().accepts, series);
        if verdicts.iter().all(|verdict| verdict.fits) {
            accepted.push(index);
        }
        rules.extend(verdicts.into_iter().map(|verdict| RuleVerdict {
            rule: format!("accepts.{}", verdict.key),
            series: Some(series.uid.clone()),
            passes: verdict.fits,
            reason: verdict.reason,
        }));
    }
    (rules, accepted)
}

fn condition(when: &crate::config::Condition, predecessor_runs: bool) -> RuleVerdict {
    use crate::config::Presence;
    let wanted = match when.is {
        Presence::Present => "present",
        Presence::Absent => "absent",
    };
    let reason = match predecessor_runs {
        true => format!("waits for {}: {} must be {wanted}", when.module, when.finding),
        false => format!("depends on {} of {}, which would not run", when.finding, when.module),
    };
    RuleVerdict { rule: "when".into(), series: None, passes: predecessor_runs, reason }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;

    use super::*;

    fn study() -> Study {
        let mr = crate::study::Series { uid: "2.25.4".into(), modality: "MR".into(), ..accepts::tests::series() };
        Study {
            uid: "2.25.2".into(),
            patient: crate::study::PatientEntry::default(),
            series: vec![accepts::tests::series(), mr],
            warnings: vec![],
        }
    }

    fn seen(minute_of_day: u16) -> Circumstances {
        Circumstances { sources: vec!["CT_ROOM1".into()], minute_of_day, ordered: None }
    }

    fn told(study: &Study, plan: &Plan, seen: &Circumstances) -> String {
        let mut text = String::new();
        for module in explain(study, plan, seen) {
            text += &format!("{} {} {:?}\n", module.module, module.would_run, module.waits_for);
            for rule in module.rules {
                let series = rule.series.unwrap_or_default();
                text += &format!("  {} {} {series} {}\n", if rule.passes { "+" } else { "-" }, rule.rule, rule.reason);
            }
        }
        text
    }

    #[test]
    fn each_module_is_explained_rule_by_rule() {
        let when = "when = { module = \"organs\", finding = \"liver\", is = \"present\" }";
        let modules = [("organs", "slices_min = 3", ""), ("liver", "body_part = [\"LIVER\"]", when)];
        let rules = "[[rules]]\nname = \"day\"\neffect = \"run\"\nmodules = [\"organs\"]\nhours = \"07:00-19:00\"\n\
                     source_ae = [\"CT_*\"]\n";
        let plan = plan::tests::plan(&modules, rules).expect("a plan");
        assert_eq!(
            told(&study(), &plan, &seen(8 * 60)),
            "organs true []\n  \
               + accepts.modality 2.25.3 modality CT is CT\n  \
               + accepts.slices_min 2.25.3 10 slices are at least slices_min = 3\n  \
               - accepts.modality 2.25.4 modality MR is not CT\n  \
               + accepts.slices_min 2.25.4 10 slices are at least slices_min = 3\n  \
               + rules.day  run: the rule holds\n\
             liver false [\"organs\"]\n  \
               + accepts.modality 2.25.3 modality CT is CT\n  \
               + accepts.slices_min 2.25.3 10 slices are at least slices_min = 1\n  \
               - accepts.body_part 2.25.3 body part ABDOMEN is not LIVER\n  \
               - accepts.modality 2.25.4 modality MR is not CT\n  \
               + accepts.slices_min 2.25.4 10 slices are at least slices_min = 1\n  \
               - accepts.body_part 2.25.4 body part ABDOMEN is not LIVER\n  \
               + when  waits for organs: liver must be present\n"
        );
        let night = told(&study(), &plan, &seen(20 * 60 + 5));
        assert!(night.starts_with("organs false"), "{night}");
        assert!(
            night.contains("- rules.day  run: the rule does not hold, because 20:05 is not in 07:00-19:00"),
            "{night}"
        );
        assert!(night.contains("- when  depends on liver of organs, which would not run"), "{night}");
    }

    #[test]
    fn a_skip_wins_over_a_run_and_one_run_is_enough() {
        let rule = |name: &str, effect: &str, more: &str| {
            format!("[[rules]]\nname = \"{name}\"\neffect = \"{effect}\"\n{more}\n")
        };
        let runs = |rules: String| {
            let plan = plan::tests::plan(&[("a", "", "")], &rules).expect("a plan");
            explain(&study(), &plan, &seen(0))[0].would_run
        };
        let (held, not_held) = ("source_ae = [\"CT_ROOM?\"]", "source_ae = [\"MR*\"]");
        assert!(runs(String::new()));
        assert!(runs(rule("x", "run", not_held) + &rule("y", "run", held)));
        assert!(!runs(rule("x", "run", not_held)));
        assert!(!runs(rule("x", "run", held) + &rule("y", "skip", held)));
        assert!(runs(rule("y", "skip", not_held)));
        assert!(runs(rule("x", "run", "attributes = { Manufacturer = \"siem*\", Modality = \"CT\" }")));
        assert!(!runs(rule("x", "run", "attributes = { Modality = \"MR\" }")), "no accepted series has it");
    }

    #[test]
    fn a_rule_raises_what_comes_from_a_source_and_keeps_nothing_from_running() {
        let rule = |source: &str| {
            format!("[[rules]]\nname = \"ed\"\neffect = \"raise\"\npriority = \"urgent\"\nsource_ae = [\"{source}\"]\n")
        };
        for (source, priority) in [("*", Urgency::Urgent), ("ELSEWHERE", Urgency::Prompt)] {
            let plan = plan::tests::plan(&[("a", "", "priority = \"prompt\"")], &rule(source)).expect("a plan");
            let explained = &explain(&study(), &plan, &seen(0))[0];
            assert_eq!((explained.would_run, explained.priority), (true, priority), "{source}");
            assert!(
                explained.rules.iter().any(|v| v.rule == "rules.ed" && v.passes && v.reason.starts_with("raise: "))
            );
        }
    }

    #[test]
    fn an_urgent_order_raises_and_is_a_condition() {
        let plan = plan::tests::plan(
            &[("a", "", "priority = \"prompt\"")],
            "[[rules]]\nname = \"stat\"\neffect = \"run\"\norder_priority = [\"STAT\"]\n",
        )
        .expect("a plan");
        let mut study = study();
        let before = &explain(&study, &plan, &seen(0))[0];
        assert_eq!((before.would_run, before.priority), (false, Urgency::Prompt));
        study.series[0].header.put_str(tags::REQUESTED_PROCEDURE_PRIORITY, VR::SH, "STAT");
        let after = &explain(&study, &plan, &seen(0))[0];
        assert_eq!((after.would_run, after.priority), (true, Urgency::Urgent));
    }

    #[test]
    fn an_order_that_was_received_counts_as_one_in_the_images() {
        let rule = "[[rules]]\nname = \"stat\"\neffect = \"run\"\norder_priority = [\"STAT\"]\n";
        let plan = plan::tests::plan(&[("a", "", "priority = \"prompt\"")], rule).expect("a plan");
        for (ordered, runs, priority, told) in [
            (None, false, Urgency::Prompt, 0),
            (Some(Urgency::Routine), false, Urgency::Prompt, 1),
            (Some(Urgency::Urgent), true, Urgency::Urgent, 1),
            (Some(Urgency::Critical), true, Urgency::Critical, 1),
        ] {
            let explained = &explain(&study(), &plan, &Circumstances { ordered, ..seen(0) })[0];
            assert_eq!((explained.would_run, explained.priority), (runs, priority), "{ordered:?}");
            assert_eq!(explained.rules.iter().filter(|verdict| verdict.rule == "order").count(), told, "{ordered:?}");
        }
    }
}
