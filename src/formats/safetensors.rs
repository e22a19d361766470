//! A safetensors file, held to every rule of its format: <https://github.com/huggingface/safetensors#format>.
//!
//! In: the whole file through an [`Input`]; only the header is read. Out: nothing, or the first rule it breaks.
//! Holds: the header is read as a stream, so memory is a few dozen bytes a tensor whatever it says; no byte of the file
//! belongs to no tensor, and none to two.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Input;
use super::cursor::Cursor;
use crate::manifest::path::shown;

/// Longest header, in bytes: the format's own bound.
pub(super) const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Bytes of the header's length at the start of the file.
pub(super) const LENGTH_BYTES: u64 = 8;

/// Most dimensions of a tensor.
const DIMENSIONS_MAX: usize = 64;

/// Where the header says free text about the whole.
const METADATA: &str = "__metadata__";

/// Checks the file that `input` is.
///
/// # Errors
/// The rule that it breaks, in words; an error of `input` in the same way.
pub fn check(input: &mut dyn Input) -> Result<(), String> {
    let size = input.size();
    let mut cursor = Cursor::new(input, 0);
    let length = cursor.array::<8>().map_err(|error| error.to_string())?;
    let length = u64::from_le_bytes(length.ok_or("it is shorter than a header's length")?);
    if HEADER_BYTES_MAX < length {
        return Err(format!("its header would be longer than {HEADER_BYTES_MAX} bytes"));
    }
    let Some(data) = size.checked_sub(LENGTH_BYTES + length) else {
        return Err("it ends within its header".to_owned());
    };
    if cursor.ahead().map_err(|error| error.to_string())?.first() != Some(&b'{') {
        return Err("its header does not begin with `{`".to_owned());
    }
    let mut header = Vec::new();
    let mut json = serde_json::Deserializer::from_reader(io::BufReader::new(cursor.take(length)));
    let read = json.deserialize_map(Header { tensors: &mut header }).and_then(|()| json.end());
    read.map_err(|error| format!("its header is no header: {}", shown(&error.to_string())))?;
    covering(header, data)
}

/// Where a tensor's bytes are, from the end of the header on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: u64,
    end: u64,
}

/// Whether the tensors lie one behind the other from the first byte to the last.
fn covering(mut places: Vec<Place>, data: u64) -> Result<(), String> {
    places.sort_unstable();
    let mut at = 0;
    for place in places {
        if place.start < at {
            return Err(format!("two of its tensors share bytes at {}", place.start));
        }
        if at < place.start {
            return Err(format!("no tensor holds its bytes from {at} to {}", place.start));
        }
        at = place.end;
    }
    if data < at {
        return Err(format!("its tensors need {at} bytes and it has {data}"));
    }
    if at < data {
        return Err(format!("{} bytes follow its last tensor", data - at));
    }
    Ok(())
}

/// Names in one object: models have some thousands, and each is remembered.
const NAMES_MAX: usize = 1 << 18;

/// Names seen in one object, as digests: a name may be as long as the header.
#[derive(Default)]
struct Names(HashSet<[u8; 16]>);

impl Names {
    /// Takes a further name of the object that `place` says; why not, in words.
    fn take(&mut self, name: &str, place: &str) -> Result<(), String> {
        if NAMES_MAX <= self.0.len() {
            return Err(format!("more than {NAMES_MAX} names stand in {place}"));
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..16]);
        if self.0.insert(digest) { Ok(()) } else { Err(format!("`{}` stands in {place} twice", shown(name))) }
    }
}

/// The header: tensors by name, and perhaps free text.
struct Header<'a> {
    tensors: &'a mut Vec<Place>,
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = map.next_key::<String>()? {
            names.take(&name, "it").map_err(A::Error::custom)?;
            if name == METADATA {
                map.next_value_seed(Metadata)?;
                continue;
            }
            let wrong = |why: String| A::Error::custom(format!("tensor `{}`: {why}", shown(&name)));
            let place = map.next_value_seed(Tensor).map_err(|error| wrong(error.to_string()))?;
            self.tensors.push(place);
        }
        Ok(())
    }
}

/// Free text by name.
struct Metadata;

impl<'de> DeserializeSeed<'de> for Metadata {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("__metadata__ of texts by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some((name, _)) = map.next_entry::<String, String>()? {
            names.take(&name, METADATA).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// One tensor: type, shape, place.
struct Tensor;

impl<'de> DeserializeSeed<'de> for Tensor {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Place, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place, A::Error> {
        let (mut bits, mut elements, mut place) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            let known = match field.as_str() {
                "dtype" => {
                    let word: String = map.next_value()?;
                    let unknown = || A::Error::custom(format!("its dtype `{}` is unknown", shown(&word)));
                    bits.replace(bits_of(&word).ok_or_else(unknown)?).is_some()
                }
                "shape" => elements.replace(map.next_value_seed(Shape)?).is_some(),
                "data_offsets" => {
                    let [start, end]: [u64; 2] = map.next_value()?;
                    place.replace(Place { start, end }).is_some()
                }
                _ => {
                    let _: IgnoredAny = map.next_value()?;
                    false
                }
            };
            if known {
                return Err(A::Error::custom(format!("its {field} stands there twice")));
            }
        }
        let (Some(bits), Some(elements), Some(place)) = (bits, elements, place) else {
            return Err(A::Error::custom("it has no dtype, no shape or no data_offsets"));
        };
        let wanted = u64::checked_mul(elements, bits).filter(|bits| bits.is_multiple_of(8)).map(|bits| bits / 8);
        let has = place.end.checked_sub(place.start);
        if wanted.is_none() || wanted != has {
            return Err(A::Error::custom("its dtype and shape make another size than its offsets"));
        }
        Ok(place)
    }
}

/// The dimensions, as how many elements they make.
struct Shape;

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a shape of at most {DIMENSIONS_MAX} dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let (mut elements, mut dimensions) = (1_u64, 0);
        while let Some(dimension) = seq.next_element::<u64>()? {
            dimensions += 1;
            let many = || A::Error::custom("its shape has too many elements");
            elements = elements.checked_mul(dimension).filter(|_| dimensions <= DIMENSIONS_MAX).ok_or_else(many)?;
        }
        Ok(elements)
    }
}

