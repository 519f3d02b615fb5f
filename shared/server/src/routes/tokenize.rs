//! `/tokenize`, `/detokenize` and `/decode`: texts as the model's tokens and back.
//!
//! They do not meet the model's queue: a thread of the runtime's pool looks the tokens up, the first time after reading
//! the vocabulary, which takes up to a second.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use defrost_api::{
    DetokenizeBody, Invalid, ToTokenize, Token, TokenizeBody, TokenizeRequest, detokenize_answer,
    tokenize_answer,
};
use defrost_inference::TextToken;

use super::body;
use crate::app::App;
use crate::backend::Backend;
use crate::error::ApiError;
use crate::info::Info;

type Reply = Result<Response, ApiError>;

pub(crate) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(&app, &parts, body).await?;
    let request = TokenizeBody::parse(&bytes)?.into_request(&app.config.embed.limits)?;
    let style = request.shape.error_style();
    tokens(&app, request).await.map_err(|error| error.styled(style))
}

async fn tokens(app: &App, mut request: TokenizeRequest) -> Reply {
    let model = app.model(request.model.as_deref()).await?;
    let prompt = prompt(&model.info, request.prompt_name.as_deref())?;
    let texts = match &mut request.work {
        ToTokenize::Texts(texts) => std::mem::take(texts),
        ToTokenize::Messages { .. } => {
            let message = "messages: this model has no template for conversations; send prompt";
            return Err(Invalid::new("messages", message).into());
        }
    };
    let special = request.add_special_tokens;
    let lists = apart(&model.backend, move |backend| {
        let list = |text: String| backend.tokenize(&format!("{prompt}{text}"), special);
        texts.into_iter().map(list).collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let lists: Vec<Vec<Token<'_>>> =
        lists.iter().map(|list| list.iter().map(token).collect()).collect();
    super::json(app.budget.hold(), &tokenize_answer(&request, &lists, model.info.max_length()))
}

pub(crate) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(&app, &parts, body).await?;
    let mut request = DetokenizeBody::parse(&bytes)?.into_request(&app.config.embed.limits)?;
    let style = request.shape.error_style();
    let answer = async {
        let model = app.model(request.model.as_deref()).await?;
        let (ids, skip) = (std::mem::take(&mut request.ids), request.skip_special_tokens);
        let texts = apart(&model.backend, move |backend| {
            ids.iter().map(|ids| backend.detokenize(ids, skip)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
        super::json(app.budget.hold(), &detokenize_answer(&request, &texts))
    };
    answer.await.map_err(|error: ApiError| error.styled(style))
}

/// The model's own prompt of that name.
fn prompt(info: &Info, name: Option<&str>) -> Result<String, ApiError> {
    let Some(name) = name else { return Ok(String::new()) };
    let Info::Embedder(info) = info else {
        let message = "prompt_name: this model reads pairs and has no prompts; leave it out";
        return Err(Invalid::new("prompt_name", message).into());
    };
    info.prompts.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = info.prompts.keys().map(String::as_str).collect();
        let message =
            format!("prompt_name: the model has no such prompt; it has: {}", known.join(", "));
        Invalid::new("prompt_name", message).into()
    })
}

fn token(token: &TextToken) -> Token<'_> {
    let chars = token.chars.as_ref();
    Token {
        id: token.id,
        text: &token.piece,
        special: token.special,
        start: chars.map(|chars| chars.start),
        stop: chars.map(|chars| chars.end),
    }
}

pub(super) async fn apart<T: Send + 'static>(
    backend: &Arc<dyn Backend>,
    work: impl FnOnce(&dyn Backend) -> Result<T, defrost_inference::Error> + Send + 'static,
) -> Result<T, ApiError> {
    let backend = Arc::clone(backend);
    let done = tokio::task::spawn_blocking(move || work(&*backend)).await;
    done.map_err(|error| ApiError::internal(&format!("tokenising: {error}")))?
        .map_err(|error| ApiError::from(&error))
}
