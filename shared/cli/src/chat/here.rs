//! A model in this process, served by the code of the function `chat`, without a socket.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use defrost_pack::ModelKind;
use defrost_server::{
    Action, CHAT, Config, Function, Offer, PhaseRecorder, restore_completer, router, start,
};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower::ServiceExt as _;

use super::Args;
use super::answer::fault;
use super::talker::Stream;
use crate::backend::LINKED;
use crate::packing;

const FUNCTION: Function = Function {
    name: "defrost chat",
    version: env!("CARGO_PKG_VERSION"),
    about: "talks with a model",
    runtimes: LINKED,
};

/// See the module page.
pub(super) struct Here(Router);

impl Here {
    /// Loads the model.
    pub(super) fn load(args: &Args, runtime: &Runtime) -> Result<Self> {
        let of_environment = || std::env::var("MODEL").ok().filter(|model| !model.is_empty());
        let Some(target) = args.target.clone().or_else(of_environment) else {
            bail!(
                "expected a model, found none: give a snapshot or a GGUF file (defrost chat model.gguf), or --url of a server"
            );
        };
        let snapshot = packing::place(&target, ModelKind::Chat, &args.restore.cache())?;
        let _entered = runtime.enter();
        let phases = Arc::new(PhaseRecorder::start());
        let offer = Offer::new(&CHAT, restore_completer);
        let app = start(FUNCTION, config(args, snapshot)?, phases, [offer])?;
        runtime.block_on(app.booted());
        let failed = runtime.block_on(async {
            tokio::select! {
                biased;
                reason = app.failed() => Some(reason),
                () = std::future::ready(()) => None,
            }
        });
        match failed {
            Some(reason) => Err(anyhow!(reason)),
            None => Ok(Self(router(app))),
        }
    }

    pub(super) fn ask(&self, runtime: &Runtime, body: String) -> Stream {
        let (sender, stream) = unbounded_channel();
        let router = self.0.clone();
        runtime.spawn(async move {
            if let Err(error) = answer(router, body, &sender).await {
                // Whoever asked may have gone.
                let _ = sender.send(Err(error));
            }
        });
        stream
    }
}

/// Hands on what the function answers, until nobody listens.
async fn answer(
    router: Router,
    body: String,
    sender: &UnboundedSender<Result<Vec<u8>>>,
) -> Result<()> {
    let request = Request::post("/v1/chat/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))?;
    let Ok(answer) = router.oneshot(request).await;
    let status = answer.status();
    let mut body = answer.into_body();
    if status != StatusCode::OK {
        let body = body.collect().await?.to_bytes();
        bail!("{}", fault(&String::from_utf8_lossy(&body)));
    }
    loop {
        let frame = tokio::select! {
            () = sender.closed() => return Ok(()),
            frame = body.frame() => frame,
        };
        let Some(frame) = frame else { return Ok(()) };
        if let Ok(bytes) = frame?.into_data()
            && sender.send(Ok(bytes.to_vec())).is_err()
        {
            return Ok(());
        }
    }
}

/// The settings of the function: those of the command line, and none of the environment, which may be meant for others.
fn config(args: &Args, snapshot: String) -> Result<Config> {
    let mut settings = vec![
        ("--model", snapshot),
        // Whoever waits sees that, and may stop it.
        ("--keep-alive", "0".to_owned()),
        ("--request-timeout", "0".to_owned()),
        ("--max-running", "1".to_owned()),
    ];
    settings.extend(args.restore.settings());
    settings.extend(args.num_threads.map(|threads| ("--num-threads", threads.to_string())));
    settings.extend(args.context_length.map(|most| ("--context-length", most.to_string())));
    let words = settings.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    let words = [FUNCTION.name.to_owned()].into_iter().chain(words);
    match Config::from_lookup(&FUNCTION, &["chat"], words, |_| None, []) {
        Ok(Action::Serve(config)) => Ok(*config),
        Ok(Action::Healthcheck { .. }) => bail!("a health check is no conversation"),
        Err(error) => bail!("{error}"),
    }
}
