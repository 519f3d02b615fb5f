//! Embedding requests: one flat body, one meaning, whichever service's client sends them.
//!
//! The path narrows the choice, the keys of the body decide: `input` is `OpenAI`'s form (also
//! vLLM's, Jina's, Voyage's and infinity's), `inputs` TEI's, `texts` BAAI's, `text` MLX's; Cohere's
//! `texts` and `inputs` come on its own two paths. [`EmbedBody`] reads them all,
//! [`EmbedBody::into_request`] checks them and yields one [`EmbedRequest`], and the answer goes
//! back in the [`EmbedShape`] that came, through [`crate::embed_answer`].
//!
//! Options have many names but one meaning. Two names that ask for different things are refused,
//! and so is what cannot be done: a vector that silently is not what was asked for (late chunking,
//! another number type) looks right and is wrong.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod inputs;
mod norm;
mod options;
mod output;
mod prompt;
pub(crate) mod quantize;
mod route;

pub use body::EmbedBody;
pub use norm::Norm;
pub use output::{Dtype, Encoding, Format, VectorKinds};
pub use prompt::Prompt;
pub use route::{EmbedRoute, EmbedShape};

use crate::error::Invalid;
use crate::lenient::{EmbedInput, Flag};
use crate::truncate::Cut;

/// What a request asks for, whatever its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    /// Whose request it is.
    pub shape: EmbedShape,
    /// The model it names.
    pub model: Option<String>,
    /// The field that held the inputs.
    pub key: &'static str,
    /// What to embed. For [`EmbedShape::TeiSimilarity`] the first is compared with the others.
    pub inputs: Vec<EmbedInput>,
    /// Whether the one input came without a list around it. Only MLX's single answer differs, and
    /// that is a shape of its own: TEI and `OpenAI` answer a list to one text as well.
    pub single: bool,
    /// The prompt to put before each input.
    pub prompt: Prompt,
    /// The request's own word for what the inputs are.
    pub role_word: Option<String>,
    /// Which kinds of vectors to return.
    pub outputs: VectorKinds,
    /// In what form to return dense vectors. Exactly one, except in Cohere's shapes.
    pub formats: Vec<Format>,
    /// Cut dense vectors to this many numbers; `None`: the model's full width.
    pub dimensions: Option<usize>,
    /// Scale vectors to length 1; `None`: as the model's own files say. See [`Self::fit_scale`].
    pub normalize: Option<bool>,
    /// What to divide vectors by instead.
    pub norm: Option<Norm>,
    /// Whether the inputs are chunks of one text, each to be read in the context of all.
    pub late_chunking: bool,
    /// What happens to over-long inputs.
    pub truncation: Cut,
    /// Read at most this many tokens of each input, prompt and special tokens included.
    pub max_tokens: Option<usize>,
    /// Parts of the request that are not honoured, in words for the client.
    pub warnings: Vec<String>,
}

impl EmbedRequest {
    /// Where the client finds the input at this index: `input[3]`, `inputs.sentences[2]`, `text`.
    pub fn param(&self, index: usize) -> String {
        inputs::param(self.shape, self.key, self.single, index)
    }

    /// The error for an input of `found` tokens where the model reads `limit`.
    pub fn too_long(&self, index: usize, limit: usize, found: usize) -> Invalid {
        Invalid::too_long(self.param(index), limit, found).styled(self.shape.error_style())
    }

    /// Refuses what the model has no head for.
    pub fn check_outputs(&self, available: VectorKinds) -> Result<(), Invalid> {
        let kinds = [
            ("dense", self.outputs.dense, available.dense),
            ("sparse", self.outputs.sparse, available.sparse),
            ("colbert", self.outputs.colbert, available.colbert),
            ("token", self.outputs.hidden, available.hidden),
        ];
        match kinds.into_iter().find(|&(_, wanted, has)| wanted && !has) {
            None => Ok(()),
            Some((kind, ..)) => {
                let message = format!("the served model gives no {kind} embeddings");
                Err(Invalid::new("embedding_type", message).styled(self.shape.error_style()))
            }
        }
    }

    /// Fits the width asked for to a model of width `full`: that width itself asks for nothing, one
    /// that the model does not have is not returned, and one for which it was not `trained`
    /// (Matryoshka) is, as the services do that these clients come from; both with a warning.
    pub fn fit_dimensions(&mut self, full: usize, trained: impl Fn(usize) -> bool) {
        match self.dimensions {
            Some(width) if width > full => {
                self.warnings.push(format!(
                    "dimensions is ignored: the model gives {full}, {width} were asked for"
                ));
                self.dimensions = None;
            }
            Some(width) if width == full => self.dimensions = None,
            Some(width) if !trained(width) => self.warnings.push(format!(
                "the model was not trained to be shortened to {width} dimensions (Matryoshka): vectors of all {full} tell \
                 texts apart better"
            )),
            _ => {}
        }
    }

