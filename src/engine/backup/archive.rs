//! The bytes of a backup: a header, the records table by table, an end with a checksum.
//!
//! ```text
//! header  "lineshaft backup"  u32 version of this layout  u32 format of the records  u64 taken at, unix ms
//! table   1  u16 length  name
//! record  2  u32 length of key  u32 length of value  key  value
//! end     0  u32 tables  u64 records  SHA-256 of everything before this checksum
//! ```
//!
//! Numbers are big endian. Records belong to the table named last, keys ascend. Nothing follows the end; without an end,
//! or with one that does not fit, it is not a backup. Why it is so: decision 9.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// The first bytes of every backup.
const MAGIC: &[u8; 16] = b"lineshaft backup";
/// The layout that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

const END: u8 = 0;
const TABLE: u8 = 1;
const RECORD: u8 = 2;

/// Longer keys or values are a sign of damage, bytes: ours are ids, and bodies of some MiB.
const FIELD_BYTES_MAX: u32 = 1 << 30;

/// Writes a backup into a buffer that is taken out piece by piece.
#[derive(Debug)]
pub(super) struct Writer {
    out: Vec<u8>,
    digest: Sha256,
    tables: u32,
    records: u64,
}

impl Writer {
    /// Begins with the header. `format`: of the records; `taken_at`: unix ms.
    pub(super) fn begin(format: u32, taken_at: u64) -> Self {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&format.to_be_bytes());
        out.extend_from_slice(&taken_at.to_be_bytes());
        Self { out, digest: Sha256::new(), tables: 0, records: 0 }
    }

    /// What comes next belongs to this table. Names are constants of ours, a few bytes long.
    pub(super) fn table(&mut self, name: &str) {
        self.tables += 1;
        self.out.push(TABLE);
        self.out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.out.extend_from_slice(name.as_bytes());
    }

    /// One record.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.records += 1;
        self.out.push(RECORD);
        self.out.extend_from_slice(&length(key));
        self.out.extend_from_slice(&length(value));
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(value);
    }

    /// Bytes that wait to be taken.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// What was written since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.digest.update(&self.out);
        std::mem::take(&mut self.out)
    }

    /// The last bytes.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.out.push(END);
        self.out.extend_from_slice(&self.tables.to_be_bytes());
        self.out.extend_from_slice(&self.records.to_be_bytes());
        let mut last = std::mem::take(&mut self.out);
        self.digest.update(&last);
        last.extend_from_slice(&self.digest.finalize());
        last
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) format: u32,
    pub(super) taken_at: u64,
}

/// The next thing in a backup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Table(String),
    Record {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// Everything was read, and is what was written.
    End {
        tables: u32,
        records: u64,
    },
}

/// Reads a backup.
pub(super) struct Reader<'a> {
    from: &'a mut dyn Read,
    digest: Sha256,
    tables: u32,
    records: u64,
}

