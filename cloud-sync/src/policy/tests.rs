use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::deid::Profile;

const HEAD: &str = "version = 1\nsite = 'site-a'\nidentity_key_file = 'id.key'\nsigning_key_file = 'site.pem'\n";
const END: &str = "[s3]\nbucket = 'b'\n";
const ALL: &str = "[[rules]]\nname = 'all'\nsend = true\n";

fn read(more: &str) -> Result<Policy, PolicyError> {
    Policy::from_toml(&format!("{HEAD}{more}{END}"))
}

fn policy(more: &str) -> Policy {
    read(more).expect("a policy")
}

fn refused(more: &str) -> String {
    read(more).expect_err("it is refused").to_string()
}

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).expect("a key")
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a moment")
}

fn study(patient: &str, said: &[(&str, &str)]) -> Candidate {
    let said = |attribute: &Attribute| said.iter().find(|(name, _)| *name == attribute.to_string());
    let asked = policy(ALL).attributes().into_iter();
    let values = asked.map(|attribute| {
        let values = said(&attribute).map(|(_, value)| (*value).to_owned()).into_iter().collect();
        (attribute, values)
    });
    let values = Values::stated(values);
    Candidate {
        patient: Patient::with_id(patient, &secret(1)),
        study_instance_uid: format!("2.25.{}", patient.len()),
        values,
        calling_ae_titles: BTreeSet::from(["CT1".to_owned()]),
        modules: BTreeSet::from(["organs".to_owned()]),
        jobs: BTreeSet::from([JobEnd::Done]),
        priority: Priority::Routine,
        verdicts: BTreeSet::new(),
        settled: now(),
    }
}

fn decide_at(policy: &Policy, study: &Candidate, now: DateTime<Utc>) -> Decision {
    let secret = secret(1);
    policy.decide(study, &Context { secret: &secret, opt_out: None, now }, &mut Cohort::default())
}

fn decide(policy: &Policy, study: &Candidate) -> Decision {
    decide_at(policy, study, now())
}

fn sent_by(rule: &str) -> Decision {
    Decision::Send { rule: rule.to_owned(), without_characteristics: false }
}

#[test]
fn presets_mean_what_they_are_called() {
    let preset = |name: &str| policy(&format!("preset = '{name}'\n"));
    for name in ["qa-minimal", "retraining", "metadata-only"] {
        let found = Profile { generalize: Default::default(), ..preset(name).profile };
        assert_eq!(found, Profile::preset(name).expect("a profile"), "{name}");
        assert_eq!(preset(name).objects, everything());
    }
    let judged = |verdict| Candidate { verdicts: BTreeSet::from([verdict]), ..study("1", &[]) };
    let later = now() + TimeDelta::hours(400);

    let qa = preset("qa-minimal");
    assert_eq!(decide(&qa, &judged(Verdict::Rejected)), sent_by("disagreement"));
    assert!(matches!(decide(&qa, &study("1", &[])), Decision::Wait(Wait::Verdict { .. })));
    let failed = Candidate { jobs: BTreeSet::from([JobEnd::Failed]), ..study("1", &[]) };
    assert_eq!(decide(&qa, &failed), sent_by("without result"));
    let sampled = |n: u32| decide_at(&qa, &study(&n.to_string(), &[]), later) == sent_by("sample of the rest");
    let part = (0..2000).filter(|&n| sampled(n)).count();
    assert!((150..=250).contains(&part), "a tenth of 2000 are {part}");
    assert_eq!(qa.limits.daily_max_mib, Some(10_240));

    let retraining = preset("retraining");
    assert_eq!(retraining.k_anonymity.floor, 5);
    assert_eq!(decide_at(&retraining, &study("1", &[]), later), Decision::Stay(Stay::NoRule));
    let accepted = decide(&retraining, &judged(Verdict::Accepted));
    assert!(matches!(&accepted, Decision::Send { rule, .. } if rule == "judged"), "{accepted:?}");
    let night: DateTime<Utc> = "2026-03-02T23:00:00Z".parse().expect("a moment");
    assert!(retraining.window.is_open(&night) && !retraining.window.is_open(&(night + TimeDelta::hours(12))));

    let metadata = preset("metadata-only");
    assert!(!metadata.profile.pixels.keep);
    assert_eq!(decide(&metadata, &study("1", &[])), sent_by("all that ran"));
    let untouched = Candidate { jobs: BTreeSet::new(), ..study("1", &[]) };
    assert_eq!(decide(&metadata, &untouched), Decision::Stay(Stay::NoRule));
}

