//! How tokens are chosen and when they end: ranges, names of one option, log probabilities.

use super::format;
use crate::chat::body::{ChatBody, FlagOrCount, LogitBias, Number, Seed};
use crate::chat::request::{ChatLimits, Generation, RepeatWindow, SamplingOptions, Streaming};
use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Count, Flag, TokenId};

/// Most likeliest tokens at each place that are returned; `OpenAI`'s and vLLM's bound.
pub(crate) const MAX_TOP_LOGPROBS: usize = 20;

/// Most stop strings: each is looked for in every text. `OpenAI` allows four.
pub(crate) const MAX_STOPS: usize = 64;

/// Which API's rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Chat,
    Completions,
    LlamaCpp,
    Responses,
    Messages,
}

pub(super) fn read(
    body: &mut ChatBody,
    reads: Reads,
    limits: &ChatLimits,
    warnings: &mut Vec<String>,
) -> Result<Generation, Invalid> {
    let flag = |flag: Option<Flag>| flag.is_some_and(|flag| flag.0);
    let token_ids = body.stop_token_ids.take().unwrap_or_default();
    Ok(Generation {
        sampling: sampling(body)?,
        max_tokens: max_tokens(body, reads)?,
        stop: stop(body, warnings)?,
        stop_token_ids: token_ids.into_iter().map(|TokenId(id)| id).collect(),
        ignore_eos: flag(body.ignore_eos),
        n: replies(body, reads, limits)?,
        logprobs: logprobs(body, reads)?,
        format: format::read(body)?,
        stream: stream(body, warnings),
        cache_prompt: body.cache_prompt.is_none_or(|cache| cache.0),
        user: user(body),
    })
}

/// Who the client asks for; Anthropic's place for it is in `metadata`.
fn user(body: &ChatBody) -> Option<String> {
    let of_metadata = || {
        let metadata = body.metadata.as_ref()?.value.get("user_id")?;
        metadata.as_str().map(str::to_owned)
    };
    body.user.clone().or_else(of_metadata)
}

fn sampling(body: &mut ChatBody) -> Result<SamplingOptions, Invalid> {
    let repeat_penalty = checks::agreed([
        ("repeat_penalty", body.repeat_penalty),
        ("repetition_penalty", body.repetition_penalty),
    ])?;
    Ok(SamplingOptions {
        temperature: between("temperature", body.temperature, 0.0, 2.0)?,
        top_p: between("top_p", body.top_p, 0.0, 1.0)?,
        top_k: top_k(body.top_k)?,
        min_p: between("min_p", body.min_p, 0.0, 1.0)?,
        frequency_penalty: between("frequency_penalty", body.frequency_penalty, -2.0, 2.0)?,
        presence_penalty: between("presence_penalty", body.presence_penalty, -2.0, 2.0)?,
        repeat_penalty: above_zero(body, repeat_penalty)?,
        repeat_last_n: repeat_last_n(body.repeat_last_n)?,
        logit_bias: logit_bias(body.logit_bias.take())?,
        seed: seed(body.seed),
    })
}

fn between(
    field: &str,
    value: Option<Number>,
    least: f64,
    most: f64,
) -> Result<Option<f32>, Invalid> {
    let Some(Number(value)) = value else { return Ok(None) };
    if !(least..=most).contains(&value) {
        let message = format!("{field}: expected {least} to {most}, found {value}");
        return Err(Invalid::new(field, message));
    }
    #[allow(clippy::cast_possible_truncation, reason = "of numbers this small, digits")]
    Ok(Some(value as f32))
}

fn above_zero(body: &ChatBody, value: Option<Number>) -> Result<Option<f32>, Invalid> {
    /// What divides a logit by more leaves nothing of it.
    const MOST: f64 = 100.0;
    let field = if body.repeat_penalty.is_some() { "repeat_penalty" } else { "repetition_penalty" };
    match value {
        Some(Number(found)) if found <= 0.0 => Err(Invalid::new(
            field,
            format!("{field}: expected a number above 0, 1 for none, found {found}"),
        )),
        value => between(field, value, 0.0, MOST),
    }
}

