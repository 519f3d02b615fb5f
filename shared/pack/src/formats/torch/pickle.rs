//! The pickle of a state dict, read as data.
//!
//! A pickle is a list of instructions for a machine with a stack and a memo. Of its seventy instructions the thirty that
//! `torch.save` writes for `{name: tensor}` are known here. Names that a pickle would import are only compared: with the
//! dictionary's class, the function that rebuilds a tensor and the element types. Calling anything else is refused.
//!
//! Work and memory are bounded by the length of the program, which is limited: values are shared, never copied, and
//! tuples nest a few levels at most.

use std::collections::HashMap;
use std::rc::Rc;

use defrost_loader::{Error, Kind, shown};

use super::super::CheckpointDtype;

/// Longest program; a tensor takes some two hundred bytes.
const LONGEST: usize = 1 << 20;
/// Deepest nesting of tuples; a tensor's arguments have three levels.
const DEEPEST: usize = 8;
/// The most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// A tensor as the pickle describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) dtype: CheckpointDtype,
    /// The place of the first element in the storage, in elements.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// The strides in elements, one for each dimension.
    pub(super) strides: Vec<usize>,
}

/// What lies on the stack.
#[derive(Debug, Clone)]
enum Value {
    /// `None`, a boolean, or a dictionary that is not the result: a value that is not needed.
    Other,
    Number(usize),
    Text(Rc<str>),
    /// A name to import.
    Name(Rc<str>),
    Tuple(usize, Rc<[Value]>),
    /// A dictionary, by its place among all.
    Dictionary(usize),
    Storage(Rc<str>, CheckpointDtype),
    Tensor(Rc<Stored>),
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// Pairs of every dictionary.
    dictionaries: Vec<Vec<(Value, Value)>>,
}

/// The tensors of a state dict, in its order.
pub(super) fn read(program: &[u8]) -> Result<Vec<(String, Stored)>, Error> {
    if program.len() > LONGEST {
        return Err(Error::new(Kind::Unsupported, "the pickle is too long")
            .mismatch(format_args!("at most {LONGEST} bytes"), program.len()));
    }
    let mut machine = Machine { rest: program, ..Machine::default() };
    machine.run().map_err(|(kind, what)| {
        Error::new(kind, format!("the pickle is not a state dict of tensors: {what}"))
            .at((program.len() - machine.rest.len()) as u64)
    })
}

type Fault = (Kind, String);

fn corrupt(what: &str) -> Fault {
    (Kind::Corrupt, what.to_owned())
}

