use proptest::collection::vec;
use proptest::prelude::*;

use super::writing::{Message, sample, tensor};
use super::*;

fn parse(bytes: impl Into<Bytes>) -> Result<OnnxModel, Error> {
    OnnxModel::parse(bytes.into())
}

#[track_caller]
fn refused(bytes: impl Into<Bytes>, kind: Kind, part: &str) {
    let error = parse(bytes).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

fn with(tensor: &Message) -> Vec<u8> {
    Message::default().message(7, &Message::default().message(5, tensor)).0
}

fn only(tensor: &Message) -> OnnxTensor {
    let model = parse(with(tensor)).unwrap();
    let [tensor] = model.initializers() else { panic!("{model:?}") };
    tensor.clone()
}

#[test]
fn a_model_comes_back() {
    let model = parse(sample()).unwrap();
    assert_eq!(model.ir_version(), 8);
    assert_eq!((model.producer(), model.producer_version()), ("pytorch", "2.9"));
    assert_eq!(model.opsets(), [(String::new(), 17)]);
    assert_eq!(model.metadata().get("task").map(String::as_str), Some("rerank"));
    assert_eq!((model.graph_name(), model.nodes()), ("main", 1));
    assert_eq!(
        (model.inputs(), model.outputs()),
        (&["input_ids".into()][..], &["logits".into()][..])
    );
    let found: Vec<_> = model
        .initializers()
        .iter()
        .map(|t| (t.name.as_str(), t.data_type.to_string(), &t.shape[..], t.len_bytes()))
        .collect();
    assert_eq!(
        found,
        [
            ("raw", "float16".into(), &[2, 3][..], Some(12)),
            ("typed", "float32".into(), &[2], Some(8)),
            ("scalar", "int64".into(), &[], Some(8)),
            ("external", "float32".into(), &[1000, 8], Some(32_000)),
            ("nothing", "int8".into(), &[0], Some(0)),
            ("texts", "string".into(), &[2], None),
        ]
    );
    let data: Vec<_> = model.initializers().iter().map(|t| t.data.clone()).collect();
    let location = "model.onnx_data".to_owned();
    assert_eq!(
        data,
        [
            OnnxData::Raw(Bytes::from_static(&[1; 12])),
            OnnxData::Typed { field: "float_data", values: 2 },
            OnnxData::Typed { field: "int64_data", values: 1 },
            OnnxData::External { location, offset: 4096, len: Some(32_000) },
            OnnxData::Empty,
            OnnxData::Typed { field: "string_data", values: 2 },
        ]
    );
}

#[test]
fn a_file_is_opened_by_path_and_errors_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    assert_eq!(OnnxModel::open(&path).unwrap_err().kind(), Kind::NotFound);
    std::fs::write(&path, sample()).unwrap();
    assert_eq!(OnnxModel::open(&path).unwrap().initializers().len(), 6);
    std::fs::write(&path, "").unwrap();
    assert_eq!(OnnxModel::open(&path).unwrap_err().path(), Some(&*path));
}

#[test]
fn packed_and_single_numbers_are_the_same() {
    let single = only(&tensor("a", 6, &[2, 1]).number(5, 1).number(5, 300));
    let packed =
        Message::default().bytes(1, &[2, 1]).number(2, 6).text(8, "a").bytes(5, &[1, 0xac, 2]);
    let packed = only(&packed);
    assert_eq!((&single.shape, &single.data), (&packed.shape, &packed.data));
    assert_eq!(single.data, OnnxData::Typed { field: "int32_data", values: 2 });
    let halves = only(&tensor("a", 22, &[3]).bytes(5, &[1, 2]));
    assert_eq!(
        (halves.data, halves.data_type.bits()),
        (OnnxData::Typed { field: "int32_data", values: 2 }, Some(4))
    );
    assert_eq!(only(&tensor("a", 21, &[3]).bytes(9, &[1, 2])).len_bytes(), Some(2));
    assert_eq!(
        only(&tensor("a", 14, &[1]).bytes(4, &[0; 8])).data,
        OnnxData::Typed { field: "float_data", values: 2 }
    );
    let unknown = only(&tensor("a", 99, &[7]).bytes(9, &[1]));
    assert_eq!(
        (unknown.len_bytes(), unknown.data),
        (None, OnnxData::Raw(Bytes::from_static(&[1])))
    );
}

