//! Writes the logits of a packed language model after given tokens, for `scripts/check/check_llama_logits`.
//!
//! ```sh
//! cargo build --release -p defrost-tasks --example generate_logits
//! target/release/examples/generate_logits SNAPSHOT OUT < prompts.json
//! ```
//!
//! Standard input has `[{"ids": […], "at": […]}, …]`: for each prompt the places whose logits are wanted. OUT gets them one
//! after the other, f32, little-endian, a row of the vocabulary's length each.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use defrost_model::{LogitsOf, Piece};
use defrost_tasks::{Generator, GeneratorOptions, ModelOptions, RestoreOptions, restore};
use serde::Deserialize;

const LINKED: &[&dyn defrost_model::Runtime] = &[&defrost_engine::RUNTIME];
/// Tokens of a step: all of their logits are there at once.
const AT_ONCE: usize = 64;

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    at: Vec<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(snapshot), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("expected a snapshot and a file to write".into());
    };
    let prompts: Vec<Prompt> = serde_json::from_reader(std::io::stdin())?;
    let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().ok_or("no prompts")?;
    let snapshot = restore(LINKED, &Path::new(&snapshot).into(), &RestoreOptions::default())?;
    let model = ModelOptions {
        context: Some(longest + 1),
        kv_tokens: Some(longest + 1024),
        ..ModelOptions::default()
    };
    let options = GeneratorOptions { model, ..GeneratorOptions::default() };
    let generator = Generator::load(LINKED, &snapshot, &options)?;
    let decoder = generator.decoder()?;
    let mut file = BufWriter::new(File::create(out)?);
    for prompt in &prompts {
        // A first token that no prompt has: nothing is known of any.
        let sequence = decoder.open(&[prompt.ids[0] ^ 1])?.id;
        for (piece, begin) in prompt.ids.chunks(AT_ONCE).zip((0..).step_by(AT_ONCE)) {
            if !decoder.make_room(&[(sequence, piece.len())])? {
                return Err("there is no room for keys and values".into());
            }
            let piece = Piece { sequence, ids: piece, logits: LogitsOf::All, allowed: None };
            let rows = decoder.step(&[piece])?.remove(0).0;
            for (row, at) in rows.iter().zip(begin..) {
                if prompt.at.contains(&at) {
                    for value in row {
                        file.write_all(&value.to_le_bytes())?;
                    }
                }
            }
        }
        decoder.close(sequence);
    }
    Ok(file.flush()?)
}
