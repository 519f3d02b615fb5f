//! Width, length and scale of vectors, and what is refused because it cannot be done.

use super::{EmbedBody, EmbedShape};
use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Count, Flag};
use crate::truncate::Cut;

impl EmbedBody {
    /// Refuses what would make vectors other than those asked for.
    pub(super) fn refuse_unsupported(&self) -> Result<(), Invalid> {
        if let Some(modality) = &self.modality
            && !modality.eq_ignore_ascii_case("text")
        {
            return Err(Invalid::new("modality", "modality: only \"text\" is embedded here"));
        }
        if let Some(order) = &self.endianness
            && !matches!(order.to_ascii_lowercase().as_str(), "little" | "native")
        {
            return Err(Invalid::new(
                "endianness",
                "endianness: base64 is little-endian here; send \"little\" or leave it out",
            ));
        }
        Ok(())
    }

    /// Width of dense vectors; `None`: the model's own.
    pub(super) fn dimensions(&self) -> Result<Option<usize>, Invalid> {
        let dimensions = checks::token_limit("dimensions", self.dimensions)?;
        let output_dimension = checks::token_limit("output_dimension", self.output_dimension)?;
        checks::agreed([("dimensions", dimensions), ("output_dimension", output_dimension)])
    }

    /// Vectors have length 1 unless told otherwise; TEI's `/embed_all` gives hidden states as they
    /// are.
    pub(super) fn normalize(&self, shape: EmbedShape) -> Result<bool, Invalid> {
        let asked = checks::agreed([
            ("normalize", self.normalize),
            ("normalized", self.normalized),
            ("use_activation", self.use_activation),
        ])?;
        Ok(asked.map_or(shape != EmbedShape::TeiAll, |Flag(normalize)| normalize))
    }

    /// What happens to over-long inputs, and how many tokens are read at most.
    ///
    /// Cohere cuts at the end unless told otherwise, and the BAAI and MLX services always do:
    /// their clients never see an error for a long text, so they get a warning instead.
    pub(super) fn truncation(
        &self,
        shape: EmbedShape,
        warnings: &mut Vec<String>,
    ) -> Result<(Cut, Option<usize>), Invalid> {
        let side = checks::agreed([
            (
                "truncation_direction",
                side("truncation_direction", self.truncation_direction.as_ref())?,
            ),
            ("truncation_side", side("truncation_side", self.truncation_side.as_ref())?),
        ])?;
        let asked = Cut::asked(self.truncate.as_ref(), self.truncation)?;
        let tokens = match self.truncate_prompt_tokens {
            Some(Count(-1)) => Some(0),
            value => checks::natural("truncate_prompt_tokens", value)?.filter(|&limit| limit > 0),
        };
        let cut = match (asked, tokens) {
            (Cut::Refuse, Some(_)) => {
                return Err(checks::contradiction("truncate", "truncate_prompt_tokens"));
            }
            (Cut::ServerDefault, Some(_)) => Cut::End,
            (Cut::ServerDefault, None) => match shape {
                EmbedShape::Baai | EmbedShape::Mlx | EmbedShape::MlxBatch => Cut::End,
                shape if shape.is_cohere() => Cut::End,
                _ => Cut::ServerDefault,
            },
            (asked, _) => asked,
        };
        let cut = match (cut, side) {
            (Cut::End, Some(side)) => side,
            (Cut::Start, Some(Cut::End)) => {
                return Err(checks::contradiction("truncate", "truncation_direction"));
            }
            (Cut::ServerDefault, Some(Cut::Start)) => {
                warnings.push(
                    "truncation_direction is ignored: it is read together with truncate: true only"
                        .to_owned(),
                );
                cut
            }
            _ => cut,
        };
        let max_tokens = checks::token_limit("max_tokens", self.max_tokens)?;
        let limit = [tokens.filter(|&limit| limit > 0), max_tokens].into_iter().flatten().min();
        Ok((cut, limit))
    }
}

fn side(field: &'static str, name: Option<&String>) -> Result<Option<Cut>, Invalid> {
    let Some(name) = name else { return Ok(None) };
    match name.to_ascii_lowercase().as_str() {
        "left" | "start" => Ok(Some(Cut::Start)),
        "right" | "end" => Ok(Some(Cut::End)),
        _ => Err(Invalid::new(field, format!("{field}: expected \"Left\" or \"Right\""))),
    }
}
