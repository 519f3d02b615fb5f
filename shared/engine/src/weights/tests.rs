use defrost_model::BlockKind;

use super::*;
use crate::blocks::{PANELS_OF, ROWS_OF, dequantize, pack, quantize, row_len};
use crate::layout::{self, PANEL64, PanelLayout, ROW_MAJOR};
use crate::threads::Threads;

/// Tensors by their names.
#[derive(Default)]
struct Given(Vec<(String, Tensor)>);

impl Given {
    fn with<T: bytemuck::NoUninit>(
        mut self,
        name: &str,
        dtype: Dtype,
        layout: &str,
        shape: &[usize],
        values: &[T],
    ) -> Self {
        let raw: &[u8] = bytemuck::cast_slice(values);
        // Aligned for every element type.
        let mut memory = Buffer::<u8>::default();
        memory.slot(raw.len()).copy_from_slice(raw);
        let bytes = Bytes::from_owner(Owned(memory));
        let tensor = Tensor::in_memory("", dtype, layout, shape.to_vec(), bytes);
        self.0.push((name.to_owned(), tensor));
        self
    }

    /// A matrix in blocks, in panels.
    fn blocks(self, name: &str, kind: BlockKind, values: &[f32], k: usize) -> Self {
        let packed = pack(kind, &quantize(kind, values, k), values.len() / k, k);
        let layout = format!("{PANELS_OF}{}", kind.name());
        self.with(name, Dtype::U8, &layout, &[packed.len()], &packed)
    }
}

struct Owned(Buffer<u8>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Weights for Given {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        Ok(self.0.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor.clone()))
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|at| ((at * 7919 % 1009) as f32 / 504.5 - 1.0) * 0.3).collect()
}

