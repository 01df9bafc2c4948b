//! Tables without borders: upper-case headings, columns separated by two spaces, nothing truncated.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use model::Timestamp;

use super::tone::Tone;

/// An object with a row in a table.
pub(crate) trait Row {
    /// The headings.
    const HEAD: &'static [&'static str];
    /// The headings that `-o wide` adds.
    const WIDE: &'static [&'static str];

    /// Its name, for `-o name`.
    fn name(&self) -> String;
    /// Its cells, one for each heading of `HEAD`.
    fn cells(&self, now: Timestamp) -> Vec<(String, Tone)>;
    /// Its further cells, one for each heading of `WIDE`.
    fn wide(&self, now: Timestamp) -> Vec<(String, Tone)>;
}

/// A cell in the plain tone.
pub(crate) fn plain(text: impl ToString) -> (String, Tone) {
    (text.to_string(), Tone::Plain)
}

/// The table, without a line end after its last line.
pub(crate) fn render<T: Row>(items: &[T], wide: bool, color: bool, now: Timestamp) -> String {
    let head: Vec<&str> = T::HEAD.iter().chain(T::WIDE.iter().filter(|_| wide)).copied().collect();
    let rows = items.iter().map(|item| {
        let mut cells = item.cells(now);
        if wide {
            cells.extend(item.wide(now));
        }
        cells
    });
    align(&head, rows, color)
}

/// Aligns rows below their headings.
pub(crate) fn align(
    head: &[&str],
    rows: impl IntoIterator<Item = Vec<(String, Tone)>>,
    color: bool,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.force_no_tty();
    if color {
        table.enforce_styling();
    }
    if !head.is_empty() {
        table.set_header(head.iter().map(|title| cell(title, Tone::Strong)).collect::<Vec<_>>());
    }
    for row in rows {
        let cells = row.iter().map(|(text, tone)| match text.as_str() {
            "" => cell("-", Tone::Dim),
            text => cell(text, *tone),
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn cell(text: &str, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Warn => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Strong => cell.add_attribute(Attribute::Bold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_empty_cells_show_a_dash() {
        let rows = vec![
            vec![plain("/shop/web"), ("running".into(), Tone::Good), plain("4/4")],
            vec![plain("/größe/界"), ("degraded".into(), Tone::Bad), plain("")],
        ];
        insta::assert_snapshot!(align(&["SERVICE", "STATE", "READY"], rows, false), @r"
        SERVICE    STATE     READY
        /shop/web  running   4/4
        /größe/界  degraded  -
        ");
    }

    #[test]
    fn colour_does_not_change_the_columns() {
        let rows = || vec![vec![("running".into(), Tone::Good), plain("x")]];
        let colored = align(&["A", "B"], rows(), true);
        let mut bare = String::new();
        let mut escape = false;
        for c in colored.chars() {
            match (escape, c) {
                (false, '\u{1b}') => escape = true,
                (true, 'm') => escape = false,
                (true, _) => {}
                (false, c) => bare.push(c),
            }
        }
        let trimmed: Vec<_> = bare.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), align(&["A", "B"], rows(), false));
        assert!(colored.contains('\u{1b}'));
    }
}
