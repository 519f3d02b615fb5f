//! What a kind of function brings: its routes and what there is to tell of them.
//!
//! A binary names one, and links the routes, schemas and describers of no other. Handlers that all
//! kinds share find it in the request's extensions.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::response::Response;
use defrost_api::{Conversation, Instance, Invalid};
use serde_json::Value;

use crate::app::App;
use crate::config::Config;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::models::model::Model;
use crate::openapi::Api;

/// See the module page.
pub struct Service {
    /// What lists of models call it.
    pub(crate) capability: &'static str,
    /// Its routes beside those that every function has.
    pub(crate) routes: fn() -> Router<Arc<App>>,
    /// Their paths by what they are for, as `GET /` lists them.
    pub(crate) endpoints: fn() -> Value,
    /// Which other function answers on a path that this one does not have, in words for the client.
    pub(crate) elsewhere: fn(&str) -> Option<&'static str>,
    /// Its part of the `OpenAPI` document; asked again until the model is loaded.
    pub(crate) api: fn(&App) -> Api,
    /// Most documents or inputs of one request.
    pub(crate) most_items: fn(&Config) -> usize,
    /// What `GET /info` tells of a model beside what it tells of every model.
    pub(crate) about_model: fn(&App, &Model) -> Value,
    /// What `GET /props` tells beside what it tells of every model.
    pub(crate) props: fn(&App, &Model) -> Value,
    /// The prompt that a conversation makes, for texts that are tokenised to be shown.
    pub(crate) conversation: fn(&App, &Model, &Conversation) -> Result<String, ApiError>,
    /// The model's own prompt of this name, for texts that are tokenised to be shown.
    pub(crate) prompt: fn(&Model, &str) -> Result<String, ApiError>,
    /// Answers one of Vertex's instances as if it had come by itself.
    pub(crate) instance: for<'a> fn(InstanceRequest<'a>) -> ResponseFuture<'a>,
}

/// One of Vertex's instances.
pub(crate) struct InstanceRequest<'a> {
    pub(crate) app: &'a App,
    pub(crate) id: &'a RequestId,
    pub(crate) instance: Instance,
    pub(crate) begun: Instant,
}

/// The answer to one, on its way.
pub(crate) type ResponseFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send + 'a>>;

/// The answer of models that know no conversations.
pub(crate) fn no_conversation(_: &App, _: &Model, _: &Conversation) -> Result<String, ApiError> {
    let message = "messages: this model has no template for conversations; send prompt";
    Err(Invalid::new("messages", message).into())
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.capability)
    }
}
