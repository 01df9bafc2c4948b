//! The places of a service that hold values: each is visited with the path of keys that leads to
//! it. A new key whose type is [`Value`] needs a line in the macro of this module.

use std::fmt;
use std::sync::Arc;

use crate::facts::Facts;
use crate::revision::Revision;
use crate::spec::{CommandLine, Container, Probe, Process, Resource, Spec, Task};
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

/// Defines functions that visit all values of a service in the order of the keys of a document, by
/// shared or by mutable reference.
macro_rules! visitors {
    ($module:ident $(, $mutable:tt)?) => {
        mod $module {
            use super::*;

            type Visit<'v, 's> = &'v mut dyn FnMut(Place<'_>, &'s $($mutable)? Value);

            pub(super) fn spec<'s>(spec: &'s $($mutable)? Spec, visit: Visit<'_, 's>) {
                if let Some(container) = & $($mutable)? spec.container {
                    self::container(Place::root("container"), container, visit);
                }
                if let Some(process) = & $($mutable)? spec.process {
                    self::process(Place::root("process"), process, visit);
                }
                let at = Place::root("stack");
                for (i, resource) in (& $($mutable)? spec.stack).into_iter().enumerate() {
                    self::resource(at.index(i), resource, visit);
                }
                let at = Place::root("env");
                for (name, value) in & $($mutable)? spec.env {
                    visit(at.key(name), value);
                }
                let at = Place::root("health");
                for (i, check) in (& $($mutable)? spec.health).into_iter().enumerate() {
                    probe(at.index(i).key("probe"), & $($mutable)? check.probe, visit);
                }
                let at = Place::root("readiness");
                if let Some(check) = & $($mutable)? spec.readiness {
                    probe(at.key("probe"), & $($mutable)? check.probe, visit);
                }
                let at = Place::root("files");
                for (i, file) in (& $($mutable)? spec.files).into_iter().enumerate() {
                    if let Some(text) = & $($mutable)? file.text {
                        visit(at.index(i).key("text"), text);
                    }
                }
            }

            fn resource<'s>(
                at: Place<'_>,
                resource: &'s $($mutable)? Resource,
                visit: Visit<'_, 's>,
            ) {
                if let Some(container) = & $($mutable)? resource.container {
                    self::container(at.key("container"), container, visit);
                }
                if let Some(process) = & $($mutable)? resource.process {
                    self::process(at.key("process"), process, visit);
                }
                let task = at.key("task");
                match & $($mutable)? resource.task {
                    Some(Task::Container(container)) => {
                        self::container(task.key("container"), container, visit);
                    }
                    Some(Task::Process(process)) => {
                        self::process(task.key("process"), process, visit);
                    }
                    None => {}
                }
                let env = at.key("env");
                for (name, value) in & $($mutable)? resource.env {
                    visit(env.key(name), value);
                }
                let health = at.key("health");
                for (i, check) in (& $($mutable)? resource.health).into_iter().enumerate() {
                    probe(health.index(i).key("probe"), & $($mutable)? check.probe, visit);
                }
                let readiness = at.key("readiness");
                if let Some(check) = & $($mutable)? resource.readiness {
                    probe(readiness.key("probe"), & $($mutable)? check.probe, visit);
                }
                let files = at.key("files");
                for (i, file) in (& $($mutable)? resource.files).into_iter().enumerate() {
                    if let Some(text) = & $($mutable)? file.text {
                        visit(files.index(i).key("text"), text);
                    }
                }
            }

            fn container<'s>(
                at: Place<'_>,
                container: &'s $($mutable)? Container,
                visit: Visit<'_, 's>,
            ) {
                if let Some(line) = & $($mutable)? container.command {
                    command(at.key("command"), line, visit);
                }
                let entrypoint = at.key("entrypoint");
                if let Some(words) = & $($mutable)? container.entrypoint {
                    for (i, word) in words.into_iter().enumerate() {
                        visit(entrypoint.index(i), word);
                    }
                }
                let volumes = at.key("volumes");
                for (i, volume) in (& $($mutable)? container.volumes).into_iter().enumerate() {
                    visit(volumes.index(i).key("source"), & $($mutable)? volume.source);
                }
            }

            fn process<'s>(
                at: Place<'_>,
                process: &'s $($mutable)? Process,
                visit: Visit<'_, 's>,
            ) {
                command(at.key("command"), & $($mutable)? process.command, visit);
                if let Some(workdir) = & $($mutable)? process.workdir {
                    visit(at.key("workdir"), workdir);
                }
            }

            pub(super) fn probe<'s>(
                at: Place<'_>,
                probe: &'s $($mutable)? Probe,
                visit: Visit<'_, 's>,
            ) {
                match probe {
                    Probe::Http(http) => {
                        visit(at.key("http").key("path"), & $($mutable)? http.path);
                    }
                    Probe::Tcp(_) => {}
                    Probe::Command(line) => command(at.key("command"), line, visit),
                }
            }

            fn command<'s>(
                at: Place<'_>,
                line: &'s $($mutable)? CommandLine,
                visit: Visit<'_, 's>,
            ) {
                match line {
                    CommandLine::Shell(line) => visit(at, line),
                    CommandLine::Words(words) => {
                        for (i, word) in words.into_iter().enumerate() {
                            visit(at.index(i), word);
                        }
                    }
                }
            }
        }
    };
}