fn top_k(value: Option<Count>) -> Result<Option<usize>, Invalid> {
    let Some(Count(value)) = value else { return Ok(None) };
    match usize::try_from(value.max(0)) {
        Ok(among) if value >= -1 => Ok(Some(among)),
        _ => Err(Invalid::new(
            "top_k",
            format!("top_k: expected 1 or more, or 0 or -1 for all tokens, found {value}"),
        )),
    }
}

fn repeat_last_n(value: Option<Count>) -> Result<Option<RepeatWindow>, Invalid> {
    let Some(Count(value)) = value else { return Ok(None) };
    match usize::try_from(value) {
        Ok(last) => Ok(Some(RepeatWindow::Last(last))),
        Err(_) if value == -1 => Ok(Some(RepeatWindow::All)),
        Err(_) => Err(Invalid::new(
            "repeat_last_n",
            format!("repeat_last_n: expected 0 or more, or -1 for all tokens, found {value}"),
        )),
    }
}

fn logit_bias(bias: Option<LogitBias>) -> Result<Vec<(u32, f32)>, Invalid> {
    let LogitBias(bias) = bias.unwrap_or_default();
    let mut checked = Vec::with_capacity(bias.len());
    for (token, value) in bias {
        let field = format!("logit_bias.{token}");
        let value = if value == f64::NEG_INFINITY {
            f32::NEG_INFINITY
        } else {
            between(&field, Some(Number(value)), -100.0, 100.0)?.unwrap_or_default()
        };
        checked.push((token, value));
    }
    checked.sort_by_key(|&(token, _)| token);
    // A client that biases the tokens of a text sends those twice that come twice.
    checked.dedup();
    if let Some(pair) = checked.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let token = pair[0].0;
        let message = format!(
            "logit_bias: token {token} is there twice with different numbers; send it once"
        );
        return Err(Invalid::new("logit_bias", message));
    }
    Ok(checked)
}

/// -1 is llama.cpp's word for a random seed. Other negative ones are seeds as good as any.
fn seed(seed: Option<Seed>) -> Option<u64> {
    let Seed(seed) = seed?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "any 64 bits will do"
    )]
    (seed != -1).then_some(seed as u64)
}

fn max_tokens(body: &ChatBody, reads: Reads) -> Result<Option<usize>, Invalid> {
    let names = [
        ("max_tokens", body.max_tokens),
        ("max_completion_tokens", body.max_completion_tokens),
        ("max_output_tokens", body.max_output_tokens),
        ("n_predict", body.n_predict),
    ];
    let field =
        names.iter().find(|(_, value)| value.is_some()).map_or("max_tokens", |(name, _)| name);
    let Some(Count(value)) = checks::agreed(names)? else { return Ok(None) };
    // llama.cpp's words for "until the context is full".
    if value == -1 || (value == -2 && reads == Reads::LlamaCpp) {
        return Ok(None);
    }
    let least = match reads {
        Reads::Completions | Reads::LlamaCpp => 0,
        Reads::Chat | Reads::Responses | Reads::Messages => 1,
    };
    match usize::try_from(value) {
        Ok(most) if most >= least => Ok(Some(most)),
        _ => Err(Invalid::new(
            field,
            format!("{field}: expected {least} or more, or -1 for as many as fit, found {value}"),
        )),
    }
}

fn stop(body: &mut ChatBody, warnings: &mut Vec<String>) -> Result<Vec<String>, Invalid> {
    let field = if body.stop.is_some() { "stop" } else { "stop_sequences" };
    let stop = checks::agreed([
        ("stop", body.stop.take()),
        ("stop_sequences", body.stop_sequences.take()),
    ])?;
    let mut stop = stop.unwrap_or_default().0;
    let all = stop.len();
    stop.retain(|text| !text.is_empty());
    if stop.len() < all {
        warnings.push(format!("{field} holds an empty text, which was ignored"));
    }
    if stop.len() > MAX_STOPS {
        let found = stop.len();
        return Err(Invalid::new(
            field,
            format!("{field}: expected at most {MAX_STOPS} texts, found {found}"),
        ));
    }
    Ok(stop)
}

