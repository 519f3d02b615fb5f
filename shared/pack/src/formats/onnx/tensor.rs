//! One initializer: its shape and type, and proof that its data fit them.

use defrost_loader::{Error, Kind, MAX_RANK, shown};

use super::super::is_plain_name;
use super::data::{OnnxData, OnnxType};
use super::pair;
use super::wire::Field;

/// A weight of an ONNX model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnnxTensor {
    /// The name of the tensor, unique in the graph.
    pub name: String,
    /// Element type.
    pub data_type: OnnxType,
    /// Dimensions in elements, outermost first.
    pub shape: Vec<u64>,
    /// The offset of the tensor's description in the file, in bytes.
    pub offset: u64,
    /// The elements of the tensor, or where they are.
    pub data: OnnxData,
}

/// A `TensorProto` as far as it has been read.
#[derive(Default)]
struct Parts {
    name: String,
    data_type: i32,
    shape: Vec<u64>,
    raw: Option<bytes::Bytes>,
    typed: Option<(&'static str, u64)>,
    is_external: bool,
    location: Option<String>,
    start: Option<u64>,
    len: Option<u64>,
}

impl OnnxTensor {
    /// Bytes of its elements in memory, two 4-bit elements in a byte; `None` for texts and unknown types.
    pub fn len_bytes(&self) -> Option<u64> {
        let bits = self.data_type.bits()?;
        let all = self.shape.iter().try_fold(bits, |all, &dim| all.checked_mul(dim))?;
        Some(all.div_ceil(8))
    }

    pub(super) fn read(field: Field) -> Result<Self, Error> {
        let offset = field.offset;
        let mut parts = Parts::default();
        let mut fields = field.message("an initializer")?;
        while let Some(field) = fields.next()? {
            parts.add(field)?;
        }
        parts.finish(offset)
    }
}

impl Parts {
    fn add(&mut self, field: Field) -> Result<(), Error> {
        let offset = field.offset;
        match field.number {
            1 => field.numbers("dims", |dim| {
                if i64::try_from(dim).is_err() || self.shape.len() == MAX_RANK {
                    return Err(Error::new(
                        Kind::Corrupt,
                        "an initializer has an impossible shape",
                    )
                    .at(offset)
                    .mismatch(
                        format_args!("at most {MAX_RANK} dimensions from 0 to 2^63"),
                        dim.cast_signed(),
                    ));
                }
                self.shape.push(dim);
                Ok(())
            })?,
            2 => {
                let number = field.number_value("data_type")?.cast_signed();
                self.data_type = i32::try_from(number).map_err(|_| {
                    Error::new(Kind::Corrupt, "data_type is too large")
                        .at(offset)
                        .mismatch("32 bits", number)
                })?;
            }
            8 => self.name = field.name("an initializer's name")?,
            9 => self.raw = Some(field.bytes("raw_data")?),
            4 => self.count("float_data", field.count_fixed(4, "float_data")?),
            10 => self.count("double_data", field.count_fixed(8, "double_data")?),
            5 => self.count_varints("int32_data", field)?,
            7 => self.count_varints("int64_data", field)?,
            11 => self.count_varints("uint64_data", field)?,
            6 => {
                field.bytes("string_data")?;
                self.count("string_data", 1);
            }
            13 => self.external(offset, pair(field)?)?,
            14 => self.is_external = field.number_value("data_location")? == 1,
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, field: &'static str, more: u64) {
        match &mut self.typed {
            Some((known, values)) if *known == field => *values += more,
            // A second typed field makes the number of values wrong, which `finish` reports.
            Some((_, values)) => *values = values.saturating_add(more),
            None => self.typed = Some((field, more)),
        }
    }

    fn count_varints(&mut self, name: &'static str, field: Field) -> Result<(), Error> {
        let mut values = 0;
        field.numbers(name, |_| {
            values += 1;
            Ok(())
        })?;
        self.count(name, values);
        Ok(())
    }

    fn external(&mut self, at: u64, (key, value): (String, String)) -> Result<(), Error> {
        let number = || {
            value.parse::<u64>().map_err(|_| {
                Error::new(Kind::Corrupt, format!("external_data has a wrong {key}"))
                    .at(at)
                    .mismatch("a number of bytes", shown(&value))
            })
        };
        match key.as_str() {
            "location" if !is_plain_name(&value) => {
                return Err(Error::new(Kind::Corrupt, "external data lie outside the directory")
                    .at(at)
                    .mismatch("a plain file name", shown(&value))
                    .remedy("do not use this model"));
            }
            "offset" => self.start = Some(number()?),
            "length" => self.len = Some(number()?),
            "location" => self.location = Some(value),
            _ => {}
        }
        Ok(())
    }

    fn finish(self, offset: u64) -> Result<OnnxTensor, Error> {
        let wrong = |what: &str| {
            Error::new(Kind::Corrupt, format!("initializer {} {what}", shown(&self.name)))
                .at(offset)
        };
        if self.name.is_empty() {
            return Err(wrong("has no name").mismatch("1 byte or more", 0));
        }
        let data_type = OnnxType::from_number(self.data_type);
        // 128 bits are the largest element, so that no sum of bits overflows later.
        let elements = self.shape.iter().try_fold(1u64, |all, &dim| all.checked_mul(dim));
        let elements = elements.filter(|&elements| elements < 1 << 56).ok_or_else(|| {
            wrong("has an impossible shape")
                .mismatch("fewer than 2^56 elements", format_args!("{:?}", self.shape))
        })?;
        let bytes = data_type.bits().map(|bits| (elements * bits).div_ceil(8));
        let fits = |what: &str, expected: Option<u64>, found: u64| match expected {
            Some(expected) if expected != found => Err(wrong("has a wrong length").mismatch(
                format_args!("{expected} {what} of {data_type} {:?}", self.shape),
                found,
            )),
            _ => Ok(()),
        };
        let data = match (self.is_external, self.raw, self.typed) {
            (true, None, None) => {
                let location =
                    self.location.ok_or_else(|| wrong("is in another file that has no name"))?;
                if let Some(len) = self.len {
                    fits("bytes", bytes, len)?;
                }
                let start = self.start.unwrap_or(0);
                if start.checked_add(self.len.or(bytes).unwrap_or(0)).is_none() {
                    return Err(wrong("lies beyond any file").mismatch("an end below 2^64", start));
                }
                OnnxData::External { location, offset: start, len: self.len }
            }
            (false, Some(raw), None) => {
                fits("bytes", bytes, raw.len() as u64)?;
                OnnxData::Raw(raw)
            }
            (false, None, Some((field, values))) => {
                fits("values", values_of(data_type, elements), values)?;
                OnnxData::Typed { field, values }
            }
            (false, None, None) if elements == 0 => OnnxData::Empty,
            (external, raw, typed) => {
                let places = [external, raw.is_some(), typed.is_some()];
                let places = places.into_iter().filter(|&place| place).count();
                return Err(wrong("has its data in no place or in several").mismatch(1, places));
            }
        };
        Ok(OnnxTensor { name: self.name, data_type, shape: self.shape, offset, data })
    }
}

/// How many values the typed field of a type holds for this many elements; `None` if the type is not known.
fn values_of(data_type: OnnxType, elements: u64) -> Option<u64> {
    match data_type {
        OnnxType::STRING => Some(elements),
        // Real and imaginary part.
        OnnxType::COMPLEX64 | OnnxType::COMPLEX128 => Some(elements * 2),
        _ => match data_type.bits()? {
            // Two elements share a number.
            4 => Some(elements.div_ceil(2)),
            _ => Some(elements),
        },
    }
}
