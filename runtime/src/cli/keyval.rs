//! QEMU's option values: `key=value` lists, sizes, numbers, on/off.

use super::{CliError, suggest};

/// A parsed `a,key=value,…` list. `,,` stands for a comma in a value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeyVals {
    option: &'static str,
    pairs: Vec<(String, String)>,
}

impl KeyVals {
    /// Splits `text`. A first part without `=` becomes the value of `implied`; a later one means `on`.
    pub(super) fn parse(option: &'static str, implied: &str, text: &str) -> Self {
        let mut pairs = Vec::new();
        for (i, part) in split_commas(text).into_iter().enumerate() {
            match part.split_once('=') {
                Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
                None if i == 0 && !implied.is_empty() => pairs.push((implied.to_owned(), part)),
                None if part.is_empty() => {}
                None => pairs.push((part, "on".to_owned())),
            }
        }
        Self { option, pairs }
    }

    /// Takes the value of `key` out of the list; the last of several counts.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let found = self.pairs.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        self.pairs.retain(|(k, _)| k != key);
        found
    }

    /// Takes the first value of `key`, leaving further ones.
    pub(super) fn take_first(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(k, _)| k == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Takes a yes/no value.
    pub(super) fn take_bool(&mut self, key: &str) -> Result<Option<bool>, CliError> {
        let option = self.option;
        self.take(key).map(|v| parse_bool(option, key, &v)).transpose()
    }

    /// Takes a number, decimal or 0x hexadecimal.
    pub(super) fn take_number(&mut self, key: &str) -> Result<Option<u64>, CliError> {
        let option = self.option;
        self.take(key)
            .map(|v| {
                parse_number(&v)
                    .ok_or_else(|| CliError::usage(format!("{option}: {key}={v} is not a number")))
            })
            .transpose()
    }

    /// Refuses whatever has not been taken; `known` are the keys to suggest.
    pub(super) fn finish(self, known: &[&str]) -> Result<(), CliError> {
        let Some((key, value)) = self.pairs.first() else { return Ok(()) };
        let hint = match suggest::nearest(key, known.iter().copied()) {
            Some(near) if near != key => format!("did you mean {near}=?"),
            _ => format!("known: {}", known.join(" ")),
        };
        Err(CliError::usage(format!("{}: {key}={value} is not supported ({hint})", self.option)))
    }
}

fn split_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let doubled = c == ',' && chars.peek() == Some(&',');
        if c == ',' && !doubled {
            parts.push(String::new());
            continue;
        }
        if doubled {
            chars.next();
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn parse_bool(option: &str, key: &str, value: &str) -> Result<bool, CliError> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(CliError::usage(format!("{option}: {key}={value} must be on or off"))),
    }
}

/// A number: decimal, or hexadecimal after `0x`.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A size in bytes: a number with an optional suffix B, K, M, G or T; without one it counts MiB, as `-m` does.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (_, '0'..='9') => (text, 20),
        (i, suffix) => (
            &text[..i],
            match suffix.to_ascii_uppercase() {
                'B' => 0,
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return None,
            },
        ),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64", Some(64 << 20)),
            ("512K", Some(512 << 10)),
            ("2g", Some(2 << 30)),
            ("0", Some(0)),
            ("4096B", Some(4096)),
            ("", None),
            ("x", None),
            ("-1", None),
            ("1é", None),
            ("99999999999999T", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn lists() {
        let mut kv = KeyVals::parse("-drive", "", "file=a,,b.img,format=raw,snapshot,index=0x1");
        assert_eq!(kv.take("file").as_deref(), Some("a,b.img"));
        assert_eq!(kv.take("format").as_deref(), Some("raw"));
        assert_eq!(kv.take_bool("snapshot").unwrap(), Some(true));
        assert_eq!(kv.take_number("index").unwrap(), Some(1));
        assert!(kv.finish(&[]).is_ok());
    }

    #[test]
    fn leftovers_are_named() {
        let mut kv = KeyVals::parse("-drive", "", "file=a,formt=raw");
        kv.take("file");
        let Err(CliError::Usage(text)) = kv.finish(&["file", "format"]) else { panic!() };
        assert_eq!(text, "-drive: formt=raw is not supported (did you mean format=?)");
    }

    #[test]
    fn implied_first_key() {
        let mut kv = KeyVals::parse("-device", "driver", "isa-debug-exit,iobase=0x501");
        assert_eq!(kv.take("driver").as_deref(), Some("isa-debug-exit"));
        assert_eq!(kv.take_number("iobase").unwrap(), Some(0x501));
    }
}
