//! Waits for an hour in the host, with a clock that was granted: the deadline must end it all the same.

#![expect(unsafe_code, reason = "wit-bindgen writes it")]

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package rogue:sleep;
            world sleep {
                import wasi:clocks/monotonic-clock@0.2.0;
                export analyze: func() -> result<_, string>;
            }
            package wasi:io@0.2.0 {
                interface poll {
                    resource pollable { block: func(); }
                }
            }
            package wasi:clocks@0.2.0 {
                interface monotonic-clock {
                    use wasi:io/poll@0.2.0.{pollable};
                    subscribe-duration: func(when: u64) -> pollable;
                }
            }
        ",
        world: "rogue:sleep/sleep",
        generate_all,
    });
}

struct Sleep;

impl bindings::Guest for Sleep {
    fn analyze() -> Result<(), String> {
        bindings::wasi::clocks::monotonic_clock::subscribe_duration(3_600_000_000_000).block();
        Err("an hour went by".into())
    }
}

bindings::export!(Sleep with_types_in bindings);