visitors!(shared);
visitors!(exclusive, mut);

impl Spec {
    /// Visits all values, in the order of the keys of a document.
    pub(crate) fn visit_values<'s>(&'s self, visit: &mut dyn FnMut(Place<'_>, &'s Value)) {
        shared::spec(self, visit);
    }

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
        exclusive::spec(&mut shown, &mut |_, value| {
            if let Some(shown) = value.shown() {
                *value = shown;
            }
        });
        Arc::new(shown)
    }

    /// The service as a run with these facts has it: without references.
    pub fn resolved(self: &Arc<Self>, facts: &Facts<'_>) -> Arc<Spec> {
        if !self.has_references() {
            return Arc::clone(self);
        }
        let mut resolved = Spec::clone(self);
        exclusive::spec(&mut resolved, &mut |_, value| resolve(value, facts));
        Arc::new(resolved)
    }
}

impl Probe {
    /// The probe of a run with these facts: without references.
    pub fn resolved(mut self, facts: &Facts<'_>) -> Probe {
        exclusive::probe(Place::root("probe"), &mut self, &mut |_, value| resolve(value, facts));
        self
    }
}

fn resolve(value: &mut Value, facts: &Facts<'_>) {
    if value.has_references() {
        *value = facts.resolve(value).into();
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

    /// A service with `value` in every place of a value.
    fn everywhere(value: &serde_json::Value) -> serde_json::Value {
        let process = json!({"command": [value], "workdir": value});
        let container = json!({
            "image": "a", "command": value, "entrypoint": [value],
            "volumes": [{"source": value, "target": "/a"}],
        });
        let check = |probe: serde_json::Value| json!({"probe": probe, "interval": "1s", "timeout": "1s", "failures": 1, "grace": "1s"});
        let health = [check(json!({"http": {"path": value}})), check(json!({"command": [value]}))];
        let readiness =
            json!({"probe": {"http": {"path": value}}, "interval": "1s", "timeout": "1s"});
        json!({
            "service": "/a", "instances": 1,
            "container": container, "process": process,
            "stack": [
                {
                    "name": "a", "container": container, "env": {"A": value}, "health": health,
                    "readiness": readiness, "files": [{"path": "/a", "text": value}],
                },
                {"name": "b", "process": process},
                {"name": "c", "task": {"container": container}},
                {"name": "d", "task": {"process": process}},
            ],
            "env": {"A.B": value}, "health": health, "readiness": readiness,
            "files": [{"path": "/a", "text": value}],
        })
    }

    #[test]
    fn a_shown_service_reads_back_as_the_same_service() {
        let stored = spec(everywhere(&json!("${slot}")));
        let shown = serde_json::to_value(stored.shown()).unwrap();
        assert_eq!(shown, everywhere(&json!({"template": "$${slot}"})));
        assert_eq!(spec(shown), stored);
        let plain = spec(everywhere(&json!("$HOME")));
        assert!(Arc::ptr_eq(&plain.shown(), &plain));
    }

    #[test]
    fn every_value_is_visited_at_its_place_and_resolved() {
        let template = spec(everywhere(&json!({"template": "${slot}"})));
        let document = serde_json::to_value(&*template).unwrap();
        let mut count = 0;
        template.visit_values(&mut |at, _| {
            let mut found = &document;
            let key = at.to_string().replace("A.B", "A/B");
            for step in key.split('.') {
                found = match step.parse::<usize>() {
                    Ok(index) => &found[index],
                    Err(_) => &found[step.replace('/', ".")],
                };
            }
            assert_eq!(found["template"], "${slot}", "{at}");
            count += 1;
        });
        assert_eq!(document.to_string().matches("${slot}").count(), count);
        let facts = Facts {
            node: &"n1".parse().unwrap(),
            address: "10.0.0.1",
            instance: &"/a~2.1".parse().unwrap(),
            resource: &"a".parse().unwrap(),
            revision: 1,
            revision_created_at: crate::unit::Timestamp(0),
            run: None,
            dir: None,
            spec: &template,
            given: &crate::service::Given::default(),
        };
        let resolved = spec(everywhere(&json!("2")));
        assert_eq!(template.resolved(&facts), resolved);
        assert!(Arc::ptr_eq(&resolved.resolved(&facts), &resolved));
        let probe = template.readiness.as_ref().unwrap().probe.clone().resolved(&facts);
        assert_eq!(probe, resolved.readiness.as_ref().unwrap().probe);
    }
}
