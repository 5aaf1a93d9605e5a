//! Imports an interface that no runtime has: refused before it runs, naming the import.

#![expect(unsafe_code, reason = "wit-bindgen writes it")]

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package rogue:unknown-import;
            world unknown-import {
                import rogue:backdoor/door@1.0.0;
                export analyze: func() -> result<_, string>;
            }
            package rogue:backdoor@1.0.0 {
                interface door { open: func() -> u32; }
            }
        ",
        world: "rogue:unknown-import/unknown-import",
        generate_all,
    });
}

struct UnknownImport;

impl bindings::Guest for UnknownImport {
    fn analyze() -> Result<(), String> {
        Err(format!("the door gave {}", bindings::rogue::backdoor::door::open()))
    }
}

bindings::export!(UnknownImport with_types_in bindings);
