//! Which tensor gets which type: the choice of llama-quantize for the same file type.

use qwren_quant::dtype::DType;

use crate::arch::Target;
use crate::glob;

/// The file types that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(non_camel_case_types)]
pub enum FileType {
    /// 4.8 bits a weight: the usual choice
    #[value(name = "q4_k_m")]
    Q4_K_M,
    /// 4.6 bits a weight: a little smaller than q4_k_m
    #[value(name = "q4_k_s")]
    Q4_K_S,
    /// 5.7 bits a weight
    #[value(name = "q5_k_m")]
    Q5_K_M,
    /// 6.6 bits a weight
    #[value(name = "q6_k")]
    Q6_K,
    /// 4.4 bits a weight: between q3_k_m and q4_k_s
    #[value(name = "iq4_xs")]
    IQ4_XS,
    /// 4.6 bits a weight: as iq4_xs in blocks of 32
    #[value(name = "iq4_nl")]
    IQ4_NL,
    /// 3.9 bits a weight: answers begin to suffer
    #[value(name = "q3_k_m")]
    Q3_K_M,
    /// 3.2 bits a weight: for models too large otherwise
    #[value(name = "q2_k")]
    Q2_K,
    /// 5.0 bits a weight: an older type; q4_k_m is better
    #[value(name = "q4_1")]
    Q4_1,
    /// 4.5 bits a weight: an older type; q4_k_s is better
    #[value(name = "q4_0")]
    Q4_0,
    /// 8.5 bits a weight: as good as the original
    #[value(name = "q8_0")]
    Q8_0,
    /// 16 bits, the checkpoint's own type as a rule
    #[value(name = "bf16")]
    BF16,
    /// 16 bits
    #[value(name = "f16")]
    F16,
    /// 32 bits
    #[value(name = "f32")]
    F32,
}

impl FileType {
    /// Name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FileType::Q4_K_M => "q4_k_m",
            FileType::Q4_K_S => "q4_k_s",
            FileType::Q5_K_M => "q5_k_m",
            FileType::Q6_K => "q6_k",
            FileType::IQ4_XS => "iq4_xs",
            FileType::IQ4_NL => "iq4_nl",
            FileType::Q3_K_M => "q3_k_m",
            FileType::Q2_K => "q2_k",
            FileType::Q4_1 => "q4_1",
            FileType::Q4_0 => "q4_0",
            FileType::Q8_0 => "q8_0",
            FileType::BF16 => "bf16",
            FileType::F16 => "f16",
            FileType::F32 => "f32",
        }
    }

    /// llama.cpp's number, the value of `general.file_type`.
    pub fn number(self) -> u32 {
        match self {
            FileType::F32 => 0,
            FileType::F16 => 1,
            FileType::Q4_0 => 2,
            FileType::Q4_1 => 3,
            FileType::Q8_0 => 7,
            FileType::Q2_K => 10,
            FileType::Q3_K_M => 12,
            FileType::Q4_K_S => 14,
            FileType::Q4_K_M => 15,
            FileType::Q5_K_M => 17,
            FileType::Q6_K => 18,
            FileType::IQ4_NL => 25,
            FileType::IQ4_XS => 30,
            FileType::BF16 => 32,
        }
    }

    /// The type of most tensors.
    fn base(self) -> DType {
        match self {
            FileType::Q4_K_M | FileType::Q4_K_S => DType::Q4K,
            FileType::Q5_K_M => DType::Q5K,
            FileType::Q6_K => DType::Q6K,
            FileType::IQ4_XS => DType::IQ4XS,
            FileType::IQ4_NL => DType::IQ4NL,
            FileType::Q3_K_M => DType::Q3K,
            FileType::Q2_K => DType::Q2K,
            FileType::Q4_1 => DType::Q4_1,
            FileType::Q4_0 => DType::Q4_0,
            FileType::Q8_0 => DType::Q8_0,
            FileType::BF16 => DType::BF16,
            FileType::F16 => DType::F16,
            FileType::F32 => DType::F32,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, FileType::BF16 | FileType::F16 | FileType::F32)
    }
}

/// `--tensor-type GLOB=TYPE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Pattern over GGUF names.
    pub glob: String,
    /// The type for tensors that it fits.
    pub dtype: DType,
}

/// The choice for one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// What it gets.
    pub dtype: DType,
    /// What it would have got if its rows were whole blocks of it.
    pub wanted: DType,
}

/// What the choice depends on beside the file type.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Layers.
    pub layers: u32,
    /// Experts of a layer; 0 in dense models.
    pub experts: u32,
    /// Query heads that share a key and value head.
    pub group: u32,
    /// Whether an importance matrix guides the quantization.
    pub imatrix: bool,
}

