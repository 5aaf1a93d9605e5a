//! Waits in the host for a millisecond again and again, with a clock that was granted: the deadline must end it.

#![expect(unsafe_code, reason = "wit-bindgen writes it")]

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package rogue:poll-clock;
            world poll-clock {
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
        world: "rogue:poll-clock/poll-clock",
        generate_all,
    });
}

struct PollClock;

impl bindings::Guest for PollClock {
    fn analyze() -> Result<(), String> {
        for _ in 0..3_600_000 {
            bindings::wasi::clocks::monotonic_clock::subscribe_duration(1_000_000).block();
        }
        Err("an hour went by".into())
    }
}

bindings::export!(PollClock with_types_in bindings);
