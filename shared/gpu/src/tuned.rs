//! Which tile is fastest for each product of a model: measured on this card, kept beside the snapshot's cache.
//!
//! ```text
//! FAST_BOOT=true    tiles by Tile::choose; after the first answer a thread measures, one product between two passes
//! FAST_BOOT=false   measured before the model is ready
//! both              what CACHE_DIR/gpu-tiles-<card, driver, kernels>.txt has is not measured again
//! ```
//!
//! A product is measured at a few numbers of rows; between them the next larger one counts. Which tile computes a product
//! changes no bit of its result (`kernels/gemm.cuh`), so an answer from before the measurement is that from after it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::device::{Device, Error, Limits, Memory, Stream};
use crate::kernels::{Element, Epilogue, Float, Gemm, Half, Tile};
use crate::weights::Linear;

/// The numbers of rows at which products are measured: from a query alone to what fills every card. Four times as many rows
/// are four times the time or the same, so nothing between two of them is far from both.
const ROWS: [u32; 6] = [16, 64, 256, 1024, 4096, 16384];

/// Times that each tile is started; the fastest counts, as whatever else happens makes it slower.
const STARTS: usize = 3;

/// What a tile is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    element: Element,
    n: u32,
    k: u32,
    epilogue: Epilogue,
    /// One of [`ROWS`].
    rows: u32,
}

impl Product {
    /// What counts for a product of any number of rows.
    fn of(gemm: &Gemm) -> Self {
        let rows = ROWS.into_iter().find(|rows| *rows >= gemm.m).unwrap_or(ROWS[ROWS.len() - 1]);
        Self { element: gemm.element, n: gemm.n, k: gemm.k, epilogue: gemm.epilogue, rows }
    }

    /// The products of a layer's linear part, up to so many rows.
    pub(crate) fn all(
        linear: Linear,
        epilogue: Epilogue,
        most_rows: u32,
    ) -> impl Iterator<Item = (Linear, Self)> {
        let Linear { element, n, k, .. } = linear;
        ROWS.into_iter()
            .take_while(move |rows| *rows <= most_rows)
            .map(move |rows| (linear, Self { element, n, k, epilogue, rows }))
    }

    /// The time that a tile takes for it, on rows of zeros; measured once only where that is twice what another took.
    ///
    /// # Errors
    /// If there is no memory for it, or the device fails.
    pub(crate) fn measure(
        self,
        tile: Tile,
        linear: Linear,
        device: &Arc<dyn Device>,
        stream: &dyn Stream,
        other: Option<Duration>,
    ) -> Result<Duration, Error> {
        let Self { element, n, k, epilogue, rows } = self;
        let columns = if epilogue == Epilogue::SwiGlu { n / 2 } else { n };
        let bytes = |width: u32, size: u32| rows as usize * (width * size) as usize;
        // A, its scales, and C as wide as f32.
        let a = Memory::new(device, bytes(k, element.bytes()))?;
        let scales = Memory::new(device, bytes(1, 4))?;
        let out = Memory::new(device, bytes(columns, 4))?;
        for memory in [&a, &scales, &out] {
            stream.zero(memory.address(), memory.bytes())?;
        }
        let out_type = match (epilogue, element) {
            (Epilogue::AddTo, _) => Float::F32,
            (_, Element::F16) => Float::Half(Half::F16),
            _ => Float::Half(Half::Bf16),
        };
        let gemm = Gemm {
            element,
            m: rows,
            n,
            k,
            a: a.address(),
            a_stride: k,
            a_scales: linear.is_int8().then_some(scales.address()),
            weight: linear.weight,
            weight_scales: linear.scales,
            bias: linear.bias,
            epilogue,
            out: out.address(),
            out_stride: columns,
            out_type,
            tile: Some(tile),
        };
        let launch = gemm.launch(device.limits().multiprocessors);
        // The first start of a kernel loads it.
        stream.launch(&launch)?;
        let mut fastest = Duration::MAX;
        for _ in 0..STARTS {
            let (before, after) = (device.event()?, device.event()?);
            stream.record(&*before)?;
            stream.launch(&launch)?;
            stream.record(&*after)?;
            after.synchronize()?;
            fastest = fastest.min(after.since(&*before)?);
            if other.is_some_and(|other| fastest > 2 * other) {
                break;
            }
        }
        Ok(fastest)
    }
}

/// The tiles that are known.
#[derive(Debug)]
pub(crate) struct Tuned {
    known: RwLock<HashMap<Product, Tile>>,
    file: Option<PathBuf>,
}

impl Tuned {
    /// Those that earlier processes have measured on such a card. Without a folder, nothing is kept.
    pub(crate) fn read(folder: Option<&Path>, limits: &Limits) -> Self {
        let file = folder.map(|folder| folder.join(file_name(limits)));
        let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        // A line that says nothing is measured again.
        let known = text.iter().flat_map(|text| text.lines().filter_map(parse)).collect();
        Self { known: RwLock::new(known), file }
    }

