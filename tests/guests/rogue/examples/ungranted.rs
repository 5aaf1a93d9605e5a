//! Imports randomness and the clock: refused before it runs unless both were granted, naming the import.

#![expect(unsafe_code, reason = "wit-bindgen writes it")]

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package rogue:ungranted;
            world ungranted {
                import wasi:random/random@0.2.0;
                import wasi:clocks/wall-clock@0.2.0;
                export analyze: func() -> result<_, string>;
            }
            package wasi:random@0.2.0 {
                interface random { get-random-u64: func() -> u64; }
            }
            package wasi:clocks@0.2.0 {
                interface wall-clock {
                    record datetime { seconds: u64, nanoseconds: u32 }
                    now: func() -> datetime;
                }
            }
        ",
        world: "rogue:ungranted/ungranted",
        generate_all,
    });
}

struct Ungranted;

impl bindings::Guest for Ungranted {
    fn analyze() -> Result<(), String> {
        let random = bindings::wasi::random::random::get_random_u64();
        let now = bindings::wasi::clocks::wall_clock::now();
        if random == now.seconds { Err("too much of a coincidence".into()) } else { Ok(()) }
    }
}

bindings::export!(Ungranted with_types_in bindings);