/// Bits of one element.
fn bits_of(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E5M2FNUZ" | "F8_E4M3FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::cursor::Head;
    use crate::verify::wide;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = wide(header.len()).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        check(&mut Head { bytes, size: wide(bytes.len()) })
    }

    #[test]
    fn whole_files_pass() {
        for (header, data) in [
            (r#"{}"#, 0),
            (r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}   "#, 24),
            (r#"{"__metadata__":{"format":"pt"},"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#, 8),
            (
                r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#,
                5,
            ),
            (
                r#"{"e":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]},"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}"#,
                2,
            ),
        ] {
            assert_eq!(checked(&file(header, data)), Ok(()), "{header}");
        }
    }

    #[test]
    fn each_rule_that_is_broken_is_named() {
        let tensor = |text: &str| format!(r#"{{"a":{{{text}}}}}"#);
        let good = r#""dtype":"U8","shape":[4],"data_offsets":[0,4]"#;
        let two = |start: u64, end: u64| {
            let size = end - start;
            format!(r#"{{"a":{{{good}}},"b":{{"dtype":"U8","shape":[{size}],"data_offsets":[{start},{end}]}}}}"#)
        };
        for (header, data, why) in [
            (tensor(good), 5, "1 bytes follow"),
            (tensor(good), 3, "need 4 bytes"),
            (two(3, 8), 8, "share bytes at 3"),
            (two(0, 4), 4, "share bytes at 0"),
            (two(5, 8), 8, "from 4 to 5"),
            (tensor(&good.replace("[4]", "[5]")), 4, "another size"),
            (tensor(&good.replace("[0,4]", "[4,0]")), 4, "another size"),
            (tensor(&good.replace("U8", "F4").replace("[4]", "[3]")), 4, "another size"),
            (tensor(&good.replace("[4]", "[4294967296,4294967296]")), 4, "too many elements"),
            (tensor(&good.replace("[4]", "[-4]")), 4, "no header"),
            (tensor(&good.replace("[4]", "[4.0]")), 4, "no header"),
            (tensor(&good.replace("U8", "Q8")), 4, "dtype `Q8` is unknown"),
            (tensor(&good.replace("\"shape\":[4],", "")), 4, "no shape"),
            (tensor(&format!("{good},{good}")), 4, "stands there twice"),
            (format!(r#"{{"a":{{{good}}},"a":{{{good}}}}}"#), 4, "twice"),
            (r#"{"__metadata__":{"a":"1","a":"2"}}"#.to_owned(), 0, "twice"),
            (r#"{"__metadata__":{"a":1}}"#.to_owned(), 0, "no header"),
            (r#"{"__metadata__":["a"]}"#.to_owned(), 0, "no header"),
            (r#"{"a":[]}"#.to_owned(), 0, "tensor `a`"),
            (format!("{}x", tensor(good)), 4, "no header"),
            (format!(" {}", tensor(good)), 4, "begin with `{`"),
            ("[]".to_owned(), 0, "begin with `{`"),
            ("{".to_owned(), 0, "no header"),
            (format!(r#"{{"a":{}"#, "[".repeat(100_000)), 0, "no header"),
        ] {
            let said = checked(&file(&header, data));
            assert!(said.as_ref().is_err_and(|said| said.contains(why)), "{header}: {said:?}, not {why}");
        }
        let long = [&HEADER_BYTES_MAX.saturating_add(1).to_le_bytes()[..], b"{}"].concat();
        for (bytes, why) in
            [(&b"1234567"[..], "shorter"), (b"\x03\0\0\0\0\0\0\0{}", "within its header"), (&long, "longer")]
        {
            assert!(checked(bytes).is_err_and(|said| said.contains(why)), "{why}");
        }
    }

    proptest! {
        /// Tensors laid out one behind the other pass, in whatever order they are listed; one byte more or less fails.
        #[test]
        fn only_the_exact_layout_passes(sizes in proptest::collection::vec(0_u64..40, 1..12), turn in 0_usize..12) {
            let mut at = 0;
            let mut tensors: Vec<String> = sizes.iter().enumerate().map(|(index, size)| {
                at += size;
                format!(r#""t{index}":{{"dtype":"I8","shape":[{size}],"data_offsets":[{},{at}]}}"#, at - size)
            }).collect();
            let count = tensors.len();
            tensors.rotate_left(turn % count);
            let header = format!("{{{}}}", tensors.join(","));
            let data = usize::try_from(at).unwrap();
            prop_assert_eq!(checked(&file(&header, data)), Ok(()));
            prop_assert!(checked(&file(&header, data + 1)).is_err());
            prop_assert!(data == 0 || checked(&file(&header, data - 1)).is_err());
        }
    }
}
