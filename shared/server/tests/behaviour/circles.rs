//! No two modules of the server need each other, nor do three in a ring: each can be read, and
//! tested, with those below it.
//!
//! Read from the sources: what a module needs are the paths in its `use` lines and its code, as far
//! as they lead to another file of this crate. The crate's own page is left out, which needs all of
//! them, and so are tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules that exist for tests only.
const TESTS: &str = "interleavings";

pub(super) type Modules = BTreeMap<String, String>;

pub(super) fn read(folder: &Path, name: &str, modules: &mut Modules) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let module = if name.is_empty() { stem } else { format!("{name}::{stem}") };
        if path.is_dir() {
            read(&path, &module, modules);
        } else if module != "lib" && !module.starts_with(TESTS) {
            let source = std::fs::read_to_string(&path).expect("a source");
            let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
            modules.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The paths of a `use` tree: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn paths(tree: &str) -> Vec<String> {
    let Some((before, inside)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = inside.trim_end().trim_end_matches('}');
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in inside.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("one at least").push(letter);
    }
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| paths(&format!("{}{}", before.trim(), part.trim()))).collect()
}

/// Every path that a module's code names, `use` lines first.
fn named(code: &str) -> Vec<String> {
    let uses = code.split("use ").skip(1).filter_map(|rest| rest.split_once(';'));
    let mut named: Vec<String> = uses.flat_map(|(tree, _)| paths(tree)).collect();
    let is_of_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = code.split(|letter| !is_of_path(letter));
    named.extend(words.filter(|word| word.contains("::")).map(str::to_owned));
    named
}

/// The module of this crate that a path in `module` leads to, if it is another one.
fn target(module: &str, path: &str, modules: &Modules) -> Option<String> {
    let parts: Vec<&str> = path.split("::").map(str::trim).collect();
    let mut place: Vec<&str> = module.split("::").collect();
    let rest = match parts[0] {
        "crate" => {
            place.clear();
            &parts[1..]
        }
        "self" => &parts[1..],
        "super" => {
            let up = parts.iter().take_while(|part| **part == "super").count();
            place.truncate(place.len().checked_sub(up)?);
            &parts[up..]
        }
        // A child by its bare name, or another crate.
        _ => &parts[..],
    };
    place.extend(rest);
    let found = (1..=place.len()).rev().map(|length| place[..length].join("::"));
    found.into_iter().find(|name| modules.contains_key(name)).filter(|name| name != module)
}

/// The modules around a circle, if there is one that can be reached from here.
fn circle<'a>(
    at: &'a str,
    needs: &'a BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(begin) = way.iter().position(|module| *module == at) {
        return Some(way[begin..].iter().map(|&module| module.to_owned()).collect());
    }
    if !done.insert(at) {
        return None;
    }
    way.push(at);
    let found = needs[at].iter().find_map(|next| circle(next, needs, way, done));
    way.pop();
    found
}

pub(super) fn needs(modules: &Modules) -> BTreeMap<String, BTreeSet<String>> {
    let of = |(module, code): (&String, &String)| {
        let named = named(code).into_iter();
        (module.clone(), named.filter_map(|path| target(module, &path, modules)).collect())
    };
    modules.iter().map(of).collect()
}

fn any_circle(needs: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    needs.keys().find_map(|module| circle(module, needs, &mut Vec::new(), &mut done))
}

#[test]
fn modules_of_the_server_form_no_circle() {
    let mut modules = Modules::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut modules);
    let needs = needs(&modules);
    assert!(modules.len() > 70 && needs["life::boot"].contains("life::http"), "{needs:?}");
    assert_eq!(any_circle(&needs), None);
}

/// The check itself sees what it is for.
#[test]
fn circles_are_seen() {
    let code = |name: &str, code: &str| (name.to_owned(), code.to_owned());
    for (b, circle) in [
        ("use crate::c;", None),
        ("use crate::{c, a::{Thing, Other}};", Some(vec!["a", "b"])),
        ("fn f() { crate::a::f(); }", Some(vec!["a", "b"])),
        ("mod inner;\npub use inner::Thing;", Some(vec!["a", "b", "b::inner"])),
    ] {
        let modules = Modules::from([
            code("a", "use super::b::B;"),
            code("b", b),
            code("b::inner", "use super::super::a;"),
            code("c", ""),
        ]);
        let found = any_circle(&needs(&modules));
        let found = found.map(|mut found| {
            found.sort();
            found
        });
        assert_eq!(
            found,
            circle.map(|names| names.into_iter().map(str::to_owned).collect()),
            "{b}"
        );
    }
}
