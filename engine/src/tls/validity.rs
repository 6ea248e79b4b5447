//! From when until when a certificate is valid: the one part of it that rustls checks but does not tell.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate is not valid, in words for the user: "expired on 2024-05-01 12:00:00 UTC". None: it is valid, or
/// has no times in the form of X.509, which the handshake finds out.
pub(super) fn outside(certificate: &[u8], now: SystemTime) -> Option<String> {
    let [from, until] = times(certificate)?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64;
    if now > until.seconds() {
        return Some(format!("expired on {until}: renew it, or check this machine's clock"));
    }
    (now < from.seconds())
        .then(|| format!("is valid only from {from} on: wait, or check this machine's clock"))
}

/// The two times of a certificate (RFC 5280, 4.1): TBSCertificate has version, serial number, algorithm and issuer
/// before them.
fn times(certificate: &[u8]) -> Option<[Moment; 2]> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(outer, SEQUENCE)?;
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (from, rest) = Moment::read(validity)?;
    let (until, _) = Moment::read(rest)?;
    Some([from, until])
}

/// The content of the element with this tag that `bytes` begins with, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, mut rest) = rest.split_first()?;
    let mut len = usize::from(length);
    if length >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (len, rest) = (digits.iter().fold(0, |len, &digit| len << 8 | usize::from(digit)), after);
    }
    if first != tag { None } else { rest.split_at_checked(len) }
}

/// A time of a certificate: year, month, day, hour, minute, second, in UTC.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Moment([i64; 6]);

impl Moment {
    fn read(bytes: &[u8]) -> Option<(Moment, &[u8])> {
        let (digits, rest, short) = match element(bytes, UTC_TIME) {
            Some((digits, rest)) => (digits, rest, true),
            None => element(bytes, GENERALIZED_TIME).map(|(digits, rest)| (digits, rest, false))?,
        };
        let digits = std::str::from_utf8(digits).ok()?.strip_suffix('Z')?;
        let (year, others) = digits.split_at_checked(if short { 2 } else { 4 })?;
        let mut year: i64 = year.parse().ok()?;
        if short {
            year += if year < 50 { 2000 } else { 1900 };
        }
        let mut parts = [year; 6];
        for (place, part) in parts[1..].iter_mut().enumerate() {
            *part = others.get(2 * place..2 * place + 2)?.parse().ok()?;
        }
        Some((Moment(parts), rest))
    }

    /// Seconds since 1970. Years are counted from March on, so that the leap day ends one.
    fn seconds(self) -> i64 {
        let [year, month, day, hour, minute, second] = self.0;
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
        ((days - 719_468) * 24 + hour) * 3600 + minute * 60 + second
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [year, month, day, hour, minute, second] = self.0;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As much of a certificate as is read, with these times.
    fn certificate(from: &[u8], until: &[u8], version: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            let len = content.len() as u16;
            [&[tag, 0x82][..], &len.to_be_bytes(), &content].concat()
        };
        let times = wrap(SEQUENCE, &[from, until]);
        let (serial, algorithm) = (wrap(INTEGER, &[&[7]]), wrap(SEQUENCE, &[]));
        let issuer = wrap(SEQUENCE, &[&[1; 200]]);
        wrap(SEQUENCE, &[&wrap(SEQUENCE, &[version, &serial, &algorithm, &issuer, &times])])
    }

    #[test]
    fn certificates_outside_their_time_are_named_with_it() {
        let time = |tag: u8, digits: &str| [&[tag, digits.len() as u8], digits.as_bytes()].concat();
        let from = time(UTC_TIME, "240229235959Z");
        let until = time(GENERALIZED_TIME, "20500301000000Z");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for version in [&[][..], &[VERSION, 3, 2, 1, 2]] {
            let certificate = certificate(&from, &until, version);
            let outside = |seconds| outside(&certificate, at(seconds));
            assert_eq!(
                outside(1_709_251_198).unwrap(),
                "is valid only from 2024-02-29 23:59:59 UTC on: wait, or check this machine's clock"
            );
            assert_eq!((outside(1_709_251_199), outside(2_529_705_600)), (None, None));
            assert_eq!(
                outside(2_529_705_601).unwrap(),
                "expired on 2050-03-01 00:00:00 UTC: renew it, or check this machine's clock"
            );
            for end in 0..certificate.len() {
                assert_eq!(times(&certificate[..end]), None, "cut at {end}");
            }
        }
    }
}
