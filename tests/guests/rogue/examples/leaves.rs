//! Prints 4 MiB and ends itself, as a program of its own would: the job fails, with its exit status and a log within its bound.

#![expect(unsafe_code, reason = "wit-bindgen writes it")]

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package rogue:leaves;
            world leaves {
                import wasi:cli/stderr@0.2.0;
                import wasi:cli/exit@0.2.0;
                export analyze: func() -> result<_, string>;
            }
            package wasi:io@0.2.0 {
                interface error { resource error; }
                interface streams {
                    use error.{error};
                    variant stream-error { last-operation-failed(error), closed }
                    resource output-stream {
                        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                    }
                }
            }
            package wasi:cli@0.2.0 {
                interface stderr {
                    use wasi:io/streams@0.2.0.{output-stream};
                    get-stderr: func() -> output-stream;
                }
                interface exit { exit: func(status: result); }
            }
        ",
        world: "rogue:leaves/leaves",
        generate_all,
    });
}

use bindings::wasi::cli::{exit, stderr};

struct Leaves;

impl bindings::Guest for Leaves {
    fn analyze() -> Result<(), String> {
        let line = ["word ".repeat(800).as_str(), "\n"].concat();
        let stream = stderr::get_stderr();
        for _ in 0..1024 {
            stream.blocking_write_and_flush(line.as_bytes()).map_err(|_| "it was closed".to_owned())?;
        }
        exit::exit(Err(()));
        Err("it went on".into())
    }
}

bindings::export!(Leaves with_types_in bindings);
