//! Every barrier and every wait of the kernels is missed when it is left out: planted faults in all of them, one at a time.
//!
//! The lines are read from the sources, so that a new one is tested too. One that is right and yet never missed has to be named
//! in [`NEVER_MISSED`], with the reason.

use bytemuck::NoUninit;
use defrost_gpu::kernels::{
    Attention, Element, Epilogue, Gemm, Half, Norm, NormKind, Pool, Pooling, Quantize, SequenceRow,
    Tile,
};
use defrost_gpu::{Address, Launch};
use defrost_gpu_emulator::Emulator;

/// Orders of threads that each launch runs in.
const SEEDS: u64 = 20;

/// Files and lines, whose barriers guard against what no launch does.
const NEVER_MISSED: [(&str, &str); 1] =
    // Groups that are left at the end have no copies in them: the last copies were awaited before the last products.
    [("gemm.cuh", "copy_wait<0>();")];

struct Device(Emulator);

impl Device {
    fn put<T: NoUninit>(&self, values: &[T]) -> Address {
        let bytes = bytemuck::cast_slice::<T, u8>(values);
        let address = self.0.allocate(bytes.len());
        self.0.write(address, bytes);
        Address(address)
    }

    fn zeros(&self, bytes: u32) -> Address {
        self.put(&vec![0_u8; bytes as usize])
    }

    fn product(&self, element: Element, tile: Tile) -> Launch {
        // Two blocks along each side, and each stage twice along k: so the read ahead of the last step is of the first stage,
        // where sums go next.
        let shape = tile.shape();
        let [m, n] = [shape.rows + 8, shape.columns + 8];
        let k = 2 * shape.stages * shape.depth / element.bytes();
        let scales = |count: u32| (element == Element::Int8).then(|| self.zeros(count * 4));
        Gemm {
            element,
            m,
            n,
            k,
            a: self.zeros(m * k * element.bytes()),
            a_stride: k,
            a_scales: scales(m),
            weight: self.zeros(n * k * element.bytes()),
            weight_scales: scales(n),
            bias: None,
            epilogue: Epilogue::Store,
            out: self.zeros(m * n * 4),
            out_stride: n,
            out_type: defrost_gpu::kernels::Float::F32,
            tile: Some(tile),
        }
        .launch(1)
    }

    fn attention(&self, half: Half, head_dim: u32) -> Launch {
        // Several tiles of keys, so that stages are used again.
        let len = 200;
        let tiles = Attention::tiles([len]);
        Attention {
            qkv: self.zeros(len * 3 * head_dim * 2),
            half,
            heads: 1,
            kv_heads: 1,
            head_dim,
            out: self.zeros(len * head_dim * 2),
            sequences: self.put(&[SequenceRow { len, ..SequenceRow::default() }]),
            tiles: self.put(&tiles),
            tile_count: u32::try_from(tiles.len()).unwrap(),
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
            hidden: self.zeros(20 * 40 * 4),
            width: 40,
            sequences: self.put(&[SequenceRow { len: 20, ..SequenceRow::default() }]),
            count: 1,
            out: self.zeros(40 * 4),
        }
        .launch()
    }

    fn quantize(&self) -> Launch {
        Quantize {
            rows: 2,
            width: 200,
            x: self.zeros(2 * 200 * 4),
            x_type: defrost_gpu::kernels::Float::F32,
            q: self.zeros(2 * 200),
            scales: self.zeros(8),
        }
        .launch()
    }

    fn norm(&self) -> Launch {
        // So wide that a block has a row.
        let width = 1200;
        Norm {
            kind: NormKind::Layer,
            rows: 2,
            width,
            eps: 1e-5,
            x: self.zeros(2 * width * 4),
            row_of: None,
            weight: self.zeros(width * 4),
            bias: None,
            keep: false,
            out: None,
            out_f32: None,
            quantized: Some((self.zeros(2 * width), self.zeros(8))),
        }
        .launch()
    }
}

/// The text and number of each line with a barrier or a wait in it, of its code.
fn waits(source: &str) -> Vec<(&str, usize)> {
    let code = |line: &str| !line.trim_start().starts_with("//");
    let wait = |line: &str| {
        ["__syncthreads();", "__syncwarp();", "copy_wait<"].iter().any(|name| line.contains(name))
    };
    (1..)
        .zip(source.lines())
        .filter(|(_, line)| code(line) && wait(line))
        .map(|(number, line)| (line.trim(), number))
        .collect()
}

/// Whether some launch comes to the line, and ends with a fault without it in every order of threads.
fn missed(device: &Emulator, file: &str, line: usize, launches: &[Launch]) -> bool {
    launches.iter().any(|launch| {
        let device = device.without(file, line);
        (0..SEEDS).all(|seed| {
            let Launch { kernel, grid, block, shared, params } = launch;
            device.launch(kernel, *grid, *block, *shared, params.bytes(), seed).is_err()
        }) && device.times_left_out() > 0
    })
}

fn assert_each_is_missed(device: &Device, file: &str, source: &str, launches: &[Launch]) {
    for launch in launches {
        let Launch { kernel, grid, block, shared, params } = launch;
        device.0.launch(kernel, *grid, *block, *shared, params.bytes(), 0).unwrap();
    }
    let waits = waits(source);
    assert!(!waits.is_empty(), "{file} has no barrier");
    for (text, line) in waits {
        let needed = !NEVER_MISSED.contains(&(file, text));
        let found = missed(&device.0, file, line, launches);
        assert_eq!(found, needed, "{file}:{line}: {text}");
    }
}

#[test]
fn products() {
    let device = Device(Emulator::new());
    // With and without parts of k that several warps share.
    let launches =
        [device.product(Element::Bf16, Tile::T16x32), device.product(Element::Int8, Tile::T64x64)];
    let source = include_str!("../kernels/gemm.cuh");
    assert_each_is_missed(&device, "gemm.cuh", source, &launches);
}

#[test]
fn attention() {
    let device = Device(Emulator::new());
    // With queries in registers, and in shared memory.
    let launches = [device.attention(Half::Bf16, 64), device.attention(Half::F16, 256)];
    let source = include_str!("../kernels/attention.cu");
    assert_each_is_missed(&device, "attention.cu", source, &launches);
}

#[test]
fn pooling_and_quantizing() {
    let device = Device(Emulator::new());
    let source = include_str!("../kernels/pool.cu");
    assert_each_is_missed(&device, "pool.cu", source, &[device.pool()]);
    let source = include_str!("../kernels/quantize.cu");
    assert_each_is_missed(&device, "quantize.cu", source, &[device.quantize()]);
}

#[test]
fn norms() {
    let device = Device(Emulator::new());
    let source = include_str!("../kernels/defrost.cuh");
    let header = source.find("block_sum").expect("the sum of a block");
    let sum = source[..header].lines().count();
    // Sums follow each other, so that both barriers matter; after the maximum there is nothing.
    let lines: Vec<usize> = waits(source)
        .into_iter()
        .filter(|(text, line)| *text == "__syncthreads();" && *line > sum)
        .map(|(_, line)| line)
        .collect();
    assert_eq!(lines.len(), 4);
    for line in &lines[..3] {
        assert!(missed(&device.0, "defrost.cuh", *line, &[device.norm()]), "defrost.cuh:{line}");
    }
}
