//! What happened in a world, line by line, for whoever has to find out why.

use std::cell::RefCell;
use std::fmt::Arguments;
use std::rc::Rc;

/// The lines, or nothing where nobody reads them.
#[derive(Clone)]
pub struct Transcript(Option<Rc<RefCell<Vec<String>>>>);

impl Transcript {
    pub const fn none() -> Self {
        Self(None)
    }

    pub fn kept() -> Self {
        Self(Some(Rc::default()))
    }

    pub fn say(&self, at_ms: u64, what: Arguments<'_>) {
        if let Some(lines) = &self.0 {
            lines.borrow_mut().push(format!("{:>8}.{:03} {what}", at_ms / 1000, at_ms % 1000));
        }
    }

    pub fn last(&self, count: usize) -> String {
        let lines = self.0.as_ref().map(|lines| lines.borrow().clone()).unwrap_or_default();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}
