//! The journal file: records appended in batches, each batch durable before it counts. The format is [`record`](super::record)'s.
//! And the [`written`] list beside it, never synced.
//!
//! In: records. Out: the same claims after a crash, perhaps with a torn end. Holds: after any error nothing is
//! appended or synced any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::disk::{Dest, WRITTEN};
use crate::journal::record::{Encoder, Record};
use crate::journal::written::{self, WrittenPiece};
use crate::verify::wide;

/// The journal's name beneath DEST's state folder.
pub const JOURNAL: &str = "journal";

/// The journal of one DEST, open for appending. Every method blocks.
#[derive(Debug)]
pub struct JournalFile {
    file: Place,
    encoder: Encoder,
    state: State,
}

/// Where the records go.
#[derive(Debug)]
enum Place {
    File(File),
    /// Nothing was appended yet, and there is no file.
    Later(Arc<Dest>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Failed,
}

impl JournalFile {
    /// Reads the whole journal, or `None` when there is none.
    ///
    /// # Errors
    /// `InvalidData` when it is longer than `bytes_max` or no regular file; else the kernel's.
    pub fn read(dest: &Dest, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        dest.state_read(JOURNAL, bytes_max)
    }

    /// Begins a journal with `content` in the place of any other, durable when this returns; `encoder` stands at its end.
    ///
    /// # Errors
    /// `InvalidInput` when `encoder` stands elsewhere; else the kernel's.
    pub fn begin(dest: &Dest, content: &[u8], encoder: Encoder) -> io::Result<Self> {
        if encoder.offset() != u64::try_from(content.len()).map_err(io::Error::other)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the encoder does not stand at the journal's end"));
        }
        dest.state_write(JOURNAL, content)?;
        let file = dest.state_open_write(JOURNAL)?;
        dest.state_name_sync()?;
        Ok(Self { file: Place::File(file), encoder, state: State::Good })
    }

    /// A journal that claims nothing and begins with its first batch, where DEST has none: most runs that are given it
    /// never append. The folder of part files is made with it.
    pub fn later(dest: Arc<Dest>, encoder: Encoder) -> Self {
        Self { file: Place::Later(dest), encoder, state: State::Good }
    }

    fn open(&mut self) -> io::Result<&File> {
        if let Place::Later(dest) = &self.file {
            dest.make_parts_folder()?;
            *self = Self::begin(dest, &self.encoder.header(), self.encoder.clone())?;
        }
        match &self.file {
            Place::File(file) => Ok(file),
            Place::Later(_) => Err(io::Error::other("the journal has no file")),
        }
    }

    /// Writes one batch of records at the end. They count only after [`JournalFile::sync`], which must follow before
    /// the next batch.
    ///
    /// # Errors
    /// The kernel's, or that an error was met before. The journal is finished then: a new run replays it.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.check()?;
        let opened = self.open().map(drop);
        self.note(opened)?;
        let start = self.encoder.offset();
        let batch = self.encoder.encode_batch(records);
        let result = self.open().and_then(|file| file.write_all_at(batch.as_flattened(), start));
        self.note(result)
    }

    /// Makes the appended records durable: one `fdatasync` for all of them.
    ///
    /// # Errors
    /// As [`JournalFile::append`].
    pub fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        let result = match &self.file {
            Place::File(file) => file.sync_data(),
            Place::Later(_) => Ok(()),
        };
        self.note(result)
    }

    fn check(&self) -> io::Result<()> {
        match self.state {
            State::Good => Ok(()),
            State::Failed => Err(io::Error::other("the journal met an error before")),
        }
    }

    /// Remembers an error: the kernel tells of a lost write only once.
    fn note(&mut self, result: io::Result<()>) -> io::Result<()> {
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }
}

/// The written list of one run. Every method blocks.
#[derive(Debug)]
pub struct WrittenFile {
    dest: Arc<Dest>,
    /// With the number of its latest list, once there is one.
    begun: Option<(File, u64)>,
}

impl WrittenFile {
    /// A file that begins with its first list, in the place of what an earlier run has left.
    pub fn new(dest: Arc<Dest>) -> Self {
        Self { dest, begun: None }
    }

