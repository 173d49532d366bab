//! Glob patterns as Redis matches them, without its recursion.
//!
//! `*` any bytes, `?` any byte, `[a-z]` and `[^a-z]` classes, `\` takes the next byte as it is.
//! Each element but `*` matches exactly one byte, so it is enough to go back to the last `*`: the
//! time is at most the product of both lengths, where recursion took exponential time.

/// Whether `text` matches `pattern`; `ignore_case` folds ASCII letters.
pub fn glob_matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        // Redis tests the pattern "*" by itself and gives no other pattern to an empty string.
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut pattern_at, mut text_at) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(text_at) {
        let rest = pattern.get(pattern_at..).unwrap_or_default();
        if rest.first() == Some(&b'*') {
            pattern_at += 1;
            last_star = Some((pattern_at, text_at));
            continue;
        }
        if let Some(length) = match_one(rest, byte, ignore_case) {
            pattern_at += length;
            text_at += 1;
            continue;
        }
        let Some((after_star, from)) = last_star else {
            return false;
        };
        if after_star == pattern.len() {
            return true;
        }
        last_star = Some((after_star, from + 1));
        pattern_at = after_star;
        text_at = from + 1;
    }
    let rest = pattern.get(pattern_at..).unwrap_or_default();
    rest.iter().all(|byte| *byte == b'*')
}

/// The length of the pattern element at the head of `pattern` if it matches `byte`.
fn match_one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => {
            let (matches, length) = match_class(pattern, byte, ignore_case);
            matches.then_some(length)
        }
        [b'\\', escaped, ..] => same(*escaped, byte, ignore_case).then_some(2),
        [literal, ..] => same(*literal, byte, ignore_case).then_some(1),
    }
}

fn same(left: u8, right: u8, ignore_case: bool) -> bool {
    left == right || ignore_case && left.eq_ignore_ascii_case(&right)
}

/// Whether the class at the head of `pattern` has `byte`, and how long it is. A class that never
/// closes ends with the pattern. Ranges compare signed, as C's `char` does on the usual machines.
fn match_class(pattern: &[u8], byte: u8, ignore_case: bool) -> (bool, usize) {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let fold = |byte: u8| {
        (if ignore_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        }) as i8
    };
    let mut matches = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            [] => break,
            [b'\\', escaped, ..] => {
                matches |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [start, b'-', end, ..] => {
                let (low, high) = (*start.min(end), *start.max(end));
                let (low, high) = if (low as i8) <= (high as i8) {
                    (low, high)
                } else {
                    (high, low)
                };
                matches |= (fold(low)..=fold(high)).contains(&fold(byte));
                at += 3;
            }
            [member, ..] => {
                matches |= same(*member, byte, ignore_case);
                at += 1;
            }
        }
    }
    (matches != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[abc", "c", true),
            ("[\\]]", "]", true),
            ("a*b*c", "aXbXXbc", true),
            ("a*b*c", "aXbXXb", false),
            ("**a**", "xxaxx", true),
            ("a\\", "a\\", true),
            ("key:*", "key:1", true),
        ] {
            assert_eq!(
                glob_matches(pattern.as_bytes(), text.as_bytes(), false),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(glob_matches(b"MAX*", b"maxmemory", true));
        assert!(glob_matches(b"[A-C]x", b"bX", true));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(50);
        let text = [b'a'; 5000];
        assert!(glob_matches(&pattern, &text, false));
        assert!(!glob_matches(&[&pattern[..], b"b"].concat(), &text, false));
    }
}
