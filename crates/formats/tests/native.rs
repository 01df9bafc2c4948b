//! Native documents: which are accepted, and the positions of their keys.

use model::{CommandLine, Document, Problem, Spec};
use muster_formats::{Located, parse};

fn all(text: &str) -> Vec<Located> {
    parse("shop.yaml", text)
        .unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}\n{text}"))
        .documents
}

fn spec(text: &str) -> Spec {
    match all(text).remove(0).document {
        Document::Service { spec, source: None } => *spec,
        other => panic!("not a service: {other:?}"),
    }
}

#[test]
fn a_plain_scalar_keeps_its_spelling_where_a_string_is_expected() {
    let spec = spec(
        "service: /a\n\
         process: {command: [sleep, 10, true, 1.50]}\n\
         env: {VERSION: 1.10, DEBUG: true, MODE: 0o755, EMPTY: '', NO: no}\n\
         constraints: [[rack, MAX_PER, 3]]\n",
    );
    let words = spec.process.map(|process| process.command.words());
    assert_eq!(words, Some(["sleep", "10", "true", "1.50"].map(String::from).to_vec()));
    let env: Vec<_> = spec
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_text().unwrap()))
        .collect();
    assert_eq!(env, ["DEBUG=true", "EMPTY=", "MODE=0o755", "NO=no", "VERSION=1.10"]);
    assert_eq!(spec.constraints[0].value.as_deref(), Some("3"));
}

#[test]
fn a_source_may_contain_streams_and_lists_of_documents() {
    let text = "\
# The shop.
service: /web
process: {command: x}
---
- service: /api
  process: &process {command: x}
- {service: /db, process: *process}
---
---
gateway: public
listen: 127.0.0.1:8080
routes: [{to: /web:0}]
...
";
    let names = |documents: Vec<Located>| -> Vec<String> {
        let name = |located: &Located| match &located.document {
            Document::Service { spec, .. } => spec.service.to_string(),
            Document::Gateway(gateway) => gateway.gateway.to_string(),
            other => panic!("not in these texts: {other:?}"),
        };
        documents.iter().map(name).collect()
    };
    assert_eq!(names(all(text)), ["/web", "/api", "/db", "public"]);
    let json = r#"[{"service": "a", "process": {"command": "x"}}, {"service": "b", "process": {"command": "x"}}]"#;
    assert_eq!(names(all(json)), ["/a", "/b"]);
    assert_eq!(names(all("\u{feff}service: a\r\nprocess:\r\n  command: x\r\n")), ["/a"]);
}

#[test]
fn problems_found_by_the_model_point_at_their_key_or_its_parent() {
    let text = "\
service: /web
process:
  command: x
ports:
- name: http
- name: admin
  port: 8080
health:
- probe:
    http:
      port: admin
labels: {a.b: x, a: y}
depends_on:
- /db
";
    let located = all(text).remove(0);
    let check = |key: &str, at: (usize, usize)| {
        let diagnostic = located.diagnostic(&Problem::new(key, "is wrong"));
        assert_eq!(located.locate(key), at, "{key}");
        assert_eq!((diagnostic.line, diagnostic.column), at, "{key}");
        assert_eq!(diagnostic.to_string(), format!("shop.yaml:{}:{}: {key}: is wrong", at.0, at.1));
    };
    check("service", (1, 10));
    check("process", (2, 1));
    check("process.command", (3, 12));
    check("ports.1.port", (7, 9));
    check("ports.1.protocol", (6, 3));
    check("ports.7", (4, 1));
    check("health.0.probe.http.port", (11, 13));
    check("health.0.probe.http.path", (10, 5));
    check("health.0.interval", (9, 3));
    check("labels.a.b", (12, 15));
    check("labels.a", (12, 21));
    check("labels.a.c", (12, 18));
    check("depends_on.0", (14, 3));
    check("rollout.deadline", (1, 1));
}

#[test]
fn variables_refer_to_facts_of_the_instance() {
    let document = |env: &str| {
        format!("service: /a\nprocess: {{command: x}}\nports: [{{name: http}}]\nenv:\n  {env}\n")
    };
    let value = |env: &str| spec(&document(env)).env.remove("URL").unwrap();
    let url = value("URL: \"http://${node.address}:${port.http}/${slot}\"");
    assert_eq!(url.refs().len(), 3);
    assert_eq!(value("URL: $HOME").as_text(), Some("$HOME"));
    assert_eq!(value("URL: $${slot}").as_text(), Some("${slot}"));
    for (env, key, expected) in [
        ("URL: a ${node.nam}", "env.URL", "unknown reference `${node.nam}`: did you mean"),
        ("URL: ${slot", "env.URL", "`${` without a `}` after it"),
        ("URL: ${port.admin}", "env.URL", "there is no port `admin`: it has http"),
    ] {
        let diagnostics = parse("a.yaml", &document(env)).unwrap_err();
        let found: Vec<_> = diagnostics
            .iter()
            .map(|diagnostic| (diagnostic.line, diagnostic.key.as_str()))
            .collect();
        assert_eq!(found, [(5, key)], "{diagnostics:?}");
        assert!(diagnostics[0].message.contains(expected), "{diagnostics:?}");
    }
}

#[test]
fn commands_paths_and_probes_refer_to_facts_too() {
    let document = |command: &str| {
        format!(
            "service: /a\nports: [{{}}]\nprocess:\n  command: {command}\n  workdir: \"${{dir}}/x\"\n"
        )
    };
    let command = |command: &str| spec(&document(command)).process.unwrap().command;
    let CommandLine::Words(words) = command("[serve, \"${port.0}\", $5]") else { panic!() };
    assert_eq!(words.iter().map(|word| word.refs().len()).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(matches!(command("serve ${slot}"), CommandLine::Shell(line) if line.refs().len() == 1));
    let shell = "echo $HOME $${HOME} $$";
    assert_eq!(command(shell).words()[2], "echo $HOME ${HOME} $");
    // Each rejection says how to write the text of a shell.
    for (command, key, expected) in [
        ("serve ${HOME}", "process.command", "`$${HOME}` is that text"),
        ("[serve, \"${HOME:-/root}\"]", "process.command.1", "`$${HOME:-/root}` is that text"),
        ("serve ${port.1}", "process.command", "there is no port `1`: it has 1"),
        ("[serve, {}]", "process.command.1", "expected a string"),
        ("{}", "process.command", "expected a command"),
    ] {
        let diagnostics = parse("a.yaml", &document(command)).unwrap_err();
        assert_eq!((diagnostics[0].line, diagnostics[0].key.as_str()), (4, key), "{diagnostics:?}");
        assert!(diagnostics[0].message.contains(expected), "{diagnostics:?}");
    }
    let source = |source: &str| {
        format!(
            "service: /a\ncontainer: {{image: a, volumes: [{{source: {source}, target: /b}}]}}\n"
        )
    };
    assert!(parse("a.yaml", &source("\"${dir}/a\"")).is_ok());
    assert!(parse("a.yaml", &source("\"${slot}/a\"")).is_err(), "is not absolute");
}

/// A displayed document can be applied again, whatever characters it contains.
#[test]
fn references_and_literal_dollar_signs_survive_being_written() {
    let text =
        "service: /a\nprocess: {command: x}\nenv: {A: \"${slot}\", B: \"$${slot}\", C: \"$5\"}\n";
    let read = std::sync::Arc::new(spec(text));
    let written = muster_formats::to_yaml(&read.shown());
    assert_eq!(written.matches("template").count(), 2, "{written}");
    assert_eq!(spec(&written), *read);
}
