//! `defrost inspect` and `defrost verify`.

mod chat;
mod foreign;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use defrost_pack::quality_summary;
use serde_json::json;

use crate::print::say;
use crate::progress;

/// Arguments of `defrost inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot, or a file of weights in safetensors, GGUF or ONNX.
    file: PathBuf,
    /// List every tensor, not only the segments or types.
    #[arg(long)]
    tensors: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `defrost verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The snapshot.
    snapshot: PathBuf,
}

/// Prints the manifest, or what there is in files of other formats.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(format) = foreign::recognise(&args.file) {
        return foreign::run(format, args);
    }
    let (root, manifest) = defrost_loader::inspect(&args.file)?;
    let chat = chat::read(&args.file, &manifest)?;
    if args.json {
        let mut value = json!({
            "root": root.to_string(),
            "isa": &*manifest.isa,
            "layout_abi": manifest.layout_abi,
            "chunk_bytes": manifest.chunk_size,
            "chunks": manifest.chunks.len(),
            "meta": manifest.meta.iter().map(|(key, value)| (key.to_string(), json!(&**value)))
                .collect::<serde_json::Map<_, _>>(),
            "segments": manifest.segments.iter().map(|segment| json!({
                "name": &*segment.name, "offset": segment.offset, "bytes": segment.len,
                "sparse": segment.sparse,
            })).collect::<Vec<_>>(),
            "tensors": manifest.tensors.iter().map(|tensor| json!({
                "name": &*tensor.name, "dtype": tensor.dtype.name(), "layout": &*tensor.layout,
                "shape": tensor.shape, "segment": tensor.segment, "offset": tensor.offset,
                "bytes": tensor.len,
            })).collect::<Vec<_>>(),
        });
        if let Some(chat) = &chat {
            value["chat"] = serde_json::to_value(chat)?;
        }
        say!("{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    say!("root    {root}")?;
    say!("isa     {} (layout {})", manifest.isa, manifest.layout_abi)?;
    say!(
        "chunks  {} of {}",
        manifest.chunks.len(),
        progress::human(u64::from(manifest.chunk_size))
    )?;
    for (key, value) in &manifest.meta {
        // One line for all products; --json has each.
        match quality_summary(value).filter(|_| &**key == "quality.products") {
            Some(line) => say!("{key} = {line}")?,
            None if &**key == "prompt.stored_prefix" => {
                let count = value.split(',').count();
                say!("{key} = {value:?}, {count} tokens that prompts begin with")?;
            }
            None => say!("{key} = {value:?}")?,
        }
    }
    for line in chat.iter().flat_map(chat::lines) {
        say!("{line}")?;
    }
    say!("\n{:<14} {:>14} {:>12} {:>8}", "segment", "offset", "size", "tensors")?;
    for (index, segment) in manifest.segments.iter().enumerate() {
        let tensors = manifest.tensors.iter().filter(|tensor| tensor.segment == index);
        say!(
            "{:<14} {:>14} {:>12} {:>8}",
            segment.name,
            segment.offset,
            progress::human(segment.len),
            tensors.clone().count()
        )?;
        if args.tensors {
            for tensor in tensors {
                let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
                say!(
                    "  {:<30} {:<5} {:<10} {:<16} {:>14} {:>12}",
                    tensor.name,
                    tensor.dtype.name(),
                    tensor.layout,
                    shape.join(" x "),
                    tensor.offset,
                    progress::human(tensor.len)
                )?;
            }
        }
    }
    let total: u64 = manifest.tensors.iter().map(|tensor| tensor.len).sum();
    say!("\n{} tensors, {}", manifest.tensors.len(), progress::human(total))?;
    Ok(())
}

/// Hashes everything.
pub(crate) fn verify(args: &VerifyArgs) -> Result<()> {
    let start = Instant::now();
    let bar = progress::bytes("verify");
    let root = defrost_loader::verify(&args.snapshot, &mut |done, total| {
        progress::advance(&bar, done, total);
    })?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    say!("{root}  ok  {seconds:.2} s")?;
    Ok(())
}
