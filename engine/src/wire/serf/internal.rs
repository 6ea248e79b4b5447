//! The payloads of internal queries: votes about name conflicts, keys (PROTOCOL 5.6).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::tags::{decode_tag_map, write_tag_map};
use super::{CONFLICT_RESPONSE, KEY_REQUEST, KEY_RESPONSE};
use crate::wire::decode_error::DecodeError;
use crate::wire::limits::KEYS_MAX;
use crate::wire::message::{addr, name, write_str_field, write_uint_field};
use crate::wire::msgpack::{Reader, write_array, write_bool, write_map, write_raw, write_raw_or_nil};

type Result<T> = std::result::Result<T, DecodeError>;

/// A member as conflict votes carry it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberRecord<'a> {
    /// Name.
    pub name: &'a str,
    /// Address.
    pub addr: Cow<'a, [u8]>,
    /// Port.
    pub port: u16,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// 0 none, 1 alive, 2 leaving, 3 left, 4 failed.
    pub status: u8,
    /// memberlist min, max, current, serf min, max, current.
    pub versions: [u8; 6],
}

impl<'a> MemberRecord<'a> {
    const NAMES: [&'static str; 11] = [
        "Name",
        "Addr",
        "Port",
        "Tags",
        "Status",
        "ProtocolMin",
        "ProtocolMax",
        "ProtocolCur",
        "DelegateMin",
        "DelegateMax",
        "DelegateCur",
    ];

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<MemberRecord<'a>> {
        let mut member = MemberRecord::default();
        reader.fields(&Self::NAMES, |r, field| {
            match field {
                0 => member.name = name(r)?,
                1 => member.addr = addr(r)?,
                2 => member.port = r.u16()?,
                3 => member.tags = decode_tag_map(r)?,
                4 => member.status = r.u8()?,
                _ => member.versions[field - 5] = r.u8()?,
            }
            Ok(())
        })?;
        Ok(member)
    }

    /// Appends a vote, type byte first: the record, or nil for a name that no member has.
    pub fn encode_vote(record: Option<&MemberRecord<'_>>, out: &mut Vec<u8>) {
        out.push(CONFLICT_RESPONSE);
        match record {
            Some(record) => record.encode_body(out),
            None => out.push(0xc0),
        }
    }

    /// Appends type byte (conflict response) and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        MemberRecord::encode_vote(Some(self), out);
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        write_map(out, 11);
        write_raw(out, b"Addr");
        write_raw(out, &self.addr);
        write_uint_field(out, "DelegateCur", u64::from(self.versions[5]));
        write_uint_field(out, "DelegateMax", u64::from(self.versions[4]));
        write_uint_field(out, "DelegateMin", u64::from(self.versions[3]));
        write_str_field(out, "Name", self.name);
        write_uint_field(out, "Port", u64::from(self.port));
        write_uint_field(out, "ProtocolCur", u64::from(self.versions[2]));
        write_uint_field(out, "ProtocolMax", u64::from(self.versions[1]));
        write_uint_field(out, "ProtocolMin", u64::from(self.versions[0]));
        write_uint_field(out, "Status", u64::from(self.status));
        write_raw(out, b"Tags");
        write_tag_map(&self.tags, out);
    }
}

/// A key, raw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyRequest<'a> {
    /// 16, 24 or 32 bytes; empty to list.
    pub key: Cow<'a, [u8]>,
}

impl<'a> KeyRequest<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<KeyRequest<'a>> {
        let mut request = KeyRequest::default();
        reader.fields(&["Key"], |r, _| {
            request.key = r.bytes()?;
            Ok(())
        })?;
        Ok(request)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KEY_REQUEST);
        write_map(out, 1);
        write_raw(out, b"Key");
        write_raw_or_nil(out, &self.key);
    }
}

/// The outcome of a key query on one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyResponse<'a> {
    /// It worked.
    pub result: bool,
    /// What went wrong, or a remark.
    pub message: &'a str,
    /// Keys in base64, from a list.
    pub keys: Vec<&'a str>,
    /// The primary key in base64, from a list.
    pub primary_key: &'a str,
}

impl<'a> KeyResponse<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<KeyResponse<'a>> {
        let mut response = KeyResponse::default();
        reader.fields(&["Result", "Message", "Keys", "PrimaryKey"], |r, field| {
            match field {
                0 => response.result = r.bool()?,
                1 => response.message = r.str()?,
                2 => {
                    let count = r.array()?;
                    if count > KEYS_MAX {
                        return Err(DecodeError::TooManyKeys);
                    }
                    response.keys = (0..count).map(|_| r.str()).collect::<Result<Vec<&str>>>()?;
                }
                _ => response.primary_key = r.str()?,
            }
            Ok(())
        })?;
        Ok(response)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KEY_RESPONSE);
        write_map(out, 4);
        write_raw(out, b"Keys");
        if self.keys.is_empty() {
            out.push(0xc0);
        } else {
            write_array(out, self.keys.len() as u32);
            self.keys.iter().for_each(|key| write_raw(out, key.as_bytes()));
        }
        write_str_field(out, "Message", self.message);
        write_str_field(out, "PrimaryKey", self.primary_key);
        write_raw(out, b"Result");
        write_bool(out, self.result);
    }
}
