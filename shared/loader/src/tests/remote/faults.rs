//! Every fault the server knows, at every stage of a restore: the right snapshot or one clear error, in time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use defrost_testing::s3::{Fault, Options, Rule, When, Which};

use super::Fixture;
use crate::{Error, Kind};

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The right snapshot.
    Restored,
    /// The restore fails with one error of this kind.
    Refused(Kind),
}

use Outcome::{Refused, Restored};

struct Case {
    fault: Fault,
    stage: &'static str,
    when: When,
    outcome: Outcome,
}

/// Which requests of a restore a fault befalls.
fn stage(name: &str, data: u64) -> Which {
    match name {
        "superblock" => Which::GetsTouching(0),
        "manifest" => Which::GetsTouching(4096),
        "data" => Which::GetsFrom(data),
        _ => Which::Any,
    }
}

const FAULTS: [(Fault, Kind); 21] = [
    (Fault::Status(500), Kind::Unavailable),
    (Fault::Status(502), Kind::Unavailable),
    (Fault::Status(504), Kind::Unavailable),
    (Fault::Status(429), Kind::Throttled),
    (Fault::SlowDown, Kind::Throttled),
    (Fault::Denied, Kind::Denied),
    (Fault::Missing, Kind::NotFound),
    (Fault::Redirect307, Kind::Invalid),
    (Fault::Stall, Kind::Unavailable),
    (Fault::StallAfter(1000), Kind::Unavailable),
    (Fault::Hangup, Kind::Unavailable),
    (Fault::ShortBody(1000), Kind::Unavailable),
    (Fault::Reset(1000), Kind::Unavailable),
    (Fault::Garbage, Kind::Unavailable),
    (Fault::ShortLength(100), Kind::Unavailable),
    (Fault::Whole200, Kind::Unavailable),
    (Fault::WrongRange, Kind::Unavailable),
    (Fault::WrongContentRangeHeader, Kind::Unavailable),
    (Fault::NoContentRange, Kind::Unavailable),
    (Fault::NewVersion, Kind::Changed),
    (Fault::SilentNewVersion, Kind::Changed),
];

/// Faults that no second attempt can mend.
fn is_final(kind: Kind) -> bool {
    matches!(kind, Kind::Denied | Kind::NotFound | Kind::Invalid | Kind::Changed)
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (fault, kind) in FAULTS {
        for stage in ["superblock", "manifest", "data"] {
            let always = match (fault, stage) {
                // The first request takes whatever version there is, and what it then reads is not a snapshot.
                (Fault::NewVersion | Fault::SilentNewVersion, "superblock" | "manifest") => {
                    Kind::Corrupt
                }
                _ => kind,
            };
            let once = if is_final(always) || always == Kind::Corrupt {
                Refused(always)
            } else {
                Restored
            };
            cases.push(Case { fault, stage, when: When::Always, outcome: Refused(always) });
            cases.push(Case { fault, stage, when: When::Nth(1), outcome: once });
        }
        if !is_final(kind) {
            for when in [
                When::Every(3),
                When::PerMille { p: 10, seed: 3 },
                When::PerMille { p: 200, seed: 5 },
            ] {
                cases.push(Case { fault, stage: "all", when, outcome: Restored });
            }
        }
    }
    cases
}

fn run(case: &Case) -> (Result<(), Error>, u64, Duration) {
    let fixture = Fixture::with_chunks(48, Options::default());
    let rule =
        Rule { on: stage(case.stage, fixture.data_offset()), when: case.when, fault: case.fault };
    fixture.server.add_rule(rule);
    let begun = Instant::now();
    let result = fixture.restore(&fixture.by_root()).map(drop);
    let took = begun.elapsed();
    if result.is_ok() {
        fixture.assert_cached();
    } else {
        // Whatever was kept is good: the next start, with the server well again, ends well.
        fixture.server.clear_rules();
        fixture.store();
        fixture.restore(&fixture.by_root()).unwrap();
        fixture.assert_cached();
    }
    (result, fixture.server.stats().requests, took)
}

