//! Serves a directory over S3's protocol: for benchmarks, and for failures by hand.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use defrost_testing::s3::{Options, Rule, S3Server};

/// An S3 server on 127.0.0.1 that fails when it is told to.
///
/// Prints its address and serves until it is killed. `GET /_stats` returns what was counted as JSON,
/// `POST /_reset` counts from zero and refills the burst.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Serves the files DIR/BUCKET/KEY, which must not change meanwhile; uploads stay in memory
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Creates this bucket (repeatable)
    #[arg(long, value_name = "NAME")]
    bucket: Vec<String>,
    /// Port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Writes the port to this file once the server listens
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Bytes per second of all bodies together [default: unlimited]
    #[arg(long, value_name = "BYTES")]
    rate: Option<u64>,
    /// Bytes above the rate after a pause
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    burst: u64,
    /// Bytes per second of one connection [default: unlimited]
    #[arg(long, value_name = "BYTES")]
    connection_rate: Option<u64>,
    /// Milliseconds before every answer
    #[arg(long, value_name = "MS", default_value_t = 0)]
    first_byte_ms: u64,
    /// Bytes after which connections take turns, where there is a rate
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().drip_bytes)]
    drip: u32,
    /// Refuses requests without an Authorization header
    #[arg(long)]
    require_auth: bool,
    /// Least size of the parts of an upload but the last
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().min_part_bytes)]
    min_part: u64,
    /// Fails (repeatable): FAULT[:ARGUMENT]@WHEN[@WHICH]
    ///
    /// FAULT: status:CODE, slow-down, denied, missing, redirect-307, stall, stall-after:BYTES,
    /// hangup, short-body:BYTES, reset:BYTES, garbage, short-length:BYTES, whole-200, wrong-range,
    /// wrong-content-range-header, no-content-range, flip-bit:OFFSET, new-version,
    /// silent-new-version.
    ///
    /// WHEN: always, nth=N, from=N, first-n=N, every=N, attempt=N, first-attempts=N,
    /// per-mille=P,SEED.
    ///
    /// WHICH: any, gets (the default), ranged-gets, gets-from=OFFSET, gets-touching=OFFSET, key=KEY,
    /// method=METHOD.
    #[arg(long, value_name = "RULE")]
    fault: Vec<Rule>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let server = S3Server::start(Options {
        port: arguments.port,
        rate_bytes_per_s: arguments.rate,
        burst_bytes: arguments.burst,
        connection_rate_bytes_per_s: arguments.connection_rate,
        first_byte_delay: Duration::from_millis(arguments.first_byte_ms),
        drip_bytes: arguments.drip,
        require_auth: arguments.require_auth,
        min_part_bytes: arguments.min_part,
    })?;
    if let Some(dir) = &arguments.dir {
        server.serve_dir(dir)?;
    }
    for bucket in &arguments.bucket {
        server.create_bucket(bucket);
    }
    for rule in arguments.fault {
        server.add_rule(rule);
    }
    if let Some(file) = &arguments.port_file {
        std::fs::write(file, server.address().port().to_string())?;
    }
    let mut out = io::stdout();
    writeln!(out, "{}", server.url())?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}
