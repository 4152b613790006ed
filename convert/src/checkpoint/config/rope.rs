//! How positions are stretched beyond the trained context: `rope_scaling` in the older style, `rope_parameters` in that of
//! transformers 5.

use serde::Deserialize;

use super::{ConfigError, Raw, float, int};

/// RoPE scaling.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Positions are divided by the factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// YaRN, by parts of the spectrum.
    Yarn {
        /// Context is stretched by this.
        factor: f32,
        /// Context before stretching.
        original_context: u32,
        /// extrapolation_factor.
        ext_factor: Option<f32>,
        /// attention_factor.
        attn_factor: Option<f32>,
        /// beta_fast.
        beta_fast: Option<f32>,
        /// beta_slow.
        beta_slow: Option<f32>,
    },
}

#[derive(Deserialize)]
pub(super) struct Rope {
    rope_type: Option<String>,
    r#type: Option<String>,
    pub rope_theta: Option<f64>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    extrapolation_factor: Option<f64>,
    attention_factor: Option<f64>,
    attn_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
}

pub(super) fn scaling(rope: &Rope, raw: &Raw) -> Result<Option<Scaling>, ConfigError> {
    let opt = |name, value: Option<f64>| value.map(|v| float(name, Some(v), 0.0, 1e6)).transpose();
    match rope.rope_type.as_deref().or(rope.r#type.as_deref()) {
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(Scaling::Linear { factor: float("rope factor", rope.factor, 1.0, 1e6)? })),
        Some("yarn") => {
            // A float in some files ("32768.0").
            let original = rope.original_max_position_embeddings.map(|v| v as u64);
            Ok(Some(Scaling::Yarn {
                factor: float("rope factor", rope.factor, 1.0, 1e6)?,
                original_context: int(
                    "original_max_position_embeddings",
                    original.or(raw.original_max_position_embeddings),
                    1 << 30,
                )?,
                ext_factor: opt("extrapolation_factor", rope.extrapolation_factor)?,
                attn_factor: opt("attention_factor", rope.attention_factor.or(rope.attn_factor))?,
                beta_fast: opt("beta_fast", rope.beta_fast)?,
                beta_slow: opt("beta_slow", rope.beta_slow)?,
            }))
        }
        Some(other) => Err(ConfigError::Variant(format!("rope type {other:?}"))),
    }
}
