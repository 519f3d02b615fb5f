//! Width, length and scale of vectors, and what is refused because it cannot be done.

use super::{EmbedBody, EmbedShape};
use crate::checks;
use crate::error::Invalid;
use crate::truncate::{self, Cut};

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

    /// What happens to over-long inputs, and how many tokens are read at most.
    ///
    /// TEI, Cohere, Voyage and the BAAI and MLX services cut at the end unless told otherwise:
    /// their clients never see an error for a long text, so they get a warning instead.
    pub(super) fn truncation(
        &self,
        shape: EmbedShape,
        warnings: &mut Vec<String>,
    ) -> Result<(Cut, Option<usize>), Invalid> {
        let names = truncate::Names {
            truncate: self.truncate.as_ref(),
            truncation: self.truncation,
            truncation_direction: self.truncation_direction.as_deref(),
            truncation_side: self.truncation_side.as_deref(),
            truncate_prompt_tokens: self.truncate_prompt_tokens,
        };
        let default = if self.cuts_by_default(shape) { Cut::End } else { Cut::ServerDefault };
        let (cut, tokens) = names.agreed(default, warnings)?;
        let max_tokens = checks::token_limit("max_tokens", self.max_tokens)?;
        let limit = [tokens, max_tokens].into_iter().flatten().min();
        Ok((cut, limit))
    }

    /// Whether the service whose request this is cuts over-long inputs unless told otherwise.
    /// Voyage's requests are known by fields that only it has.
    fn cuts_by_default(&self, shape: EmbedShape) -> bool {
        match shape {
            EmbedShape::Llama | EmbedShape::Pooling => false,
            EmbedShape::OpenAi => {
                let is_voyages = |role: &str| matches!(role, "query" | "document");
                self.truncation.is_some()
                    || self.output_dtype.is_some()
                    || self.output_dimension.is_some()
                    || self.input_type.as_deref().is_some_and(is_voyages)
            }
            _ => true,
        }
    }
}
