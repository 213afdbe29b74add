//! What all commands print alike.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;

/// A value on the command line that cannot be meant.
#[derive(Debug)]
pub struct BadInput(pub String);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// An error with its causes, each said once.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // The system's number of an error helps nobody who reads its words.
        let cause = cause.split(" (os error ").next().unwrap_or_default();
        let before = text.rfind(": ").map_or(0, |colon| colon + 2);
        let said = &text[before..];
        if text.contains(cause) {
            continue;
        }
        // "job 1" and "job 1 is over" are one sentence; "no such file" says all of "No such file or directory".
        match cause.starts_with(said) {
            true => text.replace_range(before.., cause),
            false if cause.to_lowercase().starts_with(&said.to_lowercase()) => {}
            false => text = format!("{text}: {cause}"),
        }
    }
    text
}

/// Prints data for people.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints data for machines.
pub fn print_json(data: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(data)?))
}

/// A table without frames; the first column is text, the others are numbers.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| {
        table.add_row(row.clone());
    });
    for (index, column) in table.column_iter_mut().enumerate() {
        let left = if index == 0 { 0 } else { 1 };
        column.set_padding((left, 1));
        column.set_cell_alignment(if index == 0 { CellAlignment::Left } else { CellAlignment::Right });
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(3)));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    format!("{}\n", lines.join("\n"))
}

/// A number with its thousands set apart, as all tables of the terminal do.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Which side the cells of a column stand on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column of a listing never gives way below this.
const NARROWEST: usize = 8;

/// A table without frames whose columns of words give way, the widest first, until a row fits into `width`.
pub fn listing(columns: &[(&str, Align)], rows: &[Vec<String>], width: Option<usize>) -> String {
    const GAP: usize = 2;
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let natural = |index: usize| rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count()).max();
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, (title, _))| natural(index).unwrap_or_default().max(title.chars().count()))
        .collect();
    if let Some(width) = width {
        let gaps = GAP * columns.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > width {
            let words = columns.iter().enumerate().filter(|(_, (_, align))| *align == Align::Left);
            let Some((widest, _)) = words.max_by_key(|(index, _)| widths[*index]) else { break };
            if widths[widest] <= NARROWEST {
                break;
            }
            widths[widest] -= 1;
        }
    }
    let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(&rows) {
        let mut line = String::new();
        for (((_, align), width), cell) in columns.iter().zip(&widths).zip(row) {
            let cell = shortened(cell, *width);
            let blank = " ".repeat(width - cell.chars().count());
            let (before, after) = if *align == Align::Left { ("", blank.as_str()) } else { (blank.as_str(), "") };
            line.push_str(&format!("{before}{cell}{after}{}", " ".repeat(GAP)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text of at most `width` characters, its end left out where it is longer.
pub fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// A text of others without what would command the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The columns of the terminal that data goes to; none where it goes elsewhere.
pub fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    Some(ratatui::crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns)).max(40))
}

/// A text in the one accent colour, where `stream` shows colours and nobody asked for none.
pub fn accent(text: &str, stream: &impl IsTerminal) -> String {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    if is_plain || !stream.is_terminal() { text.to_owned() } else { format!("\x1b[36m{text}\x1b[0m") }
}

/// Says what is waited for, once it takes longer than a second, where somebody sees it; unsaid when dropped.
pub struct Waiting(Option<tokio::task::JoinHandle<()>>);

impl Waiting {
    /// Begins to wait. Needs the runtime around it.
    pub fn for_(what: String) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        Self(Some(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear).with_message(what);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            loop {
                bar.tick();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["7", "a", "waits for \x1b[2Jroom"]), row(["1234", "a name that is rather long", "runs"])]
    }

    const COLUMNS: [(&str, Align); 3] = [("id", Align::Right), ("name", Align::Left), ("reason", Align::Left)];

    #[test]
    fn a_chain_says_each_thing_once() {
        let of = |causes: [&'static str; 2]| chain(&anyhow::Error::msg(causes[1]).context(causes[0]));
        assert_eq!(of(["job 1", "job 1 is over"]), "job 1 is over");
        assert_eq!(of(["cannot read a.toml", "no such file (os error 2)"]), "cannot read a.toml: no such file");
        let named = "a.toml: no such file";
        assert_eq!(of([named, "No such file or directory (os error 2)"]), named);
        assert_eq!(of(["server: job 1", "job 1 is over"]), "server: job 1 is over");
    }

    #[test]
    fn numbers_stand_right_and_words_left() {
        let text = listing(&COLUMNS, &rows(), None);
        assert_eq!(
            text,
            "  id  name                        reason\n   7  a                           waits for  [2Jroom\n\
             1234  a name that is rather long  runs\n"
        );
    }

    #[test]
    fn words_give_way_the_widest_first() {
        let text = listing(&COLUMNS, &rows(), Some(36));
        assert_eq!(
            text,
            "  id  name            reason\n   7  a               waits for  [2…\n1234  a name that i…  runs\n"
        );
        // Numbers are never cut, so that a row may be wider than a very narrow terminal.
        assert!(listing(&COLUMNS, &rows(), Some(10)).contains("1234  a name …  runs"));
    }
}
