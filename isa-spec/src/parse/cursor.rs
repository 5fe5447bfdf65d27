//! A cursor over tokens with places, for the parts of the language that are not Rust expressions.

use crate::error::Diag;
use crate::model::Pos;
use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// Tokens of a file or group and a position in them.
pub(crate) struct Cursor {
    tokens: Vec<TokenTree>,
    at: usize,
    file: u16,
    end: Pos,
}

/// Turns a span of file number `file` into a place.
pub(crate) fn pos_of(file: u16, span: Span) -> Pos {
    let start = span.start();
    Pos { file, line: start.line as u32, column: start.column as u32 + 1 }
}

impl Cursor {
    /// A cursor at the start of `stream`; `end` is shown when tokens run out.
    pub(crate) fn new(file: u16, stream: TokenStream, end: Pos) -> Cursor {
        Cursor { tokens: stream.into_iter().collect(), at: 0, file, end }
    }

    /// A cursor over the inside of a group.
    pub(crate) fn group(file: u16, group: &Group) -> Cursor {
        Cursor::new(file, group.stream(), pos_of(file, group.span_close()))
    }

    /// File number of the tokens.
    pub(crate) fn file(&self) -> u16 {
        self.file
    }

    /// Nothing left?
    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The next token.
    pub(crate) fn peek(&self) -> Option<&TokenTree> {
        self.tokens.get(self.at)
    }

    /// Place of the next token, or of the end.
    pub(crate) fn pos(&self) -> Pos {
        self.peek().map_or(self.end, |t| pos_of(self.file, t.span()))
    }

    /// Takes the next token.
    pub(crate) fn next(&mut self) -> Option<TokenTree> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    /// An error at the next token: "expected X, found Y".
    pub(crate) fn expected(&self, what: &str) -> Diag {
        let found = match self.peek() {
            None => "the end".to_string(),
            Some(TokenTree::Group(g)) => match g.delimiter() {
                Delimiter::Brace => "`{`".to_string(),
                Delimiter::Parenthesis => "`(`".to_string(),
                Delimiter::Bracket => "`[`".to_string(),
                Delimiter::None => "a group".to_string(),
            },
            Some(t) => format!("`{t}`"),
        };
        Diag::new(self.pos(), format!("expected {what}, found {found}"))
    }

    /// Is the next token this punctuation character?
    pub(crate) fn at_punct(&self, c: char) -> bool {
        matches!(self.peek(), Some(TokenTree::Punct(p)) if p.as_char() == c)
    }

    /// Takes this punctuation if it is next.
    pub(crate) fn eat_punct(&mut self, c: char) -> bool {
        let is = self.at_punct(c);
        self.at += usize::from(is);
        is
    }

    /// Takes a sequence of punctuation characters such as `=>`.
    pub(crate) fn expect_puncts(&mut self, text: &str) -> Result<(), Diag> {
        for c in text.chars() {
            if !self.eat_punct(c) {
                return Err(self.expected(&format!("`{text}`")));
            }
        }
        Ok(())
    }

    /// Is the next token this word?
    pub(crate) fn at_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(TokenTree::Ident(i)) if i == word)
    }

    /// The next token as a word, without taking it.
    pub(crate) fn peek_word(&self) -> Option<String> {
        match self.peek() {
            Some(TokenTree::Ident(i)) => Some(i.to_string()),
            _ => None,
        }
    }

    /// Takes a word.
    pub(crate) fn word(&mut self, what: &str) -> Result<(String, Pos), Diag> {
        let pos = self.pos();
        match self.peek() {
            Some(TokenTree::Ident(i)) => {
                let word = i.to_string();
                self.at += 1;
                Ok((word, pos))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Takes a string literal.
    pub(crate) fn string(&mut self, what: &str) -> Result<(String, Pos), Diag> {
        let pos = self.pos();
        if let Some(TokenTree::Literal(l)) = self.peek()
            && let syn::Lit::Str(s) = syn::Lit::new(l.clone())
        {
            let value = s.value();
            self.at += 1;
            return Ok((value, pos));
        }
        Err(self.expected(what))
    }

    /// Takes an integer literal.
    pub(crate) fn int(&mut self, what: &str) -> Result<u64, Diag> {
        if let Some(TokenTree::Literal(l)) = self.peek()
            && let syn::Lit::Int(i) = syn::Lit::new(l.clone())
        {
            let value = i.base10_parse::<u64>();
            let value = value.map_err(|e| Diag::new(self.pos(), e.to_string()))?;
            self.at += 1;
            return Ok(value);
        }
        Err(self.expected(what))
    }

    /// Takes a group with this delimiter if it is next.
    pub(crate) fn eat_group(&mut self, delimiter: Delimiter) -> Option<Group> {
        match self.peek() {
            Some(TokenTree::Group(g)) if g.delimiter() == delimiter => {
                let group = g.clone();
                self.at += 1;
                Some(group)
            }
            _ => None,
        }
    }

    /// Takes a group and gives a cursor over its inside.
    pub(crate) fn expect_group(
        &mut self,
        delimiter: Delimiter,
        what: &str,
    ) -> Result<Cursor, Diag> {
        let file = self.file;
        match self.eat_group(delimiter) {
            Some(g) => Ok(Cursor::group(file, &g)),
            None => Err(self.expected(what)),
        }
    }

    /// Demands that nothing is left.
    pub(crate) fn expect_end(&self, what: &str) -> Result<(), Diag> {
        if self.is_empty() { Ok(()) } else { Err(self.expected(what)) }
    }
}
