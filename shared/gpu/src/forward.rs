//! One pass: the blueprint's words as launches of kernels on one stream.
//!
//! ```text
//! Pre:   q = norm(x)    qkv = q Wqkv   rotate   a = attention   x += a Wout    q = norm(x)    x += f(q Wup) Wdown
//! Post:  q = x          qkv = q Wqkv            a = attention   x += a Wout    x = q = norm(x)
//!                                                               x += f(q Wup) Wdown   x = q = norm(x)
//! ```
//!
//! `x` is f32; `q` is what a product reads: 16 bits, or int8 with a scale a row where the product's weight is int8, written by
//! the norm itself. What attention and the inner activation leave is 16-bit, and turned into int8 by a kernel of its own,
//! because a row's scale is known only when the whole row is.
//!
//! In the last layer only the rows that the head reads go on after attention, and only their tiles of attention are computed,
//! unless something is wanted of every token. A layer's launches wait on the device for that layer's weights.

use defrost_model::architecture::{FeedForward, Placed, Positions};
use defrost_model::{DenseActivation, Error, Head, ModelConfig, Wanted};

use crate::Address;
use crate::device::{self, Stream};
use crate::kernels::pool::{Pool, Pooling};
use crate::kernels::rotary::{HeadNorms, Rotary, Rotation};
use crate::kernels::{
    Activation, Attention, Dense, Element, Embed, Epilogue, Float, Gather, Gemm, Half, Norm,
    Quantize, Tile,
};
use crate::pass::Pass;
use crate::upload::Upload;
use crate::weights::{Layer, Linear, NormWeights, Small, Weights, norm_kind, size};
use crate::workspace::Buffers;

/// Columns from which on a layer over all tokens is computed in tiles.
const TILED: u32 = 32;

/// Everything that the launches of a pass are made of.
pub(crate) struct Forward<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) weights: &'a Weights,
    pub(crate) half: Half,
    pub(crate) multiprocessors: u32,
    /// Cosines and sines of every place, where the model has rotary positions.
    pub(crate) angles: Option<Address>,
    /// The tile that was measured to be fastest for a product, if any was.
    pub(crate) tile: &'a dyn Fn(&Gemm) -> Option<Tile>,
    pub(crate) pass: &'a Pass,
    pub(crate) buffers: &'a Buffers,
}

/// Where the answers of a pass lie, all f32; absent what was not wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Results {
    /// A row for each answered sequence.
    pub(crate) pooled: Address,
    /// Values of such a row; 2 for a head of yes and no, whose answer is their difference.
    pub(crate) width: u32,
    /// Hidden states of every token.
    pub(crate) hidden: Option<Address>,
    pub(crate) sparse: Option<Address>,
    pub(crate) colbert: Option<Address>,
}

/// What a product reads.
#[derive(Debug, Clone, Copy)]
struct Input {
    at: Address,
    scales: Option<Address>,
}

