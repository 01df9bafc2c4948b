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

/// The figures of one bench as a table of a Markdown page.
pub(crate) fn markdown(figures: &[&Figure]) -> String {
    let headings = ["figure", "ours", "peer", "ratio", "limit", "met", "depends on the machine"];
    let rows = figures.iter().map(|figure| {
        let [_, what, ours, peer, ratio, limit, met] = row("", figure);
        let met = if figure.is_met() { met } else { "**no**".to_owned() };
        let depends = if figure.depends_on_machine() { "yes" } else { "no" };
        [what, ours, peer, ratio, limit, met, depends.to_owned()]
    });
    page_table(&headings.map(str::to_owned), rows)
}

/// Figures as ratios to their peers, as a table of a Markdown page.
pub(crate) fn ratios(figures: &[&Figure]) -> String {
    let headings = ["figure", "compared with", "ratio", "limit"];
    let rows = figures.iter().map(|figure| {
        let [_, what, _, _, ratio, limit, _] = row("", figure);
        let peer = figure.peer.as_ref().map_or_else(String::new, |(name, _)| name.clone());
        let limit = if figure.is_met() { limit } else { format!("{limit}: **not met**") };
        [what, peer, ratio, limit]
    });
    page_table(&headings.map(str::to_owned), rows)
}

fn page_table<const N: usize>(
    headings: &[String; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("{}|\n", "|---".repeat(N));
    let rows: String = rows.map(|cells| line(&cells)).collect();
    line(headings) + &rule + &rows
}

/// A value with its unit, to three digits.
pub(crate) fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value)).trim_end().to_owned()
}

fn row(bench: &str, figure: &Figure) -> [String; HEADINGS.len()] {
    let with_unit = |value: f64| with_unit(value, &figure.unit);
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
    fn a_page_marks_unmet_limits_and_figures_of_this_machine() {
        let expected = "\
| figure | ours | peer | ratio | limit | met | depends on the machine |
|---|---|---|---|---|---|---|
| CPU a request | 13.6 us | 14.8 us (HAProxy) | 0.92 | at most 1.00 times | yes | no |
| requests | 24,091 1/s | - | - | - | - | yes |
| 10 running | 60.4 ms | - | - | at most 60.0 ms | **no** | yes |
";
        let measured = measured();
        assert_eq!(markdown(&measured.each_ref().map(|(_, figure)| figure)), expected);
    }

    #[test]
    fn the_readme_has_ratios_without_absolute_figures() {
        let expected = "\
| figure | compared with | ratio | limit |
|---|---|---|---|
| CPU a request | HAProxy | 0.92 | at most 1.00 times |
";
        let [(_, cpu), ..] = measured();
        assert_eq!(ratios(&[&cpu]), expected);
    }
}