    /// Reads the latest list that is there; what cannot be one is none.
    pub fn read(dest: &Dest) -> Vec<WrittenPiece> {
        let content = dest.state_read(WRITTEN, 2 * wide(written::PLACE_BYTES));
        match content {
            Ok(content) => content.map(|content| written::decode(&content)).unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%error, "the list of written pieces cannot be read");
                Vec::new()
            }
        }
    }

    /// Writes `pieces` in the place of the list before the latest. Nothing is synced: a power cut may keep any of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&mut self, pieces: &[WrittenPiece]) -> io::Result<()> {
        let (file, number) = match &mut self.begun {
            Some(begun) => begun,
            None => self.begun.insert((self.dest.state_begin(WRITTEN)?, 0)),
        };
        *number += 1;
        file.write_all_at(&written::encode(*number, pieces), written::offset(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::seen;
    use crate::journal::record;

    fn started() -> (tempfile::TempDir, Dest, JournalFile) {
        let folder = tempfile::tempdir().unwrap();
        let dest = Dest::open(folder.path()).unwrap();
        let encoder = Encoder::new([7; 16]);
        let journal = JournalFile::begin(&dest, &encoder.header(), encoder).unwrap();
        (folder, dest, journal)
    }

    fn claimed(dest: &Dest) -> (u64, usize, bool) {
        let bytes = JournalFile::read(dest, 1 << 20).unwrap().unwrap();
        let replay = record::replay(&bytes).unwrap();
        (u64::try_from(bytes.len()).unwrap(), replay.files.len(), replay.clean)
    }

    fn file(file: u32) -> Record {
        Record::File { file, id: crate::manifest::FileId([u8::try_from(file).unwrap(); 16]), size: Some(5) }
    }

    #[test]
    fn appended_records_are_read_back_behind_the_header() {
        let (_folder, dest, mut journal) = started();
        journal.append(&[file(0), file(1)]).unwrap();
        journal.sync().unwrap();
        journal.append(&[Record::Clean]).unwrap();
        journal.sync().unwrap();
        assert_eq!(claimed(&dest), (4 * 512, 2, true));
        assert_eq!(JournalFile::read(&dest, 2047).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_journal_for_later_has_no_file_before_its_first_batch() {
        let folder = tempfile::tempdir().unwrap();
        let dest = Arc::new(Dest::open(folder.path()).unwrap());
        let mut journal = JournalFile::later(dest.clone(), Encoder::new([7; 16]));
        journal.sync().unwrap();
        assert_eq!(JournalFile::read(&dest, 1 << 20).unwrap(), None);
        assert!(!folder.path().join(".dray").exists());
        for number in 0..2 {
            journal.append(&[file(number)]).unwrap();
            journal.sync().unwrap();
        }
        assert_eq!(claimed(&dest), (3 * 512, 2, false));
    }

    #[test]
    fn with_a_journal_every_name_on_the_way_to_it_is_durable() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let number = |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(at(path)).unwrap());
        let dest = Arc::new(Dest::open(&at("a/b/dest")).unwrap());
        let mut journal = JournalFile::later(dest, Encoder::new([7; 16]));
        seen::take();
        journal.append(&[file(0)]).unwrap();
        let synced = seen::take();
        for path in ["", "a", "a/b", "a/b/dest", "a/b/dest/.dray", "a/b/dest/.dray/journal"] {
            assert!(synced.contains(&number(path)), "{path} is not synced");
        }
        journal.append(&[file(1)]).unwrap();
        assert!(seen::take().is_empty(), "once");
    }

    #[test]
    fn a_journal_takes_the_place_of_a_torn_one() {
        let (folder, dest, mut journal) = started();
        journal.append(&[file(0)]).unwrap();
        journal.sync().unwrap();
        let encoder = journal.encoder.clone();
        drop(journal);
        let path = folder.path().join(".dray/journal");
        let kept = std::fs::read(&path).unwrap();
        std::fs::write(&path, [kept.as_slice(), &[9; 700]].concat()).unwrap();
        let mut journal = JournalFile::begin(&dest, &kept, encoder.clone()).unwrap();
        journal.append(&[file(1)]).unwrap();
        assert_eq!(claimed(&dest), (3 * 512, 2, false));
        let elsewhere = JournalFile::begin(&dest, &kept[..512], encoder).unwrap_err();
        assert_eq!(elsewhere.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(claimed(&dest), (3 * 512, 2, false), "what was there is left alone");
    }

    #[test]
    fn the_latest_list_is_read_and_an_older_runs_is_gone_with_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let dest = Arc::new(Dest::open(folder.path()).unwrap());
        assert_eq!(WrittenFile::read(&dest), []);
        let piece = |piece| WrittenPiece {
            id: crate::manifest::FileId([3; 16]),
            size: 9 << 20,
            piece,
            proof: crate::verify::PieceProof { cv: [8; 32], crc64nvme: 1, crc32: 2 },
        };
        for _ in 0..2 {
            let mut list = WrittenFile::new(dest.clone());
            for count in [5, 3, 7, 1] {
                let pieces: Vec<_> = (0..count).map(piece).collect();
                list.write(&pieces).unwrap();
                assert_eq!(WrittenFile::read(&dest), pieces);
            }
        }
        let path = folder.path().join(".dray/written");
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert_eq!(WrittenFile::read(&dest), [], "too long to be one");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(WrittenFile::read(&dest), []);
        assert!(WrittenFile::new(dest).write(&[]).is_err(), "a link is not followed");
    }

    #[test]
    fn a_failed_journal_takes_nothing_more() {
        let (folder, dest, mut journal) = started();
        // The seam: a descriptor that cannot be written, as a dying disk would answer.
        let read_only = File::open(folder.path().join(".dray/journal")).unwrap();
        let writable = std::mem::replace(&mut journal.file, Place::File(read_only));
        assert!(journal.append(&[file(0)]).is_err());
        journal.file = writable;
        assert!(journal.append(&[file(0)]).is_err(), "append after an error");
        assert!(journal.sync().is_err(), "sync after an error");
        assert_eq!(claimed(&dest), (512, 0, false));
    }
}
