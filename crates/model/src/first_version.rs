//! Environment variables for agents of the first version, which know no references: their server
//! resolves the facts that it knows, and sends the results next to the spec. In these, such an
//! agent replaces `${MUSTER_RUN}` and, in a process, `${MUSTER_DIR}`.
//!
//! This version reads what such a server has sent, and such an agent has stored, as references.

use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::reference::{Format, Number, Own, Ref};
use crate::spec::Spec;
use crate::value::Value;

/// The facts that only an agent knows, as an agent of the first version replaces them.
const REPLACED: [(Own, &str); 2] =
    [(Own::Number(Number::Run, Format::DECIMAL), "${MUSTER_RUN}"), (Own::Dir, "${MUSTER_DIR}")];

impl Spec {
    /// Removes the variables with references from the environment, and returns them for an agent of
    /// the first version.
    pub fn take_references(&mut self, facts: &Facts<'_>) -> BTreeMap<String, String> {
        let taken: Vec<_> = self.env.extract_if(.., |_, value| value.has_references()).collect();
        let known = |Ref::Own(own): &Ref| {
            let replaced = REPLACED.iter().find(|(known, _)| known == own);
            replaced.map(|(_, text)| (*text).into()).or_else(|| facts.get(own))
        };
        let resolved = taken.into_iter().map(|(name, value)| {
            // A fact that is not known is empty, as for agents of this version.
            let text = value.resolve(&known).unwrap_or_default();
            (name, text)
        });
        resolved.collect()
    }

    /// Adds variables that were sent to an agent of the first version. Those of the spec take
    /// precedence.
    pub fn add_references(&mut self, sent: BTreeMap<String, String>) {
        for (name, text) in sent {
            self.env.entry(name).or_insert_with(|| {
                let replaced = REPLACED
                    .iter()
                    .fold(Value::from(text.as_str()).to_string(), |text, (own, sent)| {
                        text.replace(&format!("${sent}"), &format!("${{{own}}}"))
                    });
                Value::parse(&replaced).unwrap_or_else(|_| text.as_str().into())
            });
        }
    }

    /// Whether agents of the first version lack a fact that the service refers to. Variables have
    /// them by [`Spec::take_references`].
    pub(crate) fn needs_references(&self) -> bool {
        let mut count = 0;
        self.visit_values(&mut |_, value| count += usize::from(value.has_references()));
        let sent = self.env.values().filter(|value| value.has_references() && self.can_send(value));
        count > sent.count()
    }

    fn can_send(&self, value: &Value) -> bool {
        match value {
            // The agent would replace it.
            Value::Text(text) => !text.contains("${"),
            Value::Ref(Ref::Own(Own::Dir)) => self.process.is_some(),
            Value::Ref(Ref::Own(Own::Number(Number::Run, format))) => *format == Format::DECIMAL,
            Value::Ref(Ref::Own(_)) => true,
            Value::Join(parts) => parts.iter().all(|part| self.can_send(part)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::ResourceId;
    use crate::service::Given;
    use crate::unit::Timestamp;

    fn spec(env: serde_json::Value) -> Spec {
        serde_json::from_value(json!({
            "service": "/shop/web", "process": {"command": "x"}, "ports": [{}], "env": env,
        }))
        .unwrap()
    }

    #[test]
    fn variables_are_sent_to_agents_of_the_first_version_and_read_back() {
        let template = |text: &str| json!({ "template": text });
        let before = spec(json!({
            "PLAIN": "a ${MUSTER_RUN}", "RUN": template("x.${run}"), "DIR": template("${dir}/a$b"),
            "PORT_80": template("${node.port.0}"), "TASK": template("${slot:08x}-${attempt:03}"),
            "VERSION": template("${revision.created_at}"),
        }));
        assert!(!before.needs_references());
        let mut sent = before.clone();
        let variables = sent.take_references(&Facts {
            node: &"n1".parse().unwrap(),
            address: "10.0.0.1",
            instance: &"/shop/web~2.5".parse().unwrap(),
            resource: &ResourceId::main(),
            revision: 7,
            revision_created_at: Timestamp(1_000),
            run: None,
            dir: None,
            spec: &before,
            given: &Given { ports: vec![20001] },
        });
        let expected = [
            ("DIR", "${MUSTER_DIR}/a$b"),
            ("PORT_80", "20001"),
            ("RUN", "x.${MUSTER_RUN}"),
            ("TASK", "00000002-005"),
            ("VERSION", "1970-01-01T00:00:01.000Z"),
        ];
        let expected: BTreeMap<String, String> =
            expected.map(|(name, value)| (name.into(), value.into())).into();
        assert_eq!(variables, expected);
        assert_eq!(sent, spec(json!({ "PLAIN": "a ${MUSTER_RUN}" })));
        sent.add_references(variables);
        for name in ["RUN", "DIR", "PLAIN"] {
            assert_eq!(sent.env[name], before.env[name], "{name}");
        }
        assert_eq!(sent.env["TASK"], "00000002-005".into());
        sent.add_references([("PLAIN".to_string(), "other".to_string())].into());
        assert_eq!(sent.env["PLAIN"], before.env["PLAIN"], "the spec takes precedence");
    }

    #[test]
    fn other_references_need_a_newer_agent() {
        for (text, needs) in [
            ("${run}", false),
            ("${run:03}", true),
            ("$${MUSTER_RUN} ${slot}", true),
            ("$HOME ${slot}", false),
        ] {
            let spec = spec(json!({"A": {"template": text}}));
            assert_eq!(spec.needs_references(), needs, "{text}");
        }
        let in_container: Spec = serde_json::from_value(json!({
            "service": "/a", "container": {"image": "a"}, "env": {"A": {"template": "${dir}"}},
        }))
        .unwrap();
        assert!(in_container.needs_references());
        let command: Spec = serde_json::from_value(json!({
            "service": "/a", "process": {"command": {"template": "serve ${slot}"}},
        }))
        .unwrap();
        assert!(command.needs_references());
    }
}
