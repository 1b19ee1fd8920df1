use super::*;

fn secret(data: &[(&str, &str)]) -> SecretShape {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SecretShape { data, ..SecretShape::default() }
}

#[test]
fn keys_are_read_and_what_is_wrong_with_them_is_said_without_showing_them() {
    let key = |byte| STANDARD.encode([byte; 32]);
    let (one, two, long) = (key(1), key(2), STANDARD.encode([7; 33]));
    let keys = secret(&[("key", &one), ("previous", &two)]).convert().unwrap();
    assert_eq!(keys.newest, PeerKey::new([1; 32]));
    assert_eq!(keys.previous, Some(PeerKey::new([2; 32])));
    assert_eq!(secret(&[("key", &one)]).convert().unwrap().previous, None);
    assert_eq!(secret(&[("key", &one), ("previous", &one)]).convert().unwrap().previous, None);
    let rows = [
        (secret(&[]), "its data lacks \"key\""),
        (secret(&[("previous", &one)]), "its data lacks \"key\""),
        (secret(&[("key", "?")]), "its data \"key\" is not base64"),
        (secret(&[("key", &long)]), "its data \"key\" has 33 bytes, a key has 32"),
        (secret(&[("key", &one), ("previous", "")]), "its data \"previous\" has 0 bytes, a key has 32"),
    ];
    for (secret, why) in rows {
        assert_eq!(secret.convert().unwrap_err(), why);
    }
}