#[test]
fn what_is_no_model() {
    refused(&b""[..], Kind::Corrupt, "not an ONNX model at byte 0: expected a graph");
    refused(&b"GGUF"[..], Kind::Corrupt, "not protobuf at byte 0");
    refused(&b"\x08\x08"[..], Kind::Corrupt, "not an ONNX model");
    refused(&b"\x00\x08"[..], Kind::Corrupt, "expected a field number from 1, found 0");
    refused(&b"\x0b\x0c"[..], Kind::Corrupt, "found type 3");
    refused(
        &b"\x0a\x00"[..],
        Kind::Corrupt,
        "ir_version is of another type at byte 0: expected a number",
    );
    refused(&b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"[..], Kind::Corrupt, "at most 64 bits");
    refused(&b"\x3a\x80\x80\x80\x80\x10"[..], Kind::Truncated, "expected 4294967296 more bytes");
    refused(&b"\x3a\x00\x3a\x00"[..], Kind::Corrupt, "two graphs");
}

/// A cut between two fields of the model itself is a shorter model, everything else is found.
#[test]
fn every_truncation_is_found() {
    let whole = sample();
    let mut fields = Fields::new(Reader::new(whole.clone().into()));
    let mut ends = Vec::new();
    let mut has_graph = false;
    while let Some(field) = fields.next().unwrap() {
        if has_graph {
            ends.push(usize::try_from(field.offset).unwrap());
        }
        has_graph |= field.number == 7;
    }
    for cut in 0..whole.len() {
        let parsed = parse(whole[..cut].to_vec());
        assert_eq!(parsed.is_ok(), ends.contains(&cut), "{cut}: {parsed:?}");
        if let Err(error) = parsed {
            assert!(error.offset().is_some_and(|at| at <= cut as u64), "{cut}: {error}");
        }
    }
}

#[test]
fn initializers_that_contradict_themselves() {
    for (tensor, part) in [
        (tensor("", 1, &[0]), "name is unusable"),
        (Message::default().number(2, 1).number(1, 0), "has no name"),
        (tensor("a\nb", 1, &[0]), "control characters"),
        (tensor("a", 1, &[2]).bytes(9, &[0; 7]), "expected 8 bytes of float32 [2], found 7"),
        (tensor("a", 1, &[2]).bytes(4, &[0; 12]), "expected 2 values of float32 [2], found 3"),
        (tensor("a", 1, &[2]).bytes(4, &[0; 7]), "expected a multiple of 4 bytes, found 7"),
        (tensor("a", 1, &[2]), "in no place or in several at byte 2: expected 1, found 0"),
        (tensor("a", 1, &[1]).bytes(9, &[0; 4]).bytes(4, &[0; 4]), "found 2"),
        (tensor("a", 1, &[1]).number(14, 1), "another file that has no name"),
        (tensor("a", 1, &[u64::MAX]), "impossible shape"),
        (tensor("a", 1, &[1 << 62, 4]), "fewer than 2^56 elements"),
        (tensor("a", 1, &[1; 9]), "at most 8 dimensions"),
        (tensor("a", 1 << 40, &[1]), "data_type is too large"),
    ] {
        refused(with(&tensor), Kind::Corrupt, part);
    }
    let one = tensor("a", 1, &[0]);
    let two = Message::default().message(7, &Message::default().message(5, &one).message(5, &one));
    refused(two.0, Kind::Corrupt, "\"a\" occurs twice");
}

#[test]
fn external_data_stay_in_the_directory() {
    let external = |location: &str, offset: &str, length: &str| {
        let place = tensor("a", 1, &[2]).pair(13, "location", location).number(14, 1);
        with(&place.pair(13, "offset", offset).pair(13, "length", length))
    };
    assert!(parse(external("weights.bin", "0", "8")).is_ok());
    for outside in ["", ".", "..", "/etc/passwd", "../a", "a/b", "a\\b", "a\0", "./a", "a/"] {
        refused(external(outside, "0", "8"), Kind::Corrupt, "expected a plain file name");
    }
    refused(external("w", "-1", "8"), Kind::Corrupt, "wrong offset");
    refused(external("w", "0", "eight"), Kind::Corrupt, "wrong length");
    refused(external("w", "0", "9"), Kind::Corrupt, "expected 8 bytes");
    refused(external("w", "18446744073709551615", "8"), Kind::Corrupt, "beyond any file");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn what_is_written_comes_back(
        tensors in vec((prop::sample::select(vec![1u64, 3, 6, 7, 10, 11, 16, 22]), vec(0u64..5, 0..4)), 0..6),
        producer in "[a-z]{0,9}",
        version in any::<u64>(),
    ) {
        let mut graph = Message::default();
        let mut expected = Vec::new();
        for (at, (data_type, shape)) in tensors.iter().enumerate() {
            let bits = OnnxType::from_number(i32::try_from(*data_type).unwrap()).bits().unwrap();
            let len = (shape.iter().product::<u64>() * bits).div_ceil(8);
            let bytes = vec![at.to_le_bytes()[0]; usize::try_from(len).unwrap()];
            graph = graph.message(5, &tensor(&format!("t{at}"), *data_type, shape).bytes(9, &bytes));
            expected.push((shape.clone(), OnnxData::Raw(bytes.into())));
        }
        let file = Message::default().text(2, &producer).message(7, &graph).number(1, version);
        let model = parse(file.0).unwrap();
        prop_assert_eq!((model.producer(), model.ir_version()), (producer.as_str(), version));
        let found: Vec<_> =
            model.initializers().iter().map(|t| (t.shape.clone(), t.data.clone())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..200)) {
        crate::fuzzing::onnx(&bytes);
        crate::fuzzing::onnx(&Message::default().bytes(7, &bytes).0);
        crate::fuzzing::onnx(&with(&Message(bytes)));
    }

    #[test]
    fn mutations(edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut file = sample();
        for (at, value) in edits {
            let at = at.index(file.len());
            file[at] = value;
        }
        crate::fuzzing::onnx(&file);
    }
}
