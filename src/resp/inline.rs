//! Splitting an inline command into arguments, with the quoting rules of Redis.
//!
//! Inline commands are what a person types into `nc`, so quotes and escapes are understood:
//! `"…"` with `\n \r \t \b \a \xHH` and `\` before any other byte, `'…'` with `\'` only. A closing
//! quote must be followed by white space or the end of the line.

use bytes::Bytes;

/// The arguments of `line` (without its line end), or `None` where quotes do not balance. A NUL
/// byte ends the line, as it does in Redis.
pub fn split_args(line: &[u8]) -> Option<Vec<Bytes>> {
    let end = memchr::memchr(0, line).unwrap_or(line.len());
    let mut rest = line.get(..end)?;
    let mut args = Vec::new();
    loop {
        while let Some((first, tail)) = rest.split_first()
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(args);
        }
        let mut arg = Vec::new();
        rest = take_arg(rest, &mut arg)?;
        args.push(Bytes::from(arg));
    }
}

/// Moves one argument from the head of `rest` into `arg`; the bytes behind it, or `None` where a
/// quote is not closed properly.
fn take_arg<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    while let Some((first, tail)) = rest.split_first() {
        match first {
            b' ' | b'\n' | b'\r' | b'\t' => return Some(tail),
            b'"' => return closed(take_double_quoted(tail, arg)?),
            b'\'' => return closed(take_single_quoted(tail, arg)?),
            byte => arg.push(*byte),
        }
        rest = tail;
    }
    Some(rest)
}

fn closed(rest: &[u8]) -> Option<&[u8]> {
    rest.first()
        .is_none_or(|next| is_space(*next))
        .then_some(rest)
}

fn take_double_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                arg.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    byte => *byte,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                arg.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => {
                arg.push(b'\'');
                rest = tail;
            }
            [byte, tail @ ..] => {
                arg.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit
            .to_ascii_uppercase()
            .wrapping_sub(b'A')
            .wrapping_add(10),
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<Vec<u8>>> {
        Some(
            split_args(line.as_bytes())?
                .iter()
                .map(|arg| arg.to_vec())
                .collect(),
        )
    }

    #[test]
    fn quotes_and_escapes_follow_redis() {
        let args = |list: &[&[u8]]| Some(list.iter().map(|arg| arg.to_vec()).collect::<Vec<_>>());
        assert_eq!(split("  set k  v "), args(&[b"set", b"k", b"v"]));
        assert_eq!(
            split(r#"a "b c" 'd\'e' "x\x41\n\q""#),
            args(&[b"a", b"b c", b"d'e", b"xA\nq"])
        );
        assert_eq!(split(r#"a"b c""#), args(&[b"ab c"]));
        assert_eq!(split(r#""""#), args(&[b""]));
        assert_eq!(split("get a\0b"), args(&[b"get", b"a"]));
        assert_eq!(split(""), args(&[]));
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#""abc"#, "'abc", r#""a"b"#, "'a'b", r#""a\"#] {
            assert_eq!(split(line), None, "{line}");
        }
    }
}
