//! Commands that are the user's hands and eyes: keys, mouse, the text screen.

use super::Call;

type Answer = Result<String, String>;

/// Most keys pressed together.
const KEYS_MAX: usize = 16;

/// QEMU's key names with the set 1 make code, 0xE000 added for extended keys.
const NAMED: &[(&str, u16)] = &[
    ("shift", 0x2a),
    ("shift_r", 0x36),
    ("alt", 0x38),
    ("alt_r", 0xe038),
    ("ctrl", 0x1d),
    ("ctrl_r", 0xe01d),
    ("meta_l", 0xe05b),
    ("meta_r", 0xe05c),
    ("menu", 0xe05d),
    ("esc", 0x01),
    ("minus", 0x0c),
    ("equal", 0x0d),
    ("backspace", 0x0e),
    ("tab", 0x0f),
    ("bracket_left", 0x1a),
    ("bracket_right", 0x1b),
    ("ret", 0x1c),
    ("semicolon", 0x27),
    ("apostrophe", 0x28),
    ("grave_accent", 0x29),
    ("backslash", 0x2b),
    ("comma", 0x33),
    ("dot", 0x34),
    ("slash", 0x35),
    ("asterisk", 0x37),
    ("spc", 0x39),
    ("caps_lock", 0x3a),
    ("num_lock", 0x45),
    ("scroll_lock", 0x46),
    ("less", 0x56),
    ("kp_divide", 0xe035),
    ("kp_multiply", 0x37),
    ("kp_subtract", 0x4a),
    ("kp_add", 0x4e),
    ("kp_enter", 0xe01c),
    ("kp_decimal", 0x53),
    ("print", 0xe037),
    ("home", 0xe047),
    ("pgup", 0xe049),
    ("pgdn", 0xe051),
    ("end", 0xe04f),
    ("left", 0xe04b),
    ("up", 0xe048),
    ("down", 0xe050),
    ("right", 0xe04d),
    ("insert", 0xe052),
    ("delete", 0xe053),
];

/// Rows of letters and digits: first make code, keys in order.
const ROWS: [(u16, &str); 4] =
    [(0x02, "1234567890"), (0x10, "qwertyuiop"), (0x1e, "asdfghjkl"), (0x2c, "zxcvbnm")];
/// Make codes of the digits 0 to 9 of the keypad.
const KEYPAD: [u16; 10] = [0x52, 0x4f, 0x50, 0x51, 0x4b, 0x4c, 0x4d, 0x47, 0x48, 0x49];

/// The make code of a key's name.
fn code(name: &str) -> Option<u16> {
    if let Some(&(_, code)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Some(code);
    }
    if let Some(n) = name.strip_prefix("kp_") {
        return KEYPAD.get(n.parse::<usize>().ok()?).copied();
    }
    if let Some(hex) = name.strip_prefix("0x") {
        let code = u16::from_str_radix(hex, 16).ok().filter(|&code| code > 0 && code < 0x100)?;
        return Some(if code & 0x80 == 0 { code } else { 0xe000 | code & 0x7f });
    }
    let mut chars = name.chars();
    match (chars.next()?, chars.as_str()) {
        (c, "") => ROWS.iter().find_map(|(first, row)| Some(first + row.find(c)? as u16)),
        ('f', n) => match n.parse::<u16>().ok()? {
            n @ 1..=10 => Some(0x3a + n),
            n @ 11..=12 => Some(0x57 + n - 11),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn sendkey(call: &mut Call<'_>) -> Answer {
    let list = call.list()?;
    let (keys, hold) = match list.as_slice() {
        [keys] => (keys, "100"),
        [keys, hold] => (keys, hold.as_str()),
        _ => return Err(call.usage()),
    };
    let hold: u64 = hold.parse().map_err(|_| format!("{hold} is no number of milliseconds"))?;
    let codes = keys.split('-').map(|name| code(name).ok_or(name));
    let codes: Vec<u16> =
        codes.collect::<Result<_, _>>().map_err(|name| format!("unknown key: '{name}'"))?;
    if codes.len() > KEYS_MAX {
        return Err(format!("more than {KEYS_MAX} keys"));
    }
    call.machine.press_keys(&codes, hold.min(10_000));
    Ok(String::new())
}

pub(super) fn mouse_move(call: &mut Call<'_>) -> Answer {
    let list = call.list()?;
    if !(2..=3).contains(&list.len()) {
        return Err(call.usage());
    }
    let numbers: Result<Vec<i16>, _> = list.iter().map(|word| word.parse::<i16>()).collect();
    let numbers = numbers.map_err(|_| "the mouse moves by -32768 to 32767".to_owned())?;
    let wheel = numbers.get(2).copied().unwrap_or(0).clamp(-8, 7) as i8; // what a packet can say
    // On screens y grows downwards, the mouse's y grows upwards.
    call.machine.move_mouse(numbers[0], numbers[1].saturating_neg(), wheel);
    Ok(String::new())
}

pub(super) fn mouse_button(call: &mut Call<'_>) -> Answer {
    let [state] = call.exactly()?;
    let state = call.value(&state)?;
    // The command's bits are left, middle, right; the chip's left, right, middle.
    let bits = (state & 1 | state >> 1 & 2 | state << 1 & 4) as u8;
    call.machine.set_mouse_buttons(bits);
    Ok(String::new())
}

pub(super) fn screen(call: &mut Call<'_>) -> Answer {
    match call.machine.board().text_screen() {
        Some(screen) => Ok(crate::console::plain_text(&screen)),
        None if call.machine.board().vga().is_none() => Err("there is no VGA card".to_owned()),
        None => Err("the guest shows graphics: screendump FILE.png".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn key_names() {
        for (name, expect) in [
            ("a", Some(0x1e)),
            ("m", Some(0x32)),
            ("1", Some(0x02)),
            ("0", Some(0x0b)),
            ("f1", Some(0x3b)),
            ("f12", Some(0x58)),
            ("f13", None),
            ("kp_0", Some(0x52)),
            ("kp_10", None),
            ("delete", Some(0xe053)),
            ("0x1c", Some(0x1c)),
            ("0xcb", Some(0xe04b)),
            ("0x0", None),
            ("", None),
            ("\u{e9}", None),
        ] {
            assert_eq!(code(name), expect, "{name}");
        }
    }
}
