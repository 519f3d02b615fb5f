use proptest::collection::vec;
use proptest::prelude::*;

use super::writing::Content;
use super::*;

fn parse(bytes: impl Into<Bytes>) -> Result<Gguf, Error> {
    Gguf::parse(bytes.into())
}

#[track_caller]
fn refused(bytes: impl Into<Bytes>, kind: Kind, part: &str) {
    let error = parse(bytes).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

/// One tensor and perhaps an alignment.
fn with(tensors: &[(&str, GgufKind, &[usize])], metadata: &[(&str, GgufValue)]) -> Vec<u8> {
    let tensors = tensors.iter().map(|(name, kind, shape)| ((*name).into(), *kind, shape.to_vec()));
    let metadata = metadata.iter().map(|(key, value)| ((*key).into(), value.clone()));
    Content { version: 3, metadata: metadata.collect(), tensors: tensors.collect() }.encode()
}

#[test]
fn a_file_comes_back_with_every_type_of_value() {
    let content = Content::sample();
    for version in [2, 3] {
        let file = Content { version, ..content.clone() }.encode();
        let model = parse(file.clone()).unwrap();
        assert_eq!((model.version(), model.alignment()), (version, 64));
        assert_eq!(model.metadata().count(), content.metadata.len());
        for (key, value) in &content.metadata {
            assert_eq!(model.get(key), Some(value));
        }
        assert_eq!(model.tensors().len(), content.tensors.len());
        for (at, ((name, kind, shape), found)) in
            content.tensors.iter().zip(model.tensors()).enumerate()
        {
            assert_eq!((name, kind, shape), (&found.name, &found.kind, &found.shape));
            assert!(found.offset.is_multiple_of(64));
            assert_eq!(found.bytes.is_none(), matches!(kind, GgufKind::Other(20)), "{name}");
            let bytes = found.bytes.clone().unwrap_or_default();
            assert!(bytes.iter().all(|&byte| usize::from(byte) == at + 1), "{name}");
        }
        let [first, second, ..] = model.tensors() else { unreachable!() };
        assert_eq!(first.bytes.as_ref().unwrap().len(), 2 * 34);
        assert_eq!(second.bytes.as_ref().unwrap().len(), 12);
    }
}

#[test]
fn arrays_are_decoded_on_demand() {
    let model = parse(Content::sample().encode()).unwrap();
    let Some(GgufValue::Array(words)) = model.get("tokenizer.ggml.tokens") else { unreachable!() };
    assert_eq!((words.len(), words.element(), words.is_empty()), (3, GgufType::String, false));
    let words: Vec<GgufValue> = words.values().collect();
    assert_eq!(words, ["[CLS]", "ü", ""].map(|word| GgufValue::String(word.into())));
    let Some(GgufValue::Array(nested)) = model.get("a.nested") else { unreachable!() };
    let lengths = nested.values().map(|value| match value {
        GgufValue::Array(inner) => inner.len(),
        _ => 99,
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_file_is_opened_by_path_and_errors_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    assert_eq!(Gguf::open(&path).unwrap_err().kind(), Kind::NotFound);
    std::fs::write(&path, Content::sample().encode()).unwrap();
    assert_eq!(Gguf::open(&path).unwrap().tensors().len(), 5);
    std::fs::write(&path, "GGUF").unwrap();
    let error = Gguf::open(&path).unwrap_err();
    assert_eq!((error.path(), error.offset()), (Some(&*path), Some(4)));
}

#[test]
fn foreign_files_and_versions_are_called_what_they_are() {
    refused(
        &b"PK\x03\x04____"[..],
        Kind::Corrupt,
        "not a GGUF file at byte 0: expected GGUF, found PK",
    );
    refused(&b""[..], Kind::Truncated, "expected 4 more bytes, found 0");
    refused(&b"GGUF\x01\0\0\0"[..], Kind::Unsupported, "unknown GGUF version at byte 4");
    refused(&b"GGUF\0\0\0\x03"[..], Kind::Unsupported, "big-endian");
}

/// The data may be cut without a word only where no tensor lies.
#[test]
fn every_truncation_is_found() {
    let mut content = Content::sample();
    content.tensors.truncate(2);
    let file = content.encode();
    let end = file.iter().rposition(|&byte| byte == 2).unwrap() + 1;
    for cut in 0..end {
        let error = parse(file[..cut].to_vec()).unwrap_err();
        assert_eq!(error.kind(), Kind::Truncated, "{cut}: {error}");
        assert!(error.offset().is_some_and(|at| at <= cut as u64), "{cut}: {error}");
    }
    assert!(parse(file[..end].to_vec()).is_ok());
}

#[test]
fn counts_beyond_the_file_allocate_nothing() {
    for at in [8, 16] {
        for count in [u64::MAX, 1 << 40, 1000] {
            let mut file = Content::sample().encode();
            file[at..at + 8].copy_from_slice(&count.to_le_bytes());
            refused(file, Kind::Truncated, &format!("than the file can hold at byte {at}"));
        }
    }
    for element in [GgufType::U64, GgufType::String, GgufType::Array, GgufType::Bool] {
        let mut array = GgufArray::of(element, &[]);
        for len in [u64::MAX, 1 << 60, 1000] {
            array.len = len;
            let file = with(&[], &[("a", GgufValue::Array(array.clone()))]);
            refused(file, Kind::Truncated, "an array is longer than the file");
        }
    }
}

#[test]
fn arrays_of_arrays_end_somewhere() {
    let nest = |levels| {
        let inner = GgufArray::of(GgufType::U8, &[]);
        let outer = (1..levels)
            .fold(inner, |inner, _| GgufArray::of(GgufType::Array, &[GgufValue::Array(inner)]));
        with(&[], &[("a", GgufValue::Array(outer))])
    };
    assert!(parse(nest(4)).is_ok());
    refused(nest(5), Kind::Unsupported, "too deep");
    refused(nest(1000), Kind::Unsupported, "too deep");
}

#[test]
fn metadata_that_contradict_themselves() {
    let twice = [("a", GgufValue::U8(1)), ("a", GgufValue::U8(2))];
    refused(with(&[], &twice), Kind::Corrupt, "a metadata key occurs twice at byte 38");
    refused(
        with(&[], &[("", GgufValue::U8(1)), ("b", GgufValue::U8(2))]),
        Kind::Corrupt,
        "unusable",
    );
    refused(with(&[], &[("\u{1b}[31m", GgufValue::U8(1))]), Kind::Corrupt, "control characters");
    for wrong in [GgufValue::U32(0), GgufValue::U32(48), GgufValue::U64(32)] {
        let file = with(&[], &[("general.alignment", wrong)]);
        refused(file, Kind::Corrupt, "expected a power of two of type u32");
    }
    let mut file = with(&[], &[("a", GgufValue::Bool(true))]);
    file.truncate(38);
    file[37] = 2;
    refused(file.clone(), Kind::Corrupt, "neither true nor false at byte 37");
    file[33] = 13;
    refused(file, Kind::Corrupt, "unknown type of a metadata value at byte 33");
    let mut file = with(&[], &[("a", GgufValue::String("xyz".into()))]);
    let at = file.iter().position(|&byte| byte == b'y').unwrap();
    file[at] = 0xff;
    refused(file, Kind::Corrupt, &format!("not UTF-8 at byte {at}: expected UTF-8, found 0xff"));
}

#[test]
fn tensors_that_contradict_themselves() {
    let f32 = GgufKind::F32;
    refused(with(&[("a", f32, &[1]), ("a", f32, &[1])], &[]), Kind::Corrupt, "\"a\" occurs twice");
    refused(with(&[("a", f32, &[1; 9])], &[]), Kind::Corrupt, "too many dimensions");
    refused(
        with(&[("a", GgufKind::Q8_0, &[32, 31])], &[]),
        Kind::Corrupt,
        "rows of a multiple of 32",
    );
    refused(with(&[("a", GgufKind::Q4K, &[])], &[]), Kind::Corrupt, "rows of a multiple of 256");
    let one = with(&[("a", f32, &[4])], &[]);
    // Header 24, name 9, rank 4, dimension 8, kind 4, offset 8.
    let edited = |at: usize, value: u64| {
        let mut file = one.clone();
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        file
    };
    refused(edited(37, u64::MAX), Kind::Corrupt, "fewer than 2^64 bytes");
    refused(edited(37, 1 << 40), Kind::Truncated, "reaches beyond the file");
    refused(edited(49, 16), Kind::Corrupt, "is not aligned");
    refused(edited(49, 1 << 63), Kind::Truncated, "reaches beyond the file");
    refused(edited(49, u64::MAX - 31), Kind::Truncated, "reaches beyond the file");
    let mut two = with(&[("a", f32, &[64]), ("b", f32, &[4])], &[]);
    assert!(parse(two.clone()).is_ok());
    // The second entry ends at 24 + 33 + 33 with its offset.
    two[82..90].copy_from_slice(&32u64.to_le_bytes());
    refused(two, Kind::Corrupt, "tensors \"a\" and \"b\" overlap");
}

fn any_value() -> impl Strategy<Value = GgufValue> {
    let plain = prop_oneof![
        any::<u8>().prop_map(GgufValue::U8),
        any::<i64>().prop_map(GgufValue::I64),
        any::<bool>().prop_map(GgufValue::Bool),
        (-1e9f32..1e9).prop_map(GgufValue::F32),
        ".{0,12}".prop_map(GgufValue::String),
    ];
    let array = prop_oneof![
        vec(any::<i16>().prop_map(GgufValue::I16), 0..5)
            .prop_map(|values| GgufArray::of(GgufType::I16, &values)),
        vec(".{0,9}".prop_map(GgufValue::String), 0..5)
            .prop_map(|values| GgufArray::of(GgufType::String, &values)),
    ];
    prop_oneof![plain, array.prop_map(GgufValue::Array)]
}

const KINDS: [GgufKind; 6] = [
    GgufKind::F32,
    GgufKind::F16,
    GgufKind::Bf16,
    GgufKind::Q4_1,
    GgufKind::Q8_0,
    GgufKind::Other(19),
];

prop_compose! {
    fn any_content()(
        version in 2u32..4,
        values in vec(any_value(), 0..6),
        tensors in vec((0..KINDS.len(), vec(0usize..4, 0..3)), 0..6),
        alignment in proptest::option::of(0u32..8),
    ) -> Content {
        let mut metadata: Vec<_> =
            values.into_iter().enumerate().map(|(at, value)| (format!("key.{at}"), value)).collect();
        if let Some(power) = alignment {
            metadata.push(("general.alignment".to_owned(), GgufValue::U32(1 << power)));
        }
        let tensors = tensors.into_iter().enumerate().map(|(at, (kind, mut shape))| {
            // Whole blocks for every kind.
            shape.push(32 * (at % 3));
            (format!("tensor.{at}"), KINDS[kind], shape)
        });
        Content { version, metadata, tensors: tensors.collect() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn what_is_written_comes_back(content in any_content()) {
        let model = parse(content.encode()).unwrap();
        for (key, value) in &content.metadata {
            prop_assert_eq!(model.get(key), Some(value));
        }
        for ((name, kind, shape), found) in content.tensors.iter().zip(model.tensors()) {
            prop_assert_eq!((name, kind, shape), (&found.name, &found.kind, &found.shape));
        }
    }

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..300)) {
        crate::fuzzing::gguf(&bytes);
        crate::fuzzing::gguf(&[b"GGUF\x03\0\0\0", &bytes[..]].concat());
    }

    #[test]
    fn mutations(edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut file = Content::sample().encode();
        for (at, value) in edits {
            let at = at.index(file.len());
            file[at] = value;
        }
        crate::fuzzing::gguf(&file);
    }
}