/// What blocks make of values.
fn rounded(kind: BlockKind, values: &[f32], k: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    dequantize(kind, &quantize(kind, values, k), &mut out);
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Rows of outputs of a layer.
fn run(linear: &Linear, x: &[f32], allowed: Option<&[Option<&TokenMask>]>) -> Vec<f32> {
    let threads = Threads::new(Some(2));
    let cx = Context { kernel: Kernel::detect(), threads: &threads };
    let mut out = vec![0.0; x.len() / linear.inputs() * linear.outputs()];
    let mut quantized = QuantizedRows::default();
    match allowed {
        Some(allowed) => linear.run_allowed(cx, x, allowed, &mut quantized, &mut out),
        None => linear.run(cx, x, Activation::Identity, false, &mut quantized, &mut out),
    }
    out
}

const K: usize = 256;

/// Queries of one kind, keys in another, values in f32: rows of weights are those of the file, products those of each alone.
#[test]
fn layers_are_lists_of_matrices_of_any_form() {
    let parts = [70, 32, 64];
    let (q, k, v) = (values(70 * K), values(32 * K), values(64 * K));
    let f32 = layout::panels(&v, 64, K, 1);
    let list = Given::default()
        .blocks("qkv.weight.0", BlockKind::Q4_K, &q, K)
        .blocks("qkv.weight.1", BlockKind::Q8_0, &k, K)
        .with("qkv.weight.2", Dtype::F32, PANEL64, &[64, K], &f32);
    let kernel = Kernel::detect();
    let linear = Linear::load_of(&list, "qkv", &parts, K, kernel).unwrap();
    assert_eq!((linear.outputs(), linear.inputs(), linear.is_f32()), (166, K, false));
    let rows =
        [rounded(BlockKind::Q4_K, &q, K), rounded(BlockKind::Q8_0, &k, K), v.clone()].concat();
    let open = crate::Open;
    linear.wait(&open).unwrap();
    linear.wait_rows(&open, [0, 165].into_iter()).unwrap();
    for (row, expected) in rows.chunks_exact(K).enumerate() {
        let mut found = vec![0.0; K];
        linear.add_row(row, &mut found);
        assert_eq!(bits(&found), bits(expected), "row {row}");
    }
    let x = values(3 * K);
    for (row, found) in x.chunks_exact(K).zip(run(&linear, &x, None).chunks_exact(166)) {
        for (weights, found) in rows.chunks_exact(K).zip(found) {
            let exact: f32 = row.iter().zip(weights).map(|(x, w)| x * w).sum();
            assert!((exact - found).abs() < 0.05, "{exact} {found}");
        }
    }
}

/// Of a vocabulary in any form, allowed outputs are those of the whole product, to the bit, and others negative infinity.
#[test]
fn only_allowed_outputs_are_computed() {
    let (n, rows) = (150, 9);
    let weights = values(n * K);
    let (codes, scales) = layout::quantize_rows(&weights, K);
    let padded = n.next_multiple_of(PANEL);
    let forms = [
        Given::default().blocks("words.weight.0", BlockKind::Q6_K, &weights, K),
        Given::default().with(
            "words.weight",
            Dtype::F32,
            PANEL64,
            &[n, K],
            &layout::panels(&weights, n, K, 1),
        ),
        Given::default().with(
            "words.weight",
            Dtype::Bf16,
            PANEL64,
            &[n, K],
            &layout::panels(&layout::to_bf16(&weights), n, K, 1),
        ),
        Given::default()
            .with(
                "words.weight",
                Dtype::I8,
                PANEL64,
                &[n, K],
                &layout::panels(&codes, n, K, INT8_GROUP),
            )
            .with("words.scale", Dtype::F32, ROW_MAJOR, &[padded], &layout::pad_to_panel(scales))
            .with(
                "words.offset",
                Dtype::I32,
                ROW_MAJOR,
                &[padded],
                &layout::pad_to_panel(layout::int8_offsets(&codes, K)),
            ),
    ];
    let mut some = TokenMask::none(n);
    for id in [3, 63, 149] {
        some.allow(id);
    }
    let none = TokenMask::none(n);
    let all = TokenMask::all(n);
    let masks =
        [Some(&some), None, Some(&none), Some(&all), None, Some(&some), None, None, Some(&none)];
    for given in &forms {
        let linear = Linear::load(given, "words", n, K, Kernel::detect()).unwrap();
        let x = values(rows * K);
        let whole = run(&linear, &x, None);
        for masks in [&masks[..], &[Some(&some); 9], &[None; 9]] {
            let found = run(&linear, &x, Some(masks));
            for (row, mask) in masks.iter().enumerate() {
                for id in 0..n {
                    let at = row * n + id;
                    let allowed = mask.is_none_or(|mask| mask.allows(id as u32));
                    let expected = if allowed { whole[at] } else { f32::NEG_INFINITY };
                    assert_eq!(found[at].to_bits(), expected.to_bits(), "row {row} id {id}");
                }
            }
        }
    }
}

#[test]
fn tables_hold_the_rows_of_a_file() {
    let words = values(10 * K);
    for kind in BlockKind::ALL {
        let file = quantize(kind, &words, K);
        let layout = format!("{ROWS_OF}{}", kind.name());
        let given = Given::default().with("words.weight", Dtype::U8, &layout, &[file.len()], &file);
        let table = Embedding::load(&given, "words", 10, K).unwrap();
        table.wait(&crate::Open, [0, 9].into_iter()).unwrap();
        for (row, expected) in rounded(kind, &words, K).chunks_exact(K).enumerate() {
            let mut found = vec![1.0; K];
            table.add_row(row, &mut found);
            let expected: Vec<f32> = expected.iter().map(|value| 1.0 + value).collect();
            assert_eq!(bits(&found), bits(&expected));
        }
        let short = &file[..9 * row_len(kind, K)];
        let given =
            Given::default().with("words.weight", Dtype::U8, &layout, &[short.len()], short);
        Embedding::load(&given, "words", 10, K).unwrap_err();
    }
}

/// What cannot be read says which tensor, what was expected and what was found.
#[test]
fn matrices_that_are_not_as_they_should_be_are_refused() {
    let kernel = Kernel::detect();
    let told = |given: &Given, parts: &[usize], k: usize| {
        Linear::load_of(given, "up", parts, k, kernel).unwrap_err().to_string()
    };
    let good = || Given::default().blocks("up.weight.0", BlockKind::Q4_K, &values(64 * K), K);
    let missing = told(&good(), &[64, 64], K);
    assert!(missing.contains("up.weight.1"), "{missing}");
    let longer = told(&good(), &[65], K);
    assert!(longer.contains("up.weight.0"), "{longer}");
    let split = told(&good(), &[64], 288);
    assert!(split.contains("256") && split.contains("288"), "{split}");
    let layout = format!("{PANELS_OF}q3_k");
    let unknown = Given::default().with("up.weight.0", Dtype::U8, &layout, &[4], &[0u8; 4]);
    let unknown = told(&unknown, &[64], K);
    assert!(unknown.contains("q3_k") && unknown.contains("q4_k"), "{unknown}");
    let rows = Given::default().with("up.weight.0", Dtype::F32, ROW_MAJOR, &[1, 1], &[0f32]);
    let rows = told(&rows, &[1], 1);
    assert!(rows.contains(ROW_MAJOR) && rows.contains(PANEL64), "{rows}");
}

/// One tensor a name, of zeros.
struct Zeros(Vec<(&'static str, Dtype, &'static str, Vec<usize>, usize)>);

impl Weights for Zeros {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        let found = self.0.iter().find(|(known, ..)| *known == name);
        Ok(found.map(|(_, dtype, layout, shape, len)| {
            let mut memory = Buffer::<f32>::default();
            memory.resize(len.div_ceil(4));
            let bytes = bytemuck::cast_slice::<f32, u8>(&memory)[..*len].to_vec();
            Tensor::in_memory("", *dtype, layout, shape.clone(), bytes.into())
        }))
    }
}

#[test]
fn a_layer_lies_as_its_kernel_set_reads_it() {
    static WIDE: PanelLayout = PanelLayout { tag: "groups-of-64", int8_group: 64 };
    let weights = |layout: &'static str, group: usize| {
        Zeros(vec![
            ("up.weight", Dtype::I8, layout, vec![3, 5], panel_len(3, 5, group)),
            ("up.scale", Dtype::F32, ROW_MAJOR, vec![PANEL], 4 * PANEL),
            ("up.offset", Dtype::I32, ROW_MAJOR, vec![PANEL], 4 * PANEL),
        ])
    };
    let portable = Kernel::by_name("portable").expect("runs everywhere");
    let wide = Kernel::reading(&WIDE);
    let load = |weights: &Zeros, kernel| Linear::load(weights, "up", 3, 5, kernel).map(drop);
    load(&weights(PANEL64, 4), portable).unwrap();
    load(&weights("groups-of-64", 64), wide).unwrap();
    load(&weights("groups-of-64", 4), wide).unwrap_err();
    for (layout, kernel, expected) in
        [("groups-of-64", portable, PANEL64), (PANEL64, wide, "groups-of-64")]
    {
        let told = load(&weights(layout, 64), kernel).unwrap_err().to_string();
        assert!(told.contains(layout) && told.contains(expected), "{told}");
    }
}
