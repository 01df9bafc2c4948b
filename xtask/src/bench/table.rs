//! The figures as a table for people.

use super::{Figure, Limit};

const HEADINGS: [&str; 7] = ["bench", "figure", "ours", "peer", "ratio", "limit", ""];

/// One line a figure, columns aligned.
pub(crate) fn render(measured: &[(&str, Figure)]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(measured.iter().map(|(bench, figure)| row(bench, figure)));
    let mut widths = [0; HEADINGS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(bench: &str, figure: &Figure) -> [String; HEADINGS.len()] {
    let unit = figure.unit;
    [
        bench.to_owned(),
        figure.what.clone(),
        format!("{} {unit}", number(figure.ours)),
        figure.peer.map_or_else(
            || "-".to_owned(),
            |(name, value)| format!("{} {unit} ({name})", number(value)),
        ),
        figure.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        match figure.limit {
            Limit::Max(max) => format!("at most {} {unit}", number(max)),
            Limit::Min(min) => format!("at least {} {unit}", number(min)),
            Limit::RatioMax(max) => format!("at most {max:.2} times the peer"),
            Limit::RatioMin(min) => format!("at least {min:.2} times the peer"),
        },
        if figure.is_met() { "pass" } else { "FAIL" }.to_owned(),
    ]
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_each_line_ends_with_its_verdict() {
        let table = render(&[
            (
                "gateway",
                Figure {
                    what: "CPU a request".to_owned(),
                    unit: "µs",
                    ours: 13.64,
                    peer: Some(("HAProxy", 14.8)),
                    limit: Limit::RatioMax(1.0),
                },
            ),
            (
                "process",
                Figure {
                    what: "10 running".to_owned(),
                    unit: "ms",
                    ours: 60.4,
                    peer: None,
                    limit: Limit::Max(60.0),
                },
            ),
        ]);
        let expected = "\
bench    figure         ours     peer               ratio  limit
gateway  CPU a request  13.6 µs  14.8 µs (HAProxy)  0.92   at most 1.00 times the peer  pass
process  10 running     60.4 ms  -                  -      at most 60.0 ms              FAIL
";
        assert_eq!(table, expected);
    }
}
