//! The messages for invalid documents: one golden file for each kind of mistake, with the documents
//! and their diagnostics, each with position and key.

use std::fmt::Write;

use muster_formats::parse;

/// Compares the diagnostics of each document with `tests/snapshots/messages__<name>.snap`.
fn check(name: &str, documents: &[&str]) {
    let mut output = String::new();
    for document in documents {
        let diagnostics = parse("shop.yaml", document).expect_err(document);
        output += &format!("{}\n>>>\n", document.replace('\t', "→"));
        for diagnostic in diagnostics {
            output += &format!("{diagnostic}\n");
        }
        output += "\n";
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(format!("messages__{name}"), output);
    });
}

#[test]
fn unknown_keys() {
    check(
        "unknown_keys",
        &[
            "service: /a\ninstnces: 3\ncontainer:\n  imge: nginx\n",
            "service: /a\nprocess: {command: x, shell: bash}\nreplicas: 3\n",
            "service: /a\nprocess: {command: x}\nhealth:\n- probe: {http: {prt: 1}}\n- probe: {htp: {}}\n",
            "gateway: web\nlisten: 8080\nroutes:\n- pth: /\n  to: /a\n",
            "srvice: /a\n",
            "kind: Deployment\nmetadata: {name: a}\n",
            "service: /a\ngateway: web\nprocess: {command: x}\n",
        ],
    );
}

#[test]
fn invalid_types() {
    check(
        "invalid_types",
        &[
            "service: /a\ninstances: many\nprocess: {command: 5}\n",
            "service: /a\ninstances: 3.0\nprocess: {command: x}\nports: [{port: 80.5}]\n",
            "service: /a\nprocess: {command: [run, [x]]}\nresources: {memory: 32, cpu: [1]}\n",
            "service: /a\nprocess: {command: x}\nenv: {A: {}, B: , C: [1]}\n",
            "service: /a\nprocess: {command: x}\nports:\n- port: 70000\n- http\n- protocol: sctp\n",
            "service: /a\ncontainer: {image: x, privileged: maybe, pull: {always: 1}, network: 3}\n",
            "service: /a\nprocess: {command: x}\nrollout: {min_healthy: 120%, deadline: 30}\nrestart: {factor: fast}\n",
            "service: /a\nprocess: {command: x}\nhealth:\n- probe: tcp\n- probe: {tcp: , http: }\n- probe: [tcp]\n- interval: 5s\n",
            "gateway: web\nlisten: 99999\nroutes: {to: /a}\n",
            "service: 1\nprocess: nginx\n",
            "just a text\n",
            "- 1\n- service: /a\n",
        ],
    );
}

#[test]
fn invalid_values() {
    check(
        "invalid_values",
        &[
            "service: /\nprocess: {command: x}\n",
            "service: /Shop/web_1\nprocess: {command: x}\n",
            "service: /a\nprocess: {command: x}\nconstraints:\n- [hostname, UNIQE]\n- [hostname]\n- [hostname, MAX_PER, few]\n- [zone, LIKE, '(']\n- [hostname, UNIQUE, x]\n",
            "service: /a\n",
            "service: /a\nprocess: {command: ''}\ncontainer: {image: ''}\n",
            "service: /a\ncontainer:\n  image: x\n  volumes:\n  - {source: data, target: /data}\nports:\n- {name: a b}\n- {name: web, port: 80}\n- {name: web, port: 80}\n",
            "service: /a\nprocess: {command: x}\nports: [{name: web, container: 80}]\nhealth:\n- probe: {http: {port: wbe, path: health}}\n  interval: 0\nenv: {A=B: x}\n",
            "service: /a\nprocess: {command: x}\ndepends_on: [/a, b c]\n",
            "gateway: web\nlisten: 8080\nroutes:\n- {to: /a}\n- {to: /b:web, path: x}\n- {hosts: [a_b], to: 'a b'}\n",
            "gateway: web\nlisten: 8080\nroutes:\n- {to: /a}\n- {to: /b:web, path: x}\n- {hosts: [a_b], to: /c}\n- {to: /d}\n",
            "gateway: web\nlisten: 8080\nroutes: []\n",
            "gateway: web\nlisten: 8080\ntrust: [10.0.0.0/8, 10.0.0.7/8]\nroutes: [{to: /a}]\n",
        ],
    );
}

#[test]
fn invalid_yaml() {
    check(
        "invalid_yaml",
        &[
            "service: /a\nprocess:\n\tcommand: x\n",
            "service: /a\nprocess:\n  command: x\n instances: 3\n",
            "service: /a\nprocess:\n  command: x\n    instances: 3\n",
            "service: /a\nprocess:\n  command: echo: hello\n",
            "service: /a\nprocess:\n  command: \"echo\ninstances: 3\n",
            "service: /a\nprocess:\n  command: [echo, hello\ninstances: 3\n",
            "service: /a\nprocess:\n  command: [echo, hello}\n",
            "service: /a\nprocess\n  command: x\n",
            "service: /a\nlabels:\n  who: @me\n",
            "service: /a\nlabels:\n  path: \"C:\\dir\"\n",
            "service: /a\nservice: /b\nenv:\n  A: 1\n  B: 2\n  A: 3\n",
            "service: /a\nenv: !env {}\n? [a]\n: b\n",
            "service: /a\nenv: &env {A: 1}\nlabels:\n  <<: *env\n  all: *all\n",
            "service: /a\nenv: &env\n  A: *env\n",
        ],
    );
}

