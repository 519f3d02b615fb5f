//! `defrost pack`.

mod decisions;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use defrost_loader::Root;
use defrost_model::{Matryoshka, Precision, isa};
use defrost_pack::{
    OnnxSource, Outliers, PackOptions, Quantization, SpecOptions, Told, find_gguf, open_checkpoint,
    quantized, usual_precision,
};

use crate::overwrite;
use crate::print::say;
use crate::progress;
use crate::source;

pub(crate) use decisions::{Decisions, KindArg};

/// Arguments of `defrost pack`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Checkpoint directory (config.json, tokenizer.json and model.safetensors or model.onnx), a GGUF or ONNX file, or hf://org/name, if need be with @revision.
    pub(crate) source: String,
    /// File to write; default: NAME-PRECISION.snap in the current directory.
    #[arg(long, short)]
    pub(crate) out: Option<PathBuf>,
    /// Replace the output if it is there, and create folders on its way if they are not.
    #[arg(long)]
    pub(crate) force: bool,
    /// Precision of the large matrices; ONNX models keep theirs; default: int8, of a GGUF file its own.
    #[arg(long, value_enum)]
    pub(crate) precision: Option<PrecisionArg>,
    /// What int8 does about outlier channels: `auto` looks at the model's activations and rescales the weights (scores in
    /// f32 stay what they are), `off` rounds the weights as they are, in a third of the time.
    #[arg(long, value_enum, default_value_t = OutliersArg::Auto)]
    pub(crate) outliers: OutliersArg,
    /// Do not store keys and values of what every prompt of a causal model begins with; they are then computed with every
    /// request, and no score changes.
    #[arg(long)]
    pub(crate) no_stored_prefix: bool,
    /// Layout of the weights: `native` (mapped and read as they are) or `portable` (any machine; packed once at the first
    /// start of a CPU function, read as it is by a GPU's); default: native, portable for f16.
    #[arg(long)]
    pub(crate) isa: Option<String>,
    /// Name shown to clients; default: the hub's name or the directory's.
    #[arg(long, value_parser = name)]
    pub(crate) name: Option<String>,
    /// Prompt, whatever the checkpoint's files say: pair, mxbai-rerank-v2, qwen3-reranker, embedding or chat.
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// Default maximum length in tokens; default: the model's own.
    #[arg(long)]
    pub(crate) max_length: Option<NonZeroUsize>,
    /// To how many dimensions embeddings may be cut: none, 32.. or 64,128,256; default: what config.json says, or is known
    /// of the name.
    #[arg(long)]
    pub(crate) matryoshka: Option<Matryoshka>,
    #[command(flatten)]
    pub(crate) decisions: Decisions,
}

/// A name that clients can ask for.
fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected a name such as org/model, or leave the option out".to_owned());
    }
    Ok(text.to_owned())
}

/// `--precision`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// One byte a weight, one scale per output channel.
    Int8,
    /// bfloat16.
    Bf16,
    /// IEEE half precision, for GPUs alone.
    F16,
    /// 32-bit float.
    F32,
    /// What a GGUF file has: each matrix in its own blocks.
    Blocks,
    /// Blocks of 8 bits, of a language model in floats.
    #[value(name = "q8_0")]
    Q8,
    /// Blocks of 4 bits.
    #[value(name = "q4_0")]
    Q4,
    /// Blocks of 4 and 6 bits, as llama.cpp mixes them.
    #[value(name = "q4_k_m")]
    Q4KM,
    /// Blocks of 5 and 6 bits, as llama.cpp mixes them.
    #[value(name = "q5_k_m")]
    Q5KM,
    /// Blocks of 6 bits.
    #[value(name = "q6_k")]
    Q6K,
}

impl PrecisionArg {
    /// What a model in floats is to be quantised to.
    fn quantization(self) -> Option<Quantization> {
        match self {
            Self::Int8 | Self::Bf16 | Self::F16 | Self::F32 | Self::Blocks => None,
            Self::Q8 => Quantization::by_name("q8_0"),
            Self::Q4 => Quantization::by_name("q4_0"),
            Self::Q4KM => Quantization::by_name("q4_k_m"),
            Self::Q5KM => Quantization::by_name("q5_k_m"),
            Self::Q6K => Quantization::by_name("q6_k"),
        }
    }
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Self {
        match arg {
            PrecisionArg::Int8 => Self::Int8,
            PrecisionArg::Bf16 => Self::Bf16,
            PrecisionArg::F16 => Self::F16,
            PrecisionArg::F32 => Self::F32,
            _ => Self::Blocks,
        }
    }
}