/// The matrix: prints what every fault came to.
#[test]
fn every_fault_ends_in_the_right_snapshot_or_one_clear_error() {
    let cases = cases();
    let next = Mutex::new(cases.iter().enumerate());
    let rows = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((number, case)) = next.lock().unwrap().next() else { return };
            let (result, requests, took) = run(case);
            rows.lock().unwrap().push((number, case, result, requests, took));
        }
    };
    // Most of the time they rest between attempts.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(work);
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|row| row.0);
    println!(
        "{:<26} {:<11} {:<30} {:>8} {:>8}  outcome",
        "fault", "requests", "when", "sent", "ms"
    );
    for (_, case, result, requests, took) in &rows {
        let outcome = match result {
            Ok(()) => "restored".to_owned(),
            Err(error) => format!("{:?}: {error}", error.kind()),
        };
        let (fault, when) = (format!("{:?}", case.fault), format!("{:?}", case.when));
        println!(
            "{fault:<26} {:<11} {when:<30} {requests:>8} {:>8}  {outcome}",
            case.stage,
            took.as_millis()
        );
    }
    for (_, case, result, _, took) in &rows {
        let what = format!("{:?} {} {:?}", case.fault, case.stage, case.when);
        match (result, case.outcome) {
            (Ok(()), Restored) => {}
            (Err(error), Refused(kind)) => {
                assert_eq!(error.kind(), kind, "{what}: {error}");
                let text = error.to_string();
                assert!(text.starts_with("s3://models/"), "{what}: no object in {text}");
                assert!(!text.contains('\n'), "{what}: more than a line: {text}");
                if kind != Kind::Corrupt {
                    let range =
                        error.range().unwrap_or_else(|| panic!("{what}: no range in {text}"));
                    assert!(
                        text.contains(&format!("bytes {} to {}", range.start, range.end)),
                        "{text}"
                    );
                    assert!(text.contains("attempt"), "{what}: {text}");
                }
            }
            (result, outcome) => panic!("{what}: expected {outcome:?}, found {result:?}"),
        }
        assert!(*took < Duration::from_mins(1), "{what}: beyond the deadline");
    }
}

/// A wrong bit anywhere in the object is found, and found again after three tries; one that was wrong only on the way
/// is fetched again.
#[test]
fn a_flipped_bit_in_any_chunk_is_never_served() {
    let fixture = Fixture::with_chunks(20, Options::default());
    let (data, len) = (fixture.data_offset(), fixture.file.len() as u64);
    let chunk_count = (len - 4096 - data).div_ceil(4096);
    let places = (0..chunk_count).map(|chunk| data + chunk * 4096 + (chunk * 997) % 4096);
    for at in places.chain([0, 17, 4095, 4096, 4200, data - 1]) {
        let flip = |when| Rule { on: Which::Any, when, fault: Fault::FlipBit { at } };
        fixture.server.add_rule(flip(When::Always));
        let error = fixture.restore(&fixture.by_root()).unwrap_err();
        assert!(matches!(error.kind(), Kind::Corrupt | Kind::Unsupported), "byte {at}: {error}");
        if at >= data {
            let chunk = (at - data) / 4096;
            let text = error.to_string();
            assert!(text.contains(&format!("chunk {chunk} ")) && text.contains("blake3"), "{text}");
        }
        fixture.server.clear_rules();
        fixture.server.add_rule(flip(When::FirstAttempts(1)));
        let result = fixture.restore(&fixture.by_root());
        // Superblock and manifest come whole or not at all; damage to the superblock itself is not tried again.
        assert!(result.is_ok() || at < 4096, "byte {at}: {result:?}");
        fixture.server.clear_rules();
        std::fs::remove_dir_all(fixture.cache()).unwrap_or_default();
    }
}

/// A request that hangs is overtaken by a second one, long before it is given up.
#[test]
fn a_stalled_request_is_overtaken() {
    let fixture = Fixture::with_chunks(64, Options::default());
    fixture.server.add_rule(Rule {
        on: Which::GetsFrom(fixture.data_offset()),
        when: When::Nth(2),
        fault: Fault::StallAfter(5000),
    });
    let mut options = fixture.options();
    // Never given up: only a second request can end this.
    options.fetch.stall = Duration::from_hours(1);
    let snapshot = crate::restore(&fixture.by_root(), &options).unwrap();
    snapshot.wait_complete().unwrap();
    fixture.assert_cached();
}

#[test]
fn a_store_that_never_answers_ends_at_the_deadline() {
    let fixture = Fixture::with_chunks(16, Options::default());
    fixture.server.add_rule(Rule {
        on: Which::GetsFrom(fixture.data_offset()),
        when: When::Always,
        fault: Fault::Stall,
    });
    let mut options = fixture.options();
    options.fetch.deadline = Duration::from_millis(700);
    options.fetch.stall = Duration::from_hours(1);
    let error = crate::restore(&fixture.by_root(), &options).unwrap().wait_verified().unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.to_string().contains("16 of 16 missing"), "{error}");
    // A caller that waited for everything wanted no chunk before others, or a reader's wishes would drown among them.
    let state = fixture.cache().join(format!("{}.state", fixture.root));
    assert_eq!(std::fs::read(state).unwrap()[64..], [0; 16]);
}

#[test]
fn nobody_listening_is_told_with_the_address() {
    let fixture = Fixture::new();
    let mut options = fixture.options();
    options.store.endpoint_url = Some("http://127.0.0.1:1".to_owned());
    let error = crate::restore(&fixture.by_root(), &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("8 attempts"), "{error}");
}
