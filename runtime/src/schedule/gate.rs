//! Whether a job that waits for others has its turn.

use crate::config::{Condition, Presence};
use crate::routing::Planned;
use crate::store::{FoundRow, Job, JobState};

/// What becomes of a job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    /// It waits on.
    Wait,
    /// It is queued.
    Open,
    /// It does not run.
    Skip {
        /// `predecessor` when it would wait again if that one were tried again, `condition` when not.
        class: &'static str,
        /// Why.
        reason: String,
    },
}

/// Another job of the same version of the study, and what it found.
pub(super) struct Sibling {
    pub(super) job: Job,
    pub(super) found: Vec<FoundRow>,
}

/// Decides for a job of `module`. A predecessor that has no job here does not run on this study.
pub(super) fn decide(module: &Planned, siblings: &[Sibling]) -> Gate {
    let of = |name: &String| siblings.iter().rev().find(|sibling| &sibling.job.module == name);
    if module.after.iter().filter_map(of).any(|sibling| !sibling.job.state.is_over()) {
        return Gate::Wait;
    }
    let Some(when) = &module.when else { return Gate::Open };
    let Some(sibling) = of(&when.module) else {
        return skip("condition", format!("{} does not run on this study", when.module));
    };
    match (sibling.job.state, sibling.job.error_class.as_deref()) {
        (JobState::Done, Some("unfit")) => {
            skip("condition", format!("{} called the input unfit, so its findings tell nothing", when.module))
        }
        (JobState::Done, _) => judge(when, &sibling.found),
        (state, _) => skip("predecessor", format!("{} is {state}", when.module)),
    }
}

fn judge(when: &Condition, found: &[FoundRow]) -> Gate {
    let wanted = when.finding.trim().to_lowercase();
    let is_it =
        |row: &&FoundRow| [&row.code_value, &row.code_meaning, &row.label].iter().any(|n| n.to_lowercase() == wanted);
    let present =
        found.iter().filter(is_it).any(|row| row.probability > 0.0 && row.probability >= when.probability_min);
    match (present, when.is) {
        (true, Presence::Present) | (false, Presence::Absent) => Gate::Open,
        (true, Presence::Absent) => skip("condition", format!("{} found {}", when.module, when.finding)),
        (false, Presence::Present) => skip("condition", format!("{} did not find {}", when.module, when.finding)),
    }
}

fn skip(class: &'static str, reason: String) -> Gate {
    Gate::Skip { class, reason }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::findings::Urgency;
    use crate::module::package::Package;
    use crate::sandbox::grants::Policy;

    fn module(after: &[&str], is: Option<Presence>) -> Planned {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = format!(
            "schema = 1\nname = \"b\"\nversion = \"0.1.0\"\nvendor = \"T\"\n[label]\ntitle = \"T\"\nintended_use = \"T\"\n\
             demonstration = true\n[accepts]\nmodality = [\"CT\"]\n[component]\nsha256 = \"{}\"\n",
            "00".repeat(32)
        );
        std::fs::write(folder.path().join("module.toml"), manifest).expect("written");
        let condition = |is| Condition { module: "a".into(), finding: "Liver".into(), is, probability_min: 0.5 };
        Planned {
            name: "b".into(),
            package: Arc::new(Package::open(folder.path()).expect("a package")),
            policy: Policy::new(&crate::config::GrantConfig::default(), &[]).expect("a policy"),
            after: after.iter().map(|&name| name.to_owned()).collect(),
            when: is.map(condition),
            priority: Urgency::Routine,
            release: crate::config::Release::AtOnce,
        }
    }

    fn sibling(name: &str, state: JobState, class: Option<&str>, probability: Option<f64>) -> Sibling {
        let row = |probability| FoundRow {
            code_value: "10200004".into(),
            code_meaning: "Liver".into(),
            label: "liver".into(),
            probability,
        };
        let job = Job {
            id: 1,
            study_instance_uid: "2.25.2".into(),
            study_version: 1,
            module: name.into(),
            module_identity: String::new(),
            state,
            attempts: 1,
            priority: Urgency::Routine,
            created_ms: 0,
            not_before_ms: 0,
            started_ms: None,
            ended_ms: None,
            error_class: class.map(str::to_owned),
            error: None,
            result_path: None,
            correlation: String::new(),
            cancel_requested: false,
            superseded_by: None,
        };
        Sibling { job, found: probability.map(row).into_iter().collect() }
    }

    #[test]
    fn an_order_waits_for_an_end_of_any_kind() {
        let module = module(&["a"], None);
        for state in JobState::ALL {
            let gate = decide(&module, &[sibling("a", state, None, None)]);
            assert_eq!(gate, if state.is_over() { Gate::Open } else { Gate::Wait }, "{state}");
        }
        assert_eq!(decide(&module, &[]), Gate::Open, "nothing to wait for");
    }

    #[test]
    fn a_condition_needs_a_result_that_can_tell() {
        let skipped = |gate: Gate| match gate {
            Gate::Skip { class, .. } => class,
            other => panic!("{other:?}"),
        };
        let (present, absent) = (module(&["a"], Some(Presence::Present)), module(&["a"], Some(Presence::Absent)));
        let done = |probability| [sibling("a", JobState::Done, None, probability)];
        assert_eq!(decide(&present, &done(Some(0.5))), Gate::Open);
        assert_eq!(skipped(decide(&absent, &done(Some(0.5)))), "condition");
        assert_eq!(skipped(decide(&present, &done(Some(0.4)))), "condition");
        assert_eq!(decide(&absent, &done(None)), Gate::Open);
        assert_eq!(skipped(decide(&absent, &[sibling("a", JobState::Done, Some("unfit"), None)])), "condition");
        assert_eq!(skipped(decide(&absent, &[sibling("a", JobState::Failed, None, None)])), "predecessor");
        assert_eq!(decide(&absent, &[sibling("a", JobState::Running, None, None)]), Gate::Wait);
        assert_eq!(skipped(decide(&absent, &[])), "condition");
    }
}