#[test]
fn what_is_named_goes_over_the_preset_key_by_key_and_lists_whole() {
    let changed = policy(
        "preset = 'retraining'\n[profile]\nretain_device_identity = false\n[profile.pixels]\nhead = 'allow'\n[k_anonymity]\nfloor = 1\n\
         [[rules]]\nname = 'mine'\nsend = true\n",
    );
    let preset = policy("preset = 'retraining'\n");
    assert!(!changed.profile.retain_device_identity && changed.profile.retain_patient_characteristics);
    assert_eq!(changed.profile.pixels.risky, preset.profile.pixels.risky);
    assert_eq!((changed.k_anonymity.floor, changed.k_anonymity.below), (1, Below::Remove));
    assert_eq!(changed.rules.len(), 1);
    assert_eq!(changed.window, preset.window);
}

#[test]
fn a_policy_can_be_written_down_and_read_again() {
    let preset = policy("preset = 'retraining'\n");
    let text = toml::to_string(&preset).expect("it serializes");
    assert_eq!(Policy::from_toml(&text).expect(&text), preset);
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_its_key() {
    let cases = [
        ("preset = 'everything'\n", "there is no preset everything"),
        ("", "rules must be 1 to 256"),
        ("colour = 'red'\n[[rules]]\nname = 'a'\nsend = true\n", "colour"),
        ("[[rules]]\nname = 'a'\n", "send"),
        ("[[rules]]\nname = 'a'\nsend = true\nsample = 1.5\n", "rules.sample of rule \"a\" must be 0 to 1"),
        ("[[rules]]\nname = 'a'\nsend = true\nmodalities = []\n", "rules.modalities"),
        ("[[rules]]\nname = 'a'\nsend = true\nverdicts = ['maybe']\n", "maybe"),
        ("[[rules]]\nname = 'a'\nsend = true\nwait_for_verdict_max_h = 0\n", "rules.wait_for_verdict_max_h"),
        ("preset = 'qa-minimal'\n[limits]\nhourly_max_mib = 0\n", "limits.hourly_max_mib must be 1 to 67108864"),
        ("preset = 'qa-minimal'\n[window]\nfrom = '24:00'\n", "window.from"),
        ("preset = 'qa-minimal'\n[window]\nfrom = '7:00'\n", "HH:MM"),
        ("preset = 'qa-minimal'\n[window]\nfrom = '07:00'\nto = '07:00'\n", "the same"),
        ("preset = 'qa-minimal'\n[window]\ndays = []\n", "window.days"),
        ("preset = 'qa-minimal'\n[k_anonymity]\nfloor = 0\n", "k_anonymity.floor must be 1 to 1000"),
        ("preset = 'qa-minimal'\n[k_anonymity]\nattributes = ['name']\n", "name"),
        ("preset = 'qa-minimal'\n[profile]\nage_years_max = 120\n", "profile.age_years_max must be 1 to 90"),
        ("preset = 'qa-minimal'\n[profile]\nbase = 'lenient'\n", "lenient"),
        ("preset = 'qa-minimal'\n[profile]\nretain = true\n", "retain"),
        ("preset = 'qa-minimal'\n[profile.generalize]\nage_years = 31\n", "profile.generalize.age_years"),
        ("preset = 'qa-minimal'\n[batch]\nbatch_max_mib = 0\n", "batch.batch_max_mib is 0"),
        ("preset = 'qa-minimal'\n[escrow]\nrecipients = ['age1x']\nfolder = 'e'\n", "escrow.recipients"),
        ("preset = 'qa-minimal'\n[[consent.require]]\nattribute = 'Consent'\n", "keyword of PS3.6"),
        ("preset = 'qa-minimal'\n[[consent.require]]\nattribute = 'PatientID'\nvalues = []\n", "values in consent"),
        ("preset = 'qa-minimal'\nobjects = []\n", "objects must be"),
    ];
    for (text, named) in cases {
        let said = refused(text);
        assert!(said.contains(named), "{text}: {said}");
    }
    assert_eq!(Policy::from_toml("version = 2\n"), Err(PolicyError::Version(2)));
    let without_version = format!("{}{ALL}{END}", HEAD.replace("version = 1\n", ""));
    assert!(Policy::from_toml(&without_version).is_err());
    assert!(read(&format!("{ALL}[s3]\nbucket = ''\n")).is_err());
    let site = HEAD.replace("site-a", "St. Mary");
    assert!(Policy::from_toml(&format!("{site}{ALL}{END}")).expect_err("refused").to_string().contains("pseudonym"));
}

#[test]
fn relative_paths_are_those_of_the_policys_folder() {
    let text = "trusted_key_files = ['old.pem', '/etc/other.pem']\n[consent]\nopt_out_file = 'out.txt'\n";
    let policy = policy(&format!("{text}{ALL}")).with_paths_from(std::path::Path::new("/site"));
    assert_eq!(policy.identity_key_file, PathBuf::from("/site/id.key"));
    assert_eq!(policy.trusted_key_files, [PathBuf::from("/site/old.pem"), PathBuf::from("/etc/other.pem")]);
    assert_eq!(policy.consent.opt_out_file, Some(PathBuf::from("/site/out.txt")));
}

#[test]
fn the_first_rule_that_matches_decides_and_without_one_nothing_leaves() {
    let policy = policy(
        "[[rules]]\nname = 'no captures'\nsop_classes = ['1.2.840.10008.5.1.4.1.1.7*']\nsend = false\n\
         [[rules]]\nname = 'no unknown parts'\nbody_parts = ['head', '']\nsend = false\n\
         [[rules]]\nname = 'ct'\nmodalities = ['CT', 'MR']\nmanufacturers = ['siemens*']\ncalling_ae_titles = ['CT?']\nsend = true\n",
    );
    let ct = [("Modality", "CT"), ("BodyPartExamined", "CHEST"), ("Manufacturer", "SIEMENS Healthineers")];
    assert_eq!(decide(&policy, &study("1", &ct)), sent_by("ct"));
    let capture = [("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7.4")];
    assert_eq!(decide(&policy, &study("1", &capture)), Decision::Stay(Stay::Rule("no captures".into())));
    assert_eq!(decide(&policy, &study("1", &ct[..1])), Decision::Stay(Stay::Rule("no unknown parts".into())));
    let other = [ct[0], ct[1], ("Manufacturer", "PHILIPS")];
    assert_eq!(decide(&policy, &study("1", &other)), Decision::Stay(Stay::NoRule));
    let from_elsewhere = Candidate { calling_ae_titles: BTreeSet::new(), ..study("1", &ct) };
    assert_eq!(decide(&policy, &from_elsewhere), Decision::Stay(Stay::NoRule));
}

#[test]
fn other_keys_of_rules_match_what_the_journal_says() {
    let matches =
        |key: &str| decide(&policy(&format!("[[rules]]\nname = 'r'\nsend = true\n{key}\n")), &study("1", &[]));
    for (fits, other) in [
        ("modules = ['org*']", "modules = ['lungs']"),
        ("priorities = ['routine', 'prompt']", "priorities = ['critical']"),
        ("jobs = ['done']", "jobs = ['failed', 'dead', 'cancelled', 'skipped']"),
    ] {
        assert_eq!(matches(fits), sent_by("r"), "{fits}");
        assert_eq!(matches(other), Decision::Stay(Stay::NoRule), "{other}");
    }
}

#[test]
fn a_rule_waits_for_a_verdict_as_long_as_it_says() {
    let with = policy("[[rules]]\nname = 'r'\nverdicts = ['corrected']\nsend = true\nwait_for_verdict_max_h = 2\n");
    let without = policy("[[rules]]\nname = 'r'\nsend = true\nwait_for_verdict_max_h = 2\n");
    let silent = study("1", &[]);
    let judged = |verdict| Candidate { verdicts: BTreeSet::from([verdict]), ..study("1", &[]) };
    let until = now() + TimeDelta::hours(2);
    let waits = Decision::Wait(Wait::Verdict { rule: "r".into(), until });
    let before = until - TimeDelta::seconds(1);
    assert_eq!(decide_at(&with, &silent, before), waits);
    assert_eq!(decide_at(&without, &silent, before), waits);
    assert_eq!(decide_at(&with, &silent, until), Decision::Stay(Stay::NoRule));
    assert_eq!(decide_at(&without, &silent, until), sent_by("r"));
    assert_eq!(decide(&with, &judged(Verdict::Corrected)), sent_by("r"));
    assert_eq!(decide(&with, &judged(Verdict::Accepted)), Decision::Stay(Stay::NoRule));
    assert_eq!(decide(&without, &judged(Verdict::Accepted)), sent_by("r"));
    let without_result = Candidate { jobs: BTreeSet::from([JobEnd::Failed]), ..silent };
    assert_eq!(decide(&without, &without_result), sent_by("r"), "nobody can judge what is not there");
}

#[test]
fn who_is_in_the_sample_is_the_same_every_time_and_in_every_larger_one() {
    let of = |part: &str, by: &str| {
        policy(&format!("[sampling]\nby = '{by}'\n[[rules]]\nname = 'r'\nsend = true\nsample = {part}\n"))
    };
    let drawn = |policy: &Policy, n: u32| {
        let study = Candidate { study_instance_uid: format!("2.25.{n}"), ..study(&format!("p{}", n / 2), &[]) };
        decide(policy, &study) == sent_by("r")
    };
    let [small, large, all, none] = ["0.2", "0.5", "1", "0"].map(|part| of(part, "patient"));
    let studies = of("0.5", "study");
    let counted = |policy: &Policy| (0..1000).filter(|&n| drawn(policy, n)).collect::<BTreeSet<_>>();
    let (small, large) = (counted(&small), counted(&large));
    assert!(small.is_subset(&large));
    assert!(
        (150..=250).contains(&small.len()) && (430..=570).contains(&large.len()),
        "{} {}",
        small.len(),
        large.len()
    );
    assert!(large.iter().all(|n| large.contains(&(n ^ 1))), "both studies of a patient");
    let by_study = counted(&studies);
    assert!((430..=570).contains(&by_study.len()));
    assert!(by_study.iter().any(|n| !by_study.contains(&(n ^ 1))));
    assert_eq!((counted(&all).len(), counted(&none).len()), (1000, 0));
}

#[test]
fn without_consent_nothing_leaves() {
    let text = "[[consent.require]]\nattribute = 'ClinicalTrialProtocolID'\nvalues = ['GANTRY-*']\n\
                [[consent.require]]\nattribute = '(0099,xx01) A. CONSENT'\ninstances = 'any'\n\
                [[consent.forbid]]\nattribute = 'ConsentForClinicalTrialUseSequence.ConsentForDistributionFlag'\nvalues = ['NO', 'WITHDRAWN']\n";
    let policy = policy(&format!("{text}{ALL}"));
    let names = policy.attributes();
    let [protocol, private, flag] = [
        "ClinicalTrialProtocolID",
        "(0099,xx01) A. CONSENT",
        "ConsentForClinicalTrialUseSequence.ConsentForDistributionFlag",
    ]
    .map(|name| name.parse::<Attribute>().expect("an attribute"));
    assert!([&protocol, &private, &flag].iter().all(|attribute| names.contains(attribute)));
    let instance = |trial: &str, given: &str, distribution: &str| {
        let list = |value: &str| if value.is_empty() { Vec::new() } else { vec![value.to_owned()] };
        Values::stated([
            (protocol.clone(), list(trial)),
            (private.clone(), list(given)),
            (flag.clone(), list(distribution)),
        ])
    };
    let of = |instances: Vec<Values>| {
        let mut values = Values::default();
        instances.into_iter().for_each(|one| values.add(one));
        decide(&policy, &Candidate { values, ..study("1", &[]) })
    };
    let good = || instance("GANTRY-1", "", "");
    let given = || instance("GANTRY-2", "yes", "YES");
    let missing = |of: &Attribute| Decision::Stay(Stay::NoConsent(NoConsent::Missing(of.clone())));
    assert_eq!(of(vec![good(), given()]), sent_by("all"));
    assert_eq!(of(vec![good()]), missing(&private));
    assert_eq!(of(vec![given(), instance("", "", "")]), missing(&protocol), "every instance must say it");
    assert_eq!(of(vec![given(), instance("OTHER-1", "", "")]), missing(&protocol));
    assert_eq!(of(Vec::new()), missing(&protocol), "nothing is known");
    let withdrawn = Decision::Stay(Stay::NoConsent(NoConsent::Forbidden(flag.clone())));
    assert_eq!(of(vec![given(), instance("GANTRY-1", "", "WITHDRAWN")]), withdrawn);
    let many = (0..2000).map(|n| instance(&format!("GANTRY-{n}"), "yes", ""));
    assert_eq!(of(many.collect()), missing(&protocol), "too many to know");
}

#[test]
fn who_opted_out_is_found_by_pseudonym_and_an_unknown_patient_stays() {
    let policy = policy(&format!("[consent]\nopt_out_file = 'out.txt'\n{ALL}"));
    let (secret, other) = (secret(1), secret(2));
    let text = OptOut::write(["4711 ", "0815", "4711"], &secret);
    assert!(text.lines().count() == 3 && !text.contains("4711"), "{text}");
    let list = OptOut::parse(&text, &secret).expect("a list");
    let decide = |patient: Patient, opt_out| {
        let study = Candidate { patient, ..study("1", &[]) };
        policy.decide(&study, &Context { secret: &secret, opt_out, now: now() }, &mut Cohort::default())
    };
    let stays = |why| Decision::Stay(Stay::NoConsent(why));
    assert_eq!(decide(Patient::with_id("4711", &secret), Some(&list)), stays(NoConsent::OptedOut));
    assert_eq!(decide(Patient::with_id("4712", &secret), Some(&list)), sent_by("all"));
    assert_eq!(decide(Patient::with_id("4712", &secret), None), stays(NoConsent::NoList));
    let nameless = Patient::of("name DOE^JANE 19700101", &secret);
    assert_eq!(decide(nameless, Some(&list)), stays(NoConsent::Unidentified));
    assert!(OptOut::parse(&text, &other).is_err(), "another key finds nobody");
    assert!(OptOut::parse(&format!("{text}4711\n"), &secret).expect_err("no pseudonym").to_string().contains("line 4"));
    assert!(OptOut::parse("", &secret).is_err());
}

/// Of a patient with these characteristics.
fn characterized(patient: &str, sex: &str, age: &str) -> Candidate {
    let named = |name: &str| name.parse::<Attribute>().expect("an attribute");
    let list = |value: &str| if value.is_empty() { Vec::new() } else { vec![value.to_owned()] };
    let mut all: Vec<_> = Characteristic::ALL.iter().map(|one| (one.attribute(), Vec::new())).collect();
    all.retain(|(attribute, _)| ![named("PatientSex"), named("PatientAge")].contains(attribute));
    all.extend([(named("PatientSex"), list(sex)), (named("PatientAge"), list(age))]);
    Candidate { values: Values::stated(all), ..study(patient, &[]) }
}

const FLOOR: &str = "[profile]\nretain_patient_characteristics = true\n[profile.generalize]\nage_years = 10\n[k_anonymity]\nfloor = 3\n";

#[test]
fn a_study_waits_until_enough_patients_have_the_same_characteristics() {
    let policy = policy(&format!("{FLOOR}{ALL}"));
    let secret = secret(1);
    let with = Context { secret: &secret, opt_out: None, now: now() };
    let mut cohort = Cohort::default();
    let mut decide = |study: &Candidate| policy.decide(study, &with, &mut cohort);
    let waits = Decision::Wait(Wait::Cohort);
    let [first, second, third] =
        [("a", "041Y"), ("b", "045Y"), ("c", "049Y")].map(|(id, age)| characterized(id, "F", age));
    assert_eq!(decide(&first), waits);
    assert_eq!(decide(&first), waits, "the same patient is not another");
    assert_eq!(decide(&second), waits);
    assert_eq!(decide(&characterized("d", "F", "050Y")), waits, "another band");
    assert_eq!(decide(&characterized("e", "M", "045Y")), waits, "another sex");
    assert_eq!(decide(&third), sent_by("all"));
    assert_eq!([decide(&first), decide(&second)], [sent_by("all"), sent_by("all")], "those who waited go too");
    assert_eq!(decide(&characterized("f", "", "")), sent_by("all"), "what says nothing shares nothing");
    assert_eq!(decide(&study("g", &[])), waits, "what was not asked is not known");
    assert_eq!(cohort.combinations(3), (3, 2));
    // What is kept holds nobody, and can be read again.
    let kept = serde_json::to_string(&cohort).expect("JSON");
    assert!(!kept.contains("041Y") && !kept.contains(first.patient.pseudonym()), "{kept}");
    let mut read: Cohort = serde_json::from_str(&kept).expect("a cohort");
    assert_eq!(policy.decide(&first, &with, &mut read), sent_by("all"));
    assert!(serde_json::from_str::<Cohort>(&kept.replace("\"version\":1", "\"version\":2")).is_err());
    read.forget(&third.patient, &secret);
    assert_eq!(policy.decide(&first, &with, &mut read), waits, "one is gone again");
}

#[test]
fn below_the_floor_a_study_may_go_without_characteristics() {
    let policy = policy(&format!("{FLOOR}below = 'remove'\n{ALL}"));
    let study = characterized("a", "F", "041Y");
    let sent = Decision::Send { rule: "all".into(), without_characteristics: true };
    assert_eq!(decide(&policy, &study), sent);
    let without = policy.profile_without_characteristics();
    assert_eq!(
        Profile { retain_patient_characteristics: true, ..without.clone() },
        policy.profile,
        "nothing else is changed"
    );
    assert!(!without.retain_patient_characteristics);
    // Who is not sent anyway is in no cohort; a profile that retains nothing needs none.
    let stays = self::policy(&format!("{FLOOR}[[rules]]\nname = 'no'\nsend = false\n"));
    let (secret, mut cohort) = (secret(1), Cohort::default());
    let _ = stays.decide(&study, &Context { secret: &secret, opt_out: None, now: now() }, &mut cohort);
    assert_eq!(cohort, Cohort::default());
    let bare = self::policy(&format!("[k_anonymity]\nfloor = 3\n{ALL}"));
    assert_eq!(decide(&bare, &study), sent_by("all"));
}

proptest! {
    #[test]
    fn whatever_goes_shares_its_characteristics_with_enough_others(
        patients in prop::collection::vec((0_u8..20, prop::sample::select(vec!["F", "M", "O", ""]), 0_u8..100), 1..60),
        floor in 2_u32..6,
    ) {
        let policy = policy(&format!("{FLOOR}{ALL}").replace("floor = 3", &format!("floor = {floor}")));
        let secret = secret(1);
        let with = Context { secret: &secret, opt_out: None, now: now() };
        let mut cohort = Cohort::default();
        let mut like = std::collections::BTreeMap::<_, BTreeSet<u8>>::new();
        for (patient, sex, age) in patients {
            let study = characterized(&patient.to_string(), sex, &format!("{age:03}Y"));
            let same = like.entry((sex, age / 10)).or_default();
            same.insert(patient);
            let goes = policy.decide(&study, &with, &mut cohort) == sent_by("all");
            prop_assert_eq!(goes, same.len() >= floor as usize);
        }
    }

    #[test]
    fn a_pattern_matches_as_one_that_tries_everything(pattern in "[ab*?]{0,8}", value in "[abAB]{0,10}") {
        fn tries(pattern: &[u8], value: &[u8]) -> bool {
            match (pattern, value) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => tries(rest, value) || !value.is_empty() && tries(pattern, &value[1..]),
                ([b'?', rest @ ..], [_, more @ ..]) => tries(rest, more),
                ([p, rest @ ..], [v, more @ ..]) => p == v && tries(rest, more),
                _ => false,
            }
        }
        let parsed: Pattern = serde_json::from_value(pattern.clone().into()).expect("a pattern");
        prop_assert_eq!(parsed.matches(&value), tries(pattern.as_bytes(), value.to_lowercase().as_bytes()));
    }
}

