//! Where snapshots are and go: the arguments that every command which restores one shares.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use defrost_loader::default_cache;
use defrost_loader::{FetchOptions, Location, Snapshot, VerifyMode};
use defrost_model::{Precision, isa};
use defrost_tasks::{RestoreOptions, restore};

use crate::backend::LINKED;
use crate::pack;

/// How snapshots are restored.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RestoreArgs {
    /// When bytes are hashed: stamped, on-the-fly or eager.
    #[arg(long, env = "VERIFY", default_value_t = VerifyMode::default())]
    verify: VerifyMode,
    /// Where downloads, stamps and packed copies of portable snapshots go; default: ~/.cache/defrost, stamps beside a local snapshot.
    #[arg(long, env = "CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Most bytes that downloads may take in the cache; least recently used ones go first.
    #[arg(long, env = "CACHE_MAX_BYTES")]
    cache_max_bytes: Option<u64>,
    /// Seconds that a download may take.
    #[arg(long, env = "RESTORE_TIMEOUT", default_value_t = 600)]
    restore_timeout: u64,
    /// Most requests of a download at once.
    #[arg(long, env = "RESTORE_CONNECTIONS", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=256))]
    restore_connections: u64,
}

impl RestoreArgs {
    /// The arguments as options of a restore with so many threads.
    pub(crate) fn options(&self, threads: Option<usize>) -> RestoreOptions {
        let usual = FetchOptions::default();
        let most = usize::try_from(self.restore_connections).unwrap_or(1);
        RestoreOptions {
            backend: None,
            verify: self.verify,
            cache_dir: self.cache_dir.clone(),
            cache_max_bytes: self.cache_max_bytes,
            threads,
            fetch: FetchOptions {
                deadline: Duration::from_secs(self.restore_timeout),
                connections: (*usual.connections.start()).min(most)..=most,
                ..usual
            },
        }
    }

    /// The arguments as settings of a function.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("--verify", self.verify.to_string()),
            ("--restore-timeout", self.restore_timeout.to_string()),
            ("--restore-connections", self.restore_connections.to_string()),
        ];
        let cache = self.cache_dir.as_ref().map(|dir| ("--cache-dir", dir.display().to_string()));
        settings.extend(cache);
        settings.extend(self.cache_max_bytes.map(|most| ("--cache-max-bytes", most.to_string())));
        settings
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.cache_dir.clone().unwrap_or_else(default_cache)
    }

    /// Restores a snapshot; a model on the hub is packed into the cache the first time.
    pub(crate) fn restore(&self, location: &Location, threads: Option<usize>) -> Result<Snapshot> {
        let location = match location {
            Location::Hub { .. } => {
                let packed = self.packed(location);
                if !packed.is_file() {
                    self.pack(location)?;
                }
                packed.as_path().into()
            }
            other => other.clone(),
        };
        Ok(restore(LINKED, &location, &self.options(threads))?)
    }

    /// Downloads a model from the hub and packs it into the cache, in int8 for this machine.
    pub(crate) fn pack(&self, location: &Location) -> Result<PathBuf> {
        let out = self.packed(location);
        let args = pack::Args {
            source: location.to_string(),
            out: Some(out.clone()),
            force: true,
            precision: None,
            isa: Some(isa::NATIVE.to_owned()),
            name: None,
            template: None,
            max_length: None,
            matryoshka: None,
            decisions: pack::Decisions::default(),
            outliers: pack::OutliersArg::default(),
            no_stored_prefix: false,
        };
        pack::pack(&args).with_context(|| format!("cannot make a snapshot of {location}"))?;
        Ok(out)
    }

    /// Where the packed form of a hub model is kept.
    fn packed(&self, location: &Location) -> PathBuf {
        let plain: String = location
            .to_string()
            .trim_start_matches("hf://")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '-' })
            .collect();
        let (precision, isa, layout) = (Precision::Int8.name(), isa::NATIVE, isa::LAYOUT_ABI);
        self.cache().join(format!("{plain}.{precision}.{isa}-{layout}.snap"))
    }
}