fn replies(body: &ChatBody, reads: Reads, limits: &ChatLimits) -> Result<usize, Invalid> {
    let most = match reads {
        Reads::Chat | Reads::Completions | Reads::LlamaCpp => limits.max_n.max(1),
        Reads::Responses | Reads::Messages => 1,
    };
    let Count(n) = body.n.unwrap_or(Count(1));
    let found = usize::try_from(n).ok().filter(|n| (1..=most).contains(n));
    let n = found.ok_or_else(|| {
        let expected = if most == 1 { "1".to_owned() } else { format!("1 to {most}") };
        Invalid::new("n", format!("n: expected {expected}, found {n}"))
    })?;
    match body.best_of {
        Some(Count(best_of)) if usize::try_from(best_of) != Ok(n) => Err(Invalid::new(
            "best_of",
            format!(
                "best_of is not honoured here: all replies that are made are returned; leave it out \
                 or send {n}, as many as n, found {best_of}"
            ),
        )),
        _ => Ok(n),
    }
}

fn logprobs(body: &ChatBody, reads: Reads) -> Result<Option<usize>, Invalid> {
    let counted = |field: &'static str, value: i64| {
        let found = usize::try_from(value).ok().filter(|&top| top <= MAX_TOP_LOGPROBS);
        found.ok_or_else(|| {
            let message = format!("{field}: expected 0 to {MAX_TOP_LOGPROBS}, found {value}");
            Invalid::new(field, message)
        })
    };
    let top = body.top_logprobs.map(|Count(top)| counted("top_logprobs", top)).transpose()?;
    if reads == Reads::Messages {
        return Ok(None);
    }
    if reads == Reads::Responses {
        let asked = body.include.iter().flat_map(|include| &include.names);
        let asked = asked.into_iter().any(|name| name == "message.output_text.logprobs");
        let top = top.filter(|&top| asked || top > 0);
        return Ok(top.or_else(|| asked.then_some(0)));
    }
    // llama.cpp's 0 is none.
    if let Some(Count(probabilities)) = body.n_probs.filter(|count| *count != Count(0)) {
        return counted("n_probs", probabilities).map(Some);
    }
    match (body.logprobs, top) {
        (Some(FlagOrCount::Count(count)), None) => counted("logprobs", count).map(Some),
        (Some(FlagOrCount::Count(count)), Some(top)) => {
            let count = counted("logprobs", count)?;
            if count == top {
                Ok(Some(top))
            } else {
                Err(checks::contradiction("logprobs", "top_logprobs"))
            }
        }
        (Some(FlagOrCount::Flag(true)), top) => Ok(Some(top.unwrap_or(0))),
        (None | Some(FlagOrCount::Flag(false)), None | Some(0)) => Ok(None),
        (None | Some(FlagOrCount::Flag(false)), Some(top)) => Err(Invalid::new(
            "top_logprobs",
            format!("top_logprobs is {top} and logprobs is not true; send \"logprobs\": true too"),
        )),
    }
}

fn stream(body: &ChatBody, warnings: &mut Vec<String>) -> Option<Streaming> {
    let is_on = body.stream.is_some_and(|stream| stream.0);
    let options = body.stream_options.as_ref().map(|options| &options.0);
    let asks = |flag: Option<Flag>| flag.is_some_and(|flag| flag.0);
    let include_usage = options.is_some_and(|options| asks(options.include_usage));
    if options.is_some_and(|options| asks(options.continuous_usage_stats)) {
        warnings.push(
            "stream_options.continuous_usage_stats is not read here and was ignored: usage comes \
             with the last chunk"
                .to_owned(),
        );
    }
    if include_usage && !is_on {
        warnings.push(
            "stream_options was ignored: the answer is not streamed, and always has its usage"
                .to_owned(),
        );
    }
    is_on.then_some(Streaming { include_usage })
}