#[test]
fn invalid_json() {
    check(
        "invalid_json",
        &[
            "{\n  \"service\": \"/a\",\n  \"process\": {\"command\": \"x\",}\n}",
            "{\"service\": \"/a\", \"constraints\": [[\"hostname\", \"UNIQUE\"],]}",
            "{\"service\": \"/ä\" \"instances\": 3}",
            "{\"service\": \"/a\"",
            "{service: /a}",
            "{'service': '/a'}",
            "{\"service\": \"/a\"} // done",
            "{\"service\": \"/a\"}\n{\"service\": \"/b\"}",
            "{\n\t\"service\": \"/a\",\n\t\"service\": \"/b\"\n}",
            "{\"service\": \"/a\", \"instances\": \"3\", \"process\": {\"command\": \"x\"}, \"env\": {\"A\": 1}}",
            "[{\"service\": \"/a\", \"process\": {\"command\": \"x\"}}, {\"service\": \"/b\"}]",
            "[]",
        ],
    );
}

#[test]
fn several_documents() {
    check(
        "several_documents",
        &[
            "service: /a\nprocess: {command: x}\n---\nservice: /b\nprocess: {comand: x}\n",
            "service: [\n---\nservice: /b\nprocess: {command: x}\n---\nservice: /c\nprocess: {command: x, y: 1}\n",
            "---\n---\n",
            "",
            "# nothing yet\n",
        ],
    );
}

#[test]
fn hostile_sources() {
    fn only_diagnostic(text: &str) -> String {
        let diagnostics = parse("bomb", text).unwrap_err();
        assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
        diagnostics[0].to_string()
    }
    let nested = |open: &str, levels: usize| open.repeat(levels);
    let blocks: String = (0..1000).map(|level| " ".repeat(level) + "a:\n").collect();
    let mut laughs = "a0: &a0 [haha, haha]\n".to_string();
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        writeln!(laughs, "a{level}: &a{level} [{below}, {below}, {below}]").unwrap();
    }
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1000));
    let wrapped = format!(
        "{}{}{}",
        (0..60).map(|level| format!("&a{level} [")).collect::<String>(),
        "x".repeat(3 << 20),
        "]".repeat(60)
    );
    let output = [
        // A position at the first level above the limit shows that the rest was not read.
        only_diagnostic(&nested("[", 1 << 20)),
        only_diagnostic(&nested("{\"a\":", 500_000)),
        only_diagnostic(&nested("- ", 1 << 20)),
        only_diagnostic(&format!("service: /a\nenv: {}", nested("[", 1 << 20))),
        only_diagnostic(&blocks),
        only_diagnostic(&nested("[", 10 << 20)),
        only_diagnostic(&laughs),
        only_diagnostic(&long),
        only_diagnostic(&wrapped),
    ]
    .join("\n");
    insta::assert_snapshot!(output);
}

#[test]
fn every_diagnostic_is_reported_once_up_to_a_limit() {
    let many: String = (0..1000).map(|i| format!("service: /a\nwrong{i}: 1\n---\n")).collect();
    assert_eq!(parse("many", &many).unwrap_err().len(), 100);
    let many: String = (0..1000).map(|i| format!("wrong{i}: 1\n")).collect();
    assert_eq!(parse("many", &format!("service: /a\n{many}")).unwrap_err().len(), 100);
}

/// Each diagnostic takes one pass to find. For a document with a hundred thousand diagnostics, only
/// those that bounded work finds are reported.
#[test]
fn a_huge_document_reports_its_first_diagnostics() {
    let keys: String = (0..200_000).map(|i| format!("k{i}: {{}}\n")).collect();
    let diagnostics = parse("huge", &format!("service: /a\n{keys}")).unwrap_err();
    assert!((1..=10).contains(&diagnostics.len()), "{}", diagnostics.len());
}

/// The maximum depth of a source, through all recursive decoders, on a quarter of a thread's stack.
#[test]
fn a_deeply_nested_source_needs_little_stack() {
    let parse_all = || {
        let deepest = format!("{}{}", "[".repeat(62), "]".repeat(62));
        for document in [
            format!("gateway: a\nlisten: {deepest}\nroutes: []\n"),
            format!("service: a\nprocess: {{command: {deepest}}}\n"),
        ] {
            parse("deep", &document).unwrap_err();
        }
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(parse_all);
    thread.unwrap().join().unwrap();
}
