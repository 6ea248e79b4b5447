//! The order of keys: KEY-2.

use super::*;

fn order(keyring: &Keyring) -> Vec<u8> {
    keyring.keys().map(|key| key[0]).collect()
}

/// memberlist's installKeys: the primary key first, then the others as they were. The keyring file has this order,
/// and so has the node that reads it back.
#[test]
fn key_2_a_new_primary_key_goes_first_and_the_others_keep_their_order() {
    let key = |n: u8| vec![n; 16];
    let mut keyring = Keyring::new(&[1, 2, 3, 4].map(key)).unwrap();
    keyring.make_primary(&key(3)).unwrap();
    assert_eq!(order(&keyring), [3, 1, 2, 4]);
    keyring.make_primary(&key(3)).unwrap();
    assert_eq!(order(&keyring), [3, 1, 2, 4], "it is the primary key already");
    keyring.install(&key(5)).unwrap();
    keyring.install(&key(1)).unwrap();
    assert_eq!(order(&keyring), [3, 1, 2, 4, 5], "a new key goes last, a known one stays");
    keyring.make_primary(&key(5)).unwrap();
    assert_eq!(order(&keyring), [5, 3, 1, 2, 4]);
    keyring.remove(&key(1)).unwrap();
    assert_eq!(order(&keyring), [5, 3, 2, 4]);
    let read_back = Keyring::new(&keyring.keys().map(<[u8]>::to_vec).collect::<Vec<_>>()).unwrap();
    assert_eq!(order(&read_back), order(&keyring));
}
