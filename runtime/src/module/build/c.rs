//! C: bindings are written by `wit-bindgen`, which is part of `gantry`, and compiled together with the module.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_bindgen_core::{Files, wit_parser::Resolve};

use super::world::{BUILD_FOLDER, WORLD};
use super::{BuildError, command_failed, files_ending, put, tool};

const TARGET: &str = "--target=wasm32-wasi";
/// What every compiler for it takes.
const COMPILE: [&str; 5] = ["-c", "-msimd128", "-O2", "-Wall", "-Wextra"];
/// A reactor has functions to call and no `main`. Asked to optimise here, clang would run whatever `wasm-opt` is on the path,
/// which may know less than this compiler makes.
const LINK: [&str; 2] = ["-mexec-model=reactor", "-Wl,--strip-all"];
const REMEDY: &str = "install clang, lld and wasi-libc (on Debian: apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32), \
                      set WASI_SDK_PATH to a wasi-sdk, or put zig on the path (pip install ziglang)";

/// Compiles every `.c` file of the folder; the core module.
pub(super) fn compile(source: &Path, wit: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let build = source.join(BUILD_FOLDER);
    let bindings = build.join("bindings");
    let mut inputs = files_ending(source, "c")?;
    let mut objects = Vec::new();
    for name in bindings_in(wit, &bindings)? {
        // The header is included; the object has the type of the component.
        match Path::new(&name).extension().and_then(|extension| extension.to_str()) {
            Some("c") => inputs.push(bindings.join(name)),
            Some("o") => objects.push(bindings.join(name)),
            _ => {}
        }
    }
    for (number, input) in inputs.iter().enumerate() {
        let object = build.join(format!("{number}.o"));
        let mut compiler = compiler()?;
        compiler.arg(TARGET).args(COMPILE).arg("-I").arg(&bindings).arg("-o").arg(&object).arg(input);
        say(compiler, progress)?;
        objects.push(object);
    }
    let wasm = build.join("module.wasm");
    let mut linker = compiler()?;
    linker.arg(TARGET).args(LINK).arg("-o").arg(&wasm).args(&objects);
    say(linker, progress)?;
    Ok(wasm)
}

/// Runs a compiler; what it warns of is told.
fn say(mut compiler: Command, progress: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let output = compiler.output().map_err(|e| command_failed(&compiler, e.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(command_failed(&compiler, said.trim_end().to_owned()));
    }
    said.lines().for_each(progress);
    Ok(())
}

/// Writes `analyzer.h`, `analyzer.c` and an object with the type of the component; their names.
fn bindings_in(wit: &Path, folder: &Path) -> Result<Vec<String>, BuildError> {
    let generate = || -> anyhow::Result<Files> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(wit)?;
        let world = resolve.select_world(&[package], Some(WORLD))?;
        let mut files = Files::default();
        wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
        Ok(files)
    };
    let files = generate().map_err(|e| BuildError::Component { path: wit.to_path_buf(), reason: format!("{e:#}") })?;
    files.iter().map(|(name, bytes)| put(folder, name, bytes).map(|_| name.to_owned())).collect()
}

/// The first of those that there are: that of a wasi-sdk, clang with a C library for WASI, zig.
fn compiler() -> Result<Command, BuildError> {
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH").filter(|path| !path.is_empty()) {
        return Ok(Command::new(Path::new(&sdk).join("bin/clang")));
    }
    // It answers with the bare name of what it does not have.
    let asked = Command::new("clang").args(["--target=wasm32-wasi", "-print-file-name=crt1-reactor.o"]).output();
    if asked.is_ok_and(|said| said.stdout.starts_with(b"/")) {
        return Ok(Command::new("clang"));
    }
    if let Some(zig) = tool::on_path("zig") {
        return Ok(with(zig.into(), &["cc"]));
    }
    let ziglang = Command::new("python3").args(["-c", "import ziglang"]).output();
    if ziglang.is_ok_and(|said| said.status.success()) {
        return Ok(with("python3".into(), &["-m", "ziglang", "cc"]));
    }
    Err(BuildError::NoTool { tool: "C compiler for WebAssembly", remedy: REMEDY })
}

fn with(program: OsString, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
