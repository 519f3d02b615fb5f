//! A function's life: configure, bind, load, serve, drain.
//!
//! Exit codes: 0 after a drain or an idle time, `--help` or a good health check; 1 when the
//! snapshot, the port or the runtime API fails; 2 for bad usage. Every failure is one line on
//! stderr.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use defrost_loader::ThreadsWanted;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::boot_error::BootError;
use crate::config::{Action, Config, ConfigError};
use crate::function::Function;
use crate::life::phases::PhaseRecorder;
use crate::life::{healthcheck, http, lambda, logging, start};
use crate::models::restore;
use crate::service::Offer;

/// Threads that read requests and write answers. Two, so that a large body being parsed does not
/// hold up a probe; scoring has threads of its own.
const IO_THREADS: usize = 2;

/// Threads for what may block: kept answers in files, texts that are tokenised to be shown, names
/// that are looked up. All of it is short or bounded by the processors, and waits for a free one of
/// these.
const BLOCKING_THREADS: usize = 4;

/// Runs a function from its command line to its exit code. Models are loaded on threads of their
/// own, after the port is bound.
pub fn run(function: Function, offers: impl Into<Vec<Offer>>) -> ExitCode {
    run_with_args(function, offers, std::env::args_os())
}

/// As [`run`], with these arguments (the program's name first) instead of the process's own.
pub fn run_with_args(
    function: Function,
    offers: impl Into<Vec<Offer>>,
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> ExitCode {
    let phases = PhaseRecorder::start();
    defrost_loader::share_memory_among_threads();
    let begun = Instant::now();
    let offers = offers.into();
    let kinds: Vec<&str> = offers.iter().map(|offer| offer.service.name()).collect();
    let config = match Config::from_env(&function, &kinds, args) {
        Ok(Action::Serve(config)) => *config,
        Ok(Action::Healthcheck { host, port }) => {
            return match healthcheck::check(&host, port) {
                Ok(()) => ExitCode::SUCCESS,
                Err(message) => fail(&function, &message, 1),
            };
        }
        Err(ConfigError::Info(text)) => {
            // A closed stdout is not our failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error @ ConfigError::Usage(_)) => return fail(&function, &error.to_string(), 2),
    };
    phases.record("config", begun.elapsed());
    run_with_config(function, offers, config, phases)
}

/// As [`run`], with settings that were read already; `phases` began with the process.
pub fn run_with_config(
    function: Function,
    offers: impl Into<Vec<Offer>>,
    config: Config,
    phases: PhaseRecorder,
) -> ExitCode {
    logging::start(&config);
    tracing::info!("{} {}: {}", function.name, function.version, config.summary());
    if let Err(error) = prepare(&config) {
        return fail(&function, &error.to_string(), 1);
    }
    let runtime = defrost_loader::runtime(ThreadsWanted {
        name: "io",
        workers: IO_THREADS,
        blocking: BLOCKING_THREADS,
        // The one that the model runs on; the engine's own are fewer where there are no more.
        others: 1,
    });
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(live(function, config, Arc::new(phases), offers.into()));
            // What is still running is past its grace.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(BootError::new(format!("starting threads: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&function, &error.to_string(), 1),
    }
}

/// Lets the runtime begin that will run the model, while this is the only thread.
fn prepare(config: &Config) -> Result<(), BootError> {
    let chosen = |name: &str| config.backend.is_none_or(|backend| backend == name);
    let Some(runtime) = config.runtimes.iter().find(|runtime| chosen(runtime.name())) else {
        return Ok(());
    };
    let options = restore::options(config).for_runtime();
    runtime.prepare(&options).map_err(|error| BootError::from_error(&error))
}

fn fail(function: &Function, message: &str, code: u8) -> ExitCode {
    // A closed stderr leaves nothing to tell.
    let _ = writeln!(std::io::stderr(), "{}: {message}", function.name);
    ExitCode::from(code)
}

async fn live(
    function: Function,
    config: Config,
    phases: Arc<PhaseRecorder>,
    offers: Vec<Offer>,
) -> Result<(), BootError> {
    let no_thread = |error| BootError::new(format!("starting the inference thread: {error}"));
    if lambda::is_lambda() {
        let app = start::start(function, config, phases, offers).map_err(no_thread)?;
        return lambda::serve(app).await;
    }
    let no_signal = |error| BootError::new(format!("listening for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let (listener, port) = bind(&config).await?;
    let app = start::start(function, config, phases, offers).map_err(no_thread)?;
    let mut failure = None;
    let shutdown = async {
        tokio::select! {
            reason = app.failed() => failure = Some(BootError::new(reason)),
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
            () = app.activity.idle_for(app.config.shutdown_timeout) => tracing::info!(
                "no request for {} s (SHUTDOWN_TIMEOUT): exiting",
                app.config.shutdown_timeout.as_secs_f64()
            ),
        }
    };
    if !http::serve(listener, Arc::clone(&app), shutdown).await {
        tracing::warn!(
            "requests were cut off after {} s (SHUTDOWN_GRACE)",
            app.config.shutdown_grace.as_secs_f64()
        );
    }
    forget_port(&app, port);
    failure.map_or(Ok(()), Err)
}

async fn bind(config: &Config) -> Result<(TcpListener, u16), BootError> {
    let place = format!("{}:{}", config.host, config.port);
    let failed = |error: std::io::Error| {
        BootError::new(format!("listening on {place} (HOST, PORT): {error}"))
    };
    let listener = TcpListener::bind((config.host.as_str(), config.port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if let Some(path) = &config.port_file {
        // A process that waits for the file never reads half of it.
        let line = format!("{}\n", address.port());
        crate::life::files::write_whole(path, line.as_bytes()).map_err(|error| {
            BootError::new(format!("writing {} (PORT_FILE): {error}", path.display()))
        })?;
    }
    // Last: who waits for this line finds the file.
    tracing::info!("listening on http://{address}");
    Ok((listener, address.port()))
}

fn forget_port(app: &App, port: u16) {
    if let Some(path) = &app.config.port_file {
        // Another process may have written its own meanwhile. Gone already is as good.
        let own = format!("{port}\n");
        if std::fs::read_to_string(path).is_ok_and(|found| found == own) {
            let _ = std::fs::remove_file(path);
        }
    }
}