impl Forward<'_> {
    /// Asks the stream for the whole pass, once its numbers are written.
    ///
    /// # Errors
    /// What is wrong with the device, or with the weights on their way.
    pub(crate) fn run(
        &self,
        stream: &dyn Stream,
        upload: &Upload,
        wanted: Wanted,
    ) -> Result<Results, Error> {
        let every_row = wanted != Wanted::default();
        upload.wait(0, stream)?;
        self.embed(stream)?;
        let narrow = !every_row && self.pass.read.count > 0;
        let mut rows = self.pass.rows;
        let mut x = self.buffers.x;
        for (at, layer) in self.weights.layers.iter().enumerate() {
            upload.wait(at + 1, stream)?;
            let next = self.weights.layers.get(at + 1);
            let last = narrow && next.is_none();
            self.attend(stream, layer, last)?;
            if last {
                self.read_rows(stream)?;
                (rows, x) = (self.pass.answers, self.buffers.read);
            }
            self.after_attention(stream, layer, next, rows, x, last)?;
        }
        upload.wait(self.weights.layers.len() + 1, stream)?;
        if let Some(norm) = self.weights.norm {
            let norm = Norm { keep: true, ..self.norm(norm, rows, x) };
            stream.launch(&norm.launch())?;
        }
        let mut results = self.token_heads(stream, wanted)?;
        if every_row && self.pass.read.count > 0 {
            self.gather(stream, self.buffers.x, 4 * self.config.hidden, self.buffers.read)?;
            x = self.buffers.read;
        }
        (results.pooled, results.width) = self.head(stream, x)?;
        Ok(results)
    }

    /// Leaves a row for each token in `x`, and what the first layer reads.
    fn embed(&self, stream: &dyn Stream) -> Result<(), device::Error> {
        let (pass, tables) = (self.pass, &self.weights.tables);
        let numbers = self.buffers.numbers;
        let embed = Embed {
            rows: pass.rows,
            width: size(self.config.hidden),
            ids: pass.ids.of(numbers),
            words: tables.words,
            positions: tables.positions.map(|table| (pass.positions.of(numbers), table)),
            types: tables.types.map(|table| (pass.types.of(numbers), table)),
            out: self.buffers.x,
        };
        stream.launch(&embed.launch())?;
        let Some(norm) = tables.norm else { return Ok(()) };
        let norm = Norm { keep: true, ..self.norm(norm, pass.rows, self.buffers.x) };
        let first = self.weights.layers.first().filter(|_| self.is(Placed::Post));
        stream.launch(&self.feeding(norm, first.map(|layer| layer.qkv)).launch())
    }

    /// Leaves what attention makes of `x` in `attended`: of all rows, or of the tiles that the head reads.
    fn attend(&self, stream: &dyn Stream, layer: &Layer, last: bool) -> Result<(), device::Error> {
        let (pass, buffers, config) = (self.pass, self.buffers, self.config);
        let (heads, kv_heads) = (size(config.heads), size(config.kv_heads));
        let head_dim = size(config.head_dim);
        if self.is(Placed::Pre) {
            let norm = self.norm(layer.attention_norm, pass.rows, buffers.x);
            stream.launch(&self.feeding(norm, Some(layer.qkv)).launch())?;
        }
        let input = self.fed(layer.qkv);
        let out = (buffers.qkv, Float::Half(self.half));
        self.product(stream, layer.qkv, pass.rows, input, Epilogue::Store, out)?;
        let rotation = self
            .angles
            .map(|angles| Rotation { positions: pass.places.of(buffers.numbers), angles });
        let eps = config.norm_eps;
        let norms = layer.head_norms.map(|(query, key)| HeadNorms { query, key, eps });
        if rotation.is_some() || norms.is_some() {
            let (rows, qkv, half) = (pass.rows, buffers.qkv, self.half);
            let rotary = Rotary { rows, heads, kv_heads, head_dim, qkv, half, rotation, norms };
            stream.launch(&rotary.launch())?;
        }
        let tiles = if last { pass.last_tiles } else { pass.tiles };
        let attention = Attention {
            qkv: buffers.qkv,
            half: self.half,
            heads,
            kv_heads,
            head_dim,
            out: buffers.attended,
            sequences: pass.sequences.of(buffers.numbers),
            tiles: tiles.of(buffers.numbers),
            tile_count: tiles.count,
            causal: config.is_causal(),
            window: 0,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            stored: layer.stored,
        };
        stream.launch(&attention.launch())
    }

    /// Copies the rows that the head reads, of `x` and of what attention left.
    fn read_rows(&self, stream: &dyn Stream) -> Result<(), device::Error> {
        let Buffers { x, read, attended, read_attended, .. } = *self.buffers;
        self.gather(stream, x, 4 * self.config.hidden, read)?;
        let width = self.config.heads * self.config.head_dim;
        self.gather(stream, attended, 2 * width, read_attended)
    }

    fn gather(
        &self,
        stream: &dyn Stream,
        from: Address,
        width_bytes: usize,
        out: Address,
    ) -> Result<(), device::Error> {
        let (read, width_bytes) = (self.pass.read, size(width_bytes));
        let row_of = read.of(self.buffers.numbers);
        let gather = Gather { rows: read.count, width_bytes, from, row_of, out };
        stream.launch(&gather.launch())
    }

    /// The rest of a layer on so many rows of `x`, and what the next layer reads.
    fn after_attention(
        &self,
        stream: &dyn Stream,
        layer: &Layer,
        next: Option<&Layer>,
        rows: u32,
        x: Address,
        last: bool,
    ) -> Result<(), device::Error> {
        let buffers = self.buffers;
        let attended = if last { buffers.read_attended } else { buffers.attended };
        let input = self.turned(stream, layer.out, rows, attended)?;
        self.product(stream, layer.out, rows, input, Epilogue::AddTo, (x, Float::F32))?;
        let post = self.is(Placed::Post);
        let between = if post { layer.attention_norm } else { layer.output_norm };
        let norm = Norm { keep: post, ..self.norm(between, rows, x) };
        stream.launch(&self.feeding(norm, Some(layer.up)).launch())?;
        let activation = activation(self.config);
        let inner = (buffers.inner, Float::Half(self.half));
        self.product(stream, layer.up, rows, self.fed(layer.up), activation, inner)?;
        let input = self.turned(stream, layer.down, rows, buffers.inner)?;
        self.product(stream, layer.down, rows, input, Epilogue::AddTo, (x, Float::F32))?;
        if post {
            let norm = Norm { keep: true, ..self.norm(layer.output_norm, rows, x) };
            stream.launch(&self.feeding(norm, next.map(|next| next.qkv)).launch())?;
        }
        Ok(())
    }

    /// The answers for every token that are wanted, from all rows of `x`.
    fn token_heads(&self, stream: &dyn Stream, wanted: Wanted) -> Result<Results, Error> {
        let buffers = self.buffers;
        let run = |head: Option<Small>, wanted: bool, activation, out: Address| {
            let Some(head) = head.filter(|_| wanted) else { return Ok(None) };
            let dense = small(head, self.pass.rows, buffers.x, activation, out);
            stream.launch(&Dense { tiled: head.n >= TILED, ..dense }.launch())?;
            Ok::<_, Error>(Some(out))
        };
        let (sparse, colbert) = (self.weights.sparse, self.weights.colbert);
        Ok(Results {
            pooled: buffers.x,
            width: 0,
            hidden: wanted.hidden.then_some(buffers.x),
            sparse: run(sparse, wanted.sparse, Activation::Relu, buffers.sparse)?,
            colbert: run(colbert, wanted.colbert, Activation::Identity, buffers.colbert)?,
        })
    }

    /// The head's answers: where they lie, and the width of their rows. `x` has the rows that the head reads, or all.
    fn head(&self, stream: &dyn Stream, x: Address) -> Result<(Address, u32), device::Error> {
        let (config, rows) = (self.config, self.pass.answers);
        let [one, other] = self.buffers.heads;
        if let (Some([dense, out]), Some(activation)) =
            (self.weights.classifier, config.family.blueprint.classifier)
        {
            stream.launch(&small(dense, rows, x, of_layer(activation), one).launch())?;
            stream.launch(&small(out, rows, one, Activation::Identity, other).launch())?;
            return Ok((other, 1));
        }
        if let Some(no_yes) = self.weights.no_yes {
            stream.launch(&small(no_yes, rows, x, Activation::Identity, one).launch())?;
            return Ok((one, 2));
        }
        let (mut at, mut width) = (x, size(config.hidden));
        if let Some(kind) = pooling(config.head).filter(|_| self.pass.read.count == 0) {
            let sequences = self.pass.sequences.of(self.buffers.numbers);
            let pool = Pool { kind, hidden: x, width, sequences, count: rows, out: other };
            stream.launch(&pool.launch())?;
            at = other;
        }
        for (layer, weights) in config.dense.iter().zip(&self.weights.dense) {
            let out = if at == one { other } else { one };
            let dense = small(*weights, rows, at, of_layer(layer.activation), out);
            stream.launch(&dense.launch())?;
            (at, width) = (out, weights.n);
        }
        Ok((at, width))
    }

    fn is(&self, placed: Placed) -> bool {
        self.config.family.blueprint.placed == placed
    }

    /// A norm of so many rows of `x`, whose result goes nowhere yet.
    fn norm(&self, weights: NormWeights, rows: u32, x: Address) -> Norm {
        Norm {
            kind: norm_kind(self.config),
            rows,
            width: size(self.config.hidden),
            eps: self.config.norm_eps,
            x,
            row_of: None,
            weight: weights.weight,
            bias: weights.bias,
            keep: false,
            out: None,
            out_f32: None,
            quantized: None,
        }
    }

    /// The norm with its result where a product finds it, [`Forward::fed`].
    fn feeding(&self, norm: Norm, product: Option<Linear>) -> Norm {
        let Buffers { normed, quantized, scales, .. } = *self.buffers;
        match product {
            None => norm,
            Some(linear) if linear.is_int8() => {
                Norm { quantized: Some((quantized, scales)), ..norm }
            }
            Some(_) => Norm { out: Some((normed, self.half)), ..norm },
        }
    }

    /// What a product reads that a norm has fed.
    fn fed(&self, linear: Linear) -> Input {
        let Buffers { normed, quantized, scales, .. } = *self.buffers;
        if linear.is_int8() {
            Input { at: quantized, scales: Some(scales) }
        } else {
            Input { at: normed, scales: None }
        }
    }

    /// What a product reads of 16-bit rows: themselves, or their int8.
    fn turned(
        &self,
        stream: &dyn Stream,
        linear: Linear,
        rows: u32,
        x: Address,
    ) -> Result<Input, device::Error> {
        if !linear.is_int8() {
            return Ok(Input { at: x, scales: None });
        }
        let Buffers { quantized: q, scales, .. } = *self.buffers;
        let x_type = Float::Half(self.half);
        let quantize = Quantize { rows, width: linear.k, x, x_type, q, scales };
        stream.launch(&quantize.launch())?;
        Ok(Input { at: q, scales: Some(scales) })
    }

    fn product(
        &self,
        stream: &dyn Stream,
        linear: Linear,
        rows: u32,
        input: Input,
        epilogue: Epilogue,
        (out, out_type): (Address, Float),
    ) -> Result<(), device::Error> {
        let gated = epilogue == Epilogue::SwiGlu;
        let mut gemm = Gemm {
            element: linear.element,
            m: rows,
            n: linear.n,
            k: linear.k,
            a: input.at,
            a_stride: linear.k,
            a_scales: input.scales,
            weight: linear.weight,
            weight_scales: linear.scales,
            bias: linear.bias,
            epilogue,
            out,
            out_stride: if gated { linear.n / 2 } else { linear.n },
            out_type,
            tile: None,
        };
        debug_assert!(linear.element == Element::Int8 || input.scales.is_none());
        gemm.tile = (self.tile)(&gemm);
        stream.launch(&gemm.launch(self.multiprocessors))
    }
}

