//! Snapshots in object stores: against the server that fails on demand, and against a real one.

mod faults;
mod processes;
mod resume;
mod sources;
mod together;
mod trust;

use std::path::PathBuf;
use std::time::Duration;

use defrost_testing::s3::{Options, S3Server};

use super::support::{SMALL_CHUNK, Sample, options};
use crate::{
    Cache, Dtype, Error, FetchOptions, Location, RestoreOptions, Root, Snapshot, SnapshotWriter,
    StoreOptions, VerifyMode, restore,
};

/// A snapshot in a bucket, and an empty cache.
pub(super) struct Fixture {
    pub(super) server: S3Server,
    pub(super) dir: tempfile::TempDir,
    pub(super) sample: Sample,
    pub(super) root: Root,
    pub(super) file: Vec<u8>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::of(Sample::model(), Options::default())
    }

    /// A fixture with so many chunks of data.
    pub(super) fn with_chunks(chunks: usize, server: Options) -> Self {
        let mut sample = Sample::empty();
        for layer in 0..chunks.div_ceil(16) {
            sample.segment(&format!("layer.{layer}"));
            let rows = 16.min(chunks - layer * 16);
            sample.tensor(
                &format!("layer.{layer}.w"),
                Dtype::U8,
                "packed",
                &[rows, SMALL_CHUNK as usize],
            );
        }
        Self::of(sample, server)
    }

    fn of(sample: Sample, server: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("packed.snap");
        let mut writer =
            SnapshotWriter::with_chunk_size(&path, sample.plan.clone(), SMALL_CHUNK).unwrap();
        sample.data.iter().for_each(|(name, bytes)| writer.write(name, bytes).unwrap());
        let root = writer.finish().unwrap();
        let file = std::fs::read(&path).unwrap();
        let server = S3Server::start(server).unwrap();
        let fixture = Self { server, dir, sample, root, file };
        fixture.store();
        fixture
    }

    /// Puts the snapshot into the bucket, under its root and under a name of its own.
    pub(super) fn store(&self) {
        self.server.put("models", &format!("{}.snap", self.root), self.file.clone());
        self.server.put("models", "named.snap", self.file.clone());
    }

    pub(super) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub(super) fn by_root(&self) -> Location {
        format!("s3://models/{}.snap", self.root).parse().unwrap()
    }

    pub(super) fn by_name() -> Location {
        "s3://models/named.snap".parse().unwrap()
    }

    pub(super) fn options(&self) -> RestoreOptions {
        RestoreOptions {
            cache: Some(Cache::new(self.cache(), None)),
            ..remote_options(&self.server.url())
        }
    }

    /// Restores and reads everything.
    pub(super) fn restore(&self, location: &Location) -> Result<Snapshot, Error> {
        let snapshot = restore(location, &self.options())?;
        snapshot.wait_complete()?;
        self.sample.assert_equal(&snapshot);
        Ok(snapshot)
    }

    /// The fetched file, byte for byte.
    pub(super) fn assert_cached(&self) {
        let cached = std::fs::read(self.cache().join(format!("{}.snap", self.root))).unwrap();
        assert!(cached == self.file, "the cache holds another file");
    }

    pub(super) fn names_in_cache(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.cache()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Where the data begins.
    pub(super) fn data_offset(&self) -> u64 {
        let path = self.dir.path().join("packed.snap");
        crate::inspect(&path).unwrap().1.data_offset
    }
}

/// Few connections and short patience, so that a test meets every branch in seconds.
pub(super) fn remote_options(endpoint: &str) -> RestoreOptions {
    RestoreOptions {
        fetch: FetchOptions {
            deadline: Duration::from_mins(1),
            connections: 2..=8,
            stall: Duration::from_millis(300),
        },
        store: StoreOptions {
            endpoint_url: Some(endpoint.to_owned()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(("test".to_owned(), "secret".to_owned())),
            skip_signature: None,
        },
        ..RestoreOptions::new(options(VerifyMode::Stamped))
    }
}
