//! With the feature `cubins`: compiles `kernels/*.cu` with nvcc, once for each compute capability, and writes the cubins
//! compressed for `src/cubins.rs` to take in. Without it: nothing.
//!
//! Each source is a unit of its own: the names of one are nothing to another, and several are compiled at once, as many as
//! cargo says (`-j`). What belongs to one capability is compressed together.
//!
//! `NVCC` names the compiler; otherwise it is looked for in `CUDA_HOME/bin` and in `PATH`. `DEFROST_CUDA_CAPABILITIES` is
//! a list such as `80,90`.

#[cfg(feature = "cubins")]
fn main() {
    if let Err(error) = cubins::build() {
        println!("cargo::error={error}");
    }
}

#[cfg(not(feature = "cubins"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "cubins")]
mod cubins {
    use std::env;
    use std::fmt::Write as _;
    use std::fs;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Mutex;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    /// A100; A10 and RTX 30; L4, L40S and RTX 40; H100 and H200; RTX 50 and RTX PRO. Other cards of the same major
    /// capability run one of these.
    const USUAL: [u32; 5] = [80, 86, 89, 90, 120];

    /// Releases whose compiler is wrong about divergence within divergence, of 13.2 apart, which was put right by a patch.
    const MISCOMPILING: std::ops::RangeInclusive<(u32, u32)> = (12, 8)..=(13, 1);

    pub(super) fn build() -> Result<(), String> {
        for variable in ["NVCC", "CUDA_HOME", "DEFROST_CUDA_CAPABILITIES"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        println!("cargo::rerun-if-changed=kernels");
        println!("cargo::rerun-if-changed=build.rs");
        let nvcc = nvcc()?;
        let toolkit = toolkit(&nvcc)?;
        if MISCOMPILING.contains(&toolkit) {
            println!(
                "cargo::warning=CUDA {}.{}: nvcc of 12.8 to 13.2.1 may compile nested branches wrongly; use 13.2.2 or newer, or 12.6",
                toolkit.0, toolkit.1
            );
        }
        let capabilities = capabilities(&nvcc)?;
        let folder = |variable| {
            env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("cargo sets {variable}"))
        };
        let (kernels, out) = (folder("CARGO_MANIFEST_DIR")?.join("kernels"), folder("OUT_DIR")?);
        let sources = sources(&kernels)?;
        let files =
            Compiler { nvcc: &nvcc, kernels: &kernels, out: &out }.all(&sources, &capabilities)?;
        let (major, minor) = toolkit;
        let mut list = format!(
            "pub(super) const TOOLKIT: Option<Version> = Some(Version {{ major: {major}, minor: {minor} }});\n\
             pub(super) const CUBINS: &[Cubin] = &[\n"
        );
        for (capability, files) in capabilities.iter().zip(files.chunks(sources.len())) {
            let packed = out.join(format!("sm_{capability}.z"));
            compress(&files.concat(), &packed)
                .map_err(|error| format!("{}: {error}", packed.display()))?;
            let (major, minor) = (capability / 10, capability % 10);
            let packed = packed.display().to_string();
            let lens: Vec<usize> = files.iter().map(Vec::len).collect();
            writeln!(
                list,
                "    Cubin {{ capability: ({major}, {minor}), lens: &{lens:?}, packed: include_bytes!({packed:?}) }},"
            )
            .map_err(|error| error.to_string())?;
        }
        list.push_str("];\n");
        fs::write(out.join("cubins.rs"), list).map_err(|error| format!("cubins.rs: {error}"))
    }

    fn nvcc() -> Result<PathBuf, String> {
        if let Some(named) = env::var_os("NVCC") {
            let named = PathBuf::from(named);
            return if named.is_file() {
                Ok(named)
            } else {
                Err(format!("NVCC={}: there is no such file", named.display()))
            };
        }
        let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
        let path = env::var_os("PATH").unwrap_or_default();
        let mut folders = home.into_iter().chain(env::split_paths(&path));
        folders.find_map(|folder| Some(folder.join("nvcc")).filter(|nvcc| nvcc.is_file())).ok_or_else(|| {
            "the feature `cubins` compiles GPU kernels and needs nvcc, found in none of NVCC, CUDA_HOME/bin and PATH: \
             install the CUDA toolkit (13.2.2 or newer, or 12.6), or build without the feature"
                .to_owned()
        })
    }

