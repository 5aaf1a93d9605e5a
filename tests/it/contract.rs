//! The contract explains itself.

use gantry_tests::repository;

const FILES: [&str; 3] = ["wit/imaging.wit", "wit/stream.wit", "wit/deps/wasi-nn/nn.wit"];

/// What is declared in a WIT file without a `///` line above it.
fn bare(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut explained, mut parentheses) = (false, 0);
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
        let code = line.split("//").next().unwrap_or_default();
        let within = parentheses > 0;
        parentheses += code.matches('(').count();
        parentheses -= code.matches(')').count();
        let skipped = ["package ", "use ", "import ", "}", ")"].iter().any(|start| code.starts_with(start));
        if !code.is_empty() && !within && !skipped && !explained {
            found.push(format!("{number}: {line}"));
        }
        explained = line.starts_with("///");
    }
    found
}

#[test]
fn every_item_of_the_contract_has_a_comment() {
    for file in FILES {
        let text = std::fs::read_to_string(repository().join(file)).expect("readable");
        assert_eq!(bare(&text), [""; 0], "{file}");
        let long = text.lines().position(|line| line.chars().count() > 120);
        assert_eq!(long, None, "{file} has a line of more than 120 characters");
    }
}

#[test]
fn an_item_without_a_comment_is_found() {
    let text = [
        "/// Said.",
        "interface a {",
        "    use b.{c};",
        "    record d {",
        "        /// Said.",
        "        e: u32,",
        "        f: u32,",
        "    }",
        "    /// Said.",
        "    g: func(",
        "        h: u32,",
        "    ) -> u32;",
        "",
        "    i: func();",
        "}",
    ];
    assert_eq!(bare(&text.join("\n")), ["4: record d {", "7: f: u32,", "14: i: func();"]);
}
