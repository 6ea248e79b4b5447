//! Tags as meta (PROTOCOL 5.2).

use std::collections::BTreeMap;

use crate::wire::decode_error::DecodeError;
use crate::wire::limits::META_BYTES_MAX;
use crate::wire::message::write_str_field;
use crate::wire::msgpack::{Reader, write_map};

type Result<T> = std::result::Result<T, DecodeError>;

/// Marks meta that holds encoded tags (serf protocol 3 and newer).
pub const TAG_MAGIC: u8 = 0xff;

/// Appends tags as meta, sorted by name so that equal tags are equal bytes.
pub fn encode_tags(tags: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    out.push(TAG_MAGIC);
    write_tag_map(tags, out);
}

/// Tags from meta. Meta without the magic byte is the tag `role` (serf protocol 2).
///
/// # Errors
/// `BadTags` if it is no map of strings.
pub fn decode_tags(meta: &[u8]) -> Result<BTreeMap<String, String>> {
    match meta.split_first() {
        Some((&TAG_MAGIC, body)) => decode_tag_map(&mut Reader::new(body)).map_err(|_| DecodeError::BadTags),
        _ => {
            let role = String::from_utf8_lossy(meta).into_owned();
            Ok(BTreeMap::from([("role".to_owned(), role)]))
        }
    }
}

pub(super) fn decode_tag_map(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>> {
    let start = reader.position();
    let pairs = reader.map()?;
    let mut tags = BTreeMap::new();
    for _ in 0..pairs {
        let (tag, value) = (reader.str()?, reader.str()?);
        // An old peer's bare role of 512 bytes gets longer by the map around it.
        if reader.position() - start > 2 * META_BYTES_MAX {
            return Err(DecodeError::BadTags);
        }
        tags.insert(tag.to_owned(), value.to_owned());
    }
    Ok(tags)
}

/// A few tags that lie in order in a map of strings, each once; read where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FewTags<'a> {
    pairs: [(&'a str, &'a str); FEW],
    len: usize,
}

/// As many as nearly all nodes have at most.
const FEW: usize = 8;

impl<'a> FewTags<'a> {
    /// The map at the reader. None if it is out of order, large or no map of strings; the reader is anywhere
    /// then.
    pub fn read(reader: &mut Reader<'a>) -> Option<FewTags<'a>> {
        let start = reader.position();
        let len = usize::try_from(reader.map().ok()?).ok().filter(|len| *len <= FEW)?;
        let (mut pairs, mut last) = ([("", ""); FEW], None);
        for pair in &mut pairs[..len] {
            *pair = (reader.str().ok()?, reader.str().ok()?);
            if last.is_some_and(|last| last >= pair.0) {
                return None;
            }
            last = Some(pair.0);
        }
        (reader.position() - start <= 2 * META_BYTES_MAX).then_some(FewTags { pairs, len })
    }

    /// Names and values, by name.
    pub fn pairs(&self) -> &[(&'a str, &'a str)] {
        &self.pairs[..self.len]
    }
}

pub(super) fn write_tag_map(tags: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    write_map(out, tags.len() as u32);
    for (tag, value) in tags {
        write_str_field(out, tag, value);
    }
}
