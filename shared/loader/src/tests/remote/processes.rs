//! Several processes, and processes that are killed.
//!
//! A child is this test binary once more, told by its environment to be one ([`child`]). It restores, reads everything,
//! and says what it found on stdout.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use defrost_testing::s3::Options;

use super::{Fixture, remote_options};
use crate::tests::support::Random;
use crate::{Cache, restore};

const ENDPOINT: &str = "DEFROST_TEST_CHILD_ENDPOINT";
const CACHE: &str = "DEFROST_TEST_CHILD_CACHE";
const MODEL: &str = "DEFROST_TEST_CHILD_MODEL";

/// What a child does; nothing when the suite itself runs it.
#[test]
fn child() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return };
    let mut options = remote_options(&endpoint);
    options.cache = Some(Cache::new(std::env::var(CACHE).unwrap(), None));
    let location = std::env::var(MODEL).unwrap().parse().unwrap();
    let snapshot = restore(&location, &options).unwrap();
    let mut hasher = blake3::Hasher::new();
    for tensor in &snapshot.manifest().tensors {
        hasher.update(&snapshot.tensor(&tensor.name).unwrap().bytes);
    }
    snapshot.wait_complete().unwrap();
    println!("\nread {}", hasher.finalize());
    println!("pss {}", pss());
    std::io::stdout().flush().unwrap();
    // Stays until every process has measured, if it is asked to.
    if std::env::var_os("DEFROST_TEST_CHILD_STAYS").is_some() {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        println!("pss {}", pss());
    }
}

/// Bytes of this process, shared ones divided among those that share them.
fn pss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

fn spawn(fixture: &Fixture, stays: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "tests::remote::processes::child", "--nocapture"])
        .env(ENDPOINT, fixture.server.url())
        .env(CACHE, fixture.cache())
        .env(MODEL, fixture.by_root().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if stays {
        command.env("DEFROST_TEST_CHILD_STAYS", "1");
    }
    command.spawn().unwrap()
}

fn digest(fixture: &Fixture) -> String {
    let mut hasher = blake3::Hasher::new();
    fixture.sample.data.iter().for_each(|(_, bytes)| {
        hasher.update(bytes);
    });
    hasher.finalize().to_string()
}

#[test]
fn eight_processes_on_an_empty_cache_fetch_one_copy() {
    let fixture = Fixture::with_chunks(2048, Options::default());
    let mut children: Vec<Child> = (0..8).map(|_| spawn(&fixture, true)).collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
        .collect();
    let expected = digest(&fixture);
    for lines in &mut outputs {
        let read = lines.find_map(|line| line.unwrap().strip_prefix("read ").map(str::to_owned));
        assert_eq!(read.as_deref(), Some(expected.as_str()));
    }
    // All have everything mapped now; what each says next is its share.
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let shares: Vec<u64> = outputs
        .iter_mut()
        .map(|lines| {
            lines
                .filter_map(|line| line.unwrap().strip_prefix("pss ").and_then(|n| n.parse().ok()))
                .last()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    fixture.assert_cached();
    let sent = fixture.server.stats().body_bytes_sent;
    let copy = fixture.file.len() as u64 - 4096;
    // A starved process may take a request for a silent one and send a second.
    assert!((copy..copy + copy / 8).contains(&sent), "one copy of {copy} bytes, not {sent}");
    println!("8 processes, {} bytes: {sent} bytes on the wire, PSS {shares:?}", fixture.file.len());
}

/// What a killed process left: whether its manifest is in place, and how many chunks are good.
fn left(fixture: &Fixture) -> (bool, u64) {
    if fixture.names_in_cache().iter().any(|name| name.strip_suffix(".snap").is_some()) {
        return (true, u64::MAX);
    }
    let state = fixture.cache().join(format!("{}.state", fixture.root));
    let state = std::fs::read(state).unwrap_or_default();
    // The board's format: its name first, then from byte 64 on one byte a chunk, 3 for a good one.
    let good = state.iter().skip(64).filter(|&&byte| byte == 3).count();
    (state.starts_with(b"DFRSTBRD"), good as u64)
}

/// Kills the downloader at random moments: when the server has sent a random number of bytes, to the byte; or when a
/// random number of chunks is good, all of them included, which is when the file gets its name.
#[test]
fn a_download_killed_at_any_moment_is_taken_up_where_it_was() {
    let kills: u64 = std::env::var("DEFROST_TEST_KILLS").map_or(100, |n| n.parse().unwrap());
    let mut random = Random(20_261_125);
    let fixture = Fixture::with_chunks(96, Options::default());
    let (whole, expected) = (fixture.file.len() as u64, digest(&fixture));
    let manifest = fixture.data_offset() - 4096;
    // What a kill may waste: the superblock, the manifest, and eight requests of four chunks in flight.
    let waste = fixture.data_offset() + 8 * 4 * 4096;
    let (mut done, mut wasted) = (0, 0);
    while done < kills {
        std::fs::remove_dir_all(fixture.cache()).unwrap_or_default();
        let (mut sent, mut killed) = (0, 0);
        // A chain of starts that are killed, then one that lives.
        for _ in 0..=random.below(4) {
            fixture.server.reset_stats();
            let child = Arc::new(Mutex::new(spawn(&fixture, false)));
            if random.below(2) == 0 {
                let victim = Arc::clone(&child);
                let at = random.below(usize::try_from(whole).unwrap()) as u64;
                fixture.server.at_body_bytes(at, move || victim.lock().unwrap().kill().unwrap());
            } else {
                let enough = random.below(97) as u64;
                let ended =
                    |child: &Mutex<Child>| child.lock().unwrap().try_wait().unwrap().is_some();
                while left(&fixture).1 < enough && !ended(&child) {
                    std::thread::yield_now();
                }
                child.lock().unwrap().kill().unwrap();
            }
            wait(&child);
            sent += fixture.server.stats().body_bytes_sent;
            killed += 1;
        }
        let (published, good) = left(&fixture);
        fixture.server.reset_stats();
        let survivor = spawn(&fixture, false).wait_with_output().unwrap();
        let text = String::from_utf8(survivor.stdout).unwrap();
        assert!(survivor.status.success() && text.contains(&format!("read {expected}")), "{text}");
        fixture.assert_cached();
        let again = fixture.server.stats().body_bytes_sent;
        let missing = match good {
            u64::MAX => 0,
            good => 4096 + u64::from(!published) * manifest + (96 - good) * 4096,
        };
        // More only where a starved process took a request for a silent one and sent a second.
        assert!((missing..=missing + waste).contains(&again), "{again}: {good} of 96 were good");
        assert!(sent + again <= whole + killed * waste, "{sent} + {again} of {whole}");
        wasted = wasted.max((sent + again).saturating_sub(whole) / killed);
        done += killed;
    }
    println!(
        "{done} kills: at most {wasted} bytes fetched twice per kill, {waste} may be in flight"
    );
}

/// Waits for the end without holding the lock that the killer needs.
fn wait(child: &Mutex<Child>) {
    loop {
        if child.lock().unwrap().try_wait().unwrap().is_some() {
            return;
        }
        std::thread::yield_now();
    }
}
