//! Pairs of texts as classes: TEI's `/predict` and vLLM's `/classify`, of a model with the one
//! class "relevant".
//!
//! A pair is `[query, text]`; TEI's `inputs` is one pair or a list of them, vLLM's `input` too. A
//! text alone is no pair, and is refused with what to send instead.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::answer::{RerankFacts, Scored};
use crate::body::RerankBody;
use crate::checks;
use crate::error::{ErrorStyle, Invalid};
use crate::fields;
use crate::json;
use crate::lenient::{Count, Flag, FlagOrName};
use crate::request::{Limits, RerankRequest, Shape, grouped};

/// The name of a model's only class, as the library that trains such models gives it.
const LABEL: &str = "LABEL_0";

/// Pairs of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs {
    /// The pairs in order.
    pub items: Vec<(String, String)>,
    /// Whether the one pair came without a list around it.
    pub single: bool,
}

/// Every field of a request to `/predict` or `/classify`. Other fields are told in the answer, null means absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PredictBody {
    /// Name of the model, any name unless the server is strict.
    pub model: Option<String>,
    /// TEI's pairs.
    pub inputs: Option<Pairs>,
    /// vLLM's pairs.
    pub input: Option<Pairs>,
    /// TEI: logits instead of `[0, 1]`.
    pub raw_scores: Option<Flag>,
    /// vLLM: false asks for logits.
    pub use_activation: Option<Flag>,
    /// `false` refuses over-long texts.
    pub truncate: Option<FlagOrName>,
    /// TEI: `"Left"` cuts over-long texts at their start.
    pub truncation_direction: Option<String>,
    /// vLLM's name of `truncation_direction`.
    pub truncation_side: Option<String>,
    /// vLLM: read this many tokens of each pair; -1: what the model reads.
    #[schemars(extend("minimum" = -1))]
    pub truncate_prompt_tokens: Option<Count>,

    /// What to tell of fields that nothing reads.
    #[serde(skip)]
    #[schemars(skip)]
    unread: Vec<String>,
}

impl PredictBody {
    /// Reads a JSON body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut body: Self = json::read(bytes, r#"{"inputs":[["a query","a text"]]}"#)
            .map_err(|invalid| invalid.styled(ErrorStyle::Tei))?;
        body.unread = fields::Names::of(bytes).unread::<Self>();
        Ok(body)
    }

    /// Checks the body against its rules.
    pub fn into_request(self, limits: &Limits) -> Result<RerankRequest, Invalid> {
        let shape = match (&self.inputs, &self.input) {
            (Some(Pairs { single: true, .. }), _) => Shape::Prediction,
            (None, Some(_)) => Shape::Classification,
            _ => Shape::Predictions,
        };
        self.build(shape, limits).map_err(|invalid| invalid.styled(shape.error_style()))
    }

    fn build(mut self, shape: Shape, limits: &Limits) -> Result<RerankRequest, Invalid> {
        let options = RerankBody {
            use_activation: self.use_activation,
            raw_scores: self.raw_scores,
            truncate: self.truncate.take(),
            truncation_direction: self.truncation_direction.take(),
            truncation_side: self.truncation_side.take(),
            truncate_prompt_tokens: self.truncate_prompt_tokens,
            ..RerankBody::default()
        };
        let (key, pairs) = match (self.inputs, self.input) {
            (Some(_), Some(_)) => return Err(checks::contradiction("inputs", "input")),
            (None, Some(pairs)) => ("input", Some(pairs)),
            (pairs, None) => ("inputs", pairs),
        };
        let pairs = checks::counted(
            key,
            pairs.map(|pairs| pairs.items),
            limits.max_documents,
            "MAX_DOCUMENTS",
        )?;
        if let Some(blank) = pairs.iter().position(|(query, _)| query.trim().is_empty()) {
            let param = format!("{key}[{blank}][0]");
            let message = format!("{param}: expected a text, found only white space");
            return Err(Invalid::empty(param, message));
        }
        Ok(RerankRequest {
            shape,
            model: self.model.take(),
            top_n: None,
            return_documents: false,
            originals: Vec::new(),
            normalization: options.normalization()?,
            instruction: None,
            truncation: options.truncation()?,
            wants_data: false,
            warnings: self.unread,
            groups: grouped(pairs),
        })
    }
}

