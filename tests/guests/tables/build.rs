//! No code in Rust makes a table large, but the linker does.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg=--table-base=10000000");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