    /// The tile for a product, if it was measured.
    pub(crate) fn tile(&self, gemm: &Gemm) -> Option<Tile> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&Product::of(gemm)).copied()
    }

    /// How many products have a tile.
    pub(crate) fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether a product has no tile yet.
    pub(crate) fn lacks(&self, product: &Product) -> bool {
        !self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(product)
    }

    /// Knows the fastest tile of a product from now on.
    pub(crate) fn learn(&self, product: Product, fastest: Option<Tile>) {
        if let Some(tile) = fastest {
            self.known.write().unwrap_or_else(PoisonError::into_inner).insert(product, tile);
        }
    }

    /// Keeps all of them for later processes, beside what others have kept meanwhile. A folder that cannot be written costs
    /// them the measurement, and nothing else.
    pub(crate) fn keep(&self) -> Result<(), std::io::Error> {
        let Some(file) = &self.file else { return Ok(()) };
        let kept = fs::read_to_string(file).unwrap_or_default();
        let mut all: HashMap<Product, Tile> = kept.lines().filter_map(parse).collect();
        all.extend(self.known.read().unwrap_or_else(PoisonError::into_inner).iter());
        let mut lines: Vec<String> =
            all.iter().map(|(product, tile)| line(product, *tile)).collect();
        lines.sort_unstable();
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        // Whole or not at all, whoever reads it meanwhile.
        let own = file.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&own, lines.concat())?;
        fs::rename(&own, file)
    }
}

/// What the tiles' order depends on: card, driver, and the kernels' source.
fn file_name(limits: &Limits) -> String {
    let (major, minor) = limits.capability;
    let kernels = include_str!("../kernels/gemm.cuh");
    let what = format!("{} {major}.{minor} {} {kernels}", limits.name, limits.driver);
    // FNV-1a: the same in every build.
    let hash = what.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("gpu-tiles-{hash:016x}.txt")
}

fn element(element: Element) -> &'static str {
    match element {
        Element::Bf16 => "bf16",
        Element::F16 => "f16",
        Element::Int8 => "int8",
    }
}

fn epilogue(epilogue: Epilogue) -> &'static str {
    match epilogue {
        Epilogue::Store => "store",
        Epilogue::Gelu => "gelu",
        Epilogue::SwiGlu => "swiglu",
        Epilogue::AddTo => "add",
    }
}

/// `bf16 n k epilogue rows tile`.
fn line(product: &Product, tile: Tile) -> String {
    let Product { n, k, rows, .. } = product;
    let mut line = String::new();
    let (of, then) = (element(product.element), epilogue(product.epilogue));
    // A string takes all that is written to it.
    let _ = writeln!(line, "{of} {n} {k} {then} {rows} {tile}");
    line
}

fn parse(line: &str) -> Option<(Product, Tile)> {
    let mut words = line.split_ascii_whitespace();
    let mut next = || words.next();
    let of = next()?;
    let (n, k) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let then = next()?;
    let rows = next()?.parse().ok().filter(|rows| ROWS.contains(rows))?;
    let named = next()?;
    let product = Product {
        element: Element::ALL.into_iter().find(|known| element(*known) == of)?,
        n,
        k,
        epilogue: Epilogue::ALL.into_iter().find(|known| epilogue(*known) == then)?,
        rows,
    };
    let tile = Tile::ALL.into_iter().find(|tile| tile.to_string() == named)?;
    words.next().is_none().then_some((product, tile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        for element in Element::ALL {
            for epilogue in Epilogue::ALL {
                for tile in Tile::ALL {
                    let product = Product { element, n: 1152, k: 896, epilogue, rows: 256 };
                    assert_eq!(parse(&line(&product, tile)), Some((product, tile)));
                }
            }
        }
        for wrong in [
            "",
            "bf16",
            "bf16 1 2 store 17 64x64",
            "bf16 1 2 store 16 63x64",
            "f32 1 2 store 16 64x64",
            "bf16 1 -2 store 16 64x64",
            "bf16 1 2 store 16 64x64 more",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_product_counts_as_the_next_larger_that_is_measured() {
        let rows = |m| {
            let gemm = Gemm {
                element: Element::Bf16,
                m,
                n: 64,
                k: 64,
                a: crate::Address(0),
                a_stride: 64,
                a_scales: None,
                weight: crate::Address(0),
                weight_scales: None,
                bias: None,
                epilogue: Epilogue::Store,
                out: crate::Address(0),
                out_stride: 64,
                out_type: Float::F32,
                tile: None,
            };
            Product::of(&gemm).rows
        };
        for (m, expected) in [(1, 16), (16, 16), (17, 64), (1024, 1024), (90_000, 16384)] {
            assert_eq!(rows(m), expected, "{m}");
        }
    }

    #[test]
    fn what_is_kept_depends_on_card_and_driver() {
        let limits = |name: &str, driver: &str| Limits {
            name: name.to_owned(),
            capability: (8, 9),
            multiprocessors: 58,
            memory: 1 << 30,
            shared: 99 << 10,
            driver: driver.to_owned(),
            is_timed: true,
        };
        let names = [("L4", "13.0"), ("L4", "12.9"), ("A10G", "13.0")]
            .map(|(name, driver)| file_name(&limits(name, driver)));
        assert!(names[0] != names[1] && names[0] != names[2], "{names:?}");
        assert_eq!(names[0], file_name(&limits("L4", "13.0")));
    }
}
