//! Archives made by hand, byte by byte, and what becomes of them.

use super::*;
use crate::verify::wide;

/// An archive in memory that comes a few bytes at a time.
struct Bytes(Vec<u8>);

impl Input for Bytes {
    fn size(&self) -> u64 {
        wide(self.0.len())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len()).min(700);
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Path, size as said, and bytes of a file that came out.
type Came = (String, u64, Vec<u8>);

/// What came out; ends the reading at a file of more than `size_max` bytes.
struct Taken {
    size_max: u64,
    files: Vec<Came>,
}

impl Sink for Taken {
    fn begin(&mut self, path: SafePath, size: u64) -> Result<(), Error> {
        self.files.push((path.to_string(), size, Vec::new()));
        if size <= self.size_max { Ok(()) } else { Err(Error::DiskFull("enough seen".to_owned())) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.files.last_mut().unwrap().2.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let (path, size, bytes) = self.files.last().unwrap();
        assert_eq!(wide(bytes.len()), *size, "{path}");
        Ok(())
    }
}

fn unpacked(kind: Kind, bytes: Vec<u8>) -> (Result<(), Error>, Vec<Came>) {
    let mut taken = Taken { size_max: 1 << 20, files: Vec::new() };
    let result = unpack(kind, &mut Bytes(bytes), &mut taken);
    (result, taken.files)
}

/// A header and its content; `size` is the field as it stands there.
fn entry(name: &str, kind: u8, size: &[u8], content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, b'0', format!("{:011o}", content.len()).as_bytes(), content)
}

fn ended(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = parts.concat();
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[test]
fn a_size_is_read_in_every_form() {
    let nine_gib: u64 = 9 << 30;
    let binary = [&[0x80, 0, 0, 0][..], &nine_gib.to_be_bytes()].concat();
    let pax = |size: &str| {
        let record = format!("size={size}\n");
        let record = format!("{} {record}", record.len() + 3);
        entry("pax", b'x', format!("{:o}", record.len()).as_bytes(), record.as_bytes())
    };
    for (parts, size) in [
        (entry("w", b'0', b"00000000005\0", b"12345"), 5),
        (entry("w", b'\0', b"     5 ", b"12345"), 5),
        (entry("w", b'7', b"", b""), 0),
        (entry("w", b'0', &binary, b""), nine_gib),
        ([pax("9663676416"), entry("w", b'0', b"00000000000", b"")].concat(), nine_gib),
        ([pax("9663676416"), entry("w", b'0', b"77777777777", b"")].concat(), nine_gib),
    ] {
        let mut taken = Taken { size_max: 100, files: Vec::new() };
        // As large an archive as its sizes ask for, of which only the front is read.
        struct Large(Bytes);
        impl Input for Large {
            fn size(&self) -> u64 {
                10 << 30
            }
            fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read_at(offset, buffer)
            }
        }
        let result = unpack(Kind::Tar, &mut Large(Bytes(ended(&[parts]))), &mut taken);
        assert_eq!(result.is_ok(), size <= 100, "{result:?}");
        assert_eq!((taken.files[0].0.as_str(), taken.files[0].1), ("w", size));
    }
}

#[test]
fn folders_and_comments_make_nothing() {
    let comment = b"19 comment=0123456\n";
    let archive = ended(&[
        entry("pax_global_header", b'g', b"23", comment),
        entry("./", b'5', b"", b""),
        entry("./a/", b'5', b"0", b""),
        entry("old/", b'0', b"0", b""),
        file("./a/b", b"x"),
        file("./././c", b""),
    ]);
    let (result, files) = unpacked(Kind::Tar, archive);
    assert_eq!(result, Ok(()));
    assert_eq!(files, [("a/b".to_owned(), 1, b"x".to_vec()), ("c".to_owned(), 0, Vec::new())]);
}

#[test]
fn what_says_two_things_is_refused() {
    let sized = entry("pax", b'x', b"13", b"11 size=12\n");
    for (what, parts) in [
        ("two sizes", vec![sized.clone(), file("w", b"12345")]),
        ("two names", vec![entry("l", b'L', b"2", b"a\0"), entry("pax", b'x', b"12", b"10 path=b\n"), file("w", b"")]),
        ("one kind", vec![entry("l", b'L', b"2", b"a\0"), entry("l", b'L', b"2", b"a\0"), file("w", b"")]),
        ("global header", vec![entry("g", b'g', b"12", b"10 path=b\n"), file("w", b"")]),
    ] {
        let (result, files) = unpacked(Kind::Tar, ended(&parts));
        assert!(matches!(&result, Err(Error::Policy(text)) if text.contains(what)), "{what}: {result:?}");
        assert_eq!(files, [], "{what}");
    }
    let (result, _) = unpacked(Kind::Tar, ended(&[sized]));
    assert!(matches!(result, Err(Error::Integrity(_))), "an extended header without its member: {result:?}");
}

#[test]
fn no_cut_and_no_flip_passes_for_more_than_it_is() {
    let whole = ended(&[file("a", b"12345"), entry("l", b'L', b"2", b"b\0"), file("w", &[7; 600])]);
    let (result, all) = unpacked(Kind::Tar, whole.clone());
    assert_eq!((result, all.len()), (Ok(()), 2));
    for len in 0..whole.len() - 1024 {
        let (result, _) = unpacked(Kind::Tar, whole[..len].to_vec());
        assert!(matches!(result, Err(Error::Integrity(_))), "cut at {len}: {result:?}");
    }
    // Blanks stand for digits in the checksum itself.
    for at in (0..148).chain(156..512) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        let (result, _) = unpacked(Kind::Tar, changed);
        assert!(matches!(result, Err(Error::Integrity(_))), "byte {at} of a header: {result:?}");
    }
}

#[test]
fn a_name_is_read_as_both_headers_write_it() {
    let long = "d/".repeat(20) + "x";
    let content = format!("{long}\0");
    let archive =
        ended(&[entry("l", b'L', format!("{:o}", content.len()).as_bytes(), content.as_bytes()), file("cut", b"1")]);
    assert_eq!(unpacked(Kind::Tar, archive).1[0].0, long);
    let mut ustar = file("name", b"1");
    ustar[345..350].copy_from_slice(b"front");
    ustar[148..156].fill(b' ');
    let sum: u32 = ustar[..512].iter().map(|byte| u32::from(*byte)).sum();
    ustar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(unpacked(Kind::Tar, ended(&[ustar])).1[0].0, "front/name");
}
