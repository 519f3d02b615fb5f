//! Writes small ONNX models, for tests and for the seeds of the fuzz target.

/// A message under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    pub(crate) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    pub(crate) fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(crate) fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    pub(crate) fn pair(self, field: u64, key: &str, value: &str) -> Self {
        self.message(field, &Self::default().text(1, key).text(2, value))
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// The head of a `TensorProto`.
pub(crate) fn tensor(name: &str, data_type: u64, shape: &[u64]) -> Message {
    shape
        .iter()
        .fold(Message::default(), |message, &dim| message.number(1, dim))
        .number(2, data_type)
        .text(8, name)
}

/// A model with an initializer of every kind of data.
pub(crate) fn sample() -> Vec<u8> {
    let name = |name: &str| Message::default().text(1, name);
    let graph = Message::default()
        .message(1, &Message::default().text(1, "a").text(4, "Gather"))
        .text(2, "main")
        .message(5, &tensor("raw", 10, &[2, 3]).bytes(9, &[1; 12]))
        .message(5, &tensor("typed", 1, &[2]).bytes(4, &[0, 0, 128, 63, 0, 0, 0, 64]))
        .message(5, &tensor("scalar", 7, &[]).bytes(7, &[0xff, 1]))
        .message(
            5,
            &tensor("external", 1, &[1000, 8])
                .pair(13, "location", "model.onnx_data")
                .pair(13, "offset", "4096")
                .pair(13, "length", "32000")
                .number(14, 1),
        )
        .message(5, &tensor("nothing", 3, &[0]))
        .message(5, &tensor("texts", 8, &[2]).text(6, "x").text(6, "y"))
        .message(11, &name("input_ids"))
        .message(12, &name("logits"));
    Message::default()
        .number(1, 8)
        .text(2, "pytorch")
        .text(3, "2.9")
        .message(7, &graph)
        .message(8, &Message::default().text(1, "").number(2, 17))
        .pair(14, "task", "rerank")
        .0
}