/// `--outliers`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum OutliersArg {
    /// Measure and treat.
    #[default]
    Auto,
    /// Leave the weights alone.
    Off,
}

/// What came of packing.
#[derive(Debug)]
pub(crate) struct Report {
    /// The snapshot's name.
    pub(crate) root: Root,
    /// The path of the snapshot.
    pub(crate) out: PathBuf,
    /// The decisions about the model, and the files that made them.
    told: Vec<Told>,
}

/// Packs and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let Report { root, out, told } = pack(args)?;
    let size = std::fs::metadata(&out).map(|meta| meta.len()).unwrap_or_default();
    say!("{}", out.display())?;
    say!("  root  {}", root)?;
    say!("  size  {}", progress::human(size))?;
    say!("  time  {:.2} s", start.elapsed().as_secs_f64())?;
    for told in &told {
        say!("  {}  {told}", told.what)?;
    }
    Ok(())
}

/// Packs.
pub(crate) fn pack(args: &Args) -> Result<Report> {
    let check = |out: &Path| overwrite::check(out, &[Path::new(&args.source)], args.force);
    // Before a download, where the name is known by then.
    args.out.as_deref().map_or(Ok(()), check)?;
    let source = source::open(&args.source)?;
    let onnx = OnnxSource::find(&source.dir);
    let gguf = if onnx.is_none() { find_gguf(&source.dir)? } else { None };
    let checkpoint = gguf.map(|file| open_checkpoint(&file)).transpose()?;
    let usual = checkpoint.as_ref().map_or(Precision::Int8, usual_precision);
    let precision = args.precision.map_or(usual, Precision::from);
    let name = match &onnx {
        None if source.dir.is_file() => source.name.trim_end_matches(".gguf").to_owned(),
        // A file is called as any other; the folder is called as the model.
        Some(onnx) if source.dir.is_file() => folder_name(&onnx.dir).unwrap_or(source.name),
        _ => source.name,
    };
    let out = args.out.clone().unwrap_or_else(|| {
        let short = name.rsplit('/').next().unwrap_or("model");
        let own = checkpoint.as_ref().filter(|_| args.precision.is_none());
        let own = own.and_then(|checkpoint| checkpoint.quantization()).map(str::to_lowercase);
        let kind = if onnx.is_some() {
            "onnx"
        } else {
            own.as_deref().unwrap_or_else(|| precision.name())
        };
        let asked = args.precision.and_then(PrecisionArg::quantization);
        let kind = asked.map_or(kind, |asked| asked.name);
        // Names of such files have it as a rule.
        if own.is_some() && short.to_lowercase().ends_with(kind) {
            return PathBuf::from(format!("{short}.snap"));
        }
        PathBuf::from(format!("{short}-{kind}.snap"))
    });
    check(&out)?;
    let spec = SpecOptions {
        name: args.name.clone().unwrap_or(name),
        template: args.template.clone(),
        kind: args.decisions.kind.map(Into::into),
        pooling: args.decisions.pooling.clone(),
        attention: args.decisions.attention.map(Into::into),
        max_length: args.max_length.map(NonZeroUsize::get),
        matryoshka: args.matryoshka.clone(),
    };
    let bar = progress::bytes("pack");
    let mut show = |done, total| progress::advance(&bar, done, total);
    let (root, told) = if let Some(onnx) = onnx {
        overwrite::make_room(&out)?;
        let packed = defrost_pack::pack_onnx(&onnx, &spec, &out, &mut show)?;
        (packed.root, packed.told)
    } else {
        let checkpoint = match checkpoint {
            Some(checkpoint) => checkpoint,
            None => open_checkpoint(&source.dir)?,
        };
        let checkpoint = match args.precision.and_then(PrecisionArg::quantization) {
            Some(to) => quantized(&checkpoint, to)?,
            None => checkpoint,
        };
        overwrite::make_room(&out)?;
        let isa = match args.isa.as_deref() {
            None if precision == Precision::F16 => isa::PORTABLE,
            None | Some("native") => isa::NATIVE,
            Some(other) => other,
        };
        let isa = isa.to_owned();
        let outliers = match args.outliers {
            OutliersArg::Auto => Outliers::Auto,
            OutliersArg::Off => Outliers::Off,
        };
        let store_prefix = !args.no_stored_prefix;
        let options = PackOptions { spec, precision, isa, outliers, store_prefix };
        let packed = defrost_pack::pack(&checkpoint, &options, &out, &mut show)?;
        (packed.root, packed.told)
    };
    bar.finish_and_clear();
    Ok(Report { root, out, told })
}

fn folder_name(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    Some(folder.file_name()?.to_string_lossy().into_owned())
}
