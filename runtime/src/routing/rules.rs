//! The site's rules: where a module may run, beyond what its manifest accepts.

use super::accepts::matches;
use super::{Circumstances, RuleVerdict};
use crate::config::{Effect, ORDER_PRIORITIES, RuleConfig};
use crate::findings::Urgency;
use crate::study::{Series, Study};
use crate::worklist::{Cause, Reason};

/// One verdict for each rule that is about the module, whether they let it run together, and what makes its job urgent.
pub(super) fn judge(
    rules: &[RuleConfig],
    module: &str,
    (study, accepted): (&Study, &[usize]),
    seen: &Circumstances,
) -> (Vec<RuleVerdict>, bool, Vec<Reason>) {
    let (mut verdicts, mut asked, mut asked_for, mut skipped) = (Vec::new(), false, false, false);
    let mut reasons: Vec<Reason> = reason_of_order(study).into_iter().collect();
    if let Some(ordered) = seen.ordered {
        reasons.push(Reason::order(ordered, priority_of_order(ordered)));
        let reason = format!("raise: an order for the study was received, so it is {} at least", ordered.name());
        verdicts.push(RuleVerdict { rule: "order".into(), series: None, passes: true, reason });
    }
    for rule in rules.iter().filter(|rule| rule.modules.is_empty() || rule.modules.iter().any(|m| m == module)) {
        let unmet = unmet(rule, study, accepted, seen);
        let (passes, reason) = match (rule.effect, unmet) {
            (Effect::Run, None) => (true, "run: the rule holds".into()),
            (Effect::Run, Some(why)) => (false, format!("run: the rule does not hold, because {why}")),
            (Effect::Skip, None) => (false, "skip: the rule holds".into()),
            (Effect::Skip, Some(why)) => (true, format!("skip: the rule does not hold, because {why}")),
            (Effect::Raise, None) => {
                let least = rule.priority.unwrap_or_default();
                reasons.push(Reason { level: least, cause: Cause::Rule, what: rule.name.clone() });
                (true, format!("raise: the rule holds, so it is {} at least", least.name()))
            }
            (Effect::Raise, Some(why)) => (true, format!("raise: the rule does not hold, because {why}")),
        };
        match rule.effect {
            Effect::Run => (asked, asked_for) = (true, asked_for || passes),
            Effect::Skip => skipped |= !passes,
            Effect::Raise => {}
        }
        verdicts.push(RuleVerdict { rule: format!("rules.{}", rule.name), series: None, passes, reason });
    }
    (verdicts, !skipped && (asked_for || !asked), reasons)
}

/// The first condition that is not met, without what the images say.
fn unmet(rule: &RuleConfig, study: &Study, accepted: &[usize], seen: &Circumstances) -> Option<String> {
    if !rule.attributes.is_empty() {
        let has_all = |series: &Series| rule.attributes.iter().all(|(keyword, pattern)| has(series, keyword, pattern));
        if !accepted.iter().filter_map(|&index| study.series.get(index)).any(has_all) {
            let wanted: Vec<String> = rule.attributes.iter().map(|(k, pattern)| format!("{k} = {pattern}")).collect();
            return Some(format!("no series that the module accepts has {}", wanted.join(" and ")));
        }
    }
    let sent = |pattern: &String| seen.sources.iter().any(|source| matches(pattern, source));
    if !rule.source_ae.is_empty() && !rule.source_ae.iter().any(sent) {
        return Some(format!("none of {} sent any of it", rule.source_ae.join(", ")));
    }
    if let Some(hours) = rule.hours.filter(|hours| !hours.contains(seen.minute_of_day)) {
        let (hour, minute) = (seen.minute_of_day / 60, seen.minute_of_day % 60);
        return Some(format!("{hour:02}:{minute:02} is not in {}", String::from(hours)));
    }
    let orders = [order_priority(study), seen.ordered.map(priority_of_order)];
    if !rule.order_priority.is_empty() && !rule.order_priority.iter().any(|p| orders.contains(&Some(p.as_str()))) {
        let said = orders.into_iter().flatten().next().unwrap_or("not stated");
        return Some(format!("the order's priority is {said}, not {}", rule.order_priority.join(" or ")));
    }
    None
}

fn has(series: &Series, keyword: &str, pattern: &str) -> bool {
    match keyword {
        // Text of several values is one text in a header; every instance has its own class.
        "SOPClassUID" => series.instances.iter().any(|instance| matches(pattern, &instance.sop_class_uid)),
        "Modality" => matches(pattern, &series.modality),
        _ => series.attribute(keyword).is_some_and(|value| matches(pattern, &value)),
    }
}

/// Requested Procedure Priority (0040,1003) where the images carry it.
fn order_priority(study: &Study) -> Option<&'static str> {
    let stated = study.series.iter().find_map(|series| series.attribute("RequestedProcedurePriority"))?;
    ORDER_PRIORITIES.into_iter().find(|known| *known == stated.trim())
}

/// What an order that was received would be in the images.
fn priority_of_order(ordered: Urgency) -> &'static str {
    match ordered {
        Urgency::Critical | Urgency::Urgent => "STAT",
        Urgency::Prompt => "HIGH",
        Urgency::Routine => "ROUTINE",
    }
}

/// Where the order's priority puts the study.
fn reason_of_order(study: &Study) -> Option<Reason> {
    match order_priority(study)? {
        stat @ "STAT" => Some(Reason::order(Urgency::Urgent, stat)),
        high @ "HIGH" => Some(Reason::order(Urgency::Prompt, high)),
        _ => None,
    }
}
