//! The network coordinate that an ack carries (PROTOCOL 5.9): a point in Vivaldi's space with a height, from
//! which round trips are estimated.

use crate::wire::decode_error::DecodeError;
use crate::wire::msgpack::{Reader, write_array, write_f64, write_map, write_raw};

/// Dimensions of the space. Serf refuses any other number.
pub const DIMENSIONS: usize = 8;
/// First byte of an ack's payload. Serf ignores other versions.
const PING_VERSION: u8 = 1;

/// Where a member is, in seconds of round trip.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Coordinate {
    /// The place.
    pub vec: [f64; DIMENSIONS],
    /// How far off the estimates are, relative; 1.5 for a newcomer.
    pub error: f64,
    /// Correction from the last round trips; added to estimates.
    pub adjustment: f64,
    /// The way from the member to the space, which every packet takes whatever the direction.
    pub height: f64,
}

impl Default for Coordinate {
    /// A newcomer's.
    fn default() -> Coordinate {
        Coordinate { vec: [0.0; DIMENSIONS], error: 1.5, adjustment: 0.0, height: 1e-5 }
    }
}

impl Coordinate {
    /// Decodes the payload of an ack, version byte first.
    ///
    /// # Errors
    /// `Empty` without payload: the member keeps no coordinate. `BadCoordinate` for another version or
    /// dimension and for infinities; else why it is no coordinate.
    pub fn decode(payload: &[u8]) -> Result<Coordinate, DecodeError> {
        let (&version, body) = payload.split_first().ok_or(DecodeError::Empty)?;
        if version != PING_VERSION {
            return Err(DecodeError::BadCoordinate);
        }
        let mut coordinate = Coordinate { error: 0.0, height: 0.0, ..Coordinate::default() };
        let mut dimensions = 0;
        Reader::new(body).fields(&["Vec", "Error", "Adjustment", "Height"], |r, field| {
            match field {
                0 => {
                    dimensions = r.array()? as usize;
                    if dimensions != DIMENSIONS {
                        return Err(DecodeError::BadCoordinate);
                    }
                    for place in &mut coordinate.vec {
                        *place = r.f64()?;
                    }
                }
                1 => coordinate.error = r.f64()?,
                2 => coordinate.adjustment = r.f64()?,
                _ => coordinate.height = r.f64()?,
            }
            Ok(())
        })?;
        let [error, adjustment, height] = [coordinate.error, coordinate.adjustment, coordinate.height];
        let finite =
            coordinate.vec.iter().chain(&[error, adjustment, height]).all(|number| number.is_finite());
        if dimensions == DIMENSIONS && finite { Ok(coordinate) } else { Err(DecodeError::BadCoordinate) }
    }

    /// The estimated round trip to another coordinate, seconds. The adjustments count while the sum stays
    /// positive.
    pub fn round_trip_to(&self, other: &Coordinate) -> f64 {
        let plain = self.plain_round_trip_to(other);
        let adjusted = plain + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { plain }
    }

    pub(crate) fn plain_round_trip_to(&self, other: &Coordinate) -> f64 {
        magnitude(&self.difference(other)) + self.height + other.height
    }

    pub(crate) fn difference(&self, other: &Coordinate) -> [f64; DIMENSIONS] {
        std::array::from_fn(|place| self.vec[place] - other.vec[place])
    }

    /// Appends the payload of an ack: 130 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(PING_VERSION);
        write_map(out, 4);
        write_raw(out, b"Adjustment");
        write_f64(out, self.adjustment);
        write_raw(out, b"Error");
        write_f64(out, self.error);
        write_raw(out, b"Height");
        write_f64(out, self.height);
        write_raw(out, b"Vec");
        write_array(out, DIMENSIONS as u32);
        self.vec.iter().for_each(|&place| write_f64(out, place));
    }
}

pub(crate) fn magnitude(vec: &[f64; DIMENSIONS]) -> f64 {
    libm::sqrt(vec.iter().map(|place| place * place).sum())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn encoded(coordinate: &Coordinate) -> Vec<u8> {
        let mut out = Vec::new();
        coordinate.encode(&mut out);
        out
    }

    #[test]
    fn a_newcomers_coordinate_is_what_serf_sends() {
        let bytes = encoded(&Coordinate::default());
        assert_eq!(bytes.len(), 130);
        assert_eq!(bytes[..13], *b"\x01\x84\xaaAdjustment");
        assert_eq!(Coordinate::decode(&bytes), Ok(Coordinate::default()));
    }

    #[test]
    fn what_can_not_be_a_coordinate_is_refused() {
        let infinite = Coordinate { height: f64::INFINITY, ..Coordinate::default() };
        let mut nowhere = Coordinate::default();
        nowhere.vec[7] = f64::NAN;
        let mut other_version = encoded(&Coordinate::default());
        other_version[0] = 2;
        let flat = b"\x01\x81\xa3Vec\x92\xca\0\0\0\0\xc0".to_vec();
        let placeless = b"\x01\x81\xa5Error\xcb\0\0\0\0\0\0\0\0".to_vec();
        for bytes in [encoded(&infinite), encoded(&nowhere), other_version, flat, placeless, vec![1, 0xc0]] {
            assert_eq!(Coordinate::decode(&bytes), Err(DecodeError::BadCoordinate), "{bytes:02x?}");
        }
        assert_eq!(Coordinate::decode(b""), Err(DecodeError::Empty));
        let huge = b"\x01\x81\xa3Vec\xdd\xff\xff\xff\xff";
        assert_eq!(Coordinate::decode(huge), Err(DecodeError::BadCoordinate));
        let bytes = encoded(&Coordinate::default());
        for end in 1..bytes.len() {
            assert!(Coordinate::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn adjustments_count_only_while_the_sum_is_positive() {
        let a = Coordinate { adjustment: -1.0, ..Coordinate::default() };
        let b =
            Coordinate { adjustment: 0.5, vec: [1.0, 0., 0., 0., 0., 0., 0., 0.], ..Coordinate::default() };
        assert!((a.round_trip_to(&b) - 0.50002).abs() < 1e-9);
        let far = Coordinate { adjustment: -2.0, ..a };
        assert!((far.round_trip_to(&b) - 1.00002).abs() < 1e-9);
    }
}
