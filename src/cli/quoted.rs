//! Keys and values as a person reads and types them: in quotes, with what is not printable escaped,
//! as redis-cli does it. What is printed can be typed back.

pub(super) use crate::resp::quote;

/// Bytes of a value that a line of text shows.
const SHOWN_BYTES: usize = 64;

/// The first bytes of a value in quotes, and how many there are where that is not all.
pub(super) fn quote_start(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN_BYTES) {
        Some(start) if start.len() < bytes.len() => {
            format!("{}… ({} bytes)", quote(start), bytes.len())
        }
        _ => quote(bytes),
    }
}

/// What a person typed: text in quotes with its escapes undone, any other text as it stands.
///
/// # Errors
/// A quote or an escape that does not end, or that means nothing.
pub(super) fn unquote(text: &[u8]) -> Result<Vec<u8>, String> {
    let Some(inner) = text.strip_prefix(b"\"") else {
        return Ok(text.to_vec());
    };
    let (mut out, mut rest) = (Vec::with_capacity(inner.len()), inner);
    loop {
        rest = match rest {
            [] => return Err("the quote does not end".to_owned()),
            [b'"'] => return Ok(out),
            [b'"', ..] => return Err("something stands behind the closing quote".to_owned()),
            [b'\\', b'x', high, low, rest @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                    return Err("\\x wants two hexadecimal digits".to_owned());
                };
                out.push((high * 16 + low) as u8);
                rest
            }
            [b'\\', escape, rest @ ..] => {
                out.push(match escape {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b'\\' | b'"' | b'\'' => *escape,
                    other => {
                        let other = other.escape_ascii();
                        return Err(format!("\\{other} means nothing; a backslash is \\\\"));
                    }
                });
                rest
            }
            [b'\\'] => return Err("the quote does not end".to_owned()),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped_as_redis_does_it() {
        assert_eq!(quote(b"key:1"), "\"key:1\"");
        assert_eq!(
            quote(b"a\x00b\\\"\n\r\t\x07\x08'\x7f\xff"),
            r#""a\x00b\\\"\n\r\t\a\b'\x7f\xff""#
        );
        assert_eq!(quote_start(&[b'v'; 64]), quote(&[b'v'; 64]));
        let long = quote_start(&[b'v'; 65]);
        assert!(long.ends_with("v\"… (65 bytes)"), "{long}");
    }

    #[test]
    fn text_without_quotes_stands_for_itself() {
        assert_eq!(unquote(br"a\x00b"), Ok(br"a\x00b".to_vec()));
        assert_eq!(unquote(b""), Ok(Vec::new()));
        assert_eq!(unquote(b"\"\""), Ok(Vec::new()));
        assert_eq!(unquote(br#""a\x00b""#), Ok(b"a\0b".to_vec()));
    }

    #[test]
    fn wrong_quotes_are_errors() {
        for wrong in [
            r#"""#,
            r#""a"#,
            r#""a\"#,
            r#""a\""#,
            r#""a"b"#,
            r#""\x0""#,
            r#""\xzz""#,
            r#""\q""#,
        ] {
            assert!(unquote(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_typed_back(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(unquote(quote(&bytes).as_bytes()), Ok(bytes));
        }
    }
}
