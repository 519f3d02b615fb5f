//! Threads of one process that restore the same snapshot at once, and readers that are ahead of the download.

use std::sync::mpsc;

use defrost_testing::s3::{Fault, Options, Rule, When, Which};

use super::Fixture;
use crate::{Kind, Place, restore};

#[test]
fn tensors_are_handed_out_as_soon_as_they_are_there() {
    let fixture = Fixture::with_chunks(64, Options::default());
    // The last quarter never comes while the test looks at the rest.
    fixture.server.add_rule(Rule {
        on: Which::GetsFrom(fixture.data_offset() + 48 * 4096),
        when: When::Always,
        fault: Fault::Stall,
    });
    let mut options = fixture.options();
    options.fetch.stall = std::time::Duration::from_hours(1);
    let snapshot = restore(&fixture.by_root(), &options).unwrap();
    for layer in 0..3 {
        let name = format!("layer.{layer}.w");
        assert_eq!(snapshot.tensor(&name).unwrap().bytes, fixture.sample.data[layer].1, "{name}");
    }
    let (good, all) = snapshot.progress();
    assert!(good >= 48 * 4096 && good < all, "{good} of {all}");
    assert!(!snapshot.verification().complete);
    assert_eq!(snapshot.peek("layer.3.w").unwrap().bytes.len(), 16 * 4096);
}

#[test]
fn what_a_reader_waits_for_is_fetched_first() {
    let fixture = Fixture::with_chunks(256, Options::default());
    let mut options = fixture.options();
    options.fetch.connections = 1..=1;
    // The first request for data is held until the reader has said what it wants.
    let ((go, held), (begins, begun)) = (mpsc::channel::<()>(), mpsc::channel());
    fixture.server.at_body_bytes(fixture.data_offset() + 100, move || {
        begins.send(()).unwrap();
        held.recv().unwrap();
    });
    let snapshot = restore(&fixture.by_root(), &options).unwrap();
    begun.recv().unwrap();
    let last = snapshot.peek("layer.15.w").unwrap();
    snapshot.want(last.place.part(15 * 4096..last.bytes.len()));
    go.send(()).unwrap();
    snapshot.wait(last.place.part(15 * 4096..last.bytes.len())).unwrap();
    let ranges = &fixture.server.stats().ranges[&format!("models/{}.snap", fixture.root)];
    let chunk = |range: &std::ops::Range<u64>| (range.start - fixture.data_offset()) / 4096;
    let data: Vec<u64> =
        ranges.iter().filter(|range| range.start >= fixture.data_offset()).map(chunk).collect();
    assert_eq!(data[..2], [0, 255], "{data:?}");
}

#[test]
fn places_in_another_snapshot_are_refused() {
    let (one, other) = (Fixture::new(), Fixture::with_chunks(2, Options::default()));
    let (one, other) =
        (one.restore(&one.by_root()).unwrap(), other.restore(&other.by_root()).unwrap());
    let foreign = other.tensor("layer.0.w").unwrap();
    assert_eq!(one.wait(foreign.place).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(one.wait(Place::default()).unwrap_err().kind(), Kind::Invalid);
    let own = one.peek(&one.manifest().tensors[0].name).unwrap();
    one.wait(own.place.part(0..0)).unwrap();
}

#[test]
fn many_restores_at_once_fetch_one_copy() {
    let fixture = Fixture::with_chunks(128, Options::default());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| fixture.restore(&fixture.by_root()).unwrap());
        }
    });
    fixture.assert_cached();
    let stats = fixture.server.stats();
    let copy = fixture.file.len() as u64 - 4096;
    assert!((copy..copy + copy / 2).contains(&stats.body_bytes_sent), "{:?}", stats.ranges);
}

#[test]
fn a_detached_download_needs_no_file_and_no_connection() {
    let fixture = Fixture::with_chunks(32, Options::default());
    let snapshot = restore(&fixture.by_root(), &fixture.options()).unwrap();
    snapshot.detach().unwrap();
    std::fs::remove_dir_all(fixture.cache()).unwrap();
    drop(fixture.server);
    fixture.sample.assert_equal(&snapshot);
}
