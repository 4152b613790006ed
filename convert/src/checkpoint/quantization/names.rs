//! Methods that show in the names of tensors.

use super::Quantization;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Problem};

/// Last parts of tensor names that only quantized weights have. The more telling ones come first.
const SUFFIXES: [(&str, &str); 11] = [
    (".g_idx", "GPTQ"),
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight.absmax", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".q_weight", "EXL2"),
    (".trellis", "EXL3"),
    (".W_q", "HQQ"),
    (".biases", "MLX"),
    (".scales", "an unnamed method"),
];

/// Refuses a checkpoint whose tensor names show a quantization method, although its config.json names none.
pub(crate) fn refuse_by_names(checkpoint: &Checkpoint, quantization: &Quantization) -> Result<(), Error> {
    if *quantization != Quantization::None {
        return Ok(());
    }
    for (suffix, method) in SUFFIXES {
        if let Some(tensor) = checkpoint.tensors().iter().find(|t| t.name.ends_with(suffix)) {
            let seen = format!("tensor {}, no quantization_config", tensor.name);
            let problem = Problem::QuantMethod { method: method.into(), seen, original: None };
            return Err(problem.of(checkpoint.file_of(tensor)));
        }
    }
    Ok(())
}