/// Chooses a type for each of `targets`, which must be in file order (layers ascending): some rules count.
///
/// The first fitting override wins.
pub fn choose(targets: &[Target], file_type: FileType, shape: Shape, overrides: &[Override]) -> Vec<Choice> {
    let has_output = targets.iter().any(|t| t.name == "output.weight");
    let mut rules = Rules { file_type, shape, has_output, attn_v: 0, ffn_down: 0 };
    let choice = |target: &Target| {
        let wanted = if !quantizable(target) {
            DType::F32
        } else if let Some(o) = overrides.iter().find(|o| glob::matches(&o.glob, &target.name)) {
            o.dtype
        } else if file_type.is_float() {
            file_type.base()
        } else {
            rules.choose(target)
        };
        Choice { dtype: fallback(wanted, target.cols()), wanted }
    };
    targets.iter().map(choice).collect()
}

/// Norms and the router of a MoE layer always stay F32.
pub fn quantizable(target: &Target) -> bool {
    target.shape.len() > 1 && !target.name.contains("_norm.") && !target.name.contains("ffn_gate_inp.")
}

/// The rules of llama-quantize, with its running counts.
struct Rules {
    file_type: FileType,
    shape: Shape,
    has_output: bool,
    /// attn_v and ffn_down tensors that went through the rules so far.
    attn_v: u32,
    ffn_down: u32,
}

impl Rules {
    fn choose(&mut self, target: &Target) -> DType {
        // What a model with just 8 experts shares among them is small: llama-quantize spends more bits on it.
        let eight = self.shape.experts == 8;
        let kind = target.name.strip_suffix(".weight").unwrap_or(&target.name);
        match kind.rsplit('.').next().unwrap_or(kind) {
            // Q6_K keeps the logits sharp. A tied embedding is the output matrix too.
            "output" => self.output(target),
            "token_embd" if !self.has_output => self.output(target),
            "attn_v" => {
                let i = self.attn_v;
                self.attn_v += 1;
                if eight { DType::Q8_0 } else { self.value(i) }
            }
            "attn_k" if eight => DType::Q8_0,
            "attn_output" => self.attention_output(),
            "ffn_down" | "ffn_down_exps" => {
                let counted = self.ffn_down;
                self.ffn_down += 1;
                self.down(if self.shape.experts > 1 { target.layer.unwrap_or(counted) } else { counted })
            }
            _ => self.file_type.base(),
        }
    }

    /// attn_v number `i`.
    fn value(&self, i: u32) -> DType {
        let shared = self.shape.group >= 4;
        match self.file_type {
            FileType::Q4_K_M | FileType::Q5_K_M if use_more_bits(i, self.shape.layers) => DType::Q6K,
            FileType::Q4_K_S if i < 4 => DType::Q5K,
            FileType::Q3_K_M if i < 2 => DType::Q5K,
            FileType::Q3_K_M => DType::Q4K,
            FileType::Q2_K if shared => DType::Q4K,
            FileType::Q2_K => DType::Q3K,
            FileType::IQ4_NL | FileType::IQ4_XS if shared => DType::Q5K,
            other => other.base(),
        }
    }

    fn attention_output(&self) -> DType {
        use FileType::{IQ4_NL, IQ4_XS, Q2_K, Q3_K_M, Q4_K_M, Q4_K_S};
        match self.file_type {
            Q2_K | Q3_K_M | Q4_K_S | Q4_K_M | IQ4_NL | IQ4_XS if self.shape.experts == 8 => DType::Q5K,
            Q2_K => DType::Q3K,
            Q3_K_M => DType::Q4K,
            other => other.base(),
        }
    }

    /// ffn_down of a layer.
    fn down(&self, layer: u32) -> DType {
        let layers = self.shape.layers;
        let first_eighth = layer < layers / 8;
        match self.file_type {
            FileType::Q4_K_M | FileType::Q5_K_M if use_more_bits(layer, layers) => DType::Q6K,
            FileType::Q4_K_S if first_eighth => DType::Q5K,
            FileType::Q3_K_M if layer < layers / 16 => DType::Q5K,
            FileType::Q3_K_M => DType::Q4K,
            FileType::Q2_K => DType::Q3K,
            FileType::IQ4_NL | FileType::IQ4_XS if first_eighth && !self.shape.imatrix => DType::Q5K,
            FileType::Q4_0 if first_eighth && self.shape.imatrix => DType::Q4_1,
            other => other.base(),
        }
    }

