//! Between the API's words for an embedding request and the model's.
//!
//! What is translated is taken apart and put together whole, without `..`: a field that is added on
//! one side and forgotten here does not compile.

use std::mem::take;

use defrost_api::{Cut, EmbedInput, EmbedRequest, Embedded, Prompt, Rows, VectorKinds};
use defrost_tasks::{
    EmbedTask, EmbedTruncation, EmbedderInfo, Embedding, Input, Outputs, Overflow, PromptChoice,
};

use crate::config::EmbedSettings;
use crate::error::ApiError;

/// The kinds of vectors that a model has.
pub(crate) fn available(info: &EmbedderInfo) -> VectorKinds {
    VectorKinds {
        dense: true,
        sparse: info.has_sparse,
        colbert: info.has_colbert,
        hidden: info.has_tokens,
    }
}

/// The request in the words of the model, which takes the inputs out of it.
pub(crate) fn to_request(
    settings: &EmbedSettings,
    info: &EmbedderInfo,
    request: &mut EmbedRequest,
) -> Result<EmbedTask, ApiError> {
    request.check_outputs(available(info))?;
    if matches!(request.prompt, Prompt::Instruction(_)) && !info.takes_instruction {
        let warning =
            "instruction is ignored: this model takes none; the inputs are taken for queries";
        request.warnings.push(warning.to_owned());
        request.prompt = Prompt::Query;
    }
    let allowed = settings.allow_non_mrl;
    let (full, matryoshka) = (info.hidden, &info.matryoshka);
    request.dimensions = request.dimensions.or(settings.dimensions);
    request.fit_dimensions(full, |width| allowed || matryoshka.allows(width, full));
    request.fit_scale(info.normalizes);
    let limit = request.token_limit(info.max_length)?;
    let EmbedRequest {
        inputs,
        prompt,
        role_word,
        outputs,
        dimensions,
        normalize,
        late_chunking,
        truncation,
        // Read where the answer is written, or in the rules above.
        shape: _,
        model: _,
        key: _,
        single: _,
        formats: _,
        norm: _,
        max_tokens: _,
        warnings: _,
    } = request;
    let overflow = match truncation {
        Cut::ServerDefault if settings.auto_truncate => Overflow::CutEnd,
        Cut::ServerDefault | Cut::Refuse => Overflow::Refuse,
        Cut::End => Overflow::CutEnd,
        Cut::Start => Overflow::CutStart,
    };
    let VectorKinds { dense, sparse, colbert, hidden } = *outputs;
    Ok(EmbedTask {
        inputs: take(inputs).into_iter().map(to_input).collect(),
        prompt: to_prompt(prompt, role_word.as_deref(), info),
        outputs: Outputs { dense, sparse, colbert, tokens: hidden },
        dimensions: *dimensions,
        normalize: *normalize,
        truncation: EmbedTruncation { overflow, limit: Some(limit) },
        late_chunking: *late_chunking,
    })
}

fn to_input(input: EmbedInput) -> Input {
    match input {
        EmbedInput::Text(text) => Input::Text(text),
        EmbedInput::Tokens(tokens) => Input::Tokens(tokens),
        // Its pieces have been joined before.
        EmbedInput::Mixed(_) => Input::Tokens(Vec::new()),
    }
}

fn to_prompt(prompt: &Prompt, role_word: Option<&str>, info: &EmbedderInfo) -> PromptChoice {
    // A model's prompt by the request's own word is nearer than what that word means.
    let own = role_word.and_then(|word| {
        let plain = |name: &str| name.to_ascii_lowercase().replace(['.', '-'], "_");
        info.prompts.keys().find(|name| plain(name) == plain(word)).cloned()
    });
    match prompt {
        Prompt::Default => PromptChoice::Default,
        Prompt::Purpose(name) if info.prompts.contains_key(name) => {
            PromptChoice::Named(name.clone())
        }
        Prompt::Purpose(_) => PromptChoice::None,
        Prompt::Query => own.map_or(PromptChoice::Query, PromptChoice::Named),
        Prompt::Document => own.map_or(PromptChoice::Document, PromptChoice::Named),
        Prompt::Named(name) => PromptChoice::Named(name.clone()),
        Prompt::Instruction(task) => PromptChoice::Instruction(task.clone()),
        Prompt::Prefix(text) if text.is_empty() => PromptChoice::None,
        Prompt::Prefix(text) => PromptChoice::Prefix(text.clone()),
    }
}

/// A model's vectors in the words of the API.
pub(crate) fn embedded<'a>(
    one: &'a Embedding,
    wanted: Outputs,
    info: &EmbedderInfo,
) -> Embedded<'a> {
    let Outputs {
        dense: wants_dense,
        sparse: wants_sparse,
        colbert: wants_colbert,
        tokens: wants_tokens,
    } = wanted;
    let Embedding { dense, sparse, colbert, colbert_width, tokens, token_count, truncated } = one;
    Embedded {
        dense: wants_dense.then_some(&dense[..]),
        sparse: wants_sparse.then_some(&sparse[..]),
        colbert: wants_colbert.then_some(Rows { values: colbert, width: (*colbert_width).max(1) }),
        hidden: wants_tokens.then_some(Rows { values: tokens, width: info.hidden }),
        tokens: *token_count,
        truncated: *truncated,
    }
}
