use super::*;

fn subject() -> Subject {
    let mut subject = Subject::default();
    subject.add_name("Müller^Hans-Peter^^Dr.=山田^太郎");
    subject.add_name("Li^Na");
    subject.add_identifier("MRN-00471-1");
    subject.add_identifier("St Mary General Hospital");
    subject
}

fn coded(text: &str) -> String {
    clean(text, &subject(), Rigour::Coded).text
}

fn written(text: &str) -> String {
    clean(text, &subject(), Rigour::Written).text
}

#[test]
fn the_data_sets_own_identifiers_go_however_they_are_written() {
    for text in [
        "MÜLLER",
        "mueller",
        "Mueller's",
        "Peter",
        "HANSPETER",
        "mullerhans",
        "Müllers",
        "山田さん",
        "太郎",
        "MRN 00471 1",
        "mrn004711",
        "MRN_00471_1",
        "St. Mary General Hospital",
        "mary",
    ] {
        let cleaned = clean(&format!("CT {text} chest"), &subject(), Rigour::Coded);
        assert!(cleaned.changed, "{text}: {cleaned:?}");
        assert!(cleaned.text.starts_with("CT") && cleaned.text.ends_with("chest"), "{text}: {cleaned:?}");
        assert!(!names(&cleaned.text, &subject()), "{text}: {cleaned:?}");
    }
}

#[test]
fn what_looks_like_an_identifier_goes_whoevers_it_is() {
    for text in [
        "jane@example.org",
        "https://pacs.example/1",
        "www.example.org",
        "1.2.840.113619.2.55",
        "+41 61 555 00 11",
        "(061) 555-0011",
        "12/03/1970",
        "1970-03-12",
        "12.3.70",
        "19700312",
        "12 March 1970",
        "March 12, 1970",
        "12MAR1970",
        "Mar 1970",
        "03/1970",
        "123-45-6789",
        "A1234567",
        "12345",
        "Dr. Smith",
        "Prof John A. Smith",
        "Mr Smith",
        "DR. SMITH",
        "Name: John Smith",
        "MRN: 12",
        "12 High Street",
        "Petersgraben Strasse 4",
        "Bahnhofstrasse 12",
    ] {
        let cleaned = coded(&format!("Chest {text}"));
        let left = [
            "jane", "example", "1970", "Smith", "SMITH", "555", "113619", "6789", "567", "345", "12", "Bahnhof", "High",
        ];
        let left: Vec<_> = left.iter().filter(|part| cleaned.contains(**part)).collect();
        assert!(cleaned.starts_with("Chest"), "{text}: {cleaned}");
        assert!(left.is_empty() || text.contains("Petersgraben"), "{text}: {cleaned}");
    }
}

#[test]
fn what_identifies_nobody_stays() {
    for text in [
        "CT Chest 5.0 mm B30f",
        "MR Brain T2w 3D FLAIR",
        "0.9765625",
        "Br38f",
        "DR Chest PA",
        "512 x 512",
        "1.25",
        "KVP 120 mAs 250",
        "Thorax/Abdomen",
        "C-spine lat",
        "AXIAL 3 mm",
        "TE 90 TR 4000",
    ] {
        assert_eq!(coded(text), text);
        assert_eq!(written(text), text);
    }
}

#[test]
fn unknown_words_are_doubtful_where_people_write() {
    let cleaned = clean("Chest pain, seen with Kowalczyk", &subject(), Rigour::Written);
    assert_eq!((cleaned.text.as_str(), cleaned.doubtful), ("Chest pain, seen with", true));
    assert_eq!(coded("LightSpeed VCT"), "LightSpeed VCT");
    assert!(clean("胸部", &subject(), Rigour::Written).doubtful);
}

#[test]
fn nothing_breaks_on_any_text() {
    for text in
        ["", " ", "^^^", "=", "Dr.", "Name:", "ß", "+", "12", "\u{301}", "Dr. Dr. Dr. Dr. Dr.", "1-2-3-4-5-6-7-8"]
    {
        let once = coded(text);
        assert_eq!(coded(&once), once, "{text}");
    }
}