    /// Settles whether vectors get length 1 for a model whose own package `normalizes` them or not,
    /// and warns where the numbers then do not fit the type asked for.
    pub fn fit_scale(&mut self, normalizes: bool) {
        // Vectors cut to fewer numbers are scaled anew, or widths would not compare.
        let usual = normalizes || self.dimensions.is_some();
        let scaled = *self.normalize.get_or_insert(usual);
        let limited = |format: &Format| matches!(format.dtype, Dtype::Int8 | Dtype::Uint8);
        if !scaled && self.formats.iter().any(limited) {
            let warning = "int8 and uint8 hold [-1, 1]: numbers outside are clamped";
            self.warnings.push(warning.to_owned());
        }
    }

    /// How many tokens of an input to read, for a model that reads `limit`.
    pub fn token_limit(&self, limit: usize) -> Result<usize, Invalid> {
        match self.max_tokens {
            None => Ok(limit),
            // Cohere's is an upper bound that clients set for all models alike.
            Some(asked) if asked <= limit || self.shape.is_cohere() => Ok(asked.min(limit)),
            Some(asked) => Err(Invalid::new(
                "truncate_prompt_tokens",
                format!(
                    "truncate_prompt_tokens: found {asked}, the model reads {limit} tokens. \
                     Please request a smaller truncation size."
                ),
            )
            .styled(self.shape.error_style())),
        }
    }
}

/// Bounds on one request. Each is named after the setting that raises it.
#[derive(Debug, Clone)]
pub struct EmbedLimits {
    /// `MAX_INPUTS`: most inputs in `OpenAI`'s, TEI's and Cohere's shapes.
    pub max_inputs: usize,
    /// `MAX_TEXTS`: most texts in BAAI's shape.
    pub max_texts: usize,
    /// `MAX_TEXT_CHARS`: most characters of one text in BAAI's shape.
    pub max_text_chars: usize,
    /// `MAX_BATCH`: most texts on MLX's `/embed_batch`.
    pub max_batch: usize,
    /// `MAX_TEXT_LENGTH`: most tokens of one text in MLX's shapes. Ten times as many characters are
    /// let through, as that service does; the rest is for truncation to handle.
    pub max_text_length: usize,
    /// `ALLOW_EMPTY_INPUT`: embed empty texts instead of refusing them, as llama.cpp does. Not in
    /// BAAI's and MLX's shapes, whose clients expect the refusal.
    pub allow_empty_input: bool,
}

impl Default for EmbedLimits {
    /// 2,048 inputs as `OpenAI` allows; 100 texts of 50,000 characters as the BAAI service does;
    /// 1,024 texts of 8,192 tokens as the MLX service does.
    fn default() -> Self {
        Self {
            max_inputs: 2048,
            max_texts: 100,
            max_text_chars: 50_000,
            max_batch: 1024,
            max_text_length: 8192,
            allow_empty_input: false,
        }
    }
}

impl EmbedBody {
    /// Decides the shape and checks the body against its rules.
    pub fn into_request(
        self,
        route: EmbedRoute,
        limits: &EmbedLimits,
    ) -> Result<EmbedRequest, Invalid> {
        let Some(shape) = self.shape(route) else {
            return Err(Invalid::body(
                "the body has none of inputs, texts and text; send what to embed in one of them",
            )
            .styled(route.error_style()));
        };
        self.build(route, shape, limits).map_err(|invalid| invalid.styled(shape.error_style()))
    }

    fn build(
        mut self,
        route: EmbedRoute,
        shape: EmbedShape,
        limits: &EmbedLimits,
    ) -> Result<EmbedRequest, Invalid> {
        let key = self.input_key(route, shape)?;
        self.refuse_unsupported()?;
        let mut warnings = std::mem::take(&mut self.unread);
        let prompt = self.prompt(&mut warnings)?;
        let role_word = self.role_word();
        let outputs = self.outputs(shape)?;
        let formats = self.formats(shape)?;
        let (normalize, norm) = self.scale(shape)?;
        let (truncation, max_tokens) = self.truncation(shape, &mut warnings)?;
        let dimensions = self.dimensions()?;
        let model = self.model.take();
        let late_chunking = self.late_chunking.is_some_and(|Flag(asked)| asked);
        let (inputs, single) = self.take_inputs(shape, key, limits)?;
        Ok(EmbedRequest {
            shape,
            model,
            key,
            inputs,
            single,
            prompt,
            role_word,
            outputs,
            formats,
            dimensions,
            normalize,
            norm,
            late_chunking,
            truncation,
            max_tokens,
            warnings,
        })
    }
}
