//! With the feature `cubins`: compiles `kernels/*.cu` with nvcc, once for each compute capability, and writes the cubins
//! compressed for `src/cubins.rs` to take in. Without it: nothing.
//!
//! All kernels are one unit, so that a capability is one cubin, which the driver loads with one call.
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

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    /// A100; A10 and RTX 30; L4, L40S and RTX 40; H100 and H200; RTX 50 and RTX PRO. Other cards of the same major
    /// capability run one of these.
    const USUAL: [u32; 5] = [80, 86, 89, 90, 120];

    pub(super) fn build() -> Result<(), String> {
        for variable in ["NVCC", "CUDA_HOME", "DEFROST_CUDA_CAPABILITIES"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        println!("cargo::rerun-if-changed=kernels");
        println!("cargo::rerun-if-changed=build.rs");
        let nvcc = nvcc()?;
        let toolkit = toolkit(&nvcc)?;
        let capabilities = capabilities(&nvcc)?;
        let folder = |variable| {
            env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("cargo sets {variable}"))
        };
        let (kernels, out) = (folder("CARGO_MANIFEST_DIR")?.join("kernels"), folder("OUT_DIR")?);
        let unit = unit(&kernels, &out)?;
        let (major, minor) = toolkit;
        let mut list = format!(
            "pub(super) const TOOLKIT: Option<Version> = Some(Version {{ major: {major}, minor: {minor} }});\n\
             pub(super) const CUBINS: &[Cubin] = &[\n"
        );
        for capability in capabilities {
            let file = compile(&nvcc, &unit, &kernels, &out, capability)?;
            let packed = out.join(format!("sm_{capability}.z"));
            compress(&file, &packed).map_err(|error| format!("{}: {error}", packed.display()))?;
            let (major, minor) = (capability / 10, capability % 10);
            writeln!(
                list,
                "    Cubin {{ capability: ({major}, {minor}), len: {}, packed: include_bytes!({packed:?}) }},",
                file.len()
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
             install the CUDA toolkit (13.2.2 or newer), or build without the feature"
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

    /// A file that includes every source.
    fn unit(kernels: &Path, out: &Path) -> Result<PathBuf, String> {
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
        let include = |path: &PathBuf| format!("#include \"{}\"\n", path.display());
        let unit = out.join("kernels.cu");
        fs::write(&unit, sources.iter().map(include).collect::<String>())
            .map_err(|error| format!("{}: {error}", unit.display()))?;
        Ok(unit)
    }

    fn compile(
        nvcc: &Path,
        unit: &Path,
        kernels: &Path,
        out: &Path,
        capability: u32,
    ) -> Result<Vec<u8>, String> {
        let cubin = out.join(format!("sm_{capability}.cubin"));
        let compiled = Command::new(nvcc)
            .arg("-cubin")
            .arg(format!("-arch=sm_{capability}"))
            .args(["-O3", "-std=c++17", "-Xptxas", "-warn-spills", "-I"])
            .arg(kernels)
            .arg("-o")
            .arg(&cubin)
            .arg(unit)
            .output()
            .map_err(|error| format!("{}: {error}", nvcc.display()))?;
        let said = String::from_utf8_lossy(&compiled.stderr);
        if !compiled.status.success() {
            return Err(format!(
                "nvcc -arch=sm_{capability}: {}",
                said.trim().replace('\n', " | ")
            ));
        }
        for line in said.lines().filter(|line| line.contains("warning")) {
            println!("cargo::warning=sm_{capability}: {}", line.trim());
        }
        fs::read(&cubin).map_err(|error| format!("{}: {error}", cubin.display()))
    }

    fn compress(file: &[u8], to: &Path) -> std::io::Result<()> {
        let mut encoder = ZlibEncoder::new(fs::File::create(to)?, Compression::best());
        encoder.write_all(file)?;
        encoder.finish().map(drop)
    }
}
