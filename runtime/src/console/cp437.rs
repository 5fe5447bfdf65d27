//! Code page 437, the characters of a PC's text screen, as Unicode.

/// 00h to 1Fh as the character generator draws them.
const LOW: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
/// 80h to FFh.
const HIGH: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";

/// The Unicode character that looks like the screen's.
pub fn to_unicode(byte: u8) -> char {
    let n = usize::from(byte);
    let found = match byte {
        0x20..=0x7e => Some(char::from(byte)),
        0x7f => Some('\u{2302}'),
        0..=0x1f => LOW.chars().nth(n),
        0x80.. => HIGH.chars().nth(n - 0x80),
    };
    found.unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_whole() {
        assert_eq!((LOW.chars().count(), HIGH.chars().count()), (32, 128));
        for (byte, c) in [(b'A', 'A'), (0xb3, '│'), (0xdb, '█'), (0xc9, '╔'), (0xff, ' '), (3, '♥')]
        {
            assert_eq!(to_unicode(byte), c);
        }
        assert!((0..=255).map(to_unicode).all(|c| !c.is_control()));
    }
}
