//! Suggestions for mistyped names.

/// The name in `known` that is most similar to `name`; `None` if none is similar.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = known.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.6).then(|| best.1.to_string())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn names_are_similar_if_more_than_three_fifths_of_their_letters_agree() {
        for (name, known, expected) in [
            ("/web", vec!["/api", "/wed", "/worker"], Some("/wed")),
            ("abcde", vec!["abcdx"], Some("abcdx")),
            ("abcde", vec!["abcxx"], None),
            ("abcde", vec!["abcxx", "abcdx", "xxxxx"], Some("abcdx")),
            ("abcde", vec![], None),
        ] {
            let found = nearest(name, known.iter().copied());
            assert_eq!(found.as_deref(), expected, "{name} of {known:?}");
        }
    }
}