/// A layer of a head, over few rows.
fn small(layer: Small, rows: u32, x: Address, activation: Activation, out: Address) -> Dense {
    let Small { n, k, weight, bias } = layer;
    Dense { rows, n, k, x, weight, bias, activation, tiled: false, out }
}

/// What the way up of a model's feed-forward layers goes through.
pub(crate) fn activation(config: &ModelConfig) -> Epilogue {
    match config.family.blueprint.feed_forward {
        FeedForward::Gelu => Epilogue::Gelu,
        // The runtime takes no models with another gate.
        FeedForward::SwiGlu | FeedForward::GeGluTanh => Epilogue::SwiGlu,
    }
}

/// Whether the queries and keys of a model are turned.
pub(crate) fn rotates(config: &ModelConfig) -> bool {
    config.family.blueprint.positions == Positions::Rotary
}

fn of_layer(activation: DenseActivation) -> Activation {
    match activation {
        DenseActivation::Identity => Activation::Identity,
        DenseActivation::Tanh => Activation::Tanh,
        DenseActivation::Relu => Activation::Relu,
        DenseActivation::Gelu => Activation::Gelu,
        DenseActivation::Silu => Activation::Silu,
        DenseActivation::Sigmoid => Activation::Sigmoid,
    }
}

/// The kernel's name of a head's pooling.
fn pooling(head: Head) -> Option<Pooling> {
    match head {
        Head::Classifier | Head::YesNo | Head::LanguageModel => None,
        Head::FirstPooling => Some(Pooling::First),
        Head::LastPooling => Some(Pooling::Last),
        Head::MeanPooling => Some(Pooling::Mean),
        Head::MaxPooling => Some(Pooling::Max),
        Head::SqrtPooling => Some(Pooling::Sqrt),
        Head::WeightedPooling => Some(Pooling::Weighted),
    }
}
