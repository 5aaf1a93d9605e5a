//! Messages as they are written: nothing reaches one that was not escaped.

use super::charset::Charset;

/// One segment to be written.
#[derive(Debug, Clone)]
pub struct Row {
    name: &'static str,
    /// From the first on, as they will stand there.
    fields: Vec<String>,
}

/// Text of one component: escaped once, and then safe to put together.
#[must_use]
pub fn escaped(text: &str) -> String {
    // By itself it would say that a value is to be deleted.
    if text.trim() == "\"\"" {
        return "\\X22\\\\X22\\".into();
    }
    let mut safe = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '|' => safe.push_str("\\F\\"),
            '^' => safe.push_str("\\S\\"),
            '~' => safe.push_str("\\R\\"),
            '\\' => safe.push_str("\\E\\"),
            '&' => safe.push_str("\\T\\"),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' | '\n' => safe.push_str("\\.br\\"),
            // Also what begins and ends a block of MLLP.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Components, each escaped; those that are empty at the end are left out.
#[must_use]
pub fn components(parts: &[&str]) -> String {
    let parts: Vec<String> = parts.iter().map(|part| escaped(part)).collect();
    parts.join("^").trim_end_matches('^').to_owned()
}

impl Row {
    /// Without fields.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, fields: Vec::new() }
    }

    /// With a field of one component.
    #[must_use]
    pub fn text(self, number: usize, text: &str) -> Self {
        let text = escaped(text);
        self.raw(number, text)
    }

    /// With a field of several components.
    #[must_use]
    pub fn parts(self, number: usize, parts: &[&str]) -> Self {
        let text = components(parts);
        self.raw(number, text)
    }

    /// With a field of several repetitions, of [`components`] each.
    #[must_use]
    pub fn repeated(self, number: usize, repetitions: &[String]) -> Self {
        let text = repetitions.join("~");
        self.raw(number, text)
    }

    fn raw(mut self, number: usize, text: String) -> Self {
        if self.fields.len() < number {
            self.fields.resize(number, String::new());
        }
        if let Some(field) = number.checked_sub(1).and_then(|at| self.fields.get_mut(at)) {
            *field = text;
        }
        self
    }

    /// As a line, without its end.
    fn line(&self) -> String {
        let mut line = self.name.to_owned();
        let filled = self.fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1);
        // MSH-1 is what divides the fields.
        let from = usize::from(self.name == "MSH");
        for field in self.fields.iter().take(filled).skip(from) {
            line.push('|');
            line.push_str(field);
        }
        line
    }
}

/// MSH with the fields that every message has; MSH-18 is put in by [`encoded`].
#[must_use]
pub fn header() -> Row {
    Row::new("MSH").raw(1, "|".into()).raw(2, "^~\\&".into())
}

/// The message in a character set that can write it, which MSH-18 names: the one that is wished, or UTF-8.
#[must_use]
pub fn encoded(mut rows: Vec<Row>, wished: Charset) -> Vec<u8> {
    let all = rows.iter().map(|row| row.line()).collect::<Vec<_>>().join("\r");
    let charset = wished.that_writes(&all);
    if let Some(first) = rows.first_mut() {
        *first = first.clone().text(18, charset.name);
    }
    let text: String = rows.iter().map(|row| row.line() + "\r").collect();
    charset.encode(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::hl7::Message;

    #[test]
    fn what_is_written_comes_back_as_it_was() {
        let wild = "a|b^c~d\\e&f\rg\r\nh\ni\u{B}j\u{1C}\rPID|9||evil";
        let rows = vec![
            header().text(3, wild).text(12, "2.5.1"),
            Row::new("PID")
                .parts(5, &[wild, "", wild, ""])
                .repeated(3, &[components(&["1", wild]), components(&["2"])]),
            Row::new("ZZZ").text(2, ""),
        ];
        let bytes = encoded(rows, Charset::of_study(""));
        let text = String::from_utf8(bytes.clone()).expect("ASCII");
        assert!(text.ends_with("\rZZZ\r") && !text.contains('\u{B}') && !text.contains("^\r"), "{text}");
        let back = Message::parse(&bytes, 3).expect("three segments, whatever is in them");
        let as_read = "a|b^c~d\\e&f\ng\nh\ni j \nPID|9||evil";
        assert_eq!(back.header(3, 1), as_read);
        let pid = back.segment("PID").expect("there");
        assert_eq!([1, 2, 3].map(|n| pid.field(5).component(n).text()), [as_read, "", as_read]);
        let ids: Vec<_> = pid.field(3).repetitions().map(|id| id.component(1).text()).collect();
        assert_eq!(ids, ["1", "2"]);
        assert_eq!(back.header(18, 1), "");
    }

    #[test]
    fn nothing_that_is_written_deletes() {
        assert_eq!(escaped("\"\""), "\\X22\\\\X22\\");
        let bytes = encoded(vec![header().text(3, "\"\"")], Charset::of_study(""));
        assert_eq!(Message::parse(&bytes, 1).expect("a message").header(3, 1), "\"\"");
    }

    #[test]
    fn msh_18_says_what_it_is_written_in() {
        let rows = || vec![header().text(3, "G"), Row::new("PID").text(5, "Müller")];
        let latin = encoded(rows(), Charset::of_study("ISO_IR 100"));
        assert_eq!(latin, b"MSH|^~\\&|G|||||||||||||||8859/1\rPID|||||M\xFCller\r");
        let utf_8 = encoded(rows(), Charset::of_study(""));
        assert_eq!(Message::parse(&utf_8, 2).expect("a message").header(18, 1), "UNICODE UTF-8");
    }
}
