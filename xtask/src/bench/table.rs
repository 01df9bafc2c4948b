//! The figures as a table for people.

use super::{Figure, Limit};

const HEADINGS: [&str; 7] = ["bench", "figure", "ours", "peer", "ratio", "limit", "met"];

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

/// The same as a table of a Markdown page.
pub(crate) fn markdown(measured: &[(&str, Figure)]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEADINGS.map(str::to_owned));
    text.push_str(&"|---".repeat(HEADINGS.len()));
    text.push_str("|\n");
    let mut shown = "";
    for (bench, figure) in measured {
        // A bench is named once, on the first of its lines.
        let mut cells = row(if *bench == shown { "" } else { bench }, figure);
        if !figure.is_met() {
            cells[HEADINGS.len() - 1] = "**no**".into();
        }
        shown = bench;
        text.push_str(&line(&cells));
    }
    text
}

fn row(bench: &str, figure: &Figure) -> [String; HEADINGS.len()] {
    let with_unit = |value: f64| format!("{} {}", number(value), figure.unit).trim_end().to_owned();
    let none = || "-".to_owned();
    [
        bench.to_owned(),
        figure.what.clone(),
        with_unit(figure.ours),
        figure
            .peer
            .as_ref()
            .map_or_else(none, |(name, value)| format!("{} ({name})", with_unit(*value))),
        figure.ratio().map_or_else(none, |ratio| format!("{ratio:.2}")),
        match figure.limit {
            Limit::None => none(),
            Limit::Max(max) => format!("at most {}", with_unit(max)),
            Limit::Min(min) => format!("at least {}", with_unit(min)),
            Limit::RatioMax(max) => format!("at most {max:.2} times"),
            Limit::RatioMin(min) => format!("at least {min:.2} times"),
        },
        match (figure.limit, figure.is_met()) {
            (Limit::None, _) => none(),
            (_, true) => "yes".to_owned(),
            (_, false) => "NO".to_owned(),
        },
    ]
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 10_000.0 => thousands(value),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Whole, in groups of three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> [(&'static str, Figure); 3] {
        let requests = Figure::new("requests", "1/s", 24_091.1, Limit::None);
        let cpu = Figure::new("CPU a request", "us", 13.64, Limit::RatioMax(1.0));
        let ten = Figure::new("10 running", "ms", 60.4, Limit::Max(60.0));
        [("gateway", cpu.with_peer("HAProxy", 14.8)), ("gateway", requests), ("process", ten)]
    }

    #[test]
    fn columns_align_and_each_line_ends_with_its_result() {
        let expected = "\
bench    figure         ours        peer               ratio  limit               met
gateway  CPU a request  13.6 us     14.8 us (HAProxy)  0.92   at most 1.00 times  yes
gateway  requests       24,091 1/s  -                  -      -                   -
process  10 running     60.4 ms     -                  -      at most 60.0 ms     NO
";
        assert_eq!(render(&measured()), expected);
    }

    #[test]
    fn a_page_names_each_bench_once_and_marks_unmet_limits() {
        let expected = "\
| bench | figure | ours | peer | ratio | limit | met |
|---|---|---|---|---|---|---|
| gateway | CPU a request | 13.6 us | 14.8 us (HAProxy) | 0.92 | at most 1.00 times | yes |
|  | requests | 24,091 1/s | - | - | - | - |
| process | 10 running | 60.4 ms | - | - | at most 60.0 ms | **no** |
";
        assert_eq!(markdown(&measured()), expected);
    }
}
