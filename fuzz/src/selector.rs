//! Label selectors.
//!
//! A selector that is joined with itself chooses the same, and one that asks for more chooses less.

use std::collections::BTreeMap;

use marathon::format::LabelSelector;

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    // Whatever it asks for, in one of these it may find it.
    let words: Vec<String> = text.split([',', '=', '!', ' ', '(', ')']).map(String::from).collect();
    let all = |value: &str| {
        words.iter().map(|word| (word.clone(), value.to_string())).collect::<BTreeMap<_, _>>()
    };
    let labels: Vec<_> = [BTreeMap::new(), all("")]
        .into_iter()
        .chain(words.iter().take(4).map(|word| all(word)))
        .collect();
    let chosen = |text: &str| {
        let selector = LabelSelector::parse(text).ok()?;
        Some(labels.iter().map(|labels| selector.matches(labels)).collect::<Vec<_>>())
    };
    match chosen(text) {
        None => {
            let rejected = LabelSelector::parse(text).map(drop);
            let message = rejected.map_err(|rejected| rejected.message);
            assert!(message.is_err_and(|message| message.contains(text)), "it is named");
        }
        Some(once) => {
            assert!(!once[0], "without labels nothing is chosen");
            assert_eq!(chosen(&format!(" {text},{text} ")), Some(once.clone()), "twice is once");
            // No label above has a space, since spaces separate the words.
            let more = chosen(&format!(r"{text},never\ there"));
            assert_eq!(more, Some(vec![false; once.len()]), "all terms must hold");
        }
    }
}
