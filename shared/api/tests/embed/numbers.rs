//! Every vector survives the way to the client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use defrost_api::{Dtype, EmbedRoute};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::common::{answered, read, written};

fn finite() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |value| value.is_finite())
}

/// The first embedding of an answer in this form.
fn embedding(options: &Value, values: &[f32]) -> Value {
    let mut body = options.clone();
    body["input"] = json!("a");
    answered(&read(EmbedRoute::Embeddings, &body), &[values])["data"][0]["embedding"].take()
}

fn whole(value: &Value) -> Vec<i64> {
    value.as_array().expect("a list").iter().map(|n| n.as_i64().expect("whole")).collect()
}

proptest! {
    #[test]
    fn base64_round_trips(values in prop::collection::vec(finite(), 0..40)) {
        let text = embedding(&json!({"encoding_format": "base64"}), &values);
        let bytes = STANDARD.decode(text.as_str().expect("a string")).expect("base64");
        let read: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes(four.try_into().expect("four bytes")))
            .collect();
        let expected: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn digits_round_trip(values in prop::collection::vec(finite(), 1..40)) {
        let json = written(&read(EmbedRoute::Embed, &json!({"inputs": "a"})), &[&values]);
        let read: Vec<f32> = json
            .trim_matches(['[', ']'])
            .split(',')
            .map(|number| number.parse().expect("a number"))
            .collect();
        prop_assert_eq!(read, values);
    }

    #[test]
    fn n12_bits_are_packed_as_numpy_packs_them(values in prop::collection::vec(finite(), 0..40)) {
        // numpy.packbits(values > 0): bit by bit.
        let mut naive = vec![0_u8; values.len().div_ceil(8)];
        for (index, &value) in values.iter().enumerate() {
            if value > 0.0 {
                naive[index / 8] |= 1 << (7 - index % 8);
            }
        }
        let expected: Vec<i64> = naive.iter().map(|&byte| i64::from(byte)).collect();
        let ubinary = whole(&embedding(&json!({"output_dtype": "ubinary"}), &values));
        prop_assert_eq!(&ubinary, &expected);
        let binary = whole(&embedding(&json!({"output_dtype": "binary"}), &values));
        let shifted: Vec<i64> = expected.iter().map(|byte| byte - 128).collect();
        prop_assert_eq!(binary, shifted);
    }

    #[test]
    fn n12_bytes_are_near_their_floats(values in prop::collection::vec(-1.0_f32..=1.0, 1..40)) {
        let int8 = whole(&embedding(&json!({"output_dtype": "int8"}), &values));
        let uint8 = whole(&embedding(&json!({"output_dtype": "uint8"}), &values));
        for ((&value, &signed), &unsigned) in values.iter().zip(&int8).zip(&uint8) {
            prop_assert!((value * 127.0 - signed as f32).abs() <= 0.500_01);
            prop_assert!(((value + 1.0) * 127.5 - unsigned as f32).abs() <= 0.500_01);
        }
    }

    #[test]
    fn bytes_in_lists_and_in_base64_are_the_same(
        values in prop::collection::vec(finite(), 0..40),
        dtype in prop::sample::select(vec![
            Dtype::Int8, Dtype::Uint8, Dtype::Binary, Dtype::Ubinary,
        ]),
    ) {
        let list = whole(&embedding(&json!({"output_dtype": dtype.name()}), &values));
        let body = json!({"output_dtype": dtype.name(), "encoding_format": "base64"});
        let text = embedding(&body, &values);
        let bytes = STANDARD.decode(text.as_str().expect("a string")).expect("base64");
        prop_assert_eq!(&bytes, &dtype.to_bytes(&values));
        let signed = matches!(dtype, Dtype::Int8 | Dtype::Binary);
        let bytes: Vec<i64> = bytes
            .into_iter()
            .map(|byte| if signed { i64::from(byte.cast_signed()) } else { i64::from(byte) })
            .collect();
        prop_assert_eq!(bytes, list);
    }
}
