//! INCRBYFLOAT's arithmetic. Redis adds in 80-bit floats and prints 17 decimals without trailing
//! zeroes. Decimal addition gives the same for every number with at most 17 decimals that fits;
//! others are added as 64-bit floats and may differ from Redis in the last digits.

const DECIMALS: u32 = 17;

/// The sum, as Redis prints it; `None` when either is no number, `Some(None)` when the sum is not
/// finite.
pub(super) fn add(a: &[u8], b: &[u8]) -> Option<Option<String>> {
    let (a, b) = (std::str::from_utf8(a).ok()?, std::str::from_utf8(b).ok()?);
    let (x, y) = (float(a)?, float(b)?);
    if let (Some(x), Some(y)) = (scaled(a), scaled(b))
        && let Some(sum) = x.checked_add(y)
    {
        return Some(Some(print_scaled(sum)));
    }
    let sum = x + y;
    Some(sum.is_finite().then(|| sum.to_string()))
}

fn float(text: &str) -> Option<f64> {
    if text.starts_with(char::is_whitespace) || text.is_empty() {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

/// The number times 10^17, if that is a whole number that fits.
fn scaled(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() > 36 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let value: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let shift = DECIMALS as i32 + exponent - i32::try_from(fraction.len()).ok()?;
    let value = if shift >= 0 {
        value.checked_mul(10_i128.checked_pow(shift as u32)?)?
    } else {
        let divisor = 10_i128.checked_pow(shift.unsigned_abs())?;
        if value % divisor != 0 {
            return None;
        }
        value / divisor
    };
    Some(if negative { -value } else { value })
}

fn print_scaled(value: i128) -> String {
    let unit = 10_i128.pow(DECIMALS);
    let (whole, fraction) = (value / unit, (value % unit).unsigned_abs());
    let sign = if value < 0 && whole == 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{fraction:017}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::add;

    #[test]
    fn sums_as_redis_prints_them() {
        let cases = [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-5", "-2"),
            ("-0.5", "0.25", "-0.25"),
            ("0", "0", "0"),
        ];
        for (a, b, sum) in cases {
            assert_eq!(
                add(a.as_bytes(), b.as_bytes()),
                Some(Some(sum.into())),
                "{a} + {b}"
            );
        }
        assert_eq!(add(b"1e308", b"1e309"), Some(None));
        assert_eq!(add(b"abc", b"1"), None);
        assert_eq!(add(b" 1", b"1"), None);
    }
}
