//! What is on the screen in a text mode.

use mem::Size;

use super::Vga;

/// One character cell: the code page 437 character and its attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TextCell {
    /// Character.
    pub ch: u8,
    /// Foreground in bits 0–3, background in 4–6, blink in 7.
    pub attr: u8,
}

/// A snapshot of a text screen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TextScreen {
    /// Columns.
    pub cols: usize,
    /// Rows.
    pub rows: usize,
    /// The cells, row by row.
    pub cells: Vec<TextCell>,
    /// Column and row of the cursor, unless it is hidden.
    pub cursor: Option<(usize, usize)>,
}

/// More rows than any text mode has.
const MAX_ROWS: usize = 100;

impl TextScreen {
    /// The characters of a row, printable ASCII only, without trailing blanks.
    pub fn line(&self, row: usize) -> String {
        let cells = self.cells.chunks(self.cols.max(1)).nth(row).unwrap_or(&[]);
        let text: String = cells
            .iter()
            .map(|cell| match cell.ch {
                ch @ 0x20..=0x7e => char::from(ch),
                _ => ' ',
            })
            .collect();
        text.trim_end().to_owned()
    }

    /// All rows as text, one per line.
    pub fn text(&self) -> String {
        (0..self.rows).map(|row| self.line(row) + "\n").collect()
    }
}

impl Vga {
    /// The text screen; `None` in graphics modes and before a mode is set.
    pub fn text_screen(&self) -> Option<TextScreen> {
        let c = &self.crtc;
        if self.is_graphics() || c[1] == 0 {
            return None;
        }
        self.put_back();
        let cols = usize::from(c[1]) + 1;
        let overflow = usize::from(c[7]);
        let last_line = usize::from(c[0x12]) | (overflow & 0x02) << 7 | (overflow & 0x40) << 3;
        let cell_height = usize::from(c[9] & 0x1f) + 1;
        let rows = ((last_line + 1) / cell_height).clamp(1, MAX_ROWS);
        let start = usize::from(c[0x0c]) << 8 | usize::from(c[0x0d]);
        let pitch = usize::from(c[0x13]) * 2;
        let mut cells = Vec::with_capacity(cols * rows);
        for row in 0..rows {
            cells.extend((0..cols).map(|col| self.cell(start + row * pitch + col)));
        }
        let cursor = self.cursor(start, pitch, cols, rows);
        Some(TextScreen { cols, rows, cells, cursor })
    }

    /// The cell at an address of the CRTC: character in plane 0, attribute in plane 1.
    fn cell(&self, address: usize) -> TextCell {
        let word = self.vram.read((address as u64 & 0xffff) << 2, Size::B2);
        let [ch, attr] = (word as u16).to_le_bytes();
        TextCell { ch, attr }
    }

    fn cursor(
        &self,
        start: usize,
        pitch: usize,
        cols: usize,
        rows: usize,
    ) -> Option<(usize, usize)> {
        let c = &self.crtc;
        let at = usize::from(c[0x0e]) << 8 | usize::from(c[0x0f]);
        let hidden = c[0x0a] & 0x20 != 0 || c[0x0a] & 0x1f > c[0x0b] & 0x1f;
        let relative = at.checked_sub(start).filter(|_| !hidden && pitch > 0)?;
        let (col, row) = (relative % pitch, relative / pitch);
        (col < cols && row < rows).then_some((col, row))
    }
}
