//! The ggml tensor types: the one table of ids, names and block sizes, and the one function that turns a shape into bytes.

use std::fmt;

/// Most dimensions that a ggml tensor has.
pub const MAX_DIMS: usize = 4;

/// What is wrong with a type id or with a shape of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DTypeError {
    /// No ggml type has this id.
    #[error("type id {0} is not a ggml type")]
    Unknown(u32),
    /// The id belonged to a type that ggml no longer has.
    #[error("type {name} (id {id}) was removed from ggml; convert the model again")]
    Removed {
        /// The id found.
        id: u32,
        /// The name that it had.
        name: &'static str,
    },
    /// A row is no whole number of blocks.
    #[error("a row of {cols} elements is not a multiple of {dtype}'s block of {}", .dtype.block_len())]
    Ragged {
        /// The type of the row.
        dtype: DType,
        /// Elements in the row.
        cols: u64,
    },
    /// A tensor has 1 to 4 dimensions.
    #[error("a tensor of {0} dimensions is not possible; 1 to {MAX_DIMS} are")]
    Dims(u64),
    /// A dimension is zero.
    #[error("dimension {0} is zero")]
    ZeroDim(usize),
    /// The elements or the bytes can't be counted in 63 bits (ggml counts in signed 64-bit integers).
    #[error("the size does not fit in 63 bits")]
    Overflow,
}

macro_rules! dtypes {
    ($($variant:ident = $id:literal, $name:literal, $len:literal elements in $bytes:literal;)*) => {
        /// A ggml tensor type. Values are stored in blocks of [`block_len`](DType::block_len) elements along a row.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum DType {
            $(
                #[doc = concat!("`", $name, "`: ", $len, " elements in ", $bytes, " bytes")]
                $variant = $id,
            )*
        }

        impl DType {
            /// Every type, by ggml id.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// The type with ggml's number `id`.
            ///
            /// # Errors
            /// [`DTypeError::Removed`] for a type that ggml once had, [`DTypeError::Unknown`] for any other number.
            pub fn from_ggml_id(id: u32) -> Result<DType, DTypeError> {
                match id {
                    $($id => Ok(DType::$variant),)*
                    _ => Err(match REMOVED.iter().find(|(removed, _)| *removed == id) {
                        Some(&(id, name)) => DTypeError::Removed { id, name },
                        None => DTypeError::Unknown(id),
                    }),
                }
            }

            /// ggml's name in upper case, as model cards and tools print it.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            /// Elements in a block; rows are whole blocks.
            pub const fn block_len(self) -> usize {
                match self { $(DType::$variant => $len,)* }
            }

            /// Bytes of a block.
            pub const fn block_bytes(self) -> usize {
                match self { $(DType::$variant => $bytes,)* }
            }
        }
    };
}

// ggml.h (ids), ggml-common.h (blocks); as of ggml 0.25.
dtypes! {
    F32 = 0, "F32", 1 elements in 4;
    F16 = 1, "F16", 1 elements in 2;
    Q4_0 = 2, "Q4_0", 32 elements in 18;
    Q4_1 = 3, "Q4_1", 32 elements in 20;
    Q5_0 = 6, "Q5_0", 32 elements in 22;
    Q5_1 = 7, "Q5_1", 32 elements in 24;
    Q8_0 = 8, "Q8_0", 32 elements in 34;
    Q8_1 = 9, "Q8_1", 32 elements in 36;
    Q2K = 10, "Q2_K", 256 elements in 84;
    Q3K = 11, "Q3_K", 256 elements in 110;
    Q4K = 12, "Q4_K", 256 elements in 144;
    Q5K = 13, "Q5_K", 256 elements in 176;
    Q6K = 14, "Q6_K", 256 elements in 210;
    Q8K = 15, "Q8_K", 256 elements in 292;
    IQ2XXS = 16, "IQ2_XXS", 256 elements in 66;
    IQ2XS = 17, "IQ2_XS", 256 elements in 74;
    IQ3XXS = 18, "IQ3_XXS", 256 elements in 98;
    IQ1S = 19, "IQ1_S", 256 elements in 50;
    IQ4NL = 20, "IQ4_NL", 32 elements in 18;
    IQ3S = 21, "IQ3_S", 256 elements in 110;
    IQ2S = 22, "IQ2_S", 256 elements in 82;
    IQ4XS = 23, "IQ4_XS", 256 elements in 136;
    I8 = 24, "I8", 1 elements in 1;
    I16 = 25, "I16", 1 elements in 2;
    I32 = 26, "I32", 1 elements in 4;
    I64 = 27, "I64", 1 elements in 8;
    F64 = 28, "F64", 1 elements in 8;
    IQ1M = 29, "IQ1_M", 256 elements in 56;
    BF16 = 30, "BF16", 1 elements in 2;
    TQ1_0 = 34, "TQ1_0", 256 elements in 54;
    TQ2_0 = 35, "TQ2_0", 256 elements in 66;
    MXFP4 = 39, "MXFP4", 32 elements in 17;
    NVFP4 = 40, "NVFP4", 64 elements in 36;
    Q1_0 = 41, "Q1_0", 128 elements in 18;
    Q2_0 = 42, "Q2_0", 64 elements in 18;
}