    fn output(nvcc: &Path, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(nvcc).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", nvcc.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(text)
        } else {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{} {}: {}", nvcc.display(), arguments.join(" "), said.trim()))
        }
    }

    /// From `Cuda compilation tools, release 13.3, V13.3.33`.
    fn toolkit(nvcc: &Path) -> Result<(u32, u32), String> {
        let text = output(nvcc, &["--version"])?;
        let release = text.split("release ").nth(1).and_then(|rest| rest.split([',', ' ']).next());
        release
            .and_then(|release| release.split_once('.'))
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
            .ok_or_else(|| {
                let found = text.trim();
                format!(
                    "{} --version: expected \"release 13.3\" or the like, found {found:?}",
                    nvcc.display()
                )
            })
    }

    fn capabilities(nvcc: &Path) -> Result<Vec<u32>, String> {
        // A line for each: `sm_90`.
        let listed = output(nvcc, &["--list-gpu-code"])?;
        let known: Vec<u32> = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("sm_")?.parse().ok())
            .collect();
        let Ok(wanted) = env::var("DEFROST_CUDA_CAPABILITIES") else {
            return Ok(USUAL.into_iter().filter(|usual| known.contains(usual)).collect());
        };
        let wanted = wanted.split(',').map(str::trim).map(|one| match one.parse() {
            Ok(80..) if one.parse().is_ok_and(|one| known.contains(&one)) => {
                one.parse().map_err(|_| one.to_owned())
            }
            _ => Err(format!(
                "DEFROST_CUDA_CAPABILITIES: expected a list such as 80,90, of 80 or more and of what this nvcc knows ({known:?}), \
                 found {one:?}"
            )),
        });
        let mut wanted = wanted.collect::<Result<Vec<u32>, String>>()?;
        wanted.sort_unstable();
        wanted.dedup();
        Ok(wanted)
    }

    /// Every source, sorted.
    fn sources(kernels: &Path) -> Result<Vec<PathBuf>, String> {
        let listed =
            fs::read_dir(kernels).map_err(|error| format!("{}: {error}", kernels.display()))?;
        let mut sources: Vec<PathBuf> = listed
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
            .collect();
        sources.sort();
        if sources.is_empty() {
            return Err(format!("{}: no .cu file is there", kernels.display()));
        }
        Ok(sources)
    }

    struct Compiler<'a> {
        nvcc: &'a Path,
        kernels: &'a Path,
        out: &'a Path,
    }

    impl Compiler<'_> {
        /// The cubins of every source for the first capability, then for the next.
        fn all(&self, sources: &[PathBuf], capabilities: &[u32]) -> Result<Vec<Vec<u8>>, String> {
            let wanted: Vec<(u32, &PathBuf)> = capabilities
                .iter()
                .flat_map(|&capability| sources.iter().map(move |source| (capability, source)))
                .collect();
            let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
            let next = Mutex::new(wanted.iter().enumerate());
            let done = Mutex::new(vec![Ok(Vec::new()); wanted.len()]);
            let poisoned = |_| "a thread that compiles has failed".to_owned();
            let work = || -> Result<(), String> {
                loop {
                    let Some((at, (capability, source))) = next.lock().map_err(poisoned)?.next()
                    else {
                        return Ok(());
                    };
                    let file = self.one(source, *capability);
                    done.lock().map_err(|_| "a thread that compiles has failed")?[at] = file;
                }
            };
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
                threads.into_iter().try_for_each(|thread| {
                    thread.join().map_err(|_| "a thread that compiles has failed".to_owned())?
                })
            })?;
            let done = done.into_inner().map_err(|_| "a thread that compiles has failed")?;
            done.into_iter().collect()
        }

        fn one(&self, source: &Path, capability: u32) -> Result<Vec<u8>, String> {
            let name = source.file_stem().unwrap_or_default().to_string_lossy();
            let cubin = self.out.join(format!("{name}.sm_{capability}.cubin"));
            let compiled = Command::new(self.nvcc)
                .arg("-cubin")
                .arg(format!("-arch=sm_{capability}"))
                .args(["-O3", "-std=c++17", "-Xptxas", "-warn-spills", "-I"])
                .arg(self.kernels)
                .arg("-o")
                .arg(&cubin)
                .arg(source)
                .output()
                .map_err(|error| format!("{}: {error}", self.nvcc.display()))?;
            let said = String::from_utf8_lossy(&compiled.stderr);
            if !compiled.status.success() {
                let said = said.trim().replace('\n', " | ");
                return Err(format!("nvcc -arch=sm_{capability} {}: {said}", source.display()));
            }
            for line in said.lines().filter(|line| line.contains("warning")) {
                println!("cargo::warning={name} for sm_{capability}: {}", line.trim());
            }
            fs::read(&cubin).map_err(|error| format!("{}: {error}", cubin.display()))
        }
    }

    fn compress(file: &[u8], to: &Path) -> std::io::Result<()> {
        let mut encoder = ZlibEncoder::new(fs::File::create(to)?, Compression::best());
        encoder.write_all(file)?;
        encoder.finish().map(drop)
    }
}