/// One class of TEI's answer to a pair.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Prediction {
    /// How relevant the text is to the query.
    score: f64,
    /// Always `LABEL_0`.
    label: &'static str,
}

/// vLLM's answer to `/classify`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Classes<'a> {
    /// The answer's id.
    id: &'a str,
    /// Always `list`.
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    /// Unix time in seconds.
    created: u64,
    /// The served model's name.
    model: &'a str,
    /// One entry a pair.
    data: Vec<Class>,
    /// Tokens that were run.
    usage: ClassUsage,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Class {
    /// The pair's place in the request.
    index: usize,
    /// Always `LABEL_0`.
    label: &'static str,
    /// How relevant the text is to the query.
    probs: [f64; 1],
    /// Always 1.
    num_classes: usize,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(clippy::struct_field_names, reason = "the names that clients read")]
struct ClassUsage {
    prompt_tokens: usize,
    total_tokens: usize,
    completion_tokens: usize,
}

/// The one class of one pair.
pub(crate) fn prediction(scored: &[Scored]) -> Vec<Prediction> {
    predictions(scored).into_iter().next().unwrap_or_default()
}

/// The one class of each pair.
pub(crate) fn predictions(scored: &[Scored]) -> Vec<Vec<Prediction>> {
    scored.iter().map(|one| vec![Prediction { score: one.score, label: LABEL }]).collect()
}

pub(crate) fn classes<'a>(
    scored: &[Scored],
    facts: &RerankFacts<'a>,
    warnings: Vec<String>,
) -> Classes<'a> {
    let class = |(index, one): (usize, &Scored)| Class {
        index,
        label: LABEL,
        probs: [one.score],
        num_classes: 1,
    };
    let tokens = scored.iter().map(|one| one.tokens).sum();
    Classes {
        id: facts.id,
        object: "list",
        created: facts.created,
        model: facts.model,
        data: scored.iter().enumerate().map(class).collect(),
        usage: ClassUsage { prompt_tokens: tokens, total_tokens: tokens, completion_tokens: 0 },
        warnings,
    }
}

const EXPECTED: &str =
    "a pair of texts, [query, text], or a list of pairs: this model scores pairs";

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pairs, A::Error> {
        let mut items = match seq.next_element()? {
            None => return Ok(Pairs::default()),
            Some(Part::Text(query)) => {
                let text: Option<String> = seq.next_element()?;
                return match (text, seq.next_element::<String>()?) {
                    (Some(text), None) => Ok(Pairs { items: vec![(query, text)], single: true }),
                    _ => Err(A::Error::custom(format_args!("expected {EXPECTED}"))),
                };
            }
            Some(Part::Pair(query, text)) => vec![(query, text)],
        };
        while let Some(Pair(query, text)) = seq.next_element()? {
            items.push((query, text));
        }
        Ok(Pairs { items, single: false })
    }
}

/// The first element of a list.
enum Part {
    Text(String),
    Pair(String, String),
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Part, E> {
        Ok(Part::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Part, A::Error> {
        let pair = (seq.next_element()?, seq.next_element()?, seq.next_element::<String>()?);
        match pair {
            (Some(query), Some(text), None) => Ok(Part::Pair(query, text)),
            _ => Err(A::Error::custom(format_args!("expected {EXPECTED}"))),
        }
    }
}

/// A further element of a list of pairs.
struct Pair(String, String);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Part::deserialize(deserializer)? {
            Part::Pair(query, text) => Ok(Self(query, text)),
            Part::Text(_) => Err(D::Error::custom(format_args!("expected {EXPECTED}"))),
        }
    }
}

crate::schema::inlined! {
    Pairs => {"anyOf": [
        {"type": "array", "description": "One pair.", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
        {"type": "array", "items": {
            "type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2,
        }},
    ]}
}
