//! Compiles the kernels, the planted faults and the emulator itself with the system's C++ compiler.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Where sources are, and whether they are kernels.
const SOURCES: [(&str, bool); 4] =
    [("src", false), ("../kernels", true), ("planted", true), ("tests/kernels", true)];

/// Headers, each of which any source may include.
const HEADERS: [&str; 4] = ["include", "include/emulator", "src", "../kernels"];

fn main() {
    for place in SOURCES.iter().map(|(place, _)| *place).chain(HEADERS) {
        println!("cargo::rerun-if-changed={place}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let compiler = compiler();
    let stamp = stamp(&compiler, &out);
    let headers = HEADERS.iter().flat_map(|place| files(Path::new(place), &["h", "cuh"]));
    let newest_header = headers.map(|path| written(&path)).fold(stamp, SystemTime::max);

    let mut library = cc::Build::new();
    library.cpp(true);
    // Kernels register themselves before main: without this, the linker would leave out objects that nobody names.
    library.link_lib_modifier("+whole-archive");
    for (place, kernels) in SOURCES {
        let extension = if kernels { "cu" } else { "cpp" };
        for source in files(Path::new(place), &[extension]) {
            let object = out.join(format!(
                "{}-{}.o",
                place.replace(['/', '.'], "_"),
                source.file_stem().expect("a source has a name").to_string_lossy()
            ));
            // The compiler takes seconds for a kernel, so that one which has not changed is left as it is.
            if !object.exists() || written(&object) <= written(&source).max(newest_header) {
                compile(&compiler, &source, &object, kernels);
            }
            library.object(object);
        }
    }
    library.compile("defrost_gpu_emulator");
}

/// The files of a directory with such an ending, sorted; none if there is no such directory.
fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .and_then(OsStr::to_str)
                .is_some_and(|ending| extensions.contains(&ending))
        })
        .collect();
    paths.sort();
    paths
}

fn written(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The compiler, with everything that it is told of each source.
fn compiler() -> cc::Tool {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        // Kernels are unusable otherwise, and tests run them in every profile.
        .opt_level(2)
        .debug(false)
        .include("include")
        .include("../kernels")
        // Products and sums are rounded one by one, on every host alike.
        .flag("-ffp-contract=off")
        // Its longjmp refuses to change stacks.
        .flag("-U_FORTIFY_SOURCE")
        .flag_if_supported("-Wno-unknown-pragmas")
        .warnings(true)
        .extra_warnings(true)
        .try_get_compiler()
        .unwrap_or_else(|error| missing(&error.to_string()))
}

/// When the compiler or what it is told last changed.
fn stamp(compiler: &cc::Tool, out: &Path) -> SystemTime {
    let path = out.join("compiler.txt");
    let command = format!("{:?}", compiler.to_command());
    if fs::read_to_string(&path).is_ok_and(|known| known == command) {
        return written(&path);
    }
    fs::write(&path, command).expect("OUT_DIR is writable");
    SystemTime::now()
}

fn compile(compiler: &cc::Tool, source: &Path, object: &Path, kernel: bool) {
    let mut command: Command = compiler.to_command();
    if kernel {
        command.args(["-x", "c++"]);
    }
    command.arg("-c").arg(source).arg("-o").arg(object);
    let start = SystemTime::now();
    match command.status() {
        Ok(status) if status.success() => {
            // As old as what the compiler may have read: a source that was changed meanwhile is compiled again.
            let dated = fs::File::options().append(true).open(object);
            dated.and_then(|file| file.set_modified(start)).expect("the object was just written");
        }
        Ok(status) => {
            let _ = fs::remove_file(object);
            panic!(
                "{} does not compile ({status}); the compiler's words are above",
                source.display()
            );
        }
        Err(error) => missing(&format!("{}: {error}", compiler.path().display())),
    }
}

fn missing(error: &str) -> ! {
    panic!(
        "the GPU kernels are tested on the CPU, which takes a compiler of C++17: install g++ (or name another one in CXX). {error}"
    );
}
