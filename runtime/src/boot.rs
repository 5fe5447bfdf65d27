//! What is booted without a disk's boot sector: kernels; and dates of the command line.

mod bzimage;
mod elf;
pub mod kernel;
mod multiboot;
pub mod plan;
mod pvh;
pub mod rom;

/// Seconds since 1970 of `2026-01-31T12:34:56` or `2026-01-31`, UTC.
pub fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last_day = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=last_day).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970-01-01, counting years from March so that the leap day is the last day of a year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Seconds east of UTC of the host's time zone, from the second transition table of `/etc/localtime` (RFC 8536); 0
/// if it cannot be told.
pub fn utc_offset(now: i64) -> i64 {
    std::fs::read("/etc/localtime").ok().and_then(|zone| zone_offset(&zone, now)).unwrap_or(0)
}

fn zone_offset(zone: &[u8], now: i64) -> Option<i64> {
    let word = |at: usize| Some(i32::from_be_bytes(zone.get(at..at + 4)?.try_into().ok()?));
    let count = |header: usize, n: usize| usize::try_from(word(header + 20 + 4 * n)?).ok();
    if !zone.starts_with(b"TZif") {
        return None;
    }
    // Header: six counts (UT indicators, standard indicators, leap seconds, transitions, types, characters).
    let (leaps, times, types) = (count(0, 2)?, count(0, 3)?, count(0, 4)?);
    let first_len = times * 5 + types * 6 + count(0, 5)? + leaps * 8 + count(0, 1)? + count(0, 0)?;
    let second = 44 + first_len;
    let (times, types) = (count(second, 3)?, count(second, 4)?);
    let (at, kinds) = (second + 44, second + 44 + times * 8);
    let when =
        |n: usize| Some(i64::from_be_bytes(zone.get(at + n * 8..at + n * 8 + 8)?.try_into().ok()?));
    let past = (0..times).take_while(|&n| when(n).is_some_and(|t| t <= now)).count();
    let kind = past.checked_sub(1).map_or(Some(0), |n| zone.get(kinds + n).copied())?;
    if usize::from(kind) >= types {
        return None;
    }
    word(kinds + times + usize::from(kind) * 6).map(i64::from)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let parts: Vec<u16> =
        text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [a, b, c] = parts[..] else { return None };
    Some([a.into(), b.into(), c.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29T00:00:01", Some(951_782_401)),
            ("2025-11-22T15:04:05", Some(1_763_823_845)),
            ("1900-01-01", None),
            ("2025-02-29", None),
            ("2025-13-01", None),
            ("2025-01-01T24:00:00", None),
            ("utc", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text), seconds, "{text}");
        }
    }
}
