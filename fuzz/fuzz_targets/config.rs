//! `gantry.toml`: the text of a configuration.
//!
//! What holds for all texts: they are refused with a message that names the file, or read into a configuration that prints
//! as a text which reads back as the same, and prints the same again; memory stays within a multiple of the text.

#![no_main]

use std::path::Path;

use gantry_fuzz::config::Config;
use gantry_fuzz::heap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new("gantry.toml");
    let (read, held) = heap::peak(|| Config::parse(path, text));
    // Measured: a text of one-letter keys costs most.
    assert!(held <= 256 * text.len() + (256 << 10), "held {held} bytes for {}", text.len());
    let config = match read {
        Ok(config) => config,
        Err(refused) => {
            let said = refused.to_string();
            assert!(said.starts_with("configuration"), "{said}");
            return;
        }
    };
    let printed = toml::to_string(&config).expect("a configuration is printable");
    let again = Config::parse(path, &printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(config, again, "{printed}");
    assert_eq!(printed, toml::to_string(&again).expect("a configuration is printable"));
});