/// Ids that files of old versions carry and that ggml has taken out.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

impl DType {
    /// ggml's number for the type, as stored in GGUF files.
    pub const fn ggml_id(self) -> u32 {
        self as u32
    }

    /// The type called `name`, in any case: `q4_k` and `Q4_K` are the same.
    pub fn parse(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a row of `cols` elements.
    ///
    /// # Errors
    /// `cols` is zero or no multiple of the block, or the bytes don't fit in 63 bits.
    pub fn row_bytes(self, cols: u64) -> Result<u64, DTypeError> {
        self.tensor_bytes(&[cols])
    }

    /// Bytes of a tensor of `shape`, in ggml's order: columns first.
    ///
    /// # Errors
    /// Not 1 to 4 dimensions, a zero among them, rows that are no whole blocks, or a size above 63 bits.
    pub fn tensor_bytes(self, shape: &[u64]) -> Result<u64, DTypeError> {
        if shape.is_empty() || shape.len() > MAX_DIMS {
            return Err(DTypeError::Dims(shape.len() as u64));
        }
        if let Some(i) = shape.iter().position(|&n| n == 0) {
            return Err(DTypeError::ZeroDim(i));
        }
        let cols = shape[0];
        if !cols.is_multiple_of(self.block_len() as u64) {
            return Err(DTypeError::Ragged { dtype: self, cols });
        }
        let elements = shape.iter().try_fold(1, |product: u64, &n| product.checked_mul(n));
        let elements = elements.filter(|&n| n <= i64::MAX as u64).ok_or(DTypeError::Overflow)?;
        let bytes = (elements / self.block_len() as u64).checked_mul(self.block_bytes() as u64);
        bytes.filter(|&n| n <= i64::MAX as u64).ok_or(DTypeError::Overflow)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_a_type_or_removed_or_unknown() {
        let mut types = 0;
        for id in 0..=42 {
            match DType::from_ggml_id(id) {
                Ok(t) => {
                    assert_eq!(t.ggml_id(), id);
                    assert_eq!(DType::parse(&t.name().to_lowercase()), Some(t));
                    types += 1;
                }
                Err(e) => assert!(matches!(e, DTypeError::Removed { id: found, .. } if found == id), "{id}: {e}"),
            }
        }
        assert_eq!(types, DType::ALL.len());
        for id in [43, 99, 1 << 31, u32::MAX] {
            assert_eq!(DType::from_ggml_id(id), Err(DTypeError::Unknown(id)));
        }
        assert_eq!(
            DType::from_ggml_id(31).unwrap_err().to_string(),
            "type Q4_0_4_4 (id 31) was removed from ggml; convert the model again"
        );
        assert_eq!(DType::parse("Q4_2"), None);
    }

    #[test]
    fn sizes_are_those_of_published_files() {
        // Qwen3-0.6B: token_embd.weight [1024, 151936].
        assert_eq!(DType::BF16.tensor_bytes(&[1024, 151_936]), Ok(311_164_928));
        assert_eq!(DType::Q6K.tensor_bytes(&[1024, 151_936]), Ok(151_936 * 840));
        assert_eq!(DType::Q8_0.row_bytes(1024), Ok(1088));
        assert_eq!(DType::Q4K.tensor_bytes(&[256, 3, 2, 5]), Ok(144 * 30));
    }

    #[test]
    fn impossible_shapes_are_errors() {
        assert_eq!(DType::F32.tensor_bytes(&[]), Err(DTypeError::Dims(0)));
        assert_eq!(DType::F32.tensor_bytes(&[1; 5]), Err(DTypeError::Dims(5)));
        assert_eq!(DType::F32.tensor_bytes(&[4, 0]), Err(DTypeError::ZeroDim(1)));
        assert_eq!(DType::Q4K.row_bytes(128), Err(DTypeError::Ragged { dtype: DType::Q4K, cols: 128 }));
        assert_eq!(
            DType::Q8_0.row_bytes(33).unwrap_err().to_string(),
            "a row of 33 elements is not a multiple of Q8_0's block of 32"
        );
    }

    #[test]
    fn sizes_never_wrap() {
        for shape in [&[1u64 << 32, 1 << 32] as &[u64], &[1 << 62, 4], &[u64::MAX], &[1 << 16; 4], &[u64::MAX; 4]] {
            assert_eq!(DType::I8.tensor_bytes(shape), Err(DTypeError::Overflow), "{shape:?}");
        }
        // The elements fit, the bytes don't.
        assert_eq!(DType::F64.tensor_bytes(&[1 << 61]), Err(DTypeError::Overflow));
        assert_eq!(DType::I8.tensor_bytes(&[i64::MAX as u64]), Ok(i64::MAX as u64));
    }
}
