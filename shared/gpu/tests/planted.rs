//! Faults that are planted in the kernels, one at a time, and found: a barrier or wait that is missing, a lane that
//! is mixed up with its neighbour, and a buffer that ends one access early, which is as if the kernel read or wrote
//! one too many.
//!
//! The lines are read from the sources, so that a new one is tested too. One whose barrier is right and yet never
//! missed has to be named in [`NEVER_MISSED`], with the reason.

use std::cell::{Cell, RefCell};

use defrost_gpu::kernels::{
    Attention, Element, Epilogue, Float, Gemm, Half, Norm, NormKind, Pool, Pooling, Quantize,
    SequenceRow, Tile,
};
use defrost_gpu::{Address, Launch};
use defrost_gpu_emulator::{Emulator, FaultKind};

/// Orders of threads that each launch runs in.
const SEEDS: u64 = 20;

/// Files and lines, whose barriers guard against what no launch does.
const NEVER_MISSED: [(&str, &str); 1] =
    // Groups that are left at the end have no copies in them: the last copies were awaited before the last products.
    [("gemm.cuh", "copy_wait<0>();")];

/// Memory for the buffers of launches, of which one may be too short.
struct Device {
    emulator: Emulator,
    /// The number of the buffer that ends early.
    short: Option<usize>,
    count: Cell<usize>,
    /// Where results go, and how many bytes they have.
    results: RefCell<Vec<(u64, usize)>>,
}

impl Device {
    fn new(short: Option<usize>) -> Self {
        let (count, results) = (Cell::new(0), RefCell::new(Vec::new()));
        Self { emulator: Emulator::new(), short, count, results }
    }

    fn whole(&self, bytes: &[u8]) -> Address {
        let address = self.emulator.allocate(bytes.len());
        self.emulator.write(address, bytes);
        Address(address)
    }

    fn put(&self, bytes: &[u8]) -> Address {
        let number = self.count.replace(self.count.get() + 1);
        self.whole(&bytes[..bytes.len() - usize::from(self.short == Some(number))])
    }

    /// Numbers of 4, 2 and 1 bytes, none of which is large or not finite, and which differ from their neighbours.
    fn floats(&self, count: u32) -> Address {
        self.put(&values(count).flat_map(f32::to_le_bytes).collect::<Vec<_>>())
    }

    fn halves(&self, count: u32) -> Address {
        let bytes = values(count).flat_map(|x| half::bf16::from_f32(x).to_le_bytes());
        self.put(&bytes.collect::<Vec<_>>())
    }

    fn integers(&self, count: u32) -> Address {
        self.put(&(0..count).map(|i| mixed(i).to_le_bytes()[3]).collect::<Vec<_>>())
    }

    fn result(&self, bytes: u32) -> Address {
        let address = self.put(&vec![0; bytes as usize]);
        self.results.borrow_mut().push((address.0, bytes as usize));
        address
    }

    fn answers(&self) -> Vec<Vec<u8>> {
        let read = |&(address, bytes): &(u64, usize)| {
            let mut found = vec![0; bytes];
            self.emulator.read(address, &mut found);
            found
        };
        self.results.borrow().iter().map(read).collect()
    }

    fn product(&self, element: Element, tile: Tile) -> Launch {
        // Two blocks along each side, and each stage twice along k: so the read ahead of the last step is of the
        // first stage, where sums go next.
        let shape = tile.shape();
        let [m, n] = [shape.rows + 8, shape.columns + 8];
        let k = 2 * shape.stages * shape.depth / element.bytes();
        let int8 = element == Element::Int8;
        let matrix = |rows: u32| if int8 { self.integers(rows * k) } else { self.halves(rows * k) };
        Gemm {
            element,
            m,
            n,
            k,
            a: matrix(m),
            a_stride: k,
            a_scales: int8.then(|| self.floats(m)),
            weight: matrix(n),
            weight_scales: int8.then(|| self.floats(n)),
            bias: Some(self.floats(n)),
            epilogue: Epilogue::Store,
            out: self.result(m * n * 4),
            out_stride: n,
            out_type: Float::F32,
            tile: Some(tile),
        }
        .launch(1)
    }

    fn sequences(&self, len: u32) -> Address {
        // Its last words are read by nobody.
        self.whole(bytemuck::bytes_of(&SequenceRow { len, ..SequenceRow::default() }))
    }

