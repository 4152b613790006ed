//! What can be wrong with config.json.

/// What config.json lacks, or asks for that is not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The model is of another family.
    #[error("architecture {0} is not supported; use a checkpoint of Qwen3ForCausalLM or Qwen3MoeForCausalLM")]
    Architecture(String),
    /// Nothing says what the model is.
    #[error("names no architecture; is this a model's folder?")]
    NoArchitecture,
    /// A needed value is absent.
    #[error("{0} is missing; use the config.json that was published with the weights")]
    Missing(&'static str),
    /// A value is out of range.
    #[error("{name} is {value}, outside of {min} to {max}")]
    Range {
        /// Key in config.json.
        name: &'static str,
        /// Its value.
        value: f64,
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// Two values can't both hold.
    #[error("{0}")]
    Inconsistent(String),
    /// A variant of the architecture that Qwen3's published models don't use.
    #[error("{0} is not supported; the published Qwen3 models don't use it")]
    Variant(String),
}

impl ConfigError {
    /// True when the model is sound but of a kind that is not converted.
    pub fn unsupported(&self) -> bool {
        matches!(self, ConfigError::Architecture(_) | ConfigError::Variant(_))
    }
}
