//! The kernels as this binary carries them: compiled by `nvcc` for each compute capability, compressed.
//!
//! A cubin holds machine code, so nothing is compiled at a start, and runs on cards of its own major capability and of
//! the same or a higher minor one. The feature `cubins` puts them in (see `build.rs`); a build without it has none, which
//! is what a machine without the toolkit can check and test.

use std::fmt;

use crate::device::Error;

/// A version of CUDA, such as 13.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// What code for cards depends on.
    pub major: u32,
    /// What it does not.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The kernels for one compute capability: a file for each source.
#[derive(Debug, Clone, Copy)]
pub struct Cubin {
    /// The capability, such as (9, 0).
    pub capability: (u32, u32),
    /// Bytes of each file.
    pub lens: &'static [usize],
    /// The files one after the other, compressed with zlib.
    pub packed: &'static [u8],
}

/// What `build.rs` has written: the cubins, sorted, and the version of the toolkit that made them.
#[cfg(feature = "cubins")]
mod built {
    #![allow(clippy::unreadable_literal, reason = "lengths of files, which nobody reads")]

    use super::{Cubin, Version};

    include!(concat!(env!("OUT_DIR"), "/cubins.rs"));
}

#[cfg(not(feature = "cubins"))]
mod built {
    use super::{Cubin, Version};

    pub(super) const TOOLKIT: Option<Version> = None;
    pub(super) const CUBINS: &[Cubin] = &[];
}

/// Every cubin of this binary.
pub fn all() -> &'static [Cubin] {
    built::CUBINS
}

/// The driver that the cubins need: one for CUDA of the same major version as the toolkit that made them, or newer.
pub fn driver() -> Option<Version> {
    built::TOOLKIT.map(|toolkit| Version { minor: 0, ..toolkit })
}

/// The cubin for a card of this name and capability.
///
/// # Errors
/// If the binary has none that the card runs.
pub fn of(card: &str, capability: (u32, u32)) -> Result<&'static Cubin, Error> {
    choose(built::CUBINS, card, capability)
}

fn choose<'a>(cubins: &'a [Cubin], card: &str, capability: (u32, u32)) -> Result<&'a Cubin, Error> {
    let spelled = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    if cubins.is_empty() {
        return Err(Error::Missing(
            "this binary was built without GPU kernels; build it where nvcc is, with --features cubins".to_owned(),
        ));
    }
    let runs =
        |cubin: &&Cubin| cubin.capability.0 == capability.0 && cubin.capability.1 <= capability.1;
    cubins.iter().filter(runs).max_by_key(|cubin| cubin.capability).ok_or_else(|| {
        let known: Vec<String> = cubins.iter().map(|cubin| spelled(cubin.capability)).collect();
        let (major, minor) = capability;
        Error::Missing(format!(
            "no kernels for {card}, of compute capability {}: this binary has them for {}; build it with \
             DEFROST_CUDA_CAPABILITIES={major}{minor}",
            spelled(capability),
            known.join(", ")
        ))
    })
}

impl Cubin {
    /// The files as the driver takes them.
    ///
    /// # Errors
    /// If the binary is damaged.
    #[cfg(feature = "cubins")]
    pub fn unpacked(&self) -> Result<Vec<Vec<u8>>, Error> {
        use std::io::Read as _;
        let mut files = flate2::read::ZlibDecoder::new(self.packed);
        let unpacked = self.lens.iter().map(|&len| {
            let mut file = vec![0; len];
            files.read_exact(&mut file).map(|()| file)
        });
        unpacked.collect::<Result<_, _>>().map_err(|_| {
            Error::Missing("the kernels in this binary are damaged; install it again".to_owned())
        })
    }

    /// The files as the driver takes them.
    ///
    /// # Errors
    /// Without the feature `cubins` there are none.
    #[cfg(not(feature = "cubins"))]
    pub fn unpacked(&self) -> Result<Vec<Vec<u8>>, Error> {
        choose(&[], "", self.capability).map(|_| Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn cubin(major: u32, minor: u32) -> Cubin {
        Cubin { capability: (major, minor), lens: &[], packed: &[] }
    }

    const SOME: &[Cubin] = &[cubin(8, 0), cubin(8, 6), cubin(8, 9), cubin(9, 0)];

    #[test]
    fn a_card_gets_the_newest_kernels_that_it_runs() {
        for (card, found) in [
            ((8, 0), (8, 0)),
            ((8, 6), (8, 6)),
            ((8, 7), (8, 6)),
            ((8, 9), (8, 9)),
            ((9, 0), (9, 0)),
        ] {
            assert_eq!(choose(SOME, "a card", card).map(|cubin| cubin.capability), Ok(found));
        }
    }

    #[test]
    fn a_card_without_kernels_is_told_what_there_is_and_how_to_build_more() {
        let said =
            |cubins, card| choose(cubins, "NVIDIA B200", card).map(drop).unwrap_err().to_string();
        assert_eq!(
            said(SOME, (10, 0)),
            "no kernels for NVIDIA B200, of compute capability 10.0: this binary has them for 8.0, 8.6, 8.9, 9.0; build it \
             with DEFROST_CUDA_CAPABILITIES=100"
        );
        assert!(said(SOME, (7, 5)).contains("compute capability 7.5"));
        assert!(said(&[], (9, 0)).contains("built without GPU kernels"));
    }

    /// The names of a file's kernels: each has a section of code of its name.
    fn kernels(file: &[u8]) -> Vec<String> {
        let strings =
            file.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        strings.filter_map(|text| text.strip_prefix(".text.")).map(str::to_owned).collect()
    }

    /// What was built in is whole, and each is for the capability that it is listed under.
    #[test]
    fn every_cubin_unpacks() {
        for cubin in all() {
            let files = cubin.unpacked().unwrap();
            assert!(!files.is_empty() && driver().is_some());
            assert!(files.iter().all(|file| file.starts_with(b"\x7fELF")));
            // The emulator compiles the same sources.
            let known = defrost_gpu_emulator::kernels();
            let kernels: Vec<String> = files.iter().flat_map(|file| kernels(file)).collect();
            assert!(
                kernels.len() > 10 && kernels.iter().all(|kernel| known.contains(kernel)),
                "{kernels:?}"
            );
        }
        assert_eq!(all().is_empty(), !cfg!(feature = "cubins"));
    }
}
