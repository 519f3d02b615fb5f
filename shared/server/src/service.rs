//! What a kind of function brings: its routes and what there is to tell of them.
//!
//! A binary names one, or several that it then serves behind one port, each with what restores its
//! models ([`Offer`]); it links the routes, schemas and describers of no other. A request's path
//! says which service it is for. Three paths are those of several services, and there the body says
//! it ([`Service::claim`]): `POST /`, `/invocations` and Vertex's envelope.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::response::Response;
use axum::routing::MethodRouter;
use defrost_api::{Conversation, Instance, Invalid};
use serde_json::Value;

use crate::app::App;
use crate::boot_error::BootError;
use crate::config::Config;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::life::phases::PhaseRecorder;
use crate::models::loaded::Loaded;
use crate::models::model::Model;
use crate::models::role::Role;
use crate::models::worker::Loader;
use crate::openapi::Api;

/// See the module page.
pub struct Service {
    /// What its models are.
    pub(crate) role: &'static Role,
    /// Its routes beside those that every function has, and those of [`INVOCATIONS`].
    pub(crate) routes: fn() -> Router<Arc<App>>,
    /// What answers on [`INVOCATIONS`].
    pub(crate) invocations: fn() -> MethodRouter<Arc<App>>,
    /// How much a body with these keys is one of its requests, 0 if it is none; for paths that
    /// several services have.
    pub(crate) claim: fn(&Keys<'_>) -> u8,
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

/// Paths on which every service answers, those of `SageMaker` and of nobody.
pub(crate) const INVOCATIONS: [&str; 2] = ["/", "/invocations"];

/// Whether a body has a key.
pub(crate) type Keys<'a> = dyn Fn(&str) -> bool + 'a;

impl Service {
    /// What lists of models call it: `rerank`, `embed` or `chat`.
    pub fn name(&self) -> &'static str {
        self.role.name
    }

    /// Whether this is one of its paths.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        let Value::Object(endpoints) = (self.endpoints)() else { return false };
        endpoints.values().any(|paths| match paths {
            Value::Array(paths) => paths.iter().any(|known| known == path),
            known => known == path,
        })
    }
}

/// A service that a binary offers, with what restores its models.
pub struct Offer {
    pub(crate) service: &'static Service,
    pub(crate) load: Box<Loader>,
}

impl Offer {
    /// `load` is called on a thread of the model's own for each model that is loaded, with its place
    /// as `MODEL`, and may record phases of its own.
    pub fn new<L>(service: &'static Service, load: L) -> Self
    where
        L: Fn(&Config, &PhaseRecorder) -> Result<Loaded, BootError> + Send + Sync + 'static,
    {
        Self { service, load: Box::new(load) }
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({})", self.service.name())
    }
}

/// The services of a process. An [`App`] keeps them without knowing what they are, since they know it.
#[derive(Debug)]
pub(crate) struct Services {
    /// Those that have a model, in the order of their first models.
    pub(crate) active: Vec<&'static Service>,
    /// Those that could have one.
    pub(crate) idle: Vec<&'static Service>,
}

impl Services {
    /// Of all that are offered, those whose roles have models.
    pub(crate) fn new(offered: &[&'static Service], roles: &[&'static Role]) -> Self {
        let is_of = |service: &&&'static Service, role: &Role| service.role.is(role);
        let find = |role: &&'static Role| offered.iter().find(|one| is_of(one, role)).copied();
        let active: Vec<_> = roles.iter().filter_map(find).collect();
        let has_none = |one: &&&'static Service| !roles.iter().any(|role| is_of(one, role));
        let idle = offered.iter().filter(has_none).copied().collect();
        Self { active, idle }
    }

    pub(crate) fn of(app: &App) -> &Self {
        const NONE: &Services = &Services { active: Vec::new(), idle: Vec::new() };
        app.services.downcast_ref().unwrap_or(NONE)
    }

    /// That of a model. There is none only in a process that was not started as one.
    pub(crate) fn of_role(app: &App, role: &Role) -> Result<&'static Service, ApiError> {
        let found = Self::of(app).active.iter().find(|service| service.role.is(role)).copied();
        found.ok_or_else(|| ApiError::internal("a model has no service"))
    }
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
        write!(f, "Service({})", self.name())
    }
}
