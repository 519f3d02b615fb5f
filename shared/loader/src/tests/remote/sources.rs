//! Every source does the same: a directory, the test server, and s3s-fs, an S3 server of other authors.

use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;

use defrost_testing::s3::{Options, S3Server};

use super::remote_options;
use crate::tests::support::Sample;
use crate::{Cache, Kind, Location, RestoreOptions, list, pull, push, remove, restore};

/// Runs s3s-fs on a port of its own until the test ends.
fn s3s_fs(dir: &Path) -> String {
    let bucket = dir.join("models");
    std::fs::create_dir_all(&bucket).unwrap();
    let files = s3s_fs::FileSystem::new(dir).unwrap();
    let mut builder = s3s::service::S3ServiceBuilder::new(files);
    builder.set_auth(s3s::auth::SimpleAuth::from_single("test", "secret"));
    let service = builder.build();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (ready, started) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            ready.send(()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                tokio::spawn(async move {
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await;
                });
            }
        });
    });
    started.recv().unwrap();
    url
}

/// What every source must do with snapshots.
fn conforms(place: &str, dir: &Path, options: &RestoreOptions) {
    let at = |name: &str| -> Location { format!("{place}{name}").parse().unwrap() };
    let store = &options.store;
    let file = dir.join("packed.snap");
    let sample = Sample::model();
    let root = sample.write(&file);
    let name = format!("{root}.snap");

    assert_eq!(list(&at(""), store).unwrap(), []);
    let sent = std::sync::Mutex::new(Vec::new());
    let pushed =
        push(&file, &at(""), false, store, &|done, all| sent.lock().unwrap().push((done, all)))
            .unwrap();
    let len = std::fs::metadata(&file).unwrap().len();
    assert_eq!((pushed.root, pushed.len, pushed.already), (root, len, false));
    assert_eq!(sent.lock().unwrap().last(), Some(&(len, len)));
    assert!(push(&file, &at(""), false, store, &|_, _| {}).unwrap().already);

    // A prefix with one snapshot stands for it; with two it must be named.
    let by_prefix = restore(&at(""), options).unwrap();
    assert_eq!(by_prefix.root(), root);
    sample.assert_equal(&by_prefix);
    by_prefix.wait_complete().unwrap();
    push(&file, &at("other.snap"), false, store, &|_, _| {}).unwrap();

    // Under a name of its own, a snapshot is replaced by the same one without a word, by another one only if that is said.
    let second = dir.join("second.snap");
    let other_root = another(&second);
    assert!(push(&file, &at("other.snap"), false, store, &|_, _| {}).unwrap().already);
    let taken = push(&second, &at("other.snap"), false, store, &|_, _| {}).unwrap_err();
    assert_eq!(taken.kind(), Kind::Invalid, "{taken}");
    assert!(taken.to_string().contains(&root.to_string()), "{taken}");
    assert!(!push(&second, &at("other.snap"), true, store, &|_, _| {}).unwrap().already);
    assert_eq!(restore(&at("other.snap"), options).unwrap().root(), other_root);
    push(&file, &at("other.snap"), true, store, &|_, _| {}).unwrap();

    let listed = list(&at(""), store).unwrap();
    let keys: Vec<&str> = listed.iter().map(|one| one.key.rsplit('/').next().unwrap()).collect();
    let mut expected = [name.as_str(), "other.snap"];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert!(listed.iter().all(|one| one.len == len && one.modified.is_some()));
    assert_eq!(restore(&at(""), options).unwrap_err().kind(), Kind::Invalid);
    let again: Location = listed[0].url.parse().unwrap();
    assert_eq!(restore(&again, options).unwrap().root(), root);

    let out = dir.join("pulled.snap");
    let mut seen = Vec::new();
    let pulled = pull(&at("other.snap"), &out, options, &mut |done, all| seen.push((done, all)));
    assert_eq!(pulled.unwrap(), root);
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&file).unwrap());

    assert!(remove(&at("other.snap"), None, store).unwrap());
    let gone = remove(&at("other.snap"), None, store).unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
    assert!(gone.to_string().contains("other.snap: there is no such snapshot"), "{gone}");
    assert_eq!(list(&at(""), store).unwrap().len(), 1);
    assert_eq!(remove(&at(""), None, store).unwrap_err().kind(), Kind::Invalid);

    // One that lies where another one is pulled to stays where it is.
    let beside = dir.join("beside");
    std::fs::create_dir(&beside).unwrap();
    std::fs::copy(&file, beside.join(&name)).unwrap();
    assert_eq!(pull(&at(&name), &beside.join("copy.snap"), options, &mut |_, _| {}).unwrap(), root);
    assert!(beside.join(&name).is_file() && beside.join("copy.snap").is_file());

    let missing = restore(&at("other.snap"), options).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound, "{missing}");
    assert!(missing.to_string().contains("other.snap"), "{missing}");
}

/// Another snapshot at `path`; its root.
fn another(path: &Path) -> crate::Root {
    let mut sample = Sample::empty();
    sample.segment("other");
    sample.tensor("w", crate::Dtype::U8, "packed", &[64]);
    sample.write(path)
}

fn options(dir: &Path, endpoint: &str) -> RestoreOptions {
    RestoreOptions { cache: Some(Cache::new(dir.join("cache"), None)), ..remote_options(endpoint) }
}

#[test]
fn a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("volume");
    std::fs::create_dir(&place).unwrap();
    conforms(&format!("{}/", place.display()), dir.path(), &options(dir.path(), ""));
}

#[test]
fn the_test_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(Options { require_auth: true, ..Options::default() }).unwrap();
    server.create_bucket("models");
    conforms("s3://models/some/prefix/", dir.path(), &options(dir.path(), &server.url()));
}

#[test]
fn a_server_somebody_else_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let url = s3s_fs(&dir.path().join("s3"));
    let right = options(dir.path(), &url);
    conforms("s3://models/some/prefix/", dir.path(), &right);

    let mut wrong = right.clone();
    wrong.store.credentials = Some(("test".to_owned(), "guess".to_owned()));
    let location: Location = "s3://models/some/prefix/x.snap".parse().unwrap();
    let error = restore(&location, &wrong).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
}

#[test]
fn large_files_go_up_in_parts_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(Options::default()).unwrap();
    server.create_bucket("models");
    let mut sample = Sample::empty();
    sample.segment("big");
    sample.tensor("w", crate::Dtype::U8, "packed", &[20 * 1024 * 1024]);
    let file = dir.path().join("big.snap");
    let mut writer = crate::SnapshotWriter::create(&file, sample.plan.clone()).unwrap();
    writer.write("w", &sample.data[0].1).unwrap();
    let root = writer.finish().unwrap();
    let options = options(dir.path(), &server.url());
    let place: Location = "s3://models/".parse().unwrap();
    push(&file, &place, false, &options.store, &|_, _| {}).unwrap();
    assert_eq!(server.open_uploads(), 0);
    let stored = server.get("models", &format!("{root}.snap")).unwrap();
    assert!(stored == std::fs::read(&file).unwrap());
    let snapshot = restore(&place, &options).unwrap();
    sample.assert_equal(&snapshot);
}
