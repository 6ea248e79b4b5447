//! The broadcast ring with real threads; `tests/interleavings.rs` has it with all orders of a few steps.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::watch::Ring;

#[test]
fn a_reader_gets_what_is_written_from_now_on_and_loses_the_oldest() {
    let ring: Arc<Ring<u64>> = Ring::new(4);
    ring.write(0);
    let mut reader = ring.reader();
    assert!(ring.is_read());
    assert!(reader.try_next().is_none());
    (1..=3).for_each(|value| ring.write(value));
    assert_eq!(reader.try_next().unwrap().1, 1);
    (4..=9).for_each(|value| ring.write(value));
    let rest: Vec<u64> = std::iter::from_fn(|| reader.try_next()).map(|value| value.1).collect();
    assert_eq!((rest.as_slice(), reader.lost()), (&[6, 7, 8, 9][..], 4));
    drop(reader);
    assert!(!ring.is_read());
}

#[test]
fn threads_read_rising_values_and_know_how_many_they_lost() {
    const VALUES: u64 = 200_000;
    let ring: Arc<Ring<u64>> = Ring::new(64);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let mut reader = ring.reader();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let (mut seen, mut last) = (0, None);
                while let Some(value) = runtime.block_on(reader.next()) {
                    assert_eq!(value.0, value.1);
                    assert!(last.is_none_or(|last| last < value.1), "{last:?} before {}", value.1);
                    last = Some(value.1);
                    seen += 1;
                }
                (seen, reader.lost(), last)
            })
        })
        .collect();
    (0..VALUES).for_each(|value| ring.write(value));
    ring.close();
    for reader in readers {
        let (seen, lost, last) = reader.join().unwrap();
        assert_eq!(seen + lost, VALUES);
        assert_eq!(last, Some(VALUES - 1));
    }
}
