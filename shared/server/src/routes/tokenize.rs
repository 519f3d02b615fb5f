//! `/tokenize`, `/detokenize` and `/decode`: texts as the model's tokens and back.
//!
//! They do not meet the model's queue: a thread beside it looks the tokens up
//! ([`crate::models::tokenise`]), the first time after reading the vocabulary, which takes up to a
//! second. Tokens are counted before their texts and places are written down, which take a hundred
//! times the bytes of the text.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use defrost_api::{
    DetokenizeBody, ToTokenize, Token, TokenizeBody, TokenizeRequest, detokenize_answer,
    tokenize_answer,
};
use defrost_tasks::TextToken;

use super::body;
use crate::app::App;
use crate::edge::budget::Held;
use crate::error::ApiError;
use crate::models::admission::Admitted;
use crate::models::pipeline::Pipeline;
use crate::service::Services;

type Reply = Result<Response, ApiError>;

pub(crate) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(&app, &parts, body).await?;
    let limits = app.config.embed.limits.clone();
    let parse = move |bytes: &[u8]| TokenizeBody::parse(bytes)?.into_request(&limits);
    let request = super::parsed(&app, bytes, parse).await?;
    let style = request.shape.error_style();
    tokens(&app, request).await.map_err(|error| error.styled(style))
}

async fn tokens(app: &App, mut request: TokenizeRequest) -> Reply {
    let model = app.any_model(request.model.as_deref()).await?;
    let service = Services::of_role(app, model.role)?;
    let prompt = match &request.prompt_name {
        Some(name) => (service.prompt)(&model, name)?,
        None => String::new(),
    };
    let texts = match &mut request.input {
        ToTokenize::Texts(texts) => std::mem::take(texts),
        ToTokenize::Messages(conversation) => {
            vec![(service.conversation)(app, &model, conversation)?]
        }
    };
    let texts: Arc<Vec<String>> =
        Arc::new(texts.into_iter().map(|text| format!("{prompt}{text}")).collect());
    let most = most_tokens(app);
    let _reading = held_to_read(app, texts.iter().map(String::len))?;
    let of = Arc::clone(&texts);
    let count = apart(app, &model, move |pipeline| {
        of.iter().try_fold(0, |sum: usize, text| {
            // What is beyond the bound need not be counted.
            if sum > most { Ok(sum) } else { Ok(sum + pipeline.count_tokens(text, most - sum)?) }
        })
    });
    let held = held(app, count.await?, most)?;
    let special = request.add_special_tokens;
    let most = model.info.max_length;
    let written = apart(app, &model, move |pipeline| {
        let lists: Result<Vec<_>, _> =
            texts.iter().map(|text| pipeline.tokenize(text, special)).collect();
        let lists = lists?;
        let lists: Vec<Vec<Token<'_>>> =
            lists.iter().map(|list| list.iter().map(token).collect()).collect();
        Ok(super::json(held, &tokenize_answer(&request, &lists, most)))
    });
    written.await?
}

pub(crate) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(&app, &parts, body).await?;
    let limits = app.config.embed.limits.clone();
    let parse = move |bytes: &[u8]| DetokenizeBody::parse(bytes)?.into_request(&limits);
    let mut request = super::parsed(&app, bytes, parse).await?;
    let style = request.shape.error_style();
    let answer = async {
        let model = app.any_model(request.model.as_deref()).await?;
        let (ids, skip) = (std::mem::take(&mut request.ids), request.skip_special_tokens);
        let count = ids.iter().map(Vec::len).sum();
        let held = held(&app, count, most_tokens(&app))?;
        let written = apart(&app, &model, move |pipeline| {
            let texts: Result<Vec<_>, _> =
                ids.iter().map(|ids| pipeline.detokenize(ids, skip)).collect();
            Ok(super::json(held, &detokenize_answer(&request, &texts?)))
        });
        written.await?
    };
    answer.await.map_err(|error: ApiError| error.styled(style))
}

/// Most bytes of memory that a token takes while an answer with its text and place is made: as the
/// tokenizer gives it, as the answer says it, and in JSON.
const BYTES_OF_A_TOKEN: usize = 320;

/// Bytes of memory for each byte of a text while it is normalised and cut into pieces: what it is
/// and where each of its letters came from, several times over. Korean without a space takes 120,
/// English 55.
const BYTES_OF_A_BYTE: usize = 128;

/// Up to here that is 8 MiB for each processor at most, since few texts are read at once.
const SHORT_TEXT: usize = 64 << 10;

/// The bytes that reading the longest of these texts to its end takes. A text that is scored or
/// embedded is read no further than the model does.
pub(super) fn held_to_read(
    app: &App,
    lengths: impl Iterator<Item = usize>,
) -> Result<Held, ApiError> {
    let mut held = app.budget.hold();
    let longest = lengths.max().unwrap_or(0).saturating_sub(SHORT_TEXT);
    held.resize(longest.saturating_mul(BYTES_OF_A_BYTE))?;
    Ok(held)
}

/// Most tokens whose texts and places are written down for one request.
pub(crate) fn most_tokens(app: &App) -> usize {
    let of_a_body = app.config.max_body_bytes / TOKENS_OF_BYTES;
    of_a_body.max(LEAST_TOKENS).min(app.budget.most() / BYTES_OF_A_TOKEN)
}

/// Refuses a text of more tokens than that.
pub(super) fn check_count(
    pipeline: &dyn Pipeline,
    text: &str,
    most: usize,
) -> Result<(), defrost_tasks::Error> {
    if pipeline.count_tokens(text, most)? <= most {
        return Ok(());
    }
    let message = format!("a text among token ids has more than {most} tokens; send a shorter one");
    Err(defrost_tasks::Error::TooMuch { param: "input", message })
}

/// Bytes of the largest body for each token that is told of: an answer takes eight bodies at most.
const TOKENS_OF_BYTES: usize = BYTES_OF_A_TOKEN / 8;

/// Tokens that are told of however small bodies must be: those of a long text.
const LEAST_TOKENS: usize = 32 << 10;

/// The bytes that an answer about so many tokens takes, if there may be so many.
fn held(app: &App, count: usize, most: usize) -> Result<Held, ApiError> {
    if count > most {
        return Err(ApiError::too_many_tokens(most));
    }
    let mut held = app.budget.hold();
    held.resize(count * BYTES_OF_A_TOKEN)?;
    Ok(held)
}

/// A token in the words of the API.
fn token(token: &TextToken) -> Token<'_> {
    // Taken apart whole: a field that is new there must be looked at here.
    let TextToken { id, piece, bytes: _, chars, special } = token;
    let chars = chars.as_ref();
    Token {
        id: *id,
        text: piece,
        special: *special,
        start: chars.map(|chars| chars.start),
        stop: chars.map(|chars| chars.end),
    }
}

pub(super) async fn apart<T: Send + 'static>(
    app: &App,
    model: &Admitted,
    work: impl FnOnce(&dyn Pipeline) -> Result<T, defrost_tasks::Error> + Send + 'static,
) -> Result<T, ApiError> {
    let shared = model.shared();
    let done = app.tokenising.apart(move || work(&*shared.loaded.pipeline)).await;
    done.and_then(|result| result).map_err(|error| model.failed(error))
}
