//! Any name of a foreign system maps to a segment of a path and back.

use model::foreign_name::{decode, encode};
use model::{ServiceId, id::Error};
use muster_model as model;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[xz0-9a-c.:_A-Z -]{1,12}", ".{1,12}", "x-[a-z0-9-]{0,6}-x", "[a-z.-]{240,260}"]
}

proptest! {
    #[test]
    fn names_are_read_back_from_valid_segments(name in name()) {
        match encode(&name) {
            Ok(segment) => {
                prop_assert_eq!(decode(&segment), Some(name));
                let path = format!("/{segment}");
                let parsed: Result<ServiceId, _> = path.parse();
                prop_assert_eq!(parsed.as_ref().map(ServiceId::as_str), Ok(path.as_str()));
            }
            Err(Error::TooLong { len, max }) => prop_assert!(len > max),
            Err(error) => prop_assert!(false, "{error}: {name:?}"),
        }
    }

    #[test]
    fn different_names_have_different_segments(one in name(), other in name()) {
        if let (Ok(segment), Ok(other_segment)) = (encode(&one), encode(&other)) {
            prop_assert_eq!(segment == other_segment, one == other);
        }
    }

    #[test]
    fn valid_names_stand_for_themselves(name in "[a-w0-9]([a-z0-9-]{0,10}[a-z0-9])?") {
        prop_assert_eq!(encode(&name), Ok(name));
    }
}
