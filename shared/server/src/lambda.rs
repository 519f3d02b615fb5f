//! The Lambda runtime API: the same router, events instead of sockets.
//!
//! Loading happens before the first event is asked for, because the init phase has more CPU than
//! an invocation of a small function and is what `SnapStart` keeps. It may take 10 s on demand; a
//! model that needs longer is finished inside the first invocation, which waits for it as any
//! request during boot does. With provisioned concurrency or `SnapStart` init has minutes.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::boot::BootError;
use crate::router::router;

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
    tokio::select! {
        biased;
        reason = app.failed() => Err(BootError::new(reason)),
        ended = lambda_http::run(router(Arc::clone(&app))) => {
            ended.map_err(|error| BootError::new(format!("the lambda runtime api failed: {error}")))
        }
    }
}
