//! A driver's library without a card, `driver/libcuda.c`, compiled for a test. Included by tests that open it or start functions
//! which do.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library `libcuda.so.1` in this folder, which is `CARGO_TARGET_TMPDIR` of the test.
pub(crate) fn compiled(folder: &str) -> PathBuf {
    let source =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/testing/support/driver/libcuda.c");
    let library = Path::new(folder).join("libcuda.so.1");
    // Another process may be at the same; whichever is last, it is there whole.
    let own = library.with_extension(std::process::id().to_string());
    let name = "-Wl,-soname,libcuda.so.1";
    let options = ["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-O1", name];
    let done = Command::new("cc").args(options).arg(source).arg("-o").arg(&own).status();
    assert!(done.expect("cc, which linking needs too").success());
    std::fs::rename(own, &library).expect("the folder of the test");
    library
}
