//! The slices of one series become one volume or several: by the plane that they lie in, and by what differs between
//! those that lie at one place. What differs and need not, such as the time of each slice of a stack, splits nothing.

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::facts::{self, FACTS, Meaning};
use super::stack::{self, Differs, Placed, SAME_POSITION_MM, Stack};
use super::{ReadError, VolumeLayout};

/// Localizers have three planes; what has many more are projections from all around.
const PLANES_MAX: usize = 16;
/// As many values of an attribute are told to people.
const TOLD_MAX: usize = 8;
/// A stack that follows another has at least so many slices: fewer lie evenly by chance.
const BLOCK_SLICES_MIN: usize = 3;
/// Between two stacks that follow one another is no more than the larger spacing, and this part of it.
const BLOCK_TOLERANCE: f64 = 0.05;

/// One volume, and what tells it from the others: attributes and values, for people.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) stack: Stack,
    pub(super) told_by: Vec<(String, String)>,
}

/// The volumes that `slices` form: of the plane with most slices first, then in the order of what tells them apart.
///
/// Each slice is in one of them, or there are none: a series of which a part forms no volume may have lost slices.
pub(super) fn volumes(slices: &[Placed<'_>]) -> Result<Vec<Part>, ReadError> {
    let mut planes = planes(slices)?;
    planes.sort_by_key(|members| std::cmp::Reverse(members.len()));
    let firsts: Vec<_> = planes.iter().filter_map(|members| Some(slices[*members.first()?].1)).collect();
    let mut differ: Vec<Differs> =
        firsts.iter().flat_map(|slice| firsts.iter().filter_map(|other| slice.differs(other))).collect();
    differ.sort_unstable();
    differ.dedup();
    let mut parts = Vec::new();
    for members in &planes {
        let first = slices[members[0]].1;
        let plane: Vec<_> = differ.iter().map(|what| (what.name().to_owned(), first.is(*what))).collect();
        for mut part in in_plane(slices, members).map_err(|reason| of(&plane, reason))? {
            part.told_by.splice(0..0, plane.iter().cloned());
            parts.push(part);
        }
    }
    Ok(parts)
}

/// How the volumes of a series are told apart, for people; `None` of a single one.
pub(super) fn told(volumes: &[VolumeLayout]) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in volumes.iter().flat_map(|volume| &volume.told_by) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let shown = |name: &&str| {
        let said = volumes.iter().flat_map(|volume| &volume.told_by).filter(|(by, _)| by == name);
        let mut seen = BTreeSet::new();
        let values: Vec<&str> = said.map(|(_, value)| value.as_str()).filter(|value| seen.insert(*value)).collect();
        let more = match values.len().saturating_sub(TOLD_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{name}: {}{more}", values[..values.len().min(TOLD_MAX)].join(", "))
    };
    (volumes.len() > 1 && !names.is_empty()).then(|| names.iter().map(shown).collect::<Vec<_>>().join("; "))
}

/// Slices of one orientation, spacing and size each.
fn planes(slices: &[Placed<'_>]) -> Result<Vec<Vec<usize>>, ReadError> {
    let mut planes: Vec<Vec<usize>> = Vec::new();
    for (i, (path, slice)) in slices.iter().enumerate() {
        let differs = |members: &Vec<usize>| slice.differs(slices[members[0]].1);
        match planes.iter().position(|members| differs(members).is_none()) {
            Some(place) => planes[place].push(i),
            None if planes.len() < PLANES_MAX => planes.push(vec![i]),
            None => {
                let what = planes.iter().find_map(differs).map_or("", Differs::name);
                let problem = format!("the slices differ in {what}, in more than {PLANES_MAX} ways");
                return Err(ReadError::apart(problem, [slices[0].0, path], "; projections form no volume"));
            }
        }
    }
    Ok(planes)
}

/// The volumes of slices in one plane.
fn in_plane(slices: &[Placed<'_>], members: &[usize]) -> Result<Vec<Part>, ReadError> {
    let levels = levels(slices, members);
    let places = levels.last().map_or(0, |(level, _)| level + 1);
    if places == levels.len() {
        let whole = match stack::stack(slices, members) {
            Ok(stack) => return Ok(vec![Part { stack, told_by: Vec::new() }]),
            Err(reason) => reason,
        };
        return blocks(slices, &levels).ok_or(whole);
    }
    let chosen = choose(slices, &levels)?;
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for ((_, i), class) in levels.iter().zip(classes(slices, &levels, &chosen)) {
        groups.entry(class).or_default().push(*i);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    let value = |group: &Vec<usize>, fact: usize| facts::value(&slices[group[0]].1.facts, fact);
    groups.sort_by(|a, b| {
        let differ = chosen.iter().map(|fact| facts::compare(value(a, *fact), value(b, *fact)));
        differ.into_iter().find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    let own = chosen.iter().any(|fact| FACTS[*fact].1 == Meaning::Kind);
    let mut parts = Vec::new();
    for group in &groups {
        let told_by: Vec<_> = chosen.iter().map(|fact| said(*fact, value(group, *fact))).collect();
        if !own && group.len() != places {
            let reason = format!(
                "{} slices where the others have up to {places}; send the whole series again, or without these",
                group.len()
            );
            return Err(of(&told_by, ReadError::NoVolume(reason)));
        }
        let stack = stack::stack(slices, group).map_err(|reason| of(&told_by, reason))?;
        parts.push(Part { stack, told_by });
    }
    Ok(parts)
}

/// Members in the order of their height, each with which place that is, from 0.
fn levels(slices: &[Placed<'_>], members: &[usize]) -> Vec<(usize, usize)> {
    let mut sorted: Vec<(f64, usize)> = members.iter().map(|i| (slices[*i].1.along_normal().1, *i)).collect();
    let by = |i: usize| (slices[i].0, slices[i].1.frame);
    sorted.sort_by(|(a, i), (b, j)| a.total_cmp(b).then_with(|| by(*i).cmp(&by(*j))));
    let mut level = 0;
    let mut before = sorted.first().map_or(0.0, |(height, _)| *height);
    let place = |(height, i): (f64, usize)| {
        level += usize::from(height - before >= SAME_POSITION_MM);
        before = height;
        (level, i)
    };
    sorted.into_iter().map(place).collect()
}

/// The first attributes of [`FACTS`] that tell all slices at one place apart.
fn choose(slices: &[Placed<'_>], levels: &[(usize, usize)]) -> Result<Vec<usize>, ReadError> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut classes = vec![0; levels.len()];
    let mut told = distinct(levels, &classes);
    for fact in (0..FACTS.len()).filter(|fact| FACTS[*fact].1 != Meaning::Block) {
        if told == levels.len() {
            break;
        }
        let now = finer(slices, levels, &classes, fact);
        let tells = distinct(levels, &now);
        if tells > told {
            (told, classes) = (tells, now);
            chosen.push(fact);
        }
    }
    if told == levels.len() {
        return Ok(chosen);
    }
    let mut seen = BTreeMap::new();
    let twice = levels.iter().zip(classes).find_map(|(&(level, i), class)| Some((seen.insert((level, class), i)?, i)));
    let Some((one, other)) = twice else { return Ok(chosen) };
    let frames = match (slices[one].1.frame, slices[other].1.frame) {
        (Some(one), Some(other)) => format!(" (frames {one} and {other})"),
        _ => String::new(),
    };
    let problem =
        format!("two slices lie at one position{frames}, and no echo, b-value, time or type tells them apart");
    Err(ReadError::apart(problem, [slices[one].0, slices[other].0], "; remove the copy"))
}

/// How many of (place, class) there are.
fn distinct(levels: &[(usize, usize)], classes: &[usize]) -> usize {
    let mut all: Vec<_> = levels.iter().map(|(level, _)| *level).zip(classes).collect();
    all.sort_unstable();
    all.dedup();
    all.len()
}

/// A number for each slice, the same for those of which all `chosen` attributes say the same.
fn classes(slices: &[Placed<'_>], levels: &[(usize, usize)], chosen: &[usize]) -> Vec<usize> {
    chosen.iter().fold(vec![0; levels.len()], |classes, fact| finer(slices, levels, &classes, *fact))
}

/// A number for each slice, the same for those of one class of which one more attribute says the same.
fn finer(slices: &[Placed<'_>], levels: &[(usize, usize)], classes: &[usize], fact: usize) -> Vec<usize> {
    let value = |at: usize| facts::value(&slices[levels[at].1].1.facts, fact);
    let ordered = FACTS[fact].1 == Meaning::Order;
    // Of what is in order, what counts is which of those at its place it is.
    let within = |at: usize| if ordered { (levels[at].0, classes[at]) } else { (0, classes[at]) };
    let mut sorted: Vec<usize> = (0..levels.len()).collect();
    sorted.sort_by(|a, b| within(*a).cmp(&within(*b)).then_with(|| facts::compare(value(*a), value(*b))));
    let mut numbers = vec![(0, 0); levels.len()];
    let mut rank = 0;
    for pair in sorted.windows(2) {
        let (before, at) = (pair[0], pair[1]);
        rank = match within(before) == within(at) {
            true if facts::compare(value(before), value(at)).is_eq() => rank,
            true => rank + 1,
            false => 0,
        };
        numbers[at] = (classes[at], rank);
    }
    if let Some(first) = sorted.first() {
        numbers[*first] = (classes[*first], 0);
    }
    let mut known = BTreeMap::new();
    for number in &numbers {
        let next = known.len();
        known.entry(*number).or_insert(next);
    }
    numbers.iter().map(|number| known[number]).collect()
}

/// Stacks that follow one another and differ in their spacing, where the images say that they are of different blocks.
fn blocks(slices: &[Placed<'_>], levels: &[(usize, usize)]) -> Option<Vec<Part>> {
    let place = |tag: Tag| FACTS.iter().position(|(known, _)| *known == tag);
    [tags::STACK_ID, tags::SLICE_THICKNESS].into_iter().filter_map(place).find_map(|fact| {
        let value = |i: usize| facts::value(&slices[i].1.facts, fact);
        let members: Vec<usize> = levels.iter().map(|(_, i)| *i).collect();
        let runs: Vec<&[usize]> = members.chunk_by(|a, b| facts::compare(value(*a), value(*b)).is_eq()).collect();
        if runs.len() < 2 || runs.iter().any(|run| run.len() < BLOCK_SLICES_MIN) {
            return None;
        }
        let parts = runs.iter().map(|run| {
            let stack = stack::stack(slices, run).ok()?;
            Some(Part { stack, told_by: vec![said(fact, value(run[0]))] })
        });
        let parts = parts.collect::<Option<Vec<_>>>()?;
        let between = |i: usize| {
            slices[runs[i + 1][0]].1.along_normal().1 - slices[runs[i][runs[i].len() - 1]].1.along_normal().1
        };
        let follow = parts.windows(2).enumerate().all(|(i, pair)| {
            let spacing = pair.iter().map(|part| part.stack.geometry.spacing()[2]).fold(0.0, f64::max);
            between(i) <= spacing * (1.0 + BLOCK_TOLERANCE)
        });
        follow.then_some(parts)
    })
}

/// An attribute and a value of it, as people may see them.
fn said(fact: usize, value: &str) -> (String, String) {
    let (tag, _) = FACTS[fact];
    let keyword = StandardDataDictionary.by_tag(tag).map_or("attribute", DataDictionaryEntry::alias);
    (format!("{keyword} {tag}"), facts::shown(value).to_owned())
}

/// A reason that is of one volume among several.
fn of(told_by: &[(String, String)], reason: ReadError) -> ReadError {
    if told_by.is_empty() {
        return reason;
    }
    let of: Vec<String> = told_by.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let of = of.join(", ");
    match reason {
        ReadError::NoVolume(why) => ReadError::NoVolume(format!("the volume of {of}: {why}")),
        ReadError::Apart { problem, files, remedy } => {
            ReadError::Apart { problem: format!("the volume of {of}: {problem}"), files, remedy }
        }
        other => other,
    }
}
