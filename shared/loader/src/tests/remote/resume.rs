//! What is there is not fetched again; what is not is, whatever the last process left.

use std::fs;

use defrost_testing::s3::{Fault, Options, Rule, When, Which};

use super::Fixture;
use crate::{Cache, Kind, restore};

#[test]
fn a_snapshot_named_by_its_root_is_fetched_once_and_then_needs_no_request() {
    let fixture = Fixture::new();
    fixture.restore(&fixture.by_root()).unwrap();
    fixture.assert_cached();
    assert_eq!(
        fixture.names_in_cache(),
        [format!("{}.ok", fixture.root), format!("{}.snap", fixture.root)]
    );
    // Superblock, manifest and data, each byte once; the copy of the superblock at the end is not fetched.
    assert_eq!(fixture.server.stats().body_bytes_sent, fixture.file.len() as u64 - 4096);
    fixture.server.reset_stats();
    let snapshot = fixture.restore(&fixture.by_root()).unwrap();
    assert_eq!(fixture.server.stats().requests, 0);
    assert_eq!(snapshot.verification().mode, crate::VerifyMode::Stamped);
    assert!(fixture.restore(&Fixture::by_name()).is_ok());
    assert_eq!(
        fixture.server.stats().body_bytes_sent,
        4096,
        "only the superblock, to learn the root"
    );
}

#[test]
fn a_replaced_object_is_another_snapshot() {
    let fixture = Fixture::new();
    fixture.restore(&Fixture::by_name()).unwrap();
    let other = Fixture::with_chunks(3, Options::default());
    fixture.server.put("models", "named.snap", other.file.clone());
    let snapshot = restore(&Fixture::by_name(), &fixture.options()).unwrap();
    assert_eq!(snapshot.root(), other.root);
    other.sample.assert_equal(&snapshot);
    // Under the name of one root there must not be another.
    fixture.server.put("models", &format!("{}.snap", fixture.root), other.file.clone());
    fs::remove_dir_all(fixture.cache()).unwrap();
    let error = restore(&fixture.by_root(), &fixture.options()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("another snapshot than its name says"), "{error}");
}

/// A download that failed for good leaves what it brought.
fn interrupted() -> (Fixture, u64) {
    let fixture = Fixture::with_chunks(64, Options::default());
    let from = fixture.data_offset() + 40 * 4096;
    fixture.server.add_rule(Rule {
        on: Which::GetsTouching(from),
        when: When::Always,
        fault: Fault::Denied,
    });
    let error = fixture.restore(&fixture.by_root()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    let sent = fixture.server.stats().body_bytes_sent;
    fixture.server.clear_rules();
    fixture.server.reset_stats();
    (fixture, sent)
}

#[test]
fn the_next_start_fetches_only_what_is_missing() {
    let (fixture, first) = interrupted();
    let names = fixture.names_in_cache();
    assert_eq!(names, [format!("{}.partial", fixture.root), format!("{}.state", fixture.root)]);
    fixture.restore(&fixture.by_root()).unwrap();
    fixture.assert_cached();
    let second = fixture.server.stats().body_bytes_sent;
    let whole = fixture.file.len() as u64;
    // The superblock again, and at most the parts that were in flight: eight of four chunks.
    assert!(first + second <= whole + 4096 + 8 * 4 * 4096, "{first} + {second} of {whole}");
    assert!(second < whole, "{second} of {whole}");
}

#[test]
fn what_a_crash_of_the_machine_spoiled_is_fetched_again() {
    // The board says good, the disk lost the bytes.
    let (fixture, _) = interrupted();
    let partial = fixture.cache().join(format!("{}.partial", fixture.root));
    let mut bytes = fs::read(&partial).unwrap();
    let start = usize::try_from(fixture.data_offset()).unwrap();
    bytes[start..start + 3 * 4096].fill(0);
    fs::write(&partial, bytes).unwrap();
    fixture.restore(&fixture.by_root()).unwrap();
    fixture.assert_cached();
}

#[test]
fn leftovers_of_any_kind_are_started_over() {
    for (extension, bytes) in [
        ("state", &b""[..]),
        ("state", b"no board"),
        ("state", &[0xff; 5000]),
        ("partial", b""),
        ("partial", &vec![0xff; 70_000]),
    ] {
        let (fixture, _) = interrupted();
        fs::write(fixture.cache().join(format!("{}.{extension}", fixture.root)), bytes).unwrap();
        fixture.restore(&fixture.by_root()).unwrap();
        fixture.assert_cached();
    }
}

#[test]
fn without_a_usable_cache_the_snapshot_is_held_in_memory() {
    let fixture = Fixture::new();
    let mut options = fixture.options();
    // A file where the directory should be, no cache at all, and a cache that is too small.
    let file = fixture.dir.path().join("packed.snap");
    for cache in [
        Some(Cache::new(&file, None)),
        None,
        Some(Cache::new(fixture.cache(), Some(fixture.file.len() as u64 - 1))),
    ] {
        options.cache = cache;
        let snapshot = restore(&fixture.by_root(), &options).unwrap();
        fixture.sample.assert_equal(&snapshot);
        snapshot.wait_complete().unwrap();
        assert!(snapshot.origin().contains("into memory"), "{}", snapshot.origin());
    }
    assert!(fixture.names_in_cache().iter().all(|name| name.strip_suffix(".snap").is_none()));
}

#[test]
fn the_cache_makes_room_but_keeps_what_is_in_use() {
    let (first, second) = (
        Fixture::with_chunks(40, Options::default()),
        Fixture::with_chunks(41, Options::default()),
    );
    let third = Fixture::with_chunks(42, Options::default());
    for fixture in [&second, &third] {
        first.server.put("models", &format!("{}.snap", fixture.root), fixture.file.clone());
    }
    let room = (second.file.len() + third.file.len()) as u64 + 3 * 4096;
    let mut options = first.options();
    options.cache = Some(Cache::new(first.cache(), Some(room)));
    let fetch = |fixture: &Fixture| {
        let snapshot = restore(&fixture.by_root(), &options).unwrap();
        snapshot.wait_complete().unwrap();
        snapshot
    };
    let held = fetch(&first);
    drop(fetch(&second));
    drop(fetch(&third));
    let names = first.names_in_cache();
    let there = |fixture: &Fixture| names.contains(&format!("{}.snap", fixture.root));
    assert_eq!((there(&first), there(&second), there(&third)), (true, false, true), "{names:?}");
    first.sample.assert_equal(&held);
    let cache = Cache::new(first.cache(), None);
    assert_eq!(cache.list().unwrap().iter().filter(|cached| cached.in_use).count(), 1);
    assert_eq!(cache.collect(0).unwrap().removed.len(), 1);
    drop(held);
    assert_eq!(cache.collect(0).unwrap().bytes, 0);
    assert!(first.names_in_cache().is_empty());
}

#[test]
fn a_dropped_download_ends_and_another_process_may_go_on() {
    let fixture = Fixture::with_chunks(64, Options::default());
    fixture.server.add_rule(Rule {
        on: Which::GetsFrom(fixture.data_offset() + 8 * 4096),
        when: When::Always,
        fault: Fault::Stall,
    });
    let snapshot = restore(&fixture.by_root(), &fixture.options()).unwrap();
    snapshot.tensor("layer.0.w").unwrap_err();
    drop(snapshot);
    fixture.server.clear_rules();
    fixture.restore(&fixture.by_root()).unwrap();
}