    fn attention(&self, half: Half, head_dim: u32) -> Launch {
        // Several tiles of keys, so that stages are used again.
        let len = 150;
        let tiles = Attention::tiles([len]);
        Attention {
            qkv: self.halves(len * 3 * head_dim),
            half,
            heads: 1,
            kv_heads: 1,
            head_dim,
            out: self.result(len * head_dim * 2),
            sequences: self.sequences(len),
            tiles: self.put(bytemuck::cast_slice(&tiles)),
            tile_count: u32::try_from(tiles.len()).expect("few tiles"),
            causal: false,
            window: 0,
            scale: 1.0,
            stored: None,
        }
        .launch()
    }

    fn pool(&self) -> Launch {
        Pool {
            kind: Pooling::Mean,
            hidden: self.floats(20 * 40),
            width: 40,
            sequences: self.sequences(20),
            count: 1,
            out: self.result(40 * 4),
        }
        .launch()
    }

    fn quantize(&self) -> Launch {
        Quantize {
            rows: 2,
            width: 200,
            x: self.floats(2 * 200),
            x_type: Float::F32,
            q: self.result(2 * 200),
            scales: self.result(8),
        }
        .launch()
    }

    fn norm(&self, width: u32) -> Launch {
        Norm {
            kind: NormKind::Layer,
            rows: 2,
            width,
            eps: 1e-5,
            x: self.floats(2 * width),
            row_of: None,
            weight: self.floats(width),
            bias: Some(self.floats(width)),
            keep: false,
            out: None,
            out_f32: Some(self.result(2 * width * 4)),
            quantized: Some((self.result(2 * width), self.result(8))),
        }
        .launch()
    }
}

/// The number, with its bits spread.
fn mixed(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761)
}

fn values(count: u32) -> impl Iterator<Item = f32> {
    (0..count).map(|i| (mixed(i) >> 8) as f32 / (1 << 24) as f32 - 0.5)
}

/// What makes a launch and its buffers.
type Make = fn(&Device) -> Launch;

const PRODUCTS: [Make; 3] = [
    // With parts of k that several warps share, and without.
    |device| device.product(Element::Bf16, Tile::T16x32),
    |device| device.product(Element::F16, Tile::T64x64),
    |device| device.product(Element::Int8, Tile::T64x64),
];
const ATTENTION: [Make; 2] = [
    // With queries in registers, and in shared memory.
    |device| device.attention(Half::Bf16, 64),
    |device| device.attention(Half::F16, 256),
];
const POOL: [Make; 1] = [Device::pool];
const QUANTIZE: [Make; 1] = [Device::quantize];
const NORMS: [Make; 2] = [
    // A row of a warp, and one of a block.
    |device| device.norm(100),
    |device| device.norm(1200),
];

fn run(emulator: &Emulator, launch: &Launch, seed: u64) -> Result<(), FaultKind> {
    let Launch { kernel, grid, block, shared, params } = launch;
    emulator
        .launch(kernel, *grid, *block, *shared, params.bytes(), seed)
        .map_err(|fault| fault.kind())
}

/// The text and number of each line of code that has one of these words.
fn lines<'a>(source: &'a str, words: &[&str]) -> Vec<(&'a str, usize)> {
    let code = |line: &str| !line.trim_start().starts_with("//");
    (1..)
        .zip(source.lines())
        .filter(|(_, line)| code(line) && words.iter().any(|word| line.contains(word)))
        .map(|(number, line)| (line.trim(), number))
        .collect()
}

/// Whether some launch comes to the line, and ends with a fault without it in every order of threads.
fn missed(file: &str, line: usize, launches: &[Make]) -> bool {
    launches.iter().any(|make| {
        let device = Device::new(None);
        let (launch, emulator) = (make(&device), device.emulator.without(file, line));
        (0..SEEDS).all(|seed| run(&emulator, &launch, seed).is_err())
            && emulator.times_planted() > 0
    })
}

#[test]
fn every_barrier_and_wait_is_missed_when_it_is_left_out() {
    let waits = ["__syncthreads();", "__syncwarp();", "copy_wait<"];
    let sources: [(&str, &str, &[Make]); 4] = [
        ("gemm.cuh", include_str!("../kernels/gemm.cuh"), &PRODUCTS),
        ("attention.cu", include_str!("../kernels/attention.cu"), &ATTENTION),
        ("pool.cu", include_str!("../kernels/pool.cu"), &POOL),
        ("quantize.cu", include_str!("../kernels/quantize.cu"), &QUANTIZE),
    ];
    for (file, source, launches) in sources {
        let waits = lines(source, &waits);
        assert!(!waits.is_empty(), "{file} has no barrier");
        for (text, line) in waits {
            let needed = !NEVER_MISSED.contains(&(file, text));
            assert_eq!(missed(file, line, launches), needed, "{file}:{line}: {text}");
        }
    }
}

