//! A description of one object: labelled lines, then sections.

use super::screen::Screen;
use super::tone::Tone;

/// A description being written.
#[derive(Debug)]
pub(crate) struct Sheet<'a> {
    screen: &'a Screen,
    label_len: usize,
    text: String,
}

impl<'a> Sheet<'a> {
    /// An empty description whose labels are at most `label_len` characters long.
    pub(crate) fn new(screen: &'a Screen, label_len: usize) -> Sheet<'a> {
        Sheet { screen, label_len, text: String::new() }
    }

    /// Adds a labelled line, unless the value is empty.
    pub(crate) fn line(&mut self, label: &str, value: impl ToString) -> &mut Self {
        self.toned(label, Tone::Plain, value)
    }

    /// Adds a labelled line in a tone, unless the value is empty.
    pub(crate) fn toned(&mut self, label: &str, tone: Tone, value: impl ToString) -> &mut Self {
        let value = value.to_string();
        if !value.is_empty() {
            let pad = " ".repeat(self.label_len.saturating_sub(label.chars().count()) + 2);
            self.text.push_str(&self.screen.paint(Tone::Strong, label));
            self.text.push_str(&pad);
            self.text.push_str(&self.screen.paint(tone, &value));
            self.text.push('\n');
        }
        self
    }

    /// Adds a section with indented lines, unless it is empty.
    pub(crate) fn section(&mut self, title: &str, body: &str) -> &mut Self {
        if !body.trim().is_empty() {
            self.text.push('\n');
            self.text.push_str(&self.screen.paint(Tone::Strong, title));
            self.text.push('\n');
            for line in body.lines() {
                self.text.push_str("  ");
                self.text.push_str(line);
                self.text.push('\n');
            }
        }
        self
    }

    /// The description, without the last line end.
    pub(crate) fn finish(&self) -> &str {
        self.text.trim_end()
    }
}
