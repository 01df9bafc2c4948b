//! A change of an app carried over to the service that the app only described.
//!
//! Services say things that apps cannot: where a process works, how long its requests may take to
//! finish. Whoever changes the app of such a service does not speak of them, so they stay.

use model::Spec;
use serde_json::{Map, Value};

use super::app::App;
use super::rejected::Rejected;

impl App {
    /// The service that it is, where `before` described `spec`: what both apps say alike stays as
    /// it is there, with all that apps cannot say.
    ///
    /// # Errors
    ///
    /// What cannot be. An app that was read is a service.
    pub fn spec_over(&self, before: &App, spec: &Spec) -> Result<Spec, Rejected> {
        let (was, is) = (before.spec()?, self.spec()?);
        let carried = carried(&was, &is, spec).filter(|carried| carried.problems().is_empty());
        Ok(carried.unwrap_or(is))
    }
}

fn carried(was: &Spec, is: &Spec, spec: &Spec) -> Option<Spec> {
    let value = |spec: &Spec| serde_json::to_value(spec).ok();
    serde_json::from_value(carry(&value(was)?, &value(is)?, &value(spec)?)).ok()
}

/// `kept`, with what changes from `was` to `is`. What is not there is null.
fn carry(was: &Value, is: &Value, kept: &Value) -> Value {
    match (was, is, kept) {
        _ if was == is => kept.clone(),
        (Value::Object(was), Value::Object(is), Value::Object(kept)) => {
            let keys = was.keys().chain(is.keys()).chain(kept.keys());
            let part =
                |of: &Map<String, Value>, key: &str| of.get(key).cloned().unwrap_or_default();
            let carried = keys
                .map(|key| (key.clone(), carry(&part(was, key), &part(is, key), &part(kept, key))));
            Value::Object(carried.filter(|(_, value)| !value.is_null()).collect())
        }
        _ => is.clone(),
    }
}
