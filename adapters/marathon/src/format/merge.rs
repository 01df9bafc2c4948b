//! The application of a change of an app to the native service that the app describes.
//!
//! A service has settings that an app cannot express, such as the working directory of a process or
//! the timeout for draining requests. A change of the app must preserve them.

use model::Spec;
use serde_json::{Map, Value};

use super::app::App;
use super::rejected::Rejected;

impl App {
    /// Applies the change from `before` to this app to `spec`, the service that `before` describes.
    /// Settings that are equal in both apps, or that an app cannot express, keep the value of
    /// `spec`.
    ///
    /// # Errors
    ///
    /// Returns the problems of the app. There are none in an app that has been read.
    pub fn spec_merged_into(&self, before: &App, spec: &Spec) -> Result<Spec, Rejected> {
        let (was, is) = (before.spec()?, self.spec()?);
        let merged = merged(&was, &is, spec).filter(|merged| merged.problems().is_empty());
        Ok(merged.unwrap_or(is))
    }
}

fn merged(was: &Spec, is: &Spec, spec: &Spec) -> Option<Spec> {
    let value = |spec: &Spec| serde_json::to_value(spec).ok();
    serde_json::from_value(merge_value(&value(was)?, &value(is)?, &value(spec)?)).ok()
}

/// Returns `kept` with the differences between `was` and `is` applied. Null stands for an absent
/// value.
fn merge_value(was: &Value, is: &Value, kept: &Value) -> Value {
    match (was, is, kept) {
        _ if was == is => kept.clone(),
        (Value::Object(was), Value::Object(is), Value::Object(kept)) => {
            let keys = was.keys().chain(is.keys()).chain(kept.keys());
            let part =
                |of: &Map<String, Value>, key: &str| of.get(key).cloned().unwrap_or_default();
            let merged = keys.map(|key| {
                (key.clone(), merge_value(&part(was, key), &part(is, key), &part(kept, key)))
            });
            Value::Object(merged.filter(|(_, value)| !value.is_null()).collect())
        }
        _ => is.clone(),
    }
}
