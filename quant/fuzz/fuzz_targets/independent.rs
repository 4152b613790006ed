//! What our reader accepts, gguf-rs (which checks less) must read without harm and in the same way: the order in which
//! the converter uses the two. `cargo +nightly fuzz run independent`
#![no_main]

use std::io::Cursor;

use gguf_rs::{ByteOrder, GGUFContainer};
use libfuzzer_sys::fuzz_target;
use qwren_quant::gguf::Header;

fuzz_target!(|bytes: &[u8]| {
    // gguf-rs sees nothing that was not accepted first.
    let Ok(header) = Header::parse(bytes, bytes.len() as u64) else { return };
    let mut rest = Cursor::new(bytes.to_vec());
    rest.set_position(4);
    let mut container = GGUFContainer::new(ByteOrder::LE, Box::new(rest), u64::MAX);
    if let Ok(model) = container.decode() {
        assert_eq!(model.tensors().len(), header.tensors().len());
        for (theirs, ours) in model.tensors().iter().zip(header.tensors()) {
            assert_eq!(theirs.name, ours.name);
            assert_eq!((theirs.offset, theirs.size), (ours.offset, ours.bytes));
        }
    }
});
