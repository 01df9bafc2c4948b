//! Properties of every document and every string: a written document reads back unchanged, and no
//! string has another effect than being rejected.

#![allow(clippy::unwrap_used)]

mod generate;

use std::sync::Arc;

use generate::{path, service, spec, text, word};
use model::{Document, Gateway, PortRef, Route, RouteTo};
use muster_formats::{parse, to_yaml};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn gateway() -> impl Strategy<Value = Gateway> {
    let port = prop_oneof![any::<u32>().prop_map(PortRef::Index), word().prop_map(PortRef::Name)];
    let to = (service(), port).prop_map(|(service, port)| RouteTo { service, port });
    let route = (btree_set(word(), 0..3), path(), to).prop_map(|(hosts, path, to)| Route {
        hosts,
        path,
        to,
    });
    let listen = prop_oneof!["[1-9][0-9]{0,3}", Just("127.0.0.1:8080".into())];
    let subnet = prop_oneof![
        Just("10.0.0.0/8".to_string()),
        r"192\.0\.2\.[1-9]",
        Just("fd00::/8".to_string()),
    ];
    (word(), listen, btree_set(subnet, 0..3), vec(route, 1..4))
        .prop_map(|(gateway, listen, trust, routes)| Gateway {
            gateway: gateway.parse().unwrap(),
            listen: listen.parse().unwrap(),
            trust: trust.iter().map(|subnet| subnet.parse().unwrap()).collect(),
            routes,
        })
        .prop_filter("a good gateway", |gateway| gateway.problems().is_empty())
}

fn documents(text: &str) -> Vec<Document> {
    let parsed =
        parse("text", text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}\n{text}"));
    parsed.documents.into_iter().map(|located| located.document).collect()
}

/// JSON indented with tabs, which YAML does not allow.
fn to_json(value: &impl serde::Serialize) -> String {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format)).unwrap();
    String::from_utf8(out).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_services_read_back(spec in spec()) {
        let document = Document::service(spec.clone());
        let shown = Arc::new(spec).shown();
        let yaml = to_yaml(&shown);
        prop_assert_eq!(documents(&yaml), vec![document.clone()], "{}", yaml);
        let json = to_json(&shown);
        prop_assert_eq!(documents(&json), vec![document.clone()], "{}", json);
        let lines = serde_json::to_string(&[&shown, &shown]).unwrap();
        prop_assert_eq!(documents(&lines), vec![document.clone(), document], "{}", lines);
    }

    #[test]
    fn written_gateways_read_back(gateway in gateway()) {
        let document = Document::Gateway(gateway.clone());
        let yaml = to_yaml(&gateway);
        prop_assert_eq!(documents(&yaml), vec![document.clone()], "{}", yaml);
        prop_assert_eq!(documents(&to_json(&gateway)), vec![document]);
    }

    #[test]
    fn arbitrary_text_is_rejected_without_a_panic(bytes: Vec<u8>, strings in vec(text(), 0..20)) {
        for text in [String::from_utf8_lossy(&bytes).into_owned(), strings.concat(), strings.join("\n")] {
            let output = parse("text", &text).map(|parsed| parsed.documents.len());
            prop_assert!(output.is_err_and(|diagnostics| !diagnostics.is_empty()), "{:?}", text);
        }
    }

    /// Valid documents with a part removed, duplicated or replaced.
    #[test]
    fn damaged_documents_are_read_or_rejected_at_an_existing_line(
        spec in spec(), as_json: bool, at in any::<prop::sample::Index>(),
        len in 0usize..40, with in text(),
    ) {
        let good = if as_json { to_json(&spec) } else { to_yaml(&spec) };
        let chars: Vec<char> = good.chars().collect();
        let begin = at.index(chars.len() + 1);
        let end = (begin + len).min(chars.len());
        let damaged: String =
            chars[..begin].iter().copied().chain(with.chars()).chain(chars[end..].iter().copied()).collect();
        match parse("text", &damaged) {
            Ok(parsed) => for located in parsed.documents {
                prop_assert!(located.locate("health.0.probe.http.port").0 >= 1);
            }
            Err(diagnostics) => {
                prop_assert!(!diagnostics.is_empty());
                let breaks = damaged.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
                for diagnostic in diagnostics {
                    prop_assert!((1..=breaks + 1).contains(&diagnostic.line), "{:?}\n{}", diagnostic, damaged);
                    prop_assert!(diagnostic.column >= 1, "{:?}", diagnostic);
                }
            }
        }
    }
}
