//! One restore from an object store, measured: the other Rust side of `scripts/bench/bench_loader`.
//!
//! ```text
//! cargo run --release -p defrost-loader --features s3 --example s3_ready -- defrost-s3 s3://bucket/key FOLDER
//! cargo run --release -p defrost-loader --features s3 --example s3_ready -- sdk-ranges s3://bucket/key FOLDER
//! ```
//!
//! `defrost-s3` restores into the cache FOLDER and is ready when every tensor may be used. `sdk-ranges` is the floor: the
//! same ranged reads with the same SDK and the same number of requests at once, whose bytes are dropped as they come,
//! neither hashed nor written. `BENCH_CONNECTIONS=MIN-MAX` sets that number (the floor takes MIN).
#![allow(clippy::print_stdout, reason = "printing is its purpose")]

#[path = "../bytes_ready/measure.rs"]
mod measure;

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{ResponseChecksumValidation, StalledStreamProtectionConfig};
use defrost_loader::{
    Cache, FetchOptions, Location, OpenOptions, RestoreOptions, VerifyMode, restore,
};
use tokio::task::JoinSet;

use crate::measure::Meter;

const USAGE: &str = "usage: s3_ready defrost-s3|sdk-ranges s3://bucket/key FOLDER";

/// What `fetch` asks for at once.
const PART: u64 = 8 * 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let meter = Meter::start()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match arguments[..] {
        ["defrost-s3", url, folder] => ours(meter, url, Path::new(folder))?,
        ["sdk-ranges", url, _] => floor(meter, url)?,
        _ => return Err(USAGE.into()),
    };
    println!("{line}");
    Ok(())
}

fn connections() -> Result<RangeInclusive<usize>, Box<dyn Error>> {
    match std::env::var("BENCH_CONNECTIONS") {
        Err(_) => Ok(FetchOptions::default().connections),
        Ok(text) => {
            let (min, max) = text.split_once('-').ok_or("BENCH_CONNECTIONS: expected MIN-MAX")?;
            Ok(min.parse()?..=max.parse()?)
        }
    }
}

fn ours(mut meter: Meter, url: &str, folder: &Path) -> Result<String, Box<dyn Error>> {
    let location: Location = url.parse()?;
    let mut options = RestoreOptions::new(OpenOptions::new(["portable"], 1));
    options.open.verify = VerifyMode::Stamped;
    options.fetch.connections = connections()?;
    options.cache = Some(Cache::new(folder, None));
    let snapshot = restore(&location, &options)?;
    meter.opened();
    let mut tensors = Vec::with_capacity(snapshot.manifest().tensors.len());
    for entry in &snapshot.manifest().tensors {
        tensors.push(snapshot.tensor(&entry.name)?);
    }
    snapshot.wait_verified()?;
    meter.ready();
    for tensor in &tensors {
        measure::touch(&tensor.bytes);
    }
    meter.touched()?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let line = meter.line("defrost-s3", tensors.iter().map(|tensor| &tensor.bytes[..]));
    snapshot.wait_complete()?;
    line
}

/// The same ranges through the SDK alone.
fn floor(mut meter: Meter, url: &str) -> Result<String, Box<dyn Error>> {
    let Location::S3 { bucket, key } = url.parse()? else { return Err(USAGE.into()) };
    let at_once = *connections()?.start();
    let threads = std::thread::available_parallelism()?.get().min(4);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let bytes = runtime.block_on(async {
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_config(RetryConfig::disabled())
            .load()
            .await;
        let config = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(true)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let client = Client::from_conf(config.build());
        let head = client.head_object().bucket(&bucket).key(&key).send().await?;
        let len = u64::try_from(head.content_length().unwrap_or(0))?;
        let version = Arc::new(head.e_tag().unwrap_or_default().to_owned());
        let mut ranges = (0..len).step_by(usize::try_from(PART)?);
        let (mut running, mut bytes) = (JoinSet::new(), 0);
        loop {
            while running.len() < at_once
                && let Some(start) = ranges.next()
            {
                let last = (start + PART).min(len) - 1;
                let request = client.get_object().bucket(&bucket).key(&key).if_match(&*version);
                let request = request.range(format!("bytes={start}-{last}"));
                running.spawn(async move {
                    let mut body = request.send().await.map_err(|error| format!("{error:?}"))?.body;
                    let mut read = 0;
                    while let Some(piece) = body.next().await {
                        read += piece.map_err(|error| error.to_string())?.len();
                    }
                    Ok::<usize, String>(read)
                });
            }
            match running.join_next().await {
                Some(read) => bytes += read??,
                None => return Ok::<usize, Box<dyn Error>>(bytes),
            }
        }
    })?;
    meter.opened();
    meter.ready();
    meter.touched()?;
    meter.note("bytes", bytes);
    meter.note("contestant", "sdk-ranges");
    // Nothing was kept that could be hashed.
    meter.note("checksum", None::<String>);
    meter.finish()
}
