//! Embedding requests of every shape, each with the answer its client reads. Names begin with the
//! rows of docs/api-rows.md that they prove.

use super::common::{FACTS, answered, dense, read, written};
use defrost_api::{
    Cut, EmbedInput, EmbedRoute, EmbedShape, Embedded, Encoding, Format, Prompt, Rows, VectorKinds,
    embed_answer, raw_answer,
};
use serde_json::{Value, json};

fn texts(request: &defrost_api::EmbedRequest) -> Vec<&str> {
    request.inputs.iter().filter_map(EmbedInput::as_text).collect()
}

#[test]
fn c5_openai_list() {
    let request = read(EmbedRoute::Embeddings, &json!({"model": "m", "input": ["a", "b"]}));
    assert_eq!(request.shape, EmbedShape::OpenAi);
    assert_eq!(texts(&request), ["a", "b"]);
    assert_eq!(
        answered(&request, &[&[0.1, -0.25], &[1.0, 0.0]]),
        json!({
            "id": "embd-1", "object": "list", "created": 7, "model": "m",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.1, -0.25]},
                {"object": "embedding", "index": 1, "embedding": [1.0, 0.0]},
            ],
            "usage": {"prompt_tokens": 10, "total_tokens": 10},
        })
    );
}

#[test]
fn c5_openai_inputs_of_every_form() {
    let tokens = |tokens: &[u32]| EmbedInput::Tokens(tokens.to_vec());
    let text = |text: &str| EmbedInput::Text(text.to_owned());
    for (input, expected, single) in [
        (json!("a"), vec![text("a")], true),
        (json!(["a"]), vec![text("a")], false),
        (json!([1, 2]), vec![tokens(&[1, 2])], true),
        (json!([1.0, 2]), vec![tokens(&[1, 2])], true),
        (json!([[1.0, 2]]), vec![tokens(&[1, 2])], false),
        (json!([[1, 2], [3]]), vec![tokens(&[1, 2]), tokens(&[3])], false),
        (json!(["a", [3]]), vec![text("a"), tokens(&[3])], false),
        (json!([{"text": "a"}]), vec![text("a")], false),
    ] {
        let request = read(EmbedRoute::Embeddings, &json!({"input": input}));
        assert_eq!((request.inputs, request.single), (expected, single), "{input}");
    }
}

#[test]
fn c17_d7_base64_is_little_endian_f32() {
    let request = read(EmbedRoute::Embeddings, &json!({"input": "a", "encoding_format": "base64"}));
    assert_eq!(request.formats, [Format::BASE64]);
    // 1.0 is 00 00 80 3f, -2.0 is 00 00 00 c0.
    assert_eq!(answered(&request, &[&[1.0, -2.0]])["data"][0]["embedding"], "AACAPwAAAMA=");
    for body in [
        json!({"input": "a", "encoding_format": null}),
        json!({"input": "a", "encoding_format": "float"}),
    ] {
        assert_eq!(read(EmbedRoute::Embeddings, &body).formats, [Format::FLOATS]);
    }
}

#[test]
fn floats_have_their_shortest_digits() {
    let request = read(EmbedRoute::Embed, &json!({"inputs": "a"}));
    let values = [0.1, 1.0 / 3.0, 1e-10, -0.062_5, 16_777_216.0];
    assert_eq!(written(&request, &[&values]), "[[0.1,0.33333334,1e-10,-0.0625,16777216.0]]");
}

