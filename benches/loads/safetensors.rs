//! A safetensors file of which only the header is there: nothing else of it is ever read.

use std::io;

use dray::unpack::Input;

/// Bytes of each tensor.
const TENSOR_BYTES: u64 = 8192;

/// A header, and the size of the file it would be in.
pub(crate) struct Header {
    bytes: Vec<u8>,
    size: u64,
}

/// The header of `tensors` tensors.
pub(crate) fn header(tensors: u64) -> Header {
    let tensor = |n: u64| {
        let (start, end) = (n * TENSOR_BYTES, (n + 1) * TENSOR_BYTES);
        let name = format!("model.layers.{}.mlp.experts.{}.weight", n / 64, n % 64);
        format!(r#""{name}":{{"dtype":"BF16","shape":[64,64],"data_offsets":[{start},{end}]}}"#)
    };
    let text = format!("{{{}}}", (0..tensors).map(tensor).collect::<Vec<_>>().join(","));
    let length = u64::try_from(text.len()).expect("a few MiB");
    let bytes = [length.to_le_bytes().as_slice(), text.as_bytes()].concat();
    Header { bytes, size: 8 + length + tensors * TENSOR_BYTES }
}

impl Input for &Header {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.bytes.get(usize::try_from(offset).expect("within the header")..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
