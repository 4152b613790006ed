//! Metadata values: GGUF's thirteen types.

use std::fmt;

/// The type of a metadata value, by its number in files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ValueType {
    /// Unsigned byte.
    U8 = 0,
    /// Signed byte.
    I8 = 1,
    /// Unsigned 16-bit integer.
    U16 = 2,
    /// Signed 16-bit integer.
    I16 = 3,
    /// Unsigned 32-bit integer.
    U32 = 4,
    /// Signed 32-bit integer.
    I32 = 5,
    /// IEEE single.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// UTF-8 text with its length in 64 bits before it.
    String = 8,
    /// Element type, 64-bit count, elements.
    Array = 9,
    /// Unsigned 64-bit integer.
    U64 = 10,
    /// Signed 64-bit integer.
    I64 = 11,
    /// IEEE double.
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    /// The type with number `id`.
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The number in files.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// A readable name: `uint32`, `string`.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "uint8",
            ValueType::I8 => "int8",
            ValueType::U16 => "uint16",
            ValueType::I16 => "int16",
            ValueType::U32 => "uint32",
            ValueType::I32 => "int32",
            ValueType::F32 => "float32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "uint64",
            ValueType::I64 => "int64",
            ValueType::F64 => "float64",
        }
    }

    /// The fewest bytes that one value takes in a file; the only bytes, but for strings and arrays.
    pub const fn least_bytes(self) -> usize {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::String => 8,
            ValueType::Array => 12,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

macro_rules! values {
    ($($variant:ident($rust:ty))*) => {
        /// A metadata value.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Value {
            $(
                #[doc = concat!("A `", stringify!($rust), "`.")]
                $variant($rust),
            )*
            /// A list of values of one type.
            Array(Array),
        }

        /// A list of values of one type.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Array {
            $(
                #[doc = concat!("Elements of type `", stringify!($rust), "`.")]
                $variant(Vec<$rust>),
            )*
            /// Arrays in an array.
            Nested(Vec<Array>),
        }

        impl Value {
            /// The type of the value.
            pub const fn value_type(&self) -> ValueType {
                match self {
                    $(Value::$variant(_) => ValueType::$variant,)*
                    Value::Array(_) => ValueType::Array,
                }
            }
        }

        impl Array {
            /// The type of the elements.
            pub const fn element_type(&self) -> ValueType {
                match self {
                    $(Array::$variant(_) => ValueType::$variant,)*
                    Array::Nested(_) => ValueType::Array,
                }
            }

            /// How many elements there are.
            pub fn len(&self) -> usize {
                match self {
                    $(Array::$variant(v) => v.len(),)*
                    Array::Nested(v) => v.len(),
                }
            }

            /// Element `i` as a value of its own.
            pub fn get(&self, i: usize) -> Option<Value> {
                match self {
                    $(Array::$variant(v) => v.get(i).cloned().map(Value::$variant),)*
                    Array::Nested(v) => v.get(i).cloned().map(Value::Array),
                }
            }
        }

        $(
            impl From<$rust> for Value {
                fn from(value: $rust) -> Value {
                    Value::$variant(value)
                }
            }

            impl From<Vec<$rust>> for Value {
                fn from(values: Vec<$rust>) -> Value {
                    Value::Array(Array::$variant(values))
                }
            }
        )*
    };
}

values! {
    U8(u8) I8(i8) U16(u16) I16(i16) U32(u32) I32(i32) F32(f32) Bool(bool) String(String) U64(u64) I64(i64) F64(f64)
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl Array {
    /// Is there no element?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Value {
    /// The value, if it is an integer of any type. `i128` holds them all.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Value::U8(n) => Some(n.into()),
            Value::I8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::I16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::I32(n) => Some(n.into()),
            Value::U64(n) => Some(n.into()),
            Value::I64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// The type in full: `uint32`, `array<string>`.
    pub fn type_name(&self) -> String {
        match self {
            Value::Array(array) => format!("array<{}>", array.element_type()),
            _ => self.value_type().name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_belong_together() {
        for id in 0..13 {
            assert_eq!(ValueType::from_id(id).unwrap().id(), id);
        }
        assert_eq!(ValueType::from_id(13), None);
        assert_eq!(ValueType::from_id(u32::MAX), None);
        assert_eq!(Value::from(vec!["a".to_owned()]).type_name(), "array<string>");
        assert_eq!(Value::Array(Array::Nested(vec![])).type_name(), "array<array>");
        assert_eq!(Value::from(-1i64).integer(), Some(-1));
        assert_eq!(Value::from(1.0f32).integer(), None);
    }
}
