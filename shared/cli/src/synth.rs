//! `defrost synth`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use defrost_model::Family;
use defrost_pack::{Quantization, Shape, synthesize, synthesize_gguf};

use crate::overwrite;
use crate::print::{note, say};

/// Arguments of `defrost synth`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = format!("Model to imitate: {}", known()))]
    model: String,
    /// Directory to write the checkpoint into, or with --gguf the file.
    #[arg(long, short)]
    out: PathBuf,
    /// Write over the files of a directory that is not empty, and create directories on its way.
    #[arg(long)]
    force: bool,
    /// Other dimensions than the model's, such as layers=2,hidden=128 (hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, max_positions).
    #[arg(long, value_delimiter = ',')]
    dims: Vec<String>,
    /// Write a GGUF file instead, quantised as llama.cpp does it (language models only).
    #[arg(long, value_parser = quantization)]
    gguf: Option<Quantization>,
    /// A real tokenizer.json to go with it; without one, every byte is a token.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// The same seed gives the same weights.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Plant outlier channels as real decoders have them, and something to rank by (qwen2, qwen3): what `pack --outliers`
    /// is there for.
    #[arg(long)]
    outliers: bool,
    /// Plant only something to rank by, as the control of `--outliers`.
    #[arg(long)]
    ranking: bool,
}

/// The models that can be imitated, and the families, each of which has one that stands for it.
fn known() -> String {
    let models: Vec<&str> = Shape::presets().collect();
    let families: Vec<&str> = Family::all().map(|family| family.name).collect();
    format!("{}, or a family: {}", models.join(", "), families.join(", "))
}

/// `--gguf`.
fn quantization(text: &str) -> Result<Quantization, String> {
    let known: Vec<&str> = Quantization::names().collect();
    Quantization::by_name(text).ok_or_else(|| format!("expected one of {}", known.join(", ")))
}

/// Writes the checkpoint.
pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let Some(mut shape) = Shape::preset(&args.model) else {
        bail!("unknown model {:?}, expected one of {}", args.model, known());
    };
    shape.outliers = args.outliers;
    shape.ranking = args.ranking;
    for dimension in &args.dims {
        let Some((name, size)) = dimension.split_once('=') else {
            bail!("--dims: {dimension:?} is not NAME=SIZE");
        };
        let size = size.parse().with_context(|| format!("--dims: {size:?} is not a size"))?;
        shape.set(name, size)?;
    }
    let tokenizer = args
        .tokenizer
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())))
        .transpose()?;
    if let Some(kind) = args.gguf {
        let inputs: Vec<&Path> = args.tokenizer.iter().map(PathBuf::as_path).collect();
        overwrite::check(&args.out, &inputs, args.force)?;
        overwrite::make_room(&args.out)?;
        note!("writing {} in {} to {}", args.model, kind.name, args.out.display());
        let written = synthesize_gguf(&shape, kind, tokenizer.as_deref(), args.seed, &args.out);
        if written.is_err() {
            let _ = std::fs::remove_file(&args.out);
        }
        written?;
        say!("{}  {:.1} s", args.out.display(), start.elapsed().as_secs_f64())?;
        return Ok(());
    }
    overwrite::check_folder(&args.out, args.force)?;
    let is_new = !args.out.exists();
    note!("writing {} to {}", args.model, args.out.display());
    let written = synthesize(&shape, tokenizer.as_deref(), args.seed, &args.out);
    if written.is_err() && is_new {
        // Half a checkpoint is none; what went wrong is told below.
        let _ = std::fs::remove_dir_all(&args.out);
    }
    written?;
    say!("{}  {:.1} s", args.out.display(), start.elapsed().as_secs_f64())?;
    Ok(())
}
