//! What somebody else states about a file's content.

use std::sync::Arc;

use super::Digest;

/// What somebody else states about a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stated {
    /// S3's full-object CRC-64/NVME.
    Crc64Nvme(u64),
    /// A full-object CRC-32C (S3, GCS).
    Crc32c(u32),
    /// A full-object CRC-32 of ISO-HDLC, as zip has it (S3).
    Crc32(u32),
    /// SHA-256 of the whole (LFS objects of the Hub, single-part objects of S3, `Repr-Digest`).
    Sha256([u8; 32]),
    /// SHA-1 of the whole (single-part objects of S3).
    Sha1([u8; 20]),
    /// MD5 of the whole (an ETag that is one, `Content-MD5`).
    Md5([u8; 16]),
    /// Git's id of the whole as a blob: SHA-1 of `blob `, the size in decimal digits, a zero byte and the bytes.
    GitBlob([u8; 20]),
    /// A checksum over the checksums of an upload's parts (S3's composite checksums).
    Composite(Composite),
    /// A pin: the BLAKE3 digest of a lock or an earlier receipt.
    Blake3(Digest),
    /// What the directory's own receipt says, for a repair that must come back to it: no assurance of its own.
    Sealed(Digest),
}

impl Stated {
    /// The name a report uses for this kind of statement.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crc64Nvme(_) => "crc64nvme",
            Self::Crc32c(_) => "crc32c",
            Self::Crc32(_) => "crc32",
            Self::Sha256(_) => "sha256",
            Self::Sha1(_) => "sha1",
            Self::Md5(_) => "md5",
            Self::GitBlob(_) => "git-sha1",
            Self::Composite(composite) => composite.sum.name(),
            Self::Blake3(_) => "blake3",
            Self::Sealed(_) => "receipt",
        }
    }

    /// Whether it is a whole digest, which needs no sums beside the piece hashes.
    pub fn is_digest(&self) -> bool {
        matches!(self, Self::Blake3(_) | Self::Sealed(_))
    }
}

/// What a store says of an object that was uploaded in parts: one sum over the sums of the parts, and where parts end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composite {
    /// The stated value and its algorithm.
    pub sum: CompositeSum,
    /// The offset at which each part ends, ascending; the last is the size of the object. Never empty.
    pub ends: Arc<[u64]>,
}

/// The value of a [`Composite`]: the algorithm, applied to the parts' values (big-endian bytes, one after another).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompositeSum {
    /// CRC-32 of ISO-HDLC.
    Crc32(u32),
    /// CRC-32C.
    Crc32c(u32),
    /// CRC-64/NVME.
    Crc64Nvme(u64),
    /// SHA-1.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl CompositeSum {
    /// The name a report uses for this kind of statement.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crc32(_) => "crc32-composite",
            Self::Crc32c(_) => "crc32c-composite",
            Self::Crc64Nvme(_) => "crc64nvme-composite",
            Self::Sha1(_) => "sha1-composite",
            Self::Sha256(_) => "sha256-composite",
        }
    }
}