const EXAMPLE: &str = include_str!("../../../examples/sync.toml");

/// The example with what it has as comments: keys, and the table at the end.
fn example_with_optional_keys() -> String {
    let is_key = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line == "[escrow]"
            || line.contains(" = ") && key.chars().all(|c| c.is_ascii_lowercase() || "0123456789_".contains(c))
    };
    let lines = EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|key| is_key(key)).unwrap_or(line));
    lines.filter(|line| !line.starts_with("preset = ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let example = Policy::from_toml(EXAMPLE).expect("a policy");
    let found: toml::Value = toml::from_str(EXAMPLE).expect("TOML");
    assert_eq!(found, toml::Value::try_from(&example).expect("TOML"), "a key is missing");
    let rule = "[[rules]]\nname = 'chest CT'\nsend = true\n";
    let head = HEAD.replace("id.key", "identity.key").replace("site.pem", "signing.pem");
    let shortest = Policy::from_toml(&format!("{head}{rule}[s3]\nbucket = 'gantry'\n"));
    assert_eq!(shortest, Ok(example), "a value is no default");

    // Keys without a default are comments. These patterns do not compile when a field is added.
    let whole = Policy::from_toml(&example_with_optional_keys()).expect("a policy");
    let Rule {
        name: _,
        send: _,
        sample: _,
        modalities: Some(_),
        body_parts: Some(_),
        sop_classes: Some(_),
        manufacturers: Some(_),
        models: Some(_),
        calling_ae_titles: Some(_),
        modules: Some(_),
        verdicts: Some(_),
        priorities: Some(_),
        jobs: Some(_),
        wait_for_verdict_max_h: Some(_),
    } = &whole.rules[0]
    else {
        panic!("an optional key of [[rules]] is missing")
    };
    let Consent { opt_out_file: Some(_), require: _, forbid: _ } = &whole.consent else {
        panic!("an optional key of [consent] is missing")
    };
    let Limits { hourly_max_mib: Some(_), daily_max_mib: Some(_) } = &whole.limits else {
        panic!("an optional key of [limits] is missing")
    };
    assert!(whole.escrow.is_some(), "[escrow] is missing");
    let s3 = toml::Value::try_from(&whole.s3).expect("TOML");
    let optional = [
        "region",
        "endpoint_url",
        "profile",
        "credentials_file",
        "proxy_url",
        "proxy_credentials_file",
        "ca_file",
        "bandwidth_max_kib_s",
        "storage_class",
        "object_lock",
    ];
    optional.iter().for_each(|key| assert!(s3.get(key).is_some(), "{key} of [s3] is missing"));
}

#[test]
fn docs_name_every_key() {
    let docs = include_str!("../../../docs/policy.md");
    let whole: toml::Table = toml::from_str(&example_with_optional_keys()).expect("TOML");
    let elsewhere = ["profile", "batch", "s3"];
    for (key, value) in whole {
        let named = ["`K`", "`[K]`", "`[[K]]`"].iter().any(|form| docs.contains(&form.replace('K', &key)));
        assert!(named, "{key}");
        let tables = match value {
            toml::Value::Table(table) if !elsewhere.contains(&key.as_str()) => vec![table],
            toml::Value::Array(list) => list.into_iter().filter_map(|one| one.as_table().cloned()).collect(),
            _ => Vec::new(),
        };
        tables.iter().flat_map(|table| table.keys()).for_each(|inner| {
            assert!(docs.contains(&format!("`{inner}`")), "{key}.{inner}");
        });
    }
}
