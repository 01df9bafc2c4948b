//! Objects of the store: lines of a key, a space and a value.
//!
//! A key is written and read back equal, and so is the object stored under it. Whatever objects there
//! are, a state is made of them and says what is wrong with it; that it does without panicking.

use model::State;
use model::object::{Key, Object};

pub(crate) fn run(input: &[u8]) {
    let mut objects = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b' ');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
        let Ok(key) = str::from_utf8(key) else { continue };
        let key = match key.parse::<Key>() {
            Ok(key) => key,
            Err(error) => {
                assert!(error.to_string().contains(key), "{error}");
                continue;
            }
        };
        let object = match Object::read(&key, value) {
            Ok(object) => object,
            Err(error) => {
                assert!(error.to_string().contains(&key.to_string()), "{error}");
                continue;
            }
        };
        let written = serde_json::to_vec(&object).unwrap_or_else(|error| panic!("{error}"));
        let again = Object::read(&key, &written).map_err(|error| error.to_string());
        assert_eq!(again.as_ref(), Ok(&object), "{}", String::from_utf8_lossy(&written));
        objects.push((key, object));
    }
    let _ = State::load(objects).violations();
}
