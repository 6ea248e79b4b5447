//! Tags as meta (PROTOCOL 5.2).

use std::collections::BTreeMap;

use crate::wire::drop::DropReason;
use crate::wire::limits::META_BYTES_MAX;
use crate::wire::message::write_str_field;
use crate::wire::msgpack::{Reader, write_map};

type Result<T> = std::result::Result<T, DropReason>;

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
        Some((&TAG_MAGIC, body)) => decode_tag_map(&mut Reader::new(body)).map_err(|_| DropReason::BadTags),
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
            return Err(DropReason::BadTags);
        }
        tags.insert(tag.to_owned(), value.to_owned());
    }
    Ok(tags)
}

pub(super) fn write_tag_map(tags: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    write_map(out, tags.len() as u32);
    for (tag, value) in tags {
        write_str_field(out, tag, value);
    }
}
