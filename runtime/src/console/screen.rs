//! The VGA text screen drawn on the terminal: only what changed, in the guest's colours.

use std::io::{self, Write};

use crossterm::style::{Color, SetBackgroundColor, SetForegroundColor};
use crossterm::{cursor, queue, style, terminal};
use devices::vga::{TextCell, TextScreen};

use super::to_unicode;

/// What the line below the screen says when there is nothing else to say.
const HINT: &str = "Ctrl-a x quits, Ctrl-a h helps";

/// What the terminal shows.
#[derive(Debug, Default)]
pub struct Screen {
    shown: TextScreen,
    notice: String,
    /// The notice line is to be drawn.
    notice_is_new: bool,
    size: Option<(u16, u16)>,
}

impl Screen {
    /// A screen that knows nothing of what the terminal shows: the next `draw` draws everything.
    pub fn new() -> Self {
        Self { notice: HINT.to_owned(), notice_is_new: true, ..Self::default() }
    }

    /// Puts a line below the screen.
    pub fn notice(&mut self, text: &str) {
        text.clone_into(&mut self.notice);
        self.notice_is_new = true;
    }

    /// Forgets what the terminal shows: it was resized.
    pub fn forget(&mut self) {
        self.size = None;
    }

    /// Brings the terminal up to `now` (`None` = the guest is in a graphics mode).
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub fn draw(&mut self, now: Option<TextScreen>, out: &mut impl Write) -> io::Result<()> {
        let now =
            now.unwrap_or_else(|| message("This guest shows graphics; there is no text to show."));
        let size = match self.size {
            Some(size) => size,
            // A terminal that does not know its size says 0.
            None => match terminal::size() {
                Ok((width @ 1.., height @ 1..)) => (width, height),
                _ => (80, 26),
            },
        };
        self.draw_sized(now, size, out)
    }

    fn draw_sized(
        &mut self,
        now: TextScreen,
        size: (u16, u16),
        out: &mut impl Write,
    ) -> io::Result<()> {
        let is_fresh =
            self.size != Some(size) || (self.shown.cols, self.shown.rows) != (now.cols, now.rows);
        if !is_fresh && !self.notice_is_new && self.shown == now {
            return Ok(());
        }
        let mut text = Vec::new();
        queue!(text, cursor::Hide)?;
        if is_fresh {
            queue!(text, style::ResetColor, terminal::Clear(terminal::ClearType::All))?;
        }
        let (width, height) = (usize::from(size.0), usize::from(size.1));
        for row in 0..now.rows.min(height) {
            let old = if is_fresh { &[][..] } else { cells(&self.shown, row) };
            draw_row(&mut text, row, old, cells(&now, row), width)?;
        }
        queue!(text, style::ResetColor)?;
        if (is_fresh || self.notice_is_new) && now.rows < height {
            let line: String = self.notice.chars().take(width).collect();
            queue!(text, cursor::MoveTo(0, now.rows as u16))?; // rows < height <= u16::MAX
            queue!(text, terminal::Clear(terminal::ClearType::UntilNewLine), style::Print(line))?;
        }
        if let Some((col, row)) = now.cursor.filter(|&(col, row)| col < width && row < height) {
            queue!(text, cursor::MoveTo(col as u16, row as u16), cursor::Show)?; // < size, a u16
        }
        (self.size, self.shown, self.notice_is_new) = (Some(size), now, false);
        out.write_all(&text)?;
        out.flush()
    }
}

fn cells(screen: &TextScreen, row: usize) -> &[TextCell] {
    screen.cells.chunks(screen.cols.max(1)).nth(row).unwrap_or(&[])
}

/// Draws the cells of a row from the first to the last that changed.
fn draw_row(
    text: &mut Vec<u8>,
    row: usize,
    old: &[TextCell],
    new: &[TextCell],
    width: usize,
) -> io::Result<()> {
    let new = &new[..new.len().min(width)];
    let changed = |col: &usize| old.get(*col) != new.get(*col);
    let Some(first) = (0..new.len()).find(changed) else { return Ok(()) };
    let last = (0..new.len()).rfind(changed).unwrap_or(first);
    queue!(text, cursor::MoveTo(first as u16, row as u16))?; // inside the terminal: fits
    let mut attr = None;
    for cell in &new[first..=last] {
        if attr != Some(cell.attr) {
            attr = Some(cell.attr);
            queue!(text, SetForegroundColor(color(cell.attr & 15)))?;
            queue!(text, SetBackgroundColor(color(cell.attr >> 4 & 7)))?;
        }
        queue!(text, style::Print(to_unicode(cell.ch)))?;
    }
    Ok(())
}

/// The VGA's colour bits are blue, green, red, bright; ANSI's are red, green, blue, bright.
fn color(vga: u8) -> Color {
    Color::AnsiValue(vga & 0b1010 | (vga & 1) << 2 | (vga & 4) >> 2)
}

/// A screen that holds one line.
fn message(text: &str) -> TextScreen {
    let cell = |ch| TextCell { ch, attr: 7 };
    let mut cells: Vec<TextCell> = text.bytes().take(80).map(cell).collect();
    cells.resize(80, cell(b' '));
    TextScreen { cols: 80, rows: 1, cells, cursor: None }
}

/// The screen as text: one line per row without trailing blanks, no empty rows at the end.
pub fn plain_text(screen: &TextScreen) -> String {
    let line =
        |row| -> String { cells(screen, row).iter().map(|cell| to_unicode(cell.ch)).collect() };
    let text: String = (0..screen.rows).map(|row| line(row).trim_end().to_owned() + "\n").collect();
    match text.trim_end() {
        "" => String::new(),
        text => text.to_owned() + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(screen: &mut Screen, now: TextScreen) -> String {
        let mut out = Vec::new();
        screen.draw_sized(now, (80, 25), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_changes_are_drawn() {
        let mut screen = Screen::new();
        assert!(drawn(&mut screen, message("hello")).contains("hello"));
        assert_eq!(drawn(&mut screen, message("hello")), "");
        let text = drawn(&mut screen, message("hullo"));
        assert!(text.contains('u') && !text.contains('h') && !text.contains("llo"), "{text:?}");
        screen.notice("news");
        assert!(drawn(&mut screen, message("hullo")).contains("news"));
    }

    #[test]
    fn a_small_terminal_crops() {
        let mut out = Vec::new();
        let mut screen = Screen::new();
        screen.draw_sized(message("hello"), (2, 1), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("he") && !text.contains("hel"));
    }

    #[test]
    fn colours_are_swapped() {
        assert_eq!(color(1), Color::AnsiValue(4));
        assert_eq!(color(4), Color::AnsiValue(1));
        assert_eq!(color(14), Color::AnsiValue(11));
    }

    #[test]
    fn plain_text_is_trimmed() {
        assert_eq!(plain_text(&message("a b")), "a b\n");
        assert_eq!(plain_text(&message("")), "");
    }
}