    fn output(&self, target: &Target) -> DType {
        let base = self.file_type.base();
        let ragged = !target.cols().is_multiple_of(base.block_len() as u64);
        if ragged || base == DType::Q8_0 { DType::Q8_0 } else { DType::Q6K }
    }
}

/// The first eighth, the last eighth, and every third layer between.
fn use_more_bits(layer: u32, layers: u32) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// A type whose blocks fit into rows of `cols`: blocks of 256, then of 32, then none.
fn fallback(wanted: DType, cols: u64) -> DType {
    let fits = |dtype: DType| cols.is_multiple_of(dtype.block_len() as u64);
    let smaller = match wanted {
        DType::Q2K | DType::Q3K => DType::Q4_0,
        DType::IQ4XS => DType::IQ4NL,
        DType::Q4K => DType::Q5_0,
        DType::Q5K => DType::Q5_1,
        DType::Q6K => DType::Q8_0,
        other => other,
    };
    if fits(wanted) {
        wanted
    } else if fits(smaller) {
        smaller
    } else {
        DType::F16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, layer: Option<u32>, shape: &[u64]) -> Target {
        let name = layer.map_or(name.to_owned(), |l| format!("blk.{l}.{name}"));
        Target { name: format!("{name}.weight"), layer, shape: shape.to_vec(), parts: Vec::new() }
    }

    fn shape(layers: u32, experts: u32) -> Shape {
        Shape { layers, experts, group: 2, imatrix: false }
    }

    /// Types of one kind of tensor, by layer.
    fn by_layer(kind: &str, file_type: FileType, layers: u32, experts: u32) -> Vec<DType> {
        in_shape(kind, file_type, shape(layers, experts))
    }

    fn in_shape(kind: &str, file_type: FileType, shape: Shape) -> Vec<DType> {
        let all: Vec<Target> = (0..shape.layers).map(|l| target(kind, Some(l), &[256, 256])).collect();
        choose(&all, file_type, shape, &[]).iter().map(|c| c.dtype).collect()
    }

    #[test]
    fn layers_with_more_bits() {
        let more = |n| (0..n).filter(|&i| use_more_bits(i, n)).collect::<Vec<u32>>();
        assert_eq!(more(4), [2, 3]);
        assert_eq!(more(28), [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]);
        assert_eq!(more(36), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31, 32, 33, 34, 35]);
        assert_eq!(more(94).len(), 11 + 24 + 11);
    }

    #[test]
    fn rules_by_layer() {
        use DType::*;
        assert_eq!(by_layer("ffn_down", FileType::Q4_K_M, 4, 0), [Q4K, Q4K, Q6K, Q6K]);
        assert_eq!(by_layer("ffn_down_exps", FileType::Q4_K_M, 4, 32), [Q4K, Q4K, Q6K, Q6K]);
        assert_eq!(by_layer("attn_v", FileType::Q5_K_M, 4, 0), [Q5K, Q5K, Q6K, Q6K]);
        assert_eq!(by_layer("attn_v", FileType::Q4_K_S, 6, 0), [Q5K, Q5K, Q5K, Q5K, Q4K, Q4K]);
        let s = by_layer("ffn_down", FileType::Q4_K_S, 16, 0);
        assert_eq!((&s[..2], &s[2..4]), (&[Q5K, Q5K][..], &[Q4K, Q4K][..]));
        assert_eq!(by_layer("attn_v", FileType::Q6_K, 4, 0), [Q6K; 4]);
    }

    #[test]
    fn rules_of_the_low_types() {
        use DType::*;
        let ends = |types: Vec<DType>| (types[0], types[1], types[2], types[31]);
        for (kind, file_type, expected) in [
            ("attn_v", FileType::Q3_K_M, (Q5K, Q5K, Q4K, Q4K)),
            ("ffn_down", FileType::Q3_K_M, (Q5K, Q5K, Q4K, Q4K)),
            ("attn_output", FileType::Q3_K_M, (Q4K, Q4K, Q4K, Q4K)),
            ("attn_q", FileType::Q3_K_M, (Q3K, Q3K, Q3K, Q3K)),
            ("attn_v", FileType::Q2_K, (Q3K, Q3K, Q3K, Q3K)),
            ("ffn_down", FileType::Q2_K, (Q3K, Q3K, Q3K, Q3K)),
            ("attn_output", FileType::Q2_K, (Q3K, Q3K, Q3K, Q3K)),
            ("ffn_up", FileType::Q2_K, (Q2K, Q2K, Q2K, Q2K)),
            ("attn_v", FileType::IQ4_XS, (IQ4XS, IQ4XS, IQ4XS, IQ4XS)),
            ("ffn_down", FileType::IQ4_XS, (Q5K, Q5K, Q5K, IQ4XS)),
            ("ffn_down", FileType::IQ4_NL, (Q5K, Q5K, Q5K, IQ4NL)),
            ("ffn_down", FileType::Q4_0, (Q4_0, Q4_0, Q4_0, Q4_0)),
        ] {
            assert_eq!(ends(by_layer(kind, file_type, 32, 0)), expected, "{kind} {file_type:?}");
        }
        let shared = Shape { group: 4, ..shape(1, 0) };
        for (file_type, expected) in [(FileType::Q2_K, Q4K), (FileType::IQ4_NL, Q5K), (FileType::IQ4_XS, Q5K)] {
            assert_eq!(in_shape("attn_v", file_type, shared), [expected], "{file_type:?}");
        }
        let guided = Shape { imatrix: true, ..shape(8, 0) };
        assert_eq!(in_shape("ffn_down", FileType::IQ4_XS, guided), [IQ4XS; 8]);
        assert_eq!(in_shape("ffn_down", FileType::Q4_0, guided)[..2], [Q4_1, Q4_0]);
    }

    #[test]
    fn eight_experts_get_more() {
        use DType::*;
        for (kind, file_type, expected) in [
            ("attn_v", FileType::Q4_K_M, Q8_0),
            ("attn_k", FileType::Q6_K, Q8_0),
            ("attn_output", FileType::Q4_K_S, Q5K),
            ("attn_output", FileType::Q2_K, Q5K),
            ("attn_output", FileType::IQ4_XS, Q5K),
            ("attn_output", FileType::Q5_K_M, Q5K),
            ("attn_output", FileType::Q6_K, Q6K),
            ("attn_q", FileType::Q4_K_M, Q4K),
        ] {
            assert_eq!(by_layer(kind, file_type, 2, 8), [expected; 2], "{kind} {file_type:?}");
        }
        assert_eq!(by_layer("attn_k", FileType::Q4_K_M, 2, 16), [Q4K; 2]);
    }

    #[test]
    fn the_output_matrix_is_the_embedding_when_tied() {
        let one = |targets: &[Target], file_type| choose(targets, file_type, shape(1, 0), &[])[0].dtype;
        let embedding = target("token_embd", None, &[1024, 500]);
        assert_eq!(one(std::slice::from_ref(&embedding), FileType::Q4_K_M), DType::Q6K);
        assert_eq!(one(std::slice::from_ref(&embedding), FileType::Q8_0), DType::Q8_0);
        assert_eq!(one(&[embedding.clone(), target("output", None, &[1024, 500])], FileType::Q4_K_S), DType::Q4K);
        assert_eq!(one(&[target("output", None, &[96, 500])], FileType::Q4_K_M), DType::Q8_0);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        use DType::*;
        for (wanted, cols, expected) in [
            (Q2K, 192, Q4_0),
            (Q3K, 192, Q4_0),
            (IQ4XS, 192, IQ4NL),
            (Q4K, 192, Q5_0),
            (Q5K, 320, Q5_1),
            (Q6K, 96, Q8_0),
            (Q4K, 512, Q4K),
            (Q4K, 100, F16),
            (Q8_0, 48, F16),
            (F16, 7, F16),
            (F32, 7, F32),
            (BF16, 7, BF16),
        ] {
            assert_eq!(fallback(wanted, cols), expected, "{wanted:?} {cols}");
        }
    }

    #[test]
    fn norms_and_routers_stay_f32_and_overrides_pass_the_rules_by() {
        use DType::*;
        let all = [
            target("attn_norm", Some(0), &[256]),
            target("attn_v", Some(0), &[256, 256]),
            target("ffn_gate_inp", Some(0), &[256, 16]),
            target("attn_v", Some(1), &[256, 256]),
        ];
        let overrides = [Override { glob: "blk.0.*".into(), dtype: Q8_0 }, Override { glob: "*".into(), dtype: F16 }];
        let types = |o: &[Override], t| choose(&all, t, shape(2, 16), o).iter().map(|c| c.dtype).collect::<Vec<_>>();
        assert_eq!(types(&overrides, FileType::Q4_K_M), [F32, Q8_0, F32, F16]);
        // An overridden attn_v is not counted: the next one is "the first".
        assert_eq!(types(&overrides[..1], FileType::Q4_K_S), [F32, Q8_0, F32, Q5K]);
        assert_eq!(types(&overrides[..1], FileType::F32), [F32, Q8_0, F32, F32]);
    }
}
