//! What a caller asks of an embedder, and what the caller gets.

/// Inputs that are embedded in the same way.
#[derive(Debug, Clone, Default)]
pub struct EmbedTask {
    /// The texts, or their token ids.
    pub inputs: Vec<Input>,
    /// The prompt that goes before each input.
    pub prompt: PromptChoice,
    /// The vectors that are wanted of each input.
    pub outputs: Outputs,
    /// Length of the dense vectors, from 1 to the model's own; `None`: the model's own. A shorter one is cut off the
    /// front of the whole vector.
    pub dimensions: Option<usize>,
    /// Whether dense vectors are scaled to length 1. `None`: as the model's files say, and always where they are cut to
    /// `dimensions`.
    pub normalize: Option<bool>,
    /// The treatment of over-long inputs.
    pub truncation: EmbedTruncation,
    /// Whether the inputs are chunks of one text, each to be read in the context of all.
    pub late_chunking: bool,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// A text; may be empty.
    Text(String),
    /// The token ids of a text, as the model's own tokenizer gives them. They are used as they are: the prompt's ids go
    /// before them, and special tokens around them as around a text. Ids that come with those special tokens do not get
    /// them twice, and take a prompt between the first special tokens and their own.
    Tokens(Vec<u32>),
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The prompt before every input of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PromptChoice {
    /// The prompt that the model's files name as default, or else that of documents.
    #[default]
    Default,
    /// No prompt at all.
    None,
    /// The prompt of queries; none if the model has none.
    Query,
    /// The prompt of documents; none if the model has none.
    Document,
    /// The prompt of this name in the model's files.
    Named(String),
    /// A task in one sentence, for models whose query prompt holds one: `Instruct: {task}\nQuery:`.
    Instruction(String),
    /// The prompt is this very text.
    Prefix(String),
}

/// Which vectors are wanted.
#[allow(clippy::struct_excessive_bools, reason = "four independent outputs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outputs {
    /// The pooled vector.
    pub dense: bool,
    /// The weights of tokens, from models with a sparse head.
    pub sparse: bool,
    /// One vector for each token, from models with a `ColBERT` head.
    pub colbert: bool,
    /// The hidden state of every token, special tokens included.
    pub tokens: bool,
}

impl Default for Outputs {
    fn default() -> Self {
        Self { dense: true, sparse: false, colbert: false, tokens: false }
    }
}

/// How over-long inputs of a request are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmbedTruncation {
    /// What happens to over-long inputs.
    pub overflow: Overflow,
    /// The most tokens of an input, special tokens and prompt included; `None` or more than that: the model's own
    /// maximum. A limit that leaves no room for a text is taken as the least that does.
    pub limit: Option<usize>,
}

/// What happens to an input that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The request fails with [`crate::Error::InputTooLong`].
    #[default]
    Refuse,
    /// The end of the text is cut off.
    CutEnd,
    /// The beginning of the text is cut off; the prompt stays.
    CutStart,
}

/// What came of one input. What was not asked for is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embedding {
    /// The pooled vector, of the request's dimensions.
    pub dense: Vec<f32>,
    /// Token ids with their weights, above 0, ascending by id: the largest weight of each id that occurs.
    pub sparse: Vec<(u32, f32)>,
    /// `[token_count - 1, colbert_width]`, row-major: one vector of length 1 for each token but the first.
    pub colbert: Vec<f32>,
    /// Width of the rows of `colbert`; 0 if not asked for.
    pub colbert_width: usize,
    /// `[token_count, hidden]`, row-major: the last hidden states as they are.
    pub tokens: Vec<f32>,
    /// The number of tokens that were run for the input, special tokens and prompt included.
    pub token_count: usize,
    /// Whether the input was cut to fit.
    pub truncated: bool,
}
