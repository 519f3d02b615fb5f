//! Files that are no JSON lines, by their first bytes or their names, and what to do with them.

use std::path::Path;

use anyhow::{Result, bail};

/// Compressed files by how they begin, and the programs that open them.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// Other forms by how they begin.
const FOREIGN: [(&[u8], &str); 6] = [
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
    (b"ARROW1", "an Arrow file"),
    (b"FEA1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"SQLite format 3\0", "an SQLite database"),
];

/// Refuses what is known to be something else, whose rows would all be refused one by one.
pub(super) fn check(name: &str, begins: &[u8]) -> Result<()> {
    if let Some((_, tool)) = COMPRESSED.iter().find(|(magic, _)| begins.starts_with(magic)) {
        bail!("{name} is compressed: give it as `{tool} -dc {name} | defrost … --in -`");
    }
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| begins.starts_with(magic)) {
        bail!("{name} is {what}, which is not read: expected JSON lines or Parquet");
    }
    if begins.starts_with(b"\xff\xfe") || begins.starts_with(b"\xfe\xff") {
        bail!("{name} is UTF-16: give it as `iconv -f utf-16 -t utf-8 {name} | defrost … --in -`");
    }
    let text = begins.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begins).trim_ascii_start();
    if let Some(rest) = text.strip_prefix(b"[")
        && (rest.first().is_none_or(u8::is_ascii_whitespace) || rest.starts_with(b"{"))
    {
        bail!(
            "{name} is one JSON list, expected JSON lines, an object on each: give it as `jq -c '.[]' {name} | defrost … \
             --in -`"
        );
    }
    let ends = |ending: &str| has_ending(Path::new(name), ending);
    if (ends("csv") || ends("tsv")) && text.first() != Some(&b'{') {
        bail!("{name} is a CSV file, which is not read: {}", from_csv(ends("tsv")));
    }
    Ok(())
}

/// What to do with a line that looks like one of CSV.
pub(super) fn csv(line: &str) -> Option<String> {
    let is_tab = line.contains('\t');
    let has_columns = is_tab || line.contains(',') || line.contains(';');
    let begins = line.trim_start().chars().next()?;
    (has_columns && !"{[".contains(begins)).then(|| from_csv(is_tab))
}

fn from_csv(tabs: bool) -> String {
    let delimiter = if tabs { ", delimiter=\"\\t\"" } else { "" };
    format!(
        "make JSON lines of it, as `python3 -c 'import csv, json, sys; [print(json.dumps(row)) for row in \
         csv.DictReader(sys.stdin{delimiter})]' < FILE | defrost … --in -` does"
    )
}

/// Whether a file is called like this, in whichever case.
pub(super) fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| end.eq_ignore_ascii_case(ending))
}