#[test]
fn both_barriers_of_a_sum_are_missed() {
    let source = include_str!("../kernels/defrost.cuh");
    let sum = source[..source.find("block_sum(float").expect("the sum of a block")].lines().count();
    let barriers: Vec<usize> = lines(source, &["__syncthreads();"])
        .into_iter()
        .map(|(_, line)| line)
        .filter(|line| *line > sum)
        .collect();
    assert_eq!(barriers.len(), 4);
    // A sum follows a sum, but nothing the maximum.
    for line in &barriers[..3] {
        assert!(missed("defrost.cuh", *line, &NORMS), "defrost.cuh:{line}");
    }
}

/// Whether some launch comes to the line, and answers otherwise when lanes are mixed up there.
fn answers_differ(file: &str, line: usize, launches: &[Make]) -> bool {
    launches.iter().any(|make| {
        let device = Device::new(None);
        let (launch, emulator) = (make(&device), device.emulator.with_wrong_lanes(file, line));
        run(&device.emulator, &launch, 0).expect("a right kernel");
        let right = device.answers();
        run(&emulator, &launch, 0).expect("no access is wrong");
        emulator.times_planted() > 0 && device.answers() != right
    })
}

#[test]
fn every_lane_that_is_mixed_up_with_its_neighbour_changes_an_answer() {
    let calls = ["ldmatrix4", "mma16816<T>(", "mma16832(", "__shfl"];
    let all: Vec<Make> =
        PRODUCTS.into_iter().chain(ATTENTION).chain(QUANTIZE).chain(NORMS).collect();
    let sources: [(&str, &str, &[Make]); 3] = [
        ("gemm.cuh", include_str!("../kernels/gemm.cuh"), &PRODUCTS),
        ("attention.cu", include_str!("../kernels/attention.cu"), &ATTENTION),
        ("quantize.cu", include_str!("../kernels/quantize.cu"), &QUANTIZE),
    ];
    for (file, source, launches) in sources {
        let calls = lines(source, &calls);
        assert!(!calls.is_empty(), "{file} has no collective");
        for (text, line) in calls {
            assert!(answers_differ(file, line, launches), "{file}:{line}: {text}");
        }
    }
    // What the sums and maxima of a warp are made of.
    let header = include_str!("../kernels/defrost.cuh");
    let shuffles = lines(header, &["__shfl_xor_sync(ALL_LANES"]);
    assert_eq!(shuffles.len(), 2);
    for (text, line) in shuffles {
        assert!(answers_differ("defrost.cuh", line, &all), "defrost.cuh:{line}: {text}");
    }
}

/// No fault, but time: rows of one matrix that lie in the same banks are read one after the other.
#[test]
fn no_matrix_is_read_in_two_passes() {
    let device = Device::new(None);
    let products = [Element::Bf16, Element::Int8]
        .into_iter()
        .flat_map(|element| Tile::ALL.map(|tile| device.product(element, tile)));
    let attention = [32, 64, 96, 128, 256].map(|width| device.attention(Half::Bf16, width));
    for launch in products.chain(attention) {
        run(&device.emulator, &launch, 0).expect("a right kernel");
        assert_eq!(device.emulator.bank_conflicts(), 0, "{}", launch.kernel);
    }
}

#[test]
fn every_buffer_that_ends_early_is_noticed() {
    let all = PRODUCTS.into_iter().chain(ATTENTION).chain(POOL).chain(QUANTIZE).chain(NORMS);
    for (number, make) in all.enumerate() {
        let whole = Device::new(None);
        run(&whole.emulator, &make(&whole), 0).unwrap();
        for short in 0..whole.count.get() {
            let device = Device::new(Some(short));
            let launch = make(&device);
            for seed in 0..3 {
                let found = run(&device.emulator, &launch, seed);
                let place = format!("launch {number}, buffer {short}, seed {seed}");
                assert_eq!(found, Err(FaultKind::OutOfBounds), "{place}");
            }
        }
    }
}
