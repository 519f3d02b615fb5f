//! The Lambda runtime API: the same router, events instead of sockets.
//!
//! Loading happens before the first event is asked for, because the init phase has more CPU than an
//! invocation of a small function and is what `SnapStart` keeps. It may take 10 s on demand; a
//! model that needs longer is finished inside the first invocation, which waits for it as any
//! request during boot does. With provisioned concurrency or `SnapStart` init has minutes.
//!
//! With `SnapStart` the end of init is [`App::before_snapshot`], and every copy of the snapshot
//! begins with [`App::after_restore`] before it asks for its first event. The runtime calls them,
//! as the one resource registered with it: our own hooks have their own order. It reports the
//! failure of the first as an error of init and of the second as one of the restore, and ends. The
//! connection to the runtime API is its own, and it makes a new one after a restore.
//!
//! An answer is posted whole, at most 6 MB, in the envelope that every caller of `Invoke` reads: a
//! function URL or gateway that buffers, Step Functions, a command line. With
//! `INVOKE_MODE=response_stream` it is posted as a stream instead, a prelude with status and
//! headers and then the bytes of the body, up to 200 MB: a thousand vectors written as decimals can
//! have 12. Only a URL whose `InvokeMode` is `RESPONSE_STREAM` understands that, and nothing in an
//! event tells one from the other, so the setting has to say what the template says. What can be
//! told is that an event did not come through a URL: it names no domain, or a load balancer. Such
//! an event is answered whole always.
//!
//! Which events are requests, and for which route, [`event`] says. A WebSocket's is refused with
//! 400, which ends its connection before it is one; any other is an error of the invocation.

mod event;

use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;

use lambda_http::lambda_runtime::layers::TracingLayer;
use lambda_http::lambda_runtime::{Diagnostic, FunctionResponse, Runtime};
use lambda_http::{
    Adapter, BoxFuture, LambdaEvent, Service as _, SnapStartResource, StreamAdapter, service_fn,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::app::App;
use crate::boot_error::BootError;
use crate::config::InvokeMode;
use crate::error::ApiError;
use crate::life::quiesce::HookError;
use crate::router::router;
use event::Event;

/// Time in init before events are asked for: the limit of 10 s less a second for the runtime.
const MAX_INIT: Duration = Duration::from_secs(9);

/// `lambda_http` panics without these.
const NEEDED: [&str; 3] =
    ["AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"];

/// Whether this process was started by Lambda.
pub(crate) fn is_lambda() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some_and(|value| !value.is_empty())
}

/// Answers events until the runtime API goes away or boot fails.
pub async fn serve(app: Arc<App>) -> Result<(), BootError> {
    for name in NEEDED {
        if std::env::var_os(name).is_none() {
            return Err(BootError::new(format!(
                "AWS_LAMBDA_RUNTIME_API is set but {name} is not; set both or neither"
            )));
        }
    }
    let on_demand =
        std::env::var("AWS_LAMBDA_INITIALIZATION_TYPE").map_or(true, |kind| kind == "on-demand");
    if on_demand {
        // Late is fine: the first event waits.
        let _ = tokio::time::timeout(MAX_INIT, app.booted()).await;
    } else {
        app.booted().await;
    }
    let snap_start = Arc::new(SnapStart { app: Arc::clone(&app), restored: Notify::new() });
    let router = router(Arc::clone(&app));
    let mode = app.config.invoke_mode;
    // What `lambda_http::run` does; its `runtime`, meant for this, knows one of the two ways only.
    let runtime = Runtime::new(service_fn(move |LambdaEvent { payload, context }| {
        let router = router.clone();
        async move {
            let (request, may_stream) = match payload {
                Event::Request { request, may_stream } => (request, may_stream),
                Event::WebSocket => {
                    let refused = Posted::Refused(refused(ApiError::websocket()).await);
                    return Ok(FunctionResponse::BufferedResponse(refused));
                }
                Event::Unknown(error_message) => {
                    return Err(Diagnostic { error_type: "UnknownEvent".into(), error_message });
                }
            };
            let event = LambdaEvent::new(*request, context);
            Ok(if mode == InvokeMode::ResponseStream && may_stream {
                let answer = StreamAdapter::from(router).call(event).await;
                FunctionResponse::StreamingResponse(answer.unwrap_or_else(|never| match never {}))
            } else {
                let answer = Adapter::from(router).call(event).await;
                let answer = answer.unwrap_or_else(|never| match never {});
                FunctionResponse::BufferedResponse(Posted::Answer(answer))
            })
        }
    }))
    .layer(TracingLayer::new())
    .register_snapstart_resource(Arc::<SnapStart>::clone(&snap_start));
    let has_restore = runtime.is_snapstart();
    // Until the restore it is the runtime that reports a failed boot, through the hook.
    let failed = async {
        if has_restore {
            snap_start.restored.notified().await;
        }
        app.failed().await
    };
    tokio::select! {
        biased;
        reason = failed => Err(BootError::new(reason)),
        ended = runtime.run() => {
            ended.map_err(|error| match error.downcast_ref::<HookError>() {
                Some(error) => BootError::new(format!("around the SnapStart snapshot: {error}")),
                None => BootError::new(format!("the lambda runtime api failed: {error}")),
            })
        }
    }
}

/// What is posted whole.
#[derive(Serialize)]
#[serde(untagged)]
enum Posted<A> {
    Answer(A),
    Refused(Value),
}

/// An error as the answer to an event that is no request.
async fn refused(error: ApiError) -> Value {
    tracing::info!(reason = %error, "an event is refused");
    let (parts, body) = error.into_response().into_parts();
    // It is in memory: collecting it does not fail.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    json!({
        "statusCode": parts.status.as_u16(),
        "headers": {"content-type": "application/json"},
        "body": String::from_utf8_lossy(&body),
        "isBase64Encoded": false,
    })
}

struct SnapStart {
    app: Arc<App>,
    restored: Notify,
}

impl SnapStartResource for SnapStart {
    fn before_snapshot(&self) -> BoxFuture<'_, Result<(), lambda_http::Error>> {
        Box::pin(async { Ok(self.app.before_snapshot().await?) })
    }

    fn after_restore(&self) -> BoxFuture<'_, Result<(), lambda_http::Error>> {
        Box::pin(async {
            self.app.after_restore().await?;
            self.restored.notify_one();
            Ok(())
        })
    }
}
