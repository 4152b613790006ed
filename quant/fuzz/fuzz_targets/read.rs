//! Any bytes: the reader refuses them, or every span that it describes lies in the file and getters agree with the values.
//! `cargo +nightly fuzz run read`
#![no_main]

use libfuzzer_sys::fuzz_target;
use qwren_quant::gguf::Header;

fuzz_target!(|bytes: &[u8]| {
    match Header::parse(bytes, bytes.len() as u64) {
        Err(e) => assert!(!e.to_string().chars().any(char::is_control)),
        Ok(header) => {
            for t in header.tensors() {
                assert_eq!(t.dtype.tensor_bytes(&t.shape), Ok(t.bytes));
                assert!(header.data_offset + t.offset + t.bytes <= bytes.len() as u64);
            }
            for (key, _) in header.metadata() {
                let _ = (header.str(key), header.u32(key), header.u64(key), header.f32(key), header.bool(key));
                let _ = (header.strings(key), header.i32s(key), header.f32s(key));
            }
        }
    }
});