/// Why a backup cannot be read on.
#[derive(Debug)]
pub(super) enum Unread {
    /// The bytes are not those of a backup.
    Damaged(&'static str),
    /// The file could not be read.
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends too early"),
            _ => Self::Io(error),
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads the header.
    pub(super) fn begin(from: &'a mut dyn Read) -> Result<(Self, Header), Unread> {
        let mut reader = Self { from, digest: Sha256::new(), tables: 0, records: 0 };
        if &reader.array::<16>()? != MAGIC {
            return Err(Unread::Damaged("it does not begin as a backup does"));
        }
        let (version, format) = (reader.u32()?, reader.u32()?);
        let taken_at = u64::from_be_bytes(reader.array()?);
        Ok((reader, Header { version, format, taken_at }))
    }

    /// The next table, record, or the end.
    pub(super) fn next(&mut self) -> Result<Item, Unread> {
        match self.array::<1>()? {
            [TABLE] => {
                self.tables += 1;
                let length = u16::from_be_bytes(self.array()?);
                let name = String::from_utf8(self.bytes(u32::from(length))?);
                name.map(Item::Table).map_err(|_| Unread::Damaged("the name of a table is not text"))
            }
            [RECORD] => {
                self.records += 1;
                let (key, value) = (self.u32()?, self.u32()?);
                Ok(Item::Record { key: self.bytes(key)?, value: self.bytes(value)? })
            }
            [END] => self.end(),
            _ => Err(Unread::Damaged("there is something that is neither a table nor a record")),
        }
    }

    fn end(&mut self) -> Result<Item, Unread> {
        let (tables, records) = (self.u32()?, u64::from_be_bytes(self.array()?));
        let found = std::mem::take(&mut self.digest).finalize();
        if self.array::<32>()?[..] != found[..] {
            return Err(Unread::Damaged("its checksum is not that of its bytes"));
        }
        if (tables, records) != (self.tables, self.records) {
            return Err(Unread::Damaged("it does not hold as many records as it says"));
        }
        match self.from.read(&mut [0])? {
            0 => Ok(Item::End { tables, records }),
            _ => Err(Unread::Damaged("something follows its end")),
        }
    }

    fn u32(&mut self) -> Result<u32, Unread> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unread> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.digest.update(bytes);
        Ok(bytes)
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, Unread> {
        if length > FIELD_BYTES_MAX {
            return Err(Unread::Damaged("a record is longer than any of ours"));
        }
        // Memory is taken as bytes come, so that a damaged length costs none.
        let mut bytes = Vec::new();
        let read = (&mut *self.from).take(u64::from(length)).read_to_end(&mut bytes)?;
        if read != length as usize {
            return Err(Unread::Damaged("it ends too early"));
        }
        self.digest.update(&bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut writer = Writer::begin(7, 99);
        writer.table("first");
        writer.record(b"key", b"value");
        let mut bytes = writer.take();
        writer.record(b"", &[0; 1000]);
        writer.table("second");
        bytes.extend(writer.end());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Header, Vec<Item>), Unread> {
        let mut from = bytes;
        let (mut reader, header) = Reader::begin(&mut from)?;
        let mut items = Vec::new();
        loop {
            items.push(reader.next()?);
            if matches!(items.last(), Some(Item::End { .. })) {
                return Ok((header, items));
            }
        }
    }

    #[test]
    fn what_was_written_reads_back() {
        let (header, items) = read(&written()).unwrap();
        assert_eq!(header, Header { version: VERSION, format: 7, taken_at: 99 });
        assert_eq!(items.len(), 5);
        assert_eq!(items[1], Item::Record { key: b"key".to_vec(), value: b"value".to_vec() });
        assert_eq!(items[4], Item::End { tables: 2, records: 2 });
    }

    #[test]
    fn the_layout_is_the_one_of_version_1() {
        let mut writer = Writer::begin(1, 2);
        writer.table("t");
        writer.record(b"k", b"v");
        let bytes = writer.end();
        let (told, checksum) = bytes.split_at(bytes.len() - 32);
        let expected = b"lineshaft backup\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x02\
            \x01\0\x01t\x02\0\0\0\x01\0\0\0\x01kv\0\0\0\0\x01\0\0\0\0\0\0\0\x01";
        assert_eq!(told, expected);
        assert_eq!(checksum, &Sha256::digest(expected)[..]);
    }

    #[test]
    fn no_bit_can_change_and_no_byte_be_missing_or_added() {
        let whole = written();
        for at in 0..whole.len() {
            // Version, format and moment are judged by whoever reads the header, and are under the checksum too.
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(matches!(read(&changed), Err(Unread::Damaged(_))), "byte {at} changed");
            assert!(matches!(read(&whole[..at]), Err(Unread::Damaged(_))), "cut at {at}");
        }
        assert!(matches!(read(&[&whole[..], b"x"].concat()), Err(Unread::Damaged(_))));
    }
}
