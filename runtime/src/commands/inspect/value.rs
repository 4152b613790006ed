//! Metadata values, long ones cut.

use std::fmt::{self, Write};

use qwren_quant::gguf::{Array, Value};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Elements of an array that are shown.
const ELEMENTS: usize = 6;
/// Characters of a text that are shown in a table.
const CHARACTERS: usize = 60;

/// A value of which only the beginning is shown if it is long: arrays everywhere, texts in tables.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'f>(pub &'f Value);

impl Cut<'_> {
    /// The type, and the length of an array: `array<string>[151936]`.
    pub fn kind(&self) -> String {
        match self.0 {
            Value::Array(array) => format!("{}[{}]", self.0.type_name(), array.len()),
            _ => self.0.type_name(),
        }
    }
}

/// On one line: texts quoted and escaped.
impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::U8(n) => n.fmt(f),
            Value::I8(n) => n.fmt(f),
            Value::U16(n) => n.fmt(f),
            Value::I16(n) => n.fmt(f),
            Value::U32(n) => n.fmt(f),
            Value::I32(n) => n.fmt(f),
            Value::F32(x) => x.fmt(f),
            Value::Bool(flag) => flag.fmt(f),
            Value::U64(n) => n.fmt(f),
            Value::I64(n) => n.fmt(f),
            Value::F64(x) => x.fmt(f),
            Value::String(text) => quote(text, f),
            Value::Array(array) => {
                f.write_char('[')?;
                for (i, element) in first(array).enumerate() {
                    let gap = if i > 0 { ", " } else { "" };
                    write!(f, "{gap}{}", Cut(&element))?;
                }
                f.write_str(if array.len() > ELEMENTS { ", …]" } else { "]" })
            }
        }
    }
}

fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let start: String = text.chars().take(CHARACTERS).collect();
    if start.len() == text.len() {
        return write!(f, "{start:?}");
    }
    write!(f, "{start:?}… ({} bytes)", text.len())
}

fn first(array: &Array) -> impl Iterator<Item = Value> {
    (0..ELEMENTS).map_while(|i| array.get(i))
}

/// Plain values as they are; an array as `{"type": …, "count": …, "first": […]}`, its elements likewise.
impl Serialize for Cut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(n) => n.serialize(serializer),
            Value::I8(n) => n.serialize(serializer),
            Value::U16(n) => n.serialize(serializer),
            Value::I16(n) => n.serialize(serializer),
            Value::U32(n) => n.serialize(serializer),
            Value::I32(n) => n.serialize(serializer),
            Value::F32(x) => x.serialize(serializer),
            Value::Bool(flag) => flag.serialize(serializer),
            Value::U64(n) => n.serialize(serializer),
            Value::I64(n) => n.serialize(serializer),
            Value::F64(x) => x.serialize(serializer),
            Value::String(text) => text.serialize(serializer),
            Value::Array(array) => {
                let start: Vec<Value> = first(array).collect();
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("type", &self.0.type_name())?;
                map.serialize_entry("count", &array.len())?;
                map.serialize_entry("first", &start.iter().map(Cut).collect::<Vec<_>>())?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_escaped() {
        let tokens: Vec<String> = (0..100).map(|i| format!("t{i}")).collect();
        let tokens = Value::from(tokens);
        assert_eq!(Cut(&tokens).kind(), "array<string>[100]");
        assert_eq!(Cut(&tokens).to_string(), r#"["t0", "t1", "t2", "t3", "t4", "t5", …]"#);
        let json = serde_json::to_string(&Cut(&Value::from(vec![1.5f32, 2.0, f32::NAN]))).unwrap();
        assert_eq!(json, r#"{"type":"array<float32>","count":3,"first":[1.5,2.0,null]}"#);
        assert_eq!(Cut(&Value::from("a\n\x1b[2J")).to_string(), r#""a\n\u{1b}[2J""#);
        let long = Cut(&Value::from("é".repeat(61))).to_string();
        assert_eq!(long, format!("\"{}\"… (122 bytes)", "é".repeat(60)));
        assert_eq!(Cut(&Value::from(1e6f32)).to_string(), "1000000");
    }
}
