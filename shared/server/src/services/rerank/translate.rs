//! Between the API's words for a rerank request and the model's.
//!
//! What is translated is taken apart and put together whole, without `..`: a field that is added on
//! one side and forgotten here does not compile.

use std::mem::take;
use std::sync::Arc;

use defrost_api::{Invalid, QueryGroup, RerankRequest, Scored};
use defrost_tasks::{ModelInfo, Score, ScoreScale, ScoreTask, Truncation};

use crate::config::Config;
use crate::error::ApiError;

/// Takes the texts out of the request, with each one's place in it.
pub(crate) fn to_requests(request: &mut RerankRequest) -> (Vec<Vec<usize>>, Arc<Vec<ScoreTask>>) {
    let RerankRequest {
        groups,
        instruction,
        truncation,
        // Read where the answer is written, or see `normalization`.
        shape: _,
        model: _,
        top_n: _,
        return_documents: _,
        originals: _,
        normalization: _,
        wants_data: _,
        warnings: _,
    } = request;
    let truncation = to_truncation(truncation);
    let (positions, requests): (Vec<_>, Vec<_>) = take(groups)
        .into_iter()
        .map(|QueryGroup { query, documents, positions }| {
            let (instruction, truncation) = (instruction.clone(), truncation.clone());
            (positions, ScoreTask { query, documents, instruction, truncation })
        })
        .unzip();
    (positions, Arc::new(requests))
}

fn to_truncation(asked: &defrost_api::RerankTruncation) -> Truncation {
    let defrost_api::RerankTruncation {
        forbidden,
        max_tokens_per_query,
        max_tokens_per_doc,
        max_chunks_per_doc,
        max_tokens,
        from_start,
    } = *asked;
    Truncation {
        max_tokens_per_query,
        max_tokens_per_doc,
        forbidden,
        max_chunks_per_doc,
        max_tokens,
        from_start,
    }
}

/// What scores are where the request does not say.
pub(crate) fn default_normalization(config: &Config, info: &ModelInfo) -> ScoreScale {
    let own = if config.legacy_results { ScoreScale::Raw } else { info.default_normalization };
    config.normalization.unwrap_or(own)
}

/// What scores are to be, by the request or else by default.
pub(crate) fn normalization(
    config: &Config,
    info: &ModelInfo,
    request: &RerankRequest,
) -> Result<ScoreScale, ApiError> {
    use defrost_api::Normalization as Asked;
    let default = default_normalization(config, info);
    Ok(match request.normalization {
        Some(Asked::Normalized) if default == ScoreScale::Raw => ScoreScale::Sigmoid,
        None | Some(Asked::Normalized) => default,
        Some(Asked::Sigmoid) => ScoreScale::Sigmoid,
        Some(Asked::Raw) => ScoreScale::Raw,
        Some(Asked::Mxbai) if ScoreScale::takes_mxbai(info.template) => ScoreScale::Mxbai,
        Some(Asked::Mxbai) => {
            let message = format!(
                "normalization: mxbai is made for mxbai-rerank-v2 models only, {} is none; use \
                 sigmoid or raw",
                info.name
            );
            return Err(Invalid::new("normalization", message).into());
        }
    })
}

/// The scores of `count` documents in the order of the request, where each stands at its place in
/// `positions`.
pub(crate) fn in_request_order(
    scores: &[Vec<Score>],
    positions: &[Vec<usize>],
    count: usize,
    normalization: ScoreScale,
    info: &ModelInfo,
) -> Result<Vec<Scored>, ApiError> {
    let lengths_match = scores.len() == positions.len()
        && scores.iter().zip(positions).all(|(s, p)| s.len() == p.len());
    if !lengths_match {
        return Err(ApiError::internal("the model returned another number of scores than texts"));
    }
    let mut scored = vec![Scored::default(); count];
    for (score, &position) in scores.iter().flatten().zip(positions.iter().flatten()) {
        let Score { raw, tokens, truncated, query_truncated } = *score;
        let score = normalization.apply(info.kind, raw, info.estimated_max);
        if !score.is_finite() {
            return Err(ApiError::non_finite(position));
        }
        if let Some(slot) = scored.get_mut(position) {
            *slot = Scored { score, tokens, truncated, query_truncated };
        }
    }
    Ok(scored)
}