#[test]
fn c15_sparse_embedding_maps_token_ids_to_weights() {
    let request = read(EmbedRoute::Embeddings, &json!({"input": "a", "return_sparse": true}));
    assert_eq!(
        request.outputs,
        VectorKinds { dense: true, sparse: true, ..VectorKinds::default() }
    );
    let one = Embedded {
        dense: Some(&[0.5]),
        sparse: Some(&[(1024, 0.25), (7, 0.1)]),
        tokens: 4,
        ..Embedded::default()
    };
    let json = serde_json::to_string(&embed_answer(&request, &[one], &[], &FACTS)).expect("json");
    assert!(
        json.contains(r#""embedding":[0.5],"sparse_embedding":{"1024":0.25,"7":0.1}}"#),
        "{json}"
    );
}

#[test]
fn c14_n1_colbert_is_a_list_of_vectors() {
    let body = json!({"input": "a", "embedding_type": ["colbert"]});
    let request = read(EmbedRoute::Embeddings, &body);
    assert_eq!(request.outputs, VectorKinds { colbert: true, ..VectorKinds::default() });
    let rows = Rows { values: &[1.0, 2.0, 3.0, 4.0], width: 2 };
    let one = Embedded { dense: Some(&[9.0]), colbert: Some(rows), ..Embedded::default() };
    let answer = serde_json::to_value(embed_answer(&request, &[one], &[], &FACTS)).expect("json");
    assert_eq!(
        answer["data"][0],
        json!({"object": "embedding", "index": 0, "colbert_embedding": [[1.0, 2.0], [3.0, 4.0]]})
    );
}

#[test]
fn c12_c13_names_of_kinds() {
    let all = VectorKinds { dense: true, sparse: true, colbert: true, hidden: false };
    let none = VectorKinds::default();
    for (extra, expected) in [
        (json!({}), VectorKinds { dense: true, ..none }),
        (json!({"embedding_type": "dense"}), VectorKinds { dense: true, ..none }),
        (json!({"embedding_type": "sparse"}), VectorKinds { dense: true, sparse: true, ..none }),
        (json!({"embedding_type": ["dense", "sparse", "colbert"]}), all),
        (json!({"return_sparse": "true", "return_colbert_vecs": true}), all),
        (
            json!({"return_dense": false, "return_sparse": true}),
            VectorKinds { sparse: true, ..none },
        ),
        (json!({"embedding_type": "float"}), VectorKinds { dense: true, ..none }),
    ] {
        let body = super::common::with(&json!({"input": "a"}), &extra);
        assert_eq!(read(EmbedRoute::Embeddings, &body).outputs, expected, "{body}");
    }
}

#[test]
fn n12_number_types_of_one_vector() {
    let values: &[f32] = &[0.5, -1.0, 0.0, 1.0, -0.1, 0.1, 0.2, 0.3, 0.4];
    for (name, expected) in [
        ("int8", json!([64, -127, 0, 127, -13, 13, 25, 38, 51])),
        ("uint8", json!([191, 0, 128, 255, 115, 140, 153, 166, 179])),
        ("ubinary", json!([0b1001_0111, 0b1000_0000])),
        ("binary", json!([0b1001_0111 - 128, 0])),
        (
            "float",
            json!(
                values
                    .iter()
                    .map(|value| value.to_string().parse::<f64>().ok())
                    .collect::<Vec<_>>()
            ),
        ),
    ] {
        for field in ["output_dtype", "embed_dtype", "embedding_type", "embedding_types"] {
            let value = if field == "embedding_types" { json!([name]) } else { json!(name) };
            let request = read(EmbedRoute::Embeddings, &json!({"input": "a", field: value}));
            assert_eq!(answered(&request, &[values])["data"][0]["embedding"], expected, "{name}");
        }
    }
}

#[test]
fn n12_voyage_packs_bytes_into_base64() {
    let body = json!({
        "input": ["a"], "model": "voyage-3", "input_type": "document", "truncation": true,
        "output_dimension": 2, "output_dtype": "int8", "encoding_format": "base64",
    });
    let request = read(EmbedRoute::Embeddings, &body);
    assert_eq!(request.prompt, Prompt::Document);
    assert_eq!(request.dimensions, Some(2));
    assert_eq!(request.truncation, Cut::End);
    assert_eq!(answered(&request, &[&[1.0, -1.0]])["data"][0]["embedding"], "f4E=");
}

#[test]
fn clients_nulls_are_absent() {
    let every_null = json!({
        "input": "a", "inputs": null, "texts": null, "text": null, "messages": null,
        "images": null, "model": null, "encoding_format": null, "dimensions": null,
        "output_dimension": null, "normalize": null, "normalized": null, "use_activation": null,
        "input_type": null, "task": null, "prompt_name": null, "prompt": null,
        "instruction": null, "embedding_type": null, "embedding_types": null,
        "output_dtype": null, "embed_dtype": null, "endianness": null, "return_dense": null,
        "return_sparse": null, "return_colbert": null, "return_colbert_vecs": null,
        "return_multivector": null, "truncate": null, "truncation": null,
        "truncation_direction": null, "truncation_side": null, "truncate_prompt_tokens": null,
        "max_tokens": null, "late_chunking": null, "modality": null, "user": null,
    });
    let plain = read(EmbedRoute::Embeddings, &json!({"input": "a"}));
    assert_eq!(read(EmbedRoute::Embeddings, &every_null), plain);
    // infinity's client.
    let infinity = json!({"input": "a", "dimensions": 0, "modality": "text", "user": "u"});
    assert_eq!(read(EmbedRoute::Embeddings, &infinity), plain);
}

#[test]
fn llamaindex_tei_embed() {
    let request = read(EmbedRoute::Embed, &json!({"inputs": ["a", "b"], "truncate": true}));
    assert_eq!((request.shape, request.truncation), (EmbedShape::Tei, Cut::End));
    assert_eq!(answered(&request, &[&[0.5], &[0.25]]), json!([[0.5], [0.25]]));
    let one = read(EmbedRoute::Embed, &json!({"inputs": "a", "normalize": false}));
    assert!(one.single && one.normalize == Some(false));
    assert_eq!(answered(&one, &[&[0.5]]), json!([[0.5]]), "a list around one vector too");
    let invocation = read(EmbedRoute::Invocations, &json!({"inputs": "a"}));
    assert_eq!(invocation.shape, EmbedShape::Tei);
    let invocation = read(EmbedRoute::Invocations, &json!({"input": "a"}));
    assert_eq!(invocation.shape, EmbedShape::OpenAi);
}

#[test]
fn n1_tei_sparse_all_and_similarity() {
    let request = read(EmbedRoute::EmbedSparse, &json!({"inputs": ["a"]}));
    assert_eq!(request.outputs, VectorKinds { sparse: true, ..VectorKinds::default() });
    let one = Embedded { sparse: Some(&[(3, 0.1)]), ..Embedded::default() };
    assert_eq!(
        serde_json::to_string(&embed_answer(&request, &[one], &[], &FACTS)).expect("json"),
        r#"[[{"index":3,"value":0.1}]]"#
    );

    let request = read(EmbedRoute::EmbedAll, &json!({"inputs": ["a"]}));
    assert!(request.outputs.hidden && request.normalize == Some(false));
    let rows = Rows { values: &[1.0, 2.0, 3.0, 4.0], width: 2 };
    let one = Embedded { hidden: Some(rows), ..Embedded::default() };
    assert_eq!(
        serde_json::to_value(embed_answer(&request, &[one], &[], &FACTS)).expect("json"),
        json!([[[1.0, 2.0], [3.0, 4.0]]])
    );

    let request = read(
        EmbedRoute::Similarity,
        &json!({
            "inputs": {"source_sentence": "s", "sentences": ["a", "b"]},
            "parameters": {"truncate": true, "truncation_direction": "Left", "prompt_name": "query"},
        }),
    );
    assert_eq!(texts(&request), ["s", "a", "b"]);
    assert_eq!(request.truncation, Cut::Start);
    assert_eq!(request.prompt, Prompt::Named("query".to_owned()));
    assert_eq!(request.param(2), "inputs.sentences[1]");
    let answer = answered(&request, &[&[3.0, 4.0], &[6.0, 8.0], &[-4.0, 3.0]]);
    assert_eq!(answer, json!([1.0, 0.0]));
}

#[test]
fn b22_baai_embed() {
    let request = read(EmbedRoute::Embed, &json!({"texts": ["a", "b"]}));
    assert_eq!((request.shape, request.truncation), (EmbedShape::Baai, Cut::End));
    assert_eq!(
        answered(&request, &[&[0.5, 0.5], &[1.0, 0.0]]),
        json!({
            "embeddings": [[0.5, 0.5], [1.0, 0.0]], "dimensions": 2, "texts_count": 2, "model": "m",
        })
    );
}

#[test]
fn d2_mlx_embed() {
    let request = read(EmbedRoute::Embed, &json!({"text": "a", "model": "small"}));
    assert_eq!(request.shape, EmbedShape::Mlx);
    assert_eq!(
        answered(&request, &[&[0.5, 0.5]]),
        json!({
            "embedding": [0.5, 0.5], "model": "m", "dim": 2, "normalized": true,
            "processing_time_ms": 1.5,
        })
    );
}

#[test]
fn d3_mlx_embed_batch() {
    let body = json!({"texts": ["a", "b"], "normalize": false});
    let request = read(EmbedRoute::EmbedBatch, &body);
    assert_eq!(
        answered(&request, &[&[0.5], &[0.25]]),
        json!({
            "embeddings": [[0.5], [0.25]], "model": "m", "dim": 1, "count": 2,
            "normalized": false, "processing_time_ms": 1.5,
        })
    );
    let most = json!({"texts": vec!["a"; 1024]});
    assert_eq!(read(EmbedRoute::EmbedBatch, &most).inputs.len(), 1024);
}

#[test]
fn cohere_v1_is_a_list_unless_types_are_named() {
    // What LangChain's CohereEmbeddings sends.
    let body = json!({
        "model": "embed-v4.0", "texts": ["a"], "input_type": "search_query", "truncate": null,
    });
    let request = read(EmbedRoute::CohereV1, &body);
    assert_eq!((request.prompt.clone(), request.truncation), (Prompt::Query, Cut::End));
    assert_eq!(
        answered(&request, &[&[0.5, -0.5]]),
        json!({
            "id": "embd-1", "embeddings": [[0.5, -0.5]], "texts": ["a"], "model": "m",
            "meta": {"api_version": {"version": "1"}, "billed_units": {"input_tokens": 5}},
            "response_type": "embeddings_floats",
        })
    );
    let body = json!({"texts": ["a"], "embedding_types": ["float", "int8"]});
    let answer = answered(&read(EmbedRoute::CohereV1, &body), &[&[0.5, -0.5]]);
    assert_eq!(answer["embeddings"], json!({"float": [[0.5, -0.5]], "int8": [[64, -64]]}));
    assert_eq!(answer["response_type"], "embeddings_by_type");
}

#[test]
fn cohere_v2_gives_every_type() {
    let body = json!({
        "model": "embed-v4.0", "input_type": "classification", "output_dimension": 1,
        "inputs": [{"content": [{"type": "text", "text": "a"}]}], "images": [],
        "embedding_types": ["float", "int8", "uint8", "binary", "ubinary", "base64", "float"],
        "truncate": "NONE", "max_tokens": 128, "priority": 0,
    });
    let request = read(EmbedRoute::CohereV2, &body);
    assert_eq!(request.prompt, Prompt::Purpose("classification".to_owned()));
    assert_eq!((request.truncation, request.max_tokens), (Cut::Refuse, Some(128)));
    assert_eq!((request.dimensions, request.param(0)), (Some(1), "inputs[0]".to_owned()));
    let answer = answered(&request, &[&[1.0]]);
    assert_eq!(
        answer["embeddings"],
        json!({
            "float": [[1.0]], "int8": [[127]], "uint8": [[255]], "binary": [[0]],
            "ubinary": [[128]], "base64": ["AACAPw=="],
        })
    );
    assert_eq!(answer["meta"]["api_version"]["version"], "2");
    let plain = answered(&read(EmbedRoute::CohereV2, &json!({"texts": ["a"]})), &[&[1.0]]);
    assert_eq!(plain["embeddings"], json!({"float": [[1.0]]}));
}

#[test]
fn n6_truncation_is_said() {
    let request = read(EmbedRoute::Embed, &json!({"texts": ["a", "b"]}));
    let cut = Embedded { truncated: true, ..dense(&[0.5]) };
    let embedded = [dense(&[0.5]), cut];
    let answer =
        serde_json::to_value(embed_answer(&request, &embedded, &[], &FACTS)).expect("json");
    assert_eq!(answer["warnings"], json!(["1 of 2 inputs were truncated to fit"]));
}

#[test]
fn every_path_reads_its_body() {
    let bodies = [
        json!({"input": "a"}),
        json!({"inputs": "a"}),
        json!({"texts": ["a"]}),
        json!({
            "inputs": {"source_sentence": "a", "sentences": ["b"]},
        }),
    ];
    for (path, route) in EmbedRoute::PATHS {
        let body = match route {
            EmbedRoute::Embeddings
            | EmbedRoute::Invocations
            | EmbedRoute::Llama
            | EmbedRoute::Pooling => &bodies[0],
            EmbedRoute::Embed | EmbedRoute::EmbedSparse | EmbedRoute::EmbedAll => &bodies[1],
            EmbedRoute::EmbedBatch | EmbedRoute::CohereV1 | EmbedRoute::CohereV2 => &bodies[2],
            EmbedRoute::Similarity => &bodies[3],
        };
        let answer: Value = answered(&read(route, body), &[&[1.0], &[1.0]]);
        assert!(answer.is_object() || answer.is_array(), "{path}");
        assert_eq!(read(route, body).formats[0].encoding, Encoding::Array);
    }
}

#[test]
fn n13_raw_bytes() {
    let body = json!({"input": ["a", "b"], "encoding_format": "bytes", "output_dtype": "int8"});
    let request = read(EmbedRoute::Embeddings, &body);
    let embedded = [dense(&[1.0, -1.0]), dense(&[0.0, 0.5])];
    let raw = |request: &defrost_api::EmbedRequest| {
        raw_answer(request, &embedded, &FACTS).expect("written")
    };
    let answer = raw(&request).expect("bytes");
    assert_eq!(answer.body, [127, 129, 0, 64]);
    let metadata: Value = serde_json::from_str(&answer.metadata.expect("described")).expect("json");
    assert_eq!(metadata["usage"], json!({"prompt_tokens": 10, "total_tokens": 10}));
    assert_eq!(
        metadata["data"][1],
        json!({"index": 1, "embed_dtype": "int8", "endianness": "little", "start": 2, "end": 4, "shape": [2]})
    );
    let body = json!({"input": "a", "encoding_format": "bytes_only"});
    let only = raw(&read(EmbedRoute::Embeddings, &body)).expect("bytes");
    assert_eq!(only.body[..8], [0, 0, 128, 63, 0, 0, 128, 191]);
    assert_eq!((only.body.len(), only.metadata), (16, None));
    assert_eq!(raw(&read(EmbedRoute::Embeddings, &json!({"input": "a"}))), None);
    for (route, body) in [
        (EmbedRoute::Embed, json!({"inputs": "a", "encoding_format": "bytes"})),
        (EmbedRoute::EmbedAll, json!({"inputs": "a", "encoding_format": "bytes"})),
        (EmbedRoute::CohereV2, json!({"texts": ["a"], "encoding_format": "bytes"})),
        (
            EmbedRoute::Embeddings,
            json!({"input": "a", "encoding_format": "bytes", "return_sparse": true}),
        ),
    ] {
        let refused = super::common::refused(route, &body);
        assert_eq!(refused.param.as_deref(), Some("encoding_format"), "{body}");
    }
}
