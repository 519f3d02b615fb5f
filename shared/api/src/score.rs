//! vLLM's `/score`: texts against texts, answered in input order.
//!
//! One text on the left goes with every text on the right, or each with its own. The two sides have
//! three pairs of names, which vLLM kept from version to version.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::body::RerankBody;
use crate::checks;
use crate::error::{ErrorStyle, Invalid};
use crate::fields;
use crate::json;
use crate::lenient::{Count, Flag, FlagOrName, Inputs};
use crate::request::{Limits, QueryGroup, RerankRequest, Shape, grouped};

/// Names of the left side, each with the names that the right side may then have.
const SIDES: [(&str, &[&str]); 3] =
    [("queries", &["documents", "items"]), ("text_1", &["text_2"]), ("data_1", &["data_2"])];

/// Every field that a client of `/score` may send. Other fields are told in the answer, null means absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ScoreBody {
    /// Name of the model, any name unless the server is strict.
    pub model: Option<String>,
    /// Left side.
    pub queries: Option<Inputs>,
    /// Left side.
    pub text_1: Option<Inputs>,
    /// Left side.
    pub data_1: Option<Inputs>,
    /// Right side of `queries`.
    pub documents: Option<Inputs>,
    /// Right side of `queries`.
    pub items: Option<Inputs>,
    /// Right side of `text_1`.
    pub text_2: Option<Inputs>,
    /// Right side of `data_1`.
    pub data_2: Option<Inputs>,
    /// False asks for logits.
    pub use_activation: Option<Flag>,
    /// Logits instead of `[0, 1]`, by TEI's name.
    pub raw_scores: Option<Flag>,
    /// False asks for logits, by BAAI's name; also a name of [`crate::Normalization`].
    pub normalize: Option<FlagOrName>,
    /// A name of [`crate::Normalization`].
    pub normalization: Option<String>,
    /// Task description for models that take one.
    pub instruction: Option<String>,
    /// `false` or `"NONE"` refuses over-long texts, `"START"` cuts them at their start.
    pub truncate: Option<FlagOrName>,
    /// `"Left"` cuts over-long texts at their start, so that their end is read.
    pub truncation_direction: Option<String>,
    /// vLLM's name of `truncation_direction`.
    pub truncation_side: Option<String>,
    /// Read this many tokens of each pair; -1: what the model reads.
    #[schemars(extend("minimum" = -1))]
    pub truncate_prompt_tokens: Option<Count>,
    /// Cut each text of the left side to this many tokens.
    pub max_tokens_per_query: Option<Count>,
    /// Cut each text of the right side to this many tokens.
    pub max_tokens_per_doc: Option<Count>,

    /// What to tell of fields that nothing reads.
    #[serde(skip)]
    #[schemars(skip)]
    unread: Vec<String>,
}

impl ScoreBody {
    /// Reads a JSON body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut body: Self = json::read(bytes, r#"{"queries":…,"documents":[…]}"#)
            .map_err(|invalid| invalid.styled(ErrorStyle::OpenAi))?;
        body.unread = fields::Names::of(bytes).unread::<Self>();
        Ok(body)
    }

    /// Checks the body against its rules.
    pub fn into_request(mut self, limits: &Limits) -> Result<RerankRequest, Invalid> {
        let options = RerankBody {
            use_activation: self.use_activation,
            raw_scores: self.raw_scores,
            normalize: self.normalize.take(),
            normalization: self.normalization.take(),
            truncate: self.truncate.take(),
            truncation_direction: self.truncation_direction.take(),
            truncation_side: self.truncation_side.take(),
            truncate_prompt_tokens: self.truncate_prompt_tokens,
            max_tokens_per_query: self.max_tokens_per_query,
            max_tokens_per_doc: self.max_tokens_per_doc,
            ..RerankBody::default()
        };
        let normalization = options.normalization()?;
        let truncation = options.truncation()?;
        let model = self.model.take();
        let warnings = std::mem::take(&mut self.unread);
        let instruction = self.instruction.take().filter(|text| !text.trim().is_empty());
        Ok(RerankRequest {
            shape: Shape::Score,
            model,
            groups: self.groups(limits)?,
            top_n: None,
            return_documents: false,
            originals: Vec::new(),
            normalization,
            instruction,
            truncation,
            wants_data: false,
            warnings,
        })
    }

    /// What to score, in the order in which it is answered. No text is copied: one may stand beside a thousand others.
    fn groups(self, limits: &Limits) -> Result<Vec<QueryGroup>, Invalid> {
        let left =
            only([("queries", self.queries), ("text_1", self.text_1), ("data_1", self.data_1)])?;
        let right = only([
            ("documents", self.documents),
            ("items", self.items),
            ("text_2", self.text_2),
            ("data_2", self.data_2),
        ])?;
        let Some((left_key, left)) = left else {
            let message = "queries is missing; send queries and documents, or text_1 and text_2";
            return Err(Invalid::new("queries", message));
        };
        let partners =
            SIDES.iter().find(|(key, _)| *key == left_key).map_or(&[][..], |side| side.1);
        let expected = partners.join(" or ");
        let (right_key, right) = right.ok_or_else(|| {
            let param = partners.first().copied().unwrap_or_default();
            Invalid::new(param, format!("{expected} is missing; send it beside {left_key}"))
        })?;
        if !partners.contains(&right_key) {
            let message = format!("{left_key} goes with {expected}, found {right_key}");
            return Err(Invalid::new(right_key, message));
        }
        let mut lefts = texts(left_key, left)?;
        let rights = checks::counted(
            right_key,
            Some(texts(right_key, right)?),
            limits.max_documents,
            "MAX_DOCUMENTS",
        )?;
        if let Some(blank) = lefts.iter().position(|text| text.trim().is_empty()) {
            let param = format!("{left_key}[{blank}]");
            let message = format!("{param}: expected a text, found only white space");
            return Err(Invalid::empty(param, message));
        }
        match (lefts.len(), rights.len()) {
            (0, _) => {
                let message =
                    format!("{left_key}: expected at least one text, found an empty list");
                Err(Invalid::empty(left_key, message))
            }
            (1, count) => {
                let (query, positions) = (lefts.remove(0), (0..count).collect());
                Ok(vec![QueryGroup { query, documents: rights, positions }])
            }
            (left, right) if left == right => Ok(grouped(lefts.into_iter().zip(rights).collect())),
            (left, right) => {
                let message = format!(
                    "{left_key} has {left} texts and {right_key} has {right}; send one of \
                     {left_key}, or as many as of {right_key}"
                );
                Err(Invalid::new(left_key, message))
            }
        }
    }
}

/// Whichever of several fields was sent; two contradict each other.
fn only<const N: usize>(
    fields: [(&'static str, Option<Inputs>); N],
) -> Result<Option<(&'static str, Inputs)>, Invalid> {
    let mut given = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let first = given.next();
    match (&first, given.next()) {
        (Some((first, _)), Some((second, _))) => Err(checks::contradiction(first, second)),
        _ => Ok(first),
    }
}

fn texts(key: &str, inputs: Inputs) -> Result<Vec<String>, Invalid> {
    let text = |(index, input): (usize, crate::EmbedInput)| match input {
        crate::EmbedInput::Text(text) => Ok(text),
        crate::EmbedInput::Tokens(_) | crate::EmbedInput::Mixed(_) => {
            let param = format!("{key}[{index}]");
            let message = format!("{param}: expected a text, found token ids");
            Err(Invalid::new(param, message))
        }
    };
    inputs.items.into_iter().enumerate().map(text).collect()
}
