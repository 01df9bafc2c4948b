//! The places of a service that hold values: each is visited with the path of keys that leads to
//! it. A new key whose type is [`Value`] needs a line in the macro of this module.

use std::fmt;
use std::sync::Arc;

use crate::service::Revision;
use crate::spec::Spec;
use crate::value::Value;

/// The place of a value in a service. Displayed as the path of keys to it, joined by dots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    within: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

impl<'p> Place<'p> {
    fn root(key: &'p str) -> Self {
        Place { within: None, step: Step::Key(key) }
    }

    fn key(&'p self, key: &'p str) -> Self {
        Place { within: Some(self), step: Step::Key(key) }
    }

    fn index(&'p self, index: usize) -> Self {
        Place { within: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(within) = self.within {
            write!(f, "{within}.")?;
        }
        match self.step {
            Step::Key(key) => f.write_str(key),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

/// Defines a method that visits all values of a service, by shared or by mutable reference.
macro_rules! visitor {
    ($name:ident $(, $mutable:tt)?) => {
        /// Visits all values, in the order of the keys of a document.
        pub(crate) fn $name<'s>(
            &'s $($mutable)? self,
            visit: &mut dyn FnMut(Place<'_>, &'s $($mutable)? Value),
        ) {
            let stack = Place::root("stack");
            for (i, resource) in (& $($mutable)? self.stack).into_iter().enumerate() {
                let (resource_at, env) = (stack.index(i), & $($mutable)? resource.env);
                let env_at = resource_at.key("env");
                for (name, value) in env {
                    visit(env_at.key(name), value);
                }
                let files_at = resource_at.key("files");
                for (i, file) in (& $($mutable)? resource.files).into_iter().enumerate() {
                    if let Some(text) = & $($mutable)? file.text {
                        visit(files_at.index(i).key("text"), text);
                    }
                }
            }
            let env_at = Place::root("env");
            for (name, value) in & $($mutable)? self.env {
                visit(env_at.key(name), value);
            }
            let files_at = Place::root("files");
            for (i, file) in (& $($mutable)? self.files).into_iter().enumerate() {
                if let Some(text) = & $($mutable)? file.text {
                    visit(files_at.index(i).key("text"), text);
                }
            }
        }
    };
}

impl Spec {
    visitor!(visit_values);
    visitor!(visit_values_mut, mut);

    /// Whether a value depends on facts of the instance.
    pub(crate) fn has_references(&self) -> bool {
        let mut found = false;
        self.visit_values(&mut |_, value| found |= value.has_references());
        found
    }

    /// The service in the form that users are shown: it reads back as this service also when it is
    /// applied as a document.
    pub fn shown(self: &Arc<Self>) -> Arc<Spec> {
        let mut is_same = true;
        self.visit_values(&mut |_, value| is_same &= value.shown().is_none());
        if is_same {
            return Arc::clone(self);
        }
        let mut shown = Spec::clone(self);
        shown.visit_values_mut(&mut |_, value| {
            if let Some(shown) = value.shown() {
                *value = shown;
            }
        });
        Arc::new(shown)
    }
}

impl Revision {
    /// The revision with its spec in the form that users are shown; see [`Spec::shown`].
    pub fn shown(self: &Arc<Self>) -> Arc<Revision> {
        let spec = self.spec.shown();
        match Arc::ptr_eq(&spec, &self.spec) {
            true => Arc::clone(self),
            false => Arc::new(Revision { spec, ..Revision::clone(self) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(document: serde_json::Value) -> Arc<Spec> {
        Arc::new(serde_json::from_value(document).unwrap())
    }

    #[test]
    fn a_service_is_shown_as_a_document_that_reads_back_as_it() {
        let escaped = json!({"template": "$${slot}"});
        let document = |value: &serde_json::Value| {
            json!({
                "service": "/a", "instances": 1, "env": {"A": value, "B": {"template": "${slot}"}},
                "files": [{"path": "c", "text": value}],
                "stack": [{"name": "b", "process": {"command": "x"}, "env": {"A": value},
                           "files": [{"path": "c", "text": value}]}],
            })
        };
        let stored = spec(document(&json!("${slot}")));
        let shown = serde_json::to_value(stored.shown()).unwrap();
        assert_eq!(shown, document(&escaped));
        assert_eq!(spec(shown), stored);
        let plain = spec(document(&json!("$HOME")));
        assert!(Arc::ptr_eq(&plain.shown(), &plain));
    }
}
