//! What the clients of each service send to the embedding routes.

use serde_json::{Value, json};

use super::shape::{bounded, counted, forbid_null, not_empty, token_ids};
use super::{Form, SchemaBook, agree};
use crate::embed::body::{EmbedBody, SimilarityBody};
use crate::embed::inputs::MLX_CHARS_PER_TOKEN;
use crate::embed::{EmbedLimits, EmbedRoute, VectorKinds};
use crate::lenient::MIXED;

/// What the schemas of embedding requests depend on.
#[derive(Debug, Clone, Default)]
pub struct EmbedRules {
    /// Bounds on one request.
    pub limits: EmbedLimits,
    /// Kinds of vectors that the model gives beside dense ones.
    pub outputs: VectorKinds,
    /// Whether the model can embed inputs in each other's context.
    pub late_chunking: bool,
    /// Token ids from this one on have no meaning; `None`: not known yet.
    pub vocab: Option<usize>,
    /// Most tokens that the model reads; `None`: not known yet.
    pub max_length: Option<usize>,
    /// The model's own prompts; `None`: not known yet.
    pub prompts: Option<Vec<String>>,
}

const OPENAI: Form = Form {
    name: "EmbeddingRequest",
    title: "OpenAI and other clients",
    about: "The canonical form. Inputs are texts, or token ids as the client's own tokenizer made them.",
    examples: &[(
        "",
        r#"{"input": ["Harper Lee wrote it.", "It rained."], "encoding_format": "float"}"#,
    )],
    required: &["input"],
    optional: &["model", "encoding_format", "dimensions", "instruction"],
};
const JINA: Form = Form {
    name: "JinaEmbeddingRequest",
    title: "Jina",
    about: "`task` says what the vectors are for.",
    examples: &[(
        "",
        r#"{"input": [{"text": "Who wrote it?"}], "task": "retrieval.query", "normalized": true}"#,
    )],
    required: &["input"],
    optional: &[
        "model",
        "task",
        "embedding_type",
        "normalized",
        "dimensions",
        "late_chunking",
        "truncate",
        "return_multivector",
    ],
};
const VOYAGE: Form = Form {
    name: "VoyageEmbeddingRequest",
    title: "Voyage",
    about: "`input_type` tells queries from documents.",
    examples: &[(
        "",
        r#"{"input": ["Who wrote it?"], "model": "voyage-3", "input_type": "query", "truncation": true}"#,
    )],
    required: &["input"],
    optional: &[
        "model",
        "input_type",
        "truncation",
        "output_dimension",
        "output_dtype",
        "encoding_format",
    ],
};
const VLLM: Form = Form {
    name: "VllmEmbeddingRequest",
    title: "vLLM",
    about: "`truncate_prompt_tokens: -1` cuts to what the model reads.",
    examples: &[(
        "",
        r#"{"input": "It rained.", "truncate_prompt_tokens": -1, "use_activation": true}"#,
    )],
    required: &["input"],
    optional: &[
        "model",
        "encoding_format",
        "dimensions",
        "embed_dtype",
        "endianness",
        "use_activation",
        "truncate_prompt_tokens",
        "truncation_side",
    ],
};
const INFINITY: Form = Form {
    name: "InfinityEmbeddingRequest",
    title: "infinity, sentence-transformers",
    about: "`prompt` is put before each input.",
    examples: &[("", r#"{"input": ["It rained."], "modality": "text", "prompt": "passage: "}"#)],
    required: &["input"],
    optional: &["model", "encoding_format", "dimensions", "modality", "prompt"],
};
const M3: Form = Form {
    name: "HybridEmbeddingRequest",
    title: "FlagEmbedding, BGE-M3",
    about: "Lexical weights and a vector for each token beside the dense vector, where the model has them.",
    examples: &[("", r#"{"input": ["It rained."], "return_dense": true}"#)],
    required: &["input"],
    optional: &["model", "return_dense", "return_sparse", "return_colbert_vecs", "return_colbert"],
};
const TEI: Form = Form {
    name: "TeiEmbedRequest",
    title: "Text Embeddings Inference",
    about: "Answered with a list of vectors.",
    examples: &[(
        "",
        r#"{"inputs": ["Harper Lee wrote it.", "It rained."], "normalize": true, "truncate": true}"#,
    )],
    required: &["inputs"],
    optional: &["normalize", "truncate", "truncation_direction", "prompt_name", "dimensions"],
};
const TEI_PARTS: Form = Form {
    name: "TeiEmbedPartsRequest",
    title: "Text Embeddings Inference",
    about: "Answered with a list for each input.",
    examples: &[("", r#"{"inputs": "It rained.", "truncate": true}"#)],
    required: &["inputs"],
    optional: &["truncate", "truncation_direction", "prompt_name"],
};
const SIMILARITY: Form = Form {
    name: "TeiSimilarityRequest",
    title: "Text Embeddings Inference",
    about: "Answered with the cosine of the source sentence with each of the others.",
    examples: &[(
        "",
        r#"{"inputs": {"source_sentence": "It rained.", "sentences": ["The streets were wet.", "Harper Lee wrote it."]}}"#,
    )],
    required: &["inputs"],
    optional: &["model", "parameters"],
};
const BAAI: Form = Form {
    name: "BaaiEmbedRequest",
    title: "BAAI",
    about: "Over-long texts are cut.",
    examples: &[("", r#"{"texts": ["Harper Lee wrote it.", "It rained."]}"#)],
    required: &["texts"],
    optional: &["normalize"],
};
const MLX: Form = Form {
    name: "MlxEmbedRequest",
    title: "MLX, one text",
    about: "Over-long texts are cut.",
    examples: &[("", r#"{"text": "It rained.", "normalize": true}"#)],
    required: &["text"],
    optional: &["model", "normalize"],
};
const MLX_BATCH: Form = Form {
    name: "MlxBatchRequest",
    title: "MLX, several texts",
    about: "Over-long texts are cut.",
    examples: &[("", r#"{"texts": ["Harper Lee wrote it.", "It rained."], "normalize": true}"#)],
    required: &["texts"],
    optional: &["model", "normalize"],
};
const COHERE: Form = Form {
    name: "CohereEmbedRequest",
    title: "Cohere",
    about: "`embedding_types` asks for several number types at once. `inputs` may stand for `texts`.",
    examples: &[(
        "",
        r#"{"texts": ["Who wrote it?"], "model": "embed-v4.0", "input_type": "search_query", "embedding_types": ["float"]}"#,
    )],
    required: &["texts"],
    optional: &[
        "model",
        "input_type",
        "embedding_types",
        "truncate",
        "output_dimension",
        "max_tokens",
        "images",
    ],
};

const LLAMA: Form = Form {
    name: "LlamaEmbeddingRequest",
    title: "llama.cpp",
    about: "Answered with a list of vectors for each input. An input may be made of texts and token ids in turn.",
    examples: &[(
        "",
        r#"{"content": ["It rained.", {"prompt_string": "It rained."}], "embd_normalize": 2}"#,
    )],
    required: &["content"],
    optional: &["embd_normalize"],
};
const POOLING: Form = Form {
    name: "VllmPoolingRequest",
    title: "vLLM",
    about: "Answered with the pooled vector of each input.",
    examples: &[("", r#"{"input": ["It rained."], "model": "m", "encoding_format": "float"}"#)],
    required: &["input"],
    optional: &[
        "model",
        "encoding_format",
        "dimensions",
        "use_activation",
        "truncate_prompt_tokens",
        "truncation_side",
    ],
};

impl EmbedRoute {
    /// Whose forms this route takes.
    pub fn forms(self) -> &'static [Form] {
        const EMBEDDINGS: [Form; 7] = [OPENAI, JINA, VOYAGE, VLLM, INFINITY, M3, LLAMA];
        const INVOCATIONS: [Form; 9] = [OPENAI, JINA, VOYAGE, VLLM, INFINITY, M3, TEI, BAAI, MLX];
        match self {
            Self::Embeddings => &EMBEDDINGS,
            Self::Invocations => &INVOCATIONS,
            Self::Embed => const { &[TEI, BAAI, MLX] },
            Self::EmbedBatch => const { &[MLX_BATCH] },
            Self::EmbedSparse | Self::EmbedAll => const { &[TEI_PARTS] },
            Self::Similarity => const { &[SIMILARITY] },
            Self::Llama => const { &[LLAMA] },
            Self::Pooling => const { &[POOLING] },
            Self::CohereV1 | Self::CohereV2 => const { &[COHERE] },
        }
    }
}

impl SchemaBook {
    /// A reference to the schema of a form of the embedding routes.
    pub fn embed_form(&mut self, form: &Form, rules: &EmbedRules) -> Value {
        let body = match form.name {
            name if name == SIMILARITY.name => self.body::<SimilarityBody>(),
            _ => self.body::<EmbedBody>(),
        };
        let lengths = self.insert("LengthsAgree", agree::lengths);
        let names_prompts = form.fields().any(|field| field == "prompt_name");
        let roles = match &rules.prompts {
            Some(prompts) if names_prompts => {
                self.insert("RolesAndPromptAgree", || agree::roles(Some(prompts)))
            }
            _ => self.insert("RolesAgree", || agree::roles(None)),
        };
        let cutting = match form.name {
            name if name == SIMILARITY.name => self.insert("SidesAgree", agree::sides),
            _ => self.insert("CuttingOfInputsAgrees", || agree::of(agree::cutting(), &body)),
        };
        self.insert(form.name, || {
            let mut schema = form.schema(&body, |field, schema| bound(form, field, schema, rules));
            if form.name == SIMILARITY.name {
                schema["properties"]["parameters"]["allOf"] = json!([cutting]);
            } else {
                schema["allOf"] = json!([lengths, roles, cutting]);
            }
            schema
        })
    }
}

fn bound(form: &Form, field: &str, schema: &mut Value, rules: &EmbedRules) {
    let limits = &rules.limits;
    let inputs = |schema: &mut Value| {
        counted(schema, limits.max_inputs);
        if !limits.allow_empty_input {
            not_empty(schema);
        }
    };
    let mlx_chars = limits.max_text_length.saturating_mul(MLX_CHARS_PER_TOKEN);
    let available = |schema: &mut Value, has: bool| {
        if !has {
            schema["enum"] = json!([false, "false", null]);
        }
    };
    match field {
        "inputs" if form.name == SIMILARITY.name => {
            let mut source = schema["properties"]["source_sentence"].take();
            let mut sentences = schema["properties"]["sentences"].take();
            forbid_null(&mut source);
            forbid_null(&mut sentences);
            counted(&mut sentences, limits.max_inputs);
            if !limits.allow_empty_input {
                not_empty(&mut source);
                not_empty(&mut sentences);
            }
            *schema = json!({
                "type": "object",
                "properties": {"source_sentence": source, "sentences": sentences},
                "required": ["source_sentence", "sentences"],
            });
        }
        // A list of token ids is one input, however long.
        "input" | "inputs" | "content" => {
            let branches = schema["anyOf"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let bounded = branches.into_iter().map(|mut branch| {
                let is_tokens = branch["items"]["type"] == "integer";
                if let Some(vocab) = rules.vocab {
                    token_ids(&mut branch, vocab);
                }
                if is_tokens {
                    not_empty(&mut branch);
                } else if branch["title"] != MIXED {
                    inputs(&mut branch);
                }
                branch
            });
            schema["anyOf"] = bounded.collect();
        }
        "texts" if form.name == COHERE.name => inputs(schema),
        "texts" if form.name == MLX_BATCH.name => {
            counted(schema, limits.max_batch);
            bounded(schema, mlx_chars);
        }
        "texts" => {
            counted(schema, limits.max_texts);
            bounded(schema, limits.max_text_chars);
        }
        "text" => bounded(schema, mlx_chars),
        "embedding_type" | "embedding_types" => {
            *schema = number_types(schema, field == "embedding_types");
        }
        // -1 is what the model reads, 0 none.
        "truncate_prompt_tokens" => {
            if let Some(most) = rules.max_length {
                schema["maximum"] = most.into();
            }
        }
        "parameters" => prompt_names(&mut schema["properties"]["prompt_name"], rules),
        // Bytes are for the vectors of `OpenAI`'s form.
        "encoding_format" if form.name == POOLING.name => {
            schema["enum"] = json!(["float", "base64", null]);
        }
        "late_chunking" => available(schema, rules.late_chunking),
        // Said by the rule of roles.
        "prompt_name" if rules.prompts.is_some() => {
            *schema = json!({"description": schema["description"]});
        }
        // Without another kind the dense vector cannot be declined.
        "return_dense" => schema["enum"] = json!([true, "true", null]),
        "return_sparse" => available(schema, rules.outputs.sparse),
        "return_colbert" => available(schema, rules.outputs.colbert),
        // Two more names of `return_colbert`: one form may not ask for both.
        "return_colbert_vecs" | "return_multivector" => available(schema, false),
        _ => {}
    }
}

/// The model's own, null and none, where they are known.
pub(super) fn prompt_names(schema: &mut Value, rules: &EmbedRules) {
    if let Some(prompts) = &rules.prompts {
        let names = prompts.iter().map(String::as_str).map(Value::from);
        schema["enum"] = names.chain([Value::Null, "".into()]).collect();
    }
}

/// The number types that one name or a list may ask for; a list of several where `many`.
fn number_types(schema: &Value, many: bool) -> Value {
    let names = json!({"enum": ["float", "int8", "uint8", "binary", "ubinary", "base64"]});
    let mut list = json!({"type": "array", "items": names});
    if !many {
        list["maxItems"] = 1.into();
    }
    json!({
        "description": schema["description"],
        "anyOf": [names, list, {"type": "null"}],
    })
}
