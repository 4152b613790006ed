//! Conversion of a Hugging Face Qwen3 checkpoint into one GGUF file.
