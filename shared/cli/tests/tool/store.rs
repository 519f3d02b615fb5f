//! push, pull, ls, rm and gc against a bucket on loopback; rerank from it.

use std::path::Path;

use defrost_testing::s3::{Fault, Options, Rule, S3Server, When, Which};

use super::support::{Done, command, finish, pack};

/// A bucket, a packed model, and a cache for this test alone.
struct Shop {
    server: S3Server,
    dir: tempfile::TempDir,
    root: String,
}

impl Shop {
    fn new() -> Self {
        let server = S3Server::start(Options { require_auth: true, ..Options::default() }).unwrap();
        server.create_bucket("models");
        let dir = tempfile::tempdir().unwrap();
        let root = pack(dir.path(), "bert-classifier", "int8", "model.snap");
        Self { server, dir, root }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, args: &[&str]) -> Done {
        let mut command = command(self.path(), args);
        command
            .env("AWS_ENDPOINT_URL", self.server.url())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("CACHE_DIR", "cache");
        finish(command)
    }

    fn url(&self) -> String {
        format!("s3://models/rerank/{}.snap", self.root)
    }
}

#[test]
fn a_snapshot_goes_to_a_bucket_and_comes_back() {
    let shop = Shop::new();
    let pushed = shop.run(&["push", "model.snap", "s3://models/rerank"]).text();
    assert_eq!(pushed.lines().next(), Some(shop.url().as_str()));
    assert!(pushed.contains(&format!("root  {}", shop.root)), "{pushed}");
    let again = shop.run(&["push", "model.snap", "s3://models/rerank/"]).text();
    assert!(again.contains("was there already"), "{again}");

    let listed = shop.run(&["ls", "s3://models/"]).text();
    assert!(listed.trim_end().ends_with(&shop.url()) && listed.lines().count() == 1, "{listed}");
    let listed = shop.run(&["ls", "s3://models/rerank/", "--json"]).json();
    assert_eq!(listed[0]["url"], shop.url());
    let len = std::fs::metadata(shop.path().join("model.snap")).unwrap().len();
    assert_eq!(listed[0]["bytes"], len);

    let pulled = shop.run(&["pull", &shop.url(), "--out", "back/again.snap", "--force"]).text();
    assert!(pulled.contains(&format!("root  {}", shop.root)), "{pulled}");
    let read = |name: &str| std::fs::read(shop.path().join(name)).unwrap();
    assert!(read("model.snap") == read("back/again.snap"));
    let left: Vec<_> = std::fs::read_dir(shop.path().join("back")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let beside = format!("back/{}.snap", shop.root);
    std::fs::copy(shop.path().join("model.snap"), shop.path().join(&beside)).unwrap();
    shop.run(&["pull", &shop.url(), "--out", "back/more.snap"]).text();
    assert!(shop.path().join(&beside).is_file(), "one that lay there before stays");

    assert!(shop.run(&["rm", &shop.url()]).text().contains("removed"));
    let again = shop.run(&["rm", &shop.url()]);
    assert!(again.failure().contains("there is no such snapshot"), "{again:?}");
    assert_eq!(shop.run(&["ls", "s3://models/"]).text(), "");
    let gone = shop.run(&["pull", &shop.url()]);
    assert!(gone.failure().contains("404") && gone.failure().contains(&shop.url()), "{gone:?}");
}

#[test]
fn a_pulled_snapshot_is_in_the_cache_until_it_is_collected() {
    let shop = Shop::new();
    shop.run(&["push", "model.snap", "s3://models/rerank"]).text();
    let pulled = shop.run(&["pull", "s3://models/rerank"]).text();
    let cached = format!("cache/{}.snap", shop.root);
    assert_eq!(pulled.lines().next(), Some(cached.as_str()));
    shop.server.reset_stats();
    let again = shop.run(&["pull", &shop.url()]).text();
    assert_eq!(again.lines().next(), Some(cached.as_str()));
    assert_eq!(shop.server.stats().requests, 0, "a root in the name needs no request");

    let listed = shop.run(&["ls", "--json"]).json();
    assert_eq!((&listed[0]["complete"], &listed[0]["in_use"]), (&true.into(), &false.into()));
    assert!(shop.run(&["ls"]).text().contains(&cached));
    let kept = shop.run(&["gc", "--max-bytes", "1000000000"]).text();
    assert!(kept.starts_with("0 B freed"), "{kept}");
    let collected = shop.run(&["gc", "--json"]).json();
    assert_eq!(collected["removed"][0], cached);
    assert_eq!(collected["left_bytes"], 0);
    assert_eq!(std::fs::read_dir(shop.path().join("cache")).unwrap().count(), 0);
}

#[test]
fn rerank_reads_from_the_bucket_and_scores_the_same() {
    let shop = Shop::new();
    shop.run(&["push", "model.snap", "s3://models/one.snap"]).text();
    std::fs::write(shop.path().join("docs.json"), r#"["a b", "c d e", "f"]"#).unwrap();
    let rerank = |model: &str| {
        shop.run(&[
            "rerank",
            "--model",
            model,
            "--query",
            "a",
            "--docs-file",
            "docs.json",
            "--json",
        ])
        .json()
    };
    let local = rerank("model.snap");
    assert_eq!(rerank("s3://models/one.snap"), local);
    assert_eq!(rerank("s3://models/one.snap"), local, "and from the cache");
    // Some requests fail and the scores are the same.
    std::fs::remove_dir_all(shop.path().join("cache")).unwrap();
    let flaky = Rule { on: Which::Gets, when: When::FirstAttempts(1), fault: Fault::Status(500) };
    shop.server.add_rule(flaky);
    assert_eq!(rerank("s3://models/one.snap"), local);
}

#[test]
fn a_damaged_snapshot_is_not_pushed() {
    let shop = Shop::new();
    let path = shop.path().join("model.snap");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = shop.run(&["push", "model.snap", "s3://models/"]);
    assert!(refused.failure().contains("does not match its hash"), "{refused:?}");
    assert_eq!(shop.server.stats().requests, 0);
}

#[test]
fn missing_credentials_and_wrong_places_are_told() {
    let shop = Shop::new();
    let mut anonymous = command(shop.path(), &["ls", "s3://models/"]);
    anonymous.env("AWS_ENDPOINT_URL", shop.server.url()).env("AWS_SKIP_SIGNATURE", "true");
    let refused = finish(anonymous);
    assert!(refused.failure().contains("AWS_ACCESS_KEY_ID"), "{refused:?}");
    let wrong = shop.run(&["push", "model.snap", "gs://models/"]);
    assert!(wrong.usage().contains("s3:// with AWS_ENDPOINT_URL"), "{wrong:?}");
    let prefix = shop.run(&["rm", "s3://models/"]);
    assert!(prefix.failure().contains("ends in .snap"), "{prefix:?}");
    let mut homeless = command(shop.path(), &["ls", "s3://models/"]);
    homeless.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "secret");
    // The platform's own address, which is asked for a region, is none of this machine's.
    homeless.env("AWS_EC2_METADATA_DISABLED", "true");
    let refused = finish(homeless);
    assert!(refused.failure().contains("set AWS_REGION"), "{refused:?}");
    let nowhere = shop.run(&["ls", "s3://no-such-bucket/"]);
    assert!(nowhere.failure().contains("NoSuchBucket"), "{nowhere:?}");
}