fn unsupported(what: String) -> Fault {
    (Kind::Unsupported, what)
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Vec<(String, Stored)>, Fault> {
        loop {
            let [instruction] = self.array()?;
            match instruction {
                // PROTO
                0x80 => match self.array()? {
                    [2] => {}
                    [found] => return Err(unsupported(format!("protocol {found}, expected 2"))),
                },
                // GLOBAL: module and name, a line each
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Value::Name(format!("{module}.{name}").into()));
                }
                // BINPUT, LONG_BINPUT
                b'q' => self.remember(|[at]: [u8; 1]| u32::from(at))?,
                b'r' => self.remember(u32::from_le_bytes)?,
                // BINGET, LONG_BINGET
                b'h' => self.recall(|[at]: [u8; 1]| u32::from(at))?,
                b'j' => self.recall(u32::from_le_bytes)?,
                // MARK
                b'(' => self.marks.push(self.stack.len()),
                // EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
                b')' => self.tuple(0)?,
                b't' => {
                    let start = self.mark()?;
                    self.tuple(self.stack.len() - start)?;
                }
                0x85..=0x87 => self.tuple(usize::from(instruction - 0x84))?,
                // EMPTY_DICT
                b'}' => self.dictionary(),
                // SETITEM, SETITEMS
                b's' => {
                    let start =
                        self.stack.len().checked_sub(2).ok_or_else(|| corrupt("no pair"))?;
                    self.set(start)?;
                }
                b'u' => {
                    let start = self.mark()?;
                    self.set(start)?;
                }
                // BINUNICODE
                b'X' => {
                    let text = self.text()?;
                    self.stack.push(Value::Text(text));
                }
                // BININT, BININT1, BININT2, LONG1
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.number(usize::try_from(number).ok())?;
                }
                b'K' => {
                    let [number] = self.array()?;
                    self.number(Some(usize::from(number)))?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.number(Some(usize::from(number)))?;
                }
                0x8a => {
                    let [len] = self.array()?;
                    let bytes = self.take(usize::from(len))?;
                    self.number(long(bytes))?;
                }
                // NONE, NEWTRUE, NEWFALSE
                b'N' | 0x88 | 0x89 => self.stack.push(Value::Other),
                // REDUCE
                b'R' => self.call()?,
                // BUILD: attributes of the dictionary (its _metadata), which no tensor depends on
                b'b' => drop(self.pop()?),
                // BINPERSID
                b'Q' => self.storage()?,
                // STOP
                b'.' => return self.result(),
                other => return Err(unsupported(format!("it has the instruction {other:#04x}"))),
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| corrupt("it ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(|| corrupt("it ends early"))?)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| corrupt("a name is not UTF-8"))
    }

    fn text(&mut self) -> Result<Rc<str>, Fault> {
        let len = u32::from_le_bytes(self.array()?);
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        Ok(std::str::from_utf8(bytes).map_err(|_| corrupt("a text is not UTF-8"))?.into())
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(corrupt("its stack is empty"));
        }
        self.stack.pop().ok_or_else(|| corrupt("its stack is empty"))
    }

    fn mark(&mut self) -> Result<usize, Fault> {
        self.marks.pop().ok_or_else(|| corrupt("it has no mark"))
    }

    fn remember<const N: usize>(&mut self, index: impl Fn([u8; N]) -> u32) -> Result<(), Fault> {
        let at = index(self.array()?);
        let top = self.stack.last().cloned().ok_or_else(|| corrupt("its stack is empty"))?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall<const N: usize>(&mut self, index: impl Fn([u8; N]) -> u32) -> Result<(), Fault> {
        let at = index(self.array()?);
        let value = self.memo.get(&at).cloned().ok_or_else(|| corrupt("its memo is empty"))?;
        self.stack.push(value);
        Ok(())
    }

    fn number(&mut self, number: Option<usize>) -> Result<(), Fault> {
        let number = number.ok_or_else(|| unsupported("a number below 0 or too large".into()))?;
        self.stack.push(Value::Number(number));
        Ok(())
    }

    fn tuple(&mut self, len: usize) -> Result<(), Fault> {
        let start = self.stack.len().checked_sub(len);
        let start = start.filter(|&start| start >= self.marks.last().copied().unwrap_or(0));
        let parts: Rc<[Value]> =
            self.stack.drain(start.ok_or_else(|| corrupt("its stack is empty"))?..).collect();
        let depth = |value: &Value| if let Value::Tuple(depth, _) = value { *depth } else { 0 };
        let depth = 1 + parts.iter().map(depth).max().unwrap_or(0);
        if depth > DEEPEST {
            return Err(unsupported(format!("tuples nest deeper than {DEEPEST}")));
        }
        self.stack.push(Value::Tuple(depth, parts));
        Ok(())
    }

    fn dictionary(&mut self) {
        self.dictionaries.push(Vec::new());
        self.stack.push(Value::Dictionary(self.dictionaries.len() - 1));
    }

    /// Puts the pairs from `start` on into the dictionary below them.
    fn set(&mut self, start: usize) -> Result<(), Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if start <= floor || start > self.stack.len() {
            return Err(corrupt("its stack is empty"));
        }
        let pairs: Vec<Value> = self.stack.drain(start..).collect();
        let Some(Value::Dictionary(at)) = self.stack.last() else {
            return Err(corrupt("items for what is no dictionary"));
        };
        let (pairs, rest) = pairs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(corrupt("a key without a value"));
        }
        let known = self.dictionaries.get_mut(*at).ok_or_else(|| corrupt("no such dictionary"))?;
        known.extend(pairs.iter().map(|[key, value]| (key.clone(), value.clone())));
        Ok(())
    }

    /// Calls the function below the arguments, if it is one of the two that are known.
    fn call(&mut self) -> Result<(), Fault> {
        let (Value::Tuple(_, arguments), Value::Name(name)) = (self.pop()?, self.pop()?) else {
            return Err(corrupt("a call of what is no function"));
        };
        match (&*name, &*arguments) {
            ("collections.OrderedDict", []) => self.dictionary(),
            (
                "torch._utils._rebuild_tensor_v2",
                [
                    Value::Storage(key, dtype),
                    Value::Number(offset),
                    Value::Tuple(_, shape),
                    Value::Tuple(_, strides),
                    ..,
                ],
            ) => {
                let (shape, strides) = (numbers(shape)?, numbers(strides)?);
                if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
                    return Err(corrupt("a tensor whose shape and strides do not fit"));
                }
                let (key, dtype, offset) = (key.to_string(), *dtype, *offset);
                let stored = Stored { key, dtype, offset, shape, strides };
                self.stack.push(Value::Tensor(Rc::new(stored)));
            }
            (name, _) => return Err(unsupported(format!("it calls {}", shown(name)))),
        }
        Ok(())
    }

    /// `("storage", type, key, device, elements)`.
    fn storage(&mut self) -> Result<(), Fault> {
        let Value::Tuple(_, id) = self.pop()? else {
            return Err(corrupt("a storage without a name"));
        };
        match &*id {
            [Value::Text(kind), Value::Name(dtype), Value::Text(key), ..]
                if &**kind == "storage" =>
            {
                let dtype = match &**dtype {
                    "torch.HalfStorage" => CheckpointDtype::F16,
                    "torch.BFloat16Storage" => CheckpointDtype::BF16,
                    "torch.FloatStorage" => CheckpointDtype::F32,
                    "torch.DoubleStorage" => CheckpointDtype::F64,
                    other => return Err(unsupported(format!("elements of {}", shown(other)))),
                };
                self.stack.push(Value::Storage(Rc::clone(key), dtype));
                Ok(())
            }
            _ => Err(corrupt("a storage without a name")),
        }
    }

    fn result(&mut self) -> Result<Vec<(String, Stored)>, Fault> {
        let Value::Dictionary(at) = self.pop()? else {
            return Err(unsupported("it holds no dictionary".into()));
        };
        let pairs = self.dictionaries.get(at).map(Vec::as_slice).unwrap_or_default();
        let tensor = |pair: &(Value, Value)| match pair {
            (Value::Text(name), Value::Tensor(stored)) => {
                Ok((name.to_string(), (**stored).clone()))
            }
            _ => Err(unsupported("it holds something else than tensors".into())),
        };
        pairs.iter().map(tensor).collect()
    }
}

fn numbers(values: &[Value]) -> Result<Vec<usize>, Fault> {
    let number = |value: &Value| match value {
        Value::Number(number) => Ok(*number),
        _ => Err(corrupt("a shape that is not made of numbers")),
    };
    values.iter().map(number).collect()
}

/// A little-endian two's complement number of any length, if it is an index.
fn long(bytes: &[u8]) -> Option<usize> {
    if bytes.len() > size_of::<i64>() || bytes.last().is_some_and(|&top| top >= 0x80) {
        return None;
    }
    let mut number = [0; size_of::<i64>()];
    number[..bytes.len()].copy_from_slice(bytes);
    usize::try_from(i64::from_le_bytes(number)).ok()
}
