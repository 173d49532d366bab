//! The 80-bit floating point numbers of INCRBYFLOAT, in software.
//!
//! Redis adds in C's `long double` and prints with `%.17Lf`. On x86-64 that is the 80-bit extended
//! format: 64 bits of mantissa, results rounded to even. `f64` has 11 bits fewer and gives visibly
//! other digits, so this file does the same arithmetic with integers, which also makes it the same
//! on every machine. (Redis on a machine with another `long double` differs from Redis on x86-64
//! in the last digits, too.) Numbers smaller than 2^-16382 are kept more exactly than in hardware;
//! 17 decimals never show it.

use std::cmp::Ordering;

/// Longest text accepted, in bytes (Redis: `MAX_LONG_DOUBLE_CHARS`, less its NUL).
const MAX_TEXT_BYTES: usize = 5 * 1024 - 1;

/// First binary exponent of the leading bit that is too large, and last that is not too small.
const TOO_LARGE: i32 = 16384;
const SMALLEST: i32 = -16446;

/// Decimal places of the output.
const PLACES: u32 = 17;

/// `±mantissa * 2^exponent`, the mantissa's highest bit set unless the number is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i32,
    infinite: bool,
}

impl LongDouble {
    /// Reads what C's `strtold` reads, as far as Redis lets it through: decimal or hexadecimal
    /// floating point or infinity, nothing around it, not NaN, not beyond the range.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        let number = match digits {
            [b'0', b'x' | b'X', digits @ ..] => parse_hexadecimal(digits)?,
            _ if digits.eq_ignore_ascii_case(b"inf") => INFINITY,
            _ if digits.eq_ignore_ascii_case(b"infinity") => INFINITY,
            _ => parse_decimal(digits)?,
        };
        Some(LongDouble { negative, ..number })
    }

    /// The sum rounded to 64 bits, or none where it is infinite or no number.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        if self.infinite || other.infinite {
            return None;
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let (high, low) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        let shift = high.exponent.abs_diff(low.exponent);
        let high_bits = u128::from(high.mantissa) << 62;
        let whole = u128::from(low.mantissa) << 62;
        let low_bits = whole.checked_shr(shift).unwrap_or(0);
        let cut = low_bits.checked_shl(shift) != Some(whole);
        let exponent = high.exponent - 62;
        let (negative, bits) = if high.negative == low.negative {
            (high.negative, high_bits + low_bits)
        } else if high_bits >= low_bits {
            (high.negative, high_bits - low_bits - u128::from(cut))
        } else {
            (low.negative, low_bits - high_bits)
        };
        if bits == 0 {
            return Some(ZERO);
        }
        let sum = rounded(bits, cut, exponent);
        (!sum.is_too_large()).then_some(LongDouble { negative, ..sum })
    }

    /// The number with 17 decimal places, rounded to even, trailing zeros cut off.
    pub fn to_text(self) -> String {
        let (whole, fraction) = self.whole_and_fraction();
        let mut text = String::new();
        if self.negative && (whole != "0" || fraction > 0) {
            text.push('-');
        }
        text.push_str(&whole);
        if fraction > 0 {
            let places = format!(".{fraction:017}");
            text.push_str(places.trim_end_matches('0'));
        }
        text
    }

    /// The decimal digits before the point, and those behind it as a number below 10^17.
    fn whole_and_fraction(self) -> (String, u64) {
        let Ok(shift) = u32::try_from(-i64::from(self.exponent)) else {
            let mut whole = Big::from(self.mantissa);
            whole.shift_left(self.exponent.unsigned_abs());
            return (whole.to_decimal(), 0);
        };
        let whole = self.mantissa.checked_shr(shift).unwrap_or(0);
        let behind = self.mantissa - whole.checked_shl(shift).unwrap_or(0);
        let scaled = u128::from(behind) * 10u128.pow(PLACES);
        let mut fraction = scaled.checked_shr(shift).unwrap_or(0);
        let remainder = scaled - fraction.checked_shl(shift).unwrap_or(0);
        // `scaled` has fewer than 121 bits: from 127 places on, it is less than half of one unit.
        let half = if (1..127).contains(&shift) {
            1u128 << (shift - 1)
        } else {
            u128::MAX
        };
        match remainder.cmp(&half) {
            Ordering::Greater => fraction += 1,
            Ordering::Equal => fraction += fraction & 1,
            Ordering::Less => {}
        }
        if fraction == 10u128.pow(PLACES) {
            return ((whole + 1).to_string(), 0);
        }
        (whole.to_string(), u64::try_from(fraction).unwrap_or(0))
    }

    /// The binary exponent of the leading bit.
    fn leading_exponent(self) -> i32 {
        self.exponent.saturating_add(63)
    }

    fn is_too_large(self) -> bool {
        self.mantissa != 0 && self.leading_exponent() >= TOO_LARGE
    }
}

const ZERO: LongDouble = LongDouble {
    negative: false,
    mantissa: 0,
    exponent: 0,
    infinite: false,
};
const INFINITY: LongDouble = LongDouble {
    negative: false,
    mantissa: 0,
    exponent: 0,
    infinite: true,
};

/// `bits * 2^exponent`, plus something below one bit when `cut`, rounded to even at 64 bits.
/// `bits` is not zero, and has at least 66 bits where `cut`.
fn rounded(bits: u128, cut: bool, exponent: i32) -> LongDouble {
    let length = 128 - bits.leading_zeros();
    let Some(excess) = length.checked_sub(64).filter(|excess| *excess > 0) else {
        let shift = 64 - length;
        let mantissa = (bits << shift) as u64;
        let exponent = exponent - shift as i32;
        return LongDouble {
            mantissa,
            exponent,
            ..ZERO
        };
    };
    let kept = (bits >> excess) as u64;
    let remainder = bits & ((1 << excess) - 1);
    let half = 1u128 << (excess - 1);
    let up = remainder > half || remainder == half && (cut || kept & 1 == 1);
    let exponent = exponent + excess as i32;
    match kept.checked_add(u64::from(up)) {
        Some(mantissa) => LongDouble {
            mantissa,
            exponent,
            ..ZERO
        },
        None => LongDouble {
            mantissa: 1 << 63,
            exponent: exponent + 1,
            ..ZERO
        },
    }
}

/// The quotient rounded to 64 bits, or none where `strtold` reports it out of range.
fn divide(mut numerator: Big, mut denominator: Big, exponent: i32) -> Option<LongDouble> {
    if numerator.bits() == 0 {
        return Some(ZERO);
    }
    let shift = i64::from(denominator.bits()) + 66 - i64::from(numerator.bits());
    match u32::try_from(shift) {
        Ok(shift) => numerator.shift_left(shift),
        Err(_) => denominator.shift_left(shift.unsigned_abs() as u32),
    }
    denominator.shift_left(66);
    let mut quotient: u128 = 0;
    for _ in 0..=66 {
        quotient <<= 1;
        if numerator.compare(&denominator) != Ordering::Less {
            numerator.subtract(&denominator);
            quotient |= 1;
        }
        denominator.halve();
    }
    let exponent = i32::try_from(i64::from(exponent) - shift).ok()?;
    let number = rounded(quotient, numerator.bits() > 0, exponent);
    (!number.is_too_large() && number.leading_exponent() >= SMALLEST).then_some(number)
}

fn parse_decimal(text: &[u8]) -> Option<LongDouble> {
    let scanned = scan(text, 10, b'e')?;
    let Scanned {
        digits,
        mut exponent,
    } = scanned;
    // 4,951 decimal digits span the whole range. What lies far outside is decided by counting, so
    // that nobody can make us compute 10^1000000000.
    let magnitude = exponent.saturating_add(i64::from(digits.bits()) * 30103 / 100_000);
    if digits.bits() > 0 && !(-5000..5000).contains(&magnitude) {
        return None;
    }
    if digits.bits() == 0 {
        exponent = 0;
    }
    let mut power = Big::from(1);
    (0..exponent.unsigned_abs()).for_each(|_| power.multiply_add(10, 0));
    if exponent >= 0 {
        divide(digits.times(&power), Big::from(1), 0)
    } else {
        divide(digits, power, 0)
    }
}

fn parse_hexadecimal(text: &[u8]) -> Option<LongDouble> {
    let scanned = scan(text, 16, b'p')?;
    if scanned.digits.bits() == 0 {
        return Some(ZERO);
    }
    let exponent = i32::try_from(scanned.exponent.clamp(-1_000_000, 1_000_000)).ok()?;
    divide(scanned.digits, Big::from(1), exponent)
}

/// Digits without their point, and the exponent (of ten, or of two) that makes up for it.
struct Scanned {
    digits: Big,
    exponent: i64,
}

fn scan(text: &[u8], base: u32, exponent_mark: u8) -> Option<Scanned> {
    let places_per_digit = if base == 16 { 4 } else { 1 };
    let mut digits = Big::from(0);
    let (mut any, mut point, mut exponent) = (false, false, 0i64);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if let Some(digit) = (byte as char).to_digit(base) {
            digits.multiply_add(base, digit);
            any = true;
            exponent -= if point { places_per_digit } else { 0 };
        } else if byte == b'.' && !point {
            point = true;
        } else {
            break;
        }
        at += 1;
    }
    let explicit = match text.get(at..)? {
        [] => 0,
        [mark, tail @ ..] if mark.to_ascii_lowercase() == exponent_mark => scan_exponent(tail)?,
        _ => return None,
    };
    any.then_some(Scanned {
        digits,
        exponent: exponent.saturating_add(explicit),
    })
}

fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fold = |sum: i64, digit: &u8| (sum * 10 + i64::from(digit - b'0')).min(1_000_000_000);
    Some(sign * digits.iter().fold(0, fold))
}

/// A natural number of any size: 32-bit digits, lowest first, no zeros on top. Sizes here stay
/// below 60,000 bits.
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(number: u64) -> Self {
        let mut big = Big(vec![number as u32, (number >> 32) as u32]);
        big.trim();
        big
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> u32 {
        self.0
            .last()
            .map_or(0, |top| self.0.len() as u32 * 32 - top.leading_zeros())
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for digit in &mut self.0 {
            let product = u64::from(*digit) * u64::from(factor) + carry;
            *digit = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn times(&self, other: &Big) -> Big {
        let mut product = vec![0u32; self.0.len() + other.0.len()];
        for (shift, left) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (digit, right) in product
                .iter_mut()
                .skip(shift)
                .zip(other.0.iter().chain([&0]))
            {
                let sum = u64::from(*digit) + u64::from(*left) * u64::from(*right) + carry;
                *digit = sum as u32;
                carry = sum >> 32;
            }
        }
        let mut product = Big(product);
        product.trim();
        product
    }

    fn shift_left(&mut self, bits: u32) {
        if !bits.is_multiple_of(32) {
            self.multiply_add(1 << (bits % 32), 0);
        }
        if !self.0.is_empty() {
            let zeros = std::iter::repeat_n(0, (bits / 32) as usize);
            self.0.splice(0..0, zeros);
        }
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for digit in self.0.iter_mut().rev() {
            let next = *digit << 31;
            *digit = *digit >> 1 | carry;
            carry = next;
        }
        self.trim();
    }

    fn compare(&self, other: &Big) -> Ordering {
        let lengths = self.0.len().cmp(&other.0.len());
        lengths.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Takes `other`, which is not larger, away.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        for (digit, other) in self.0.iter_mut().zip(others) {
            let (difference, first) = digit.overflowing_sub(other);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *digit = difference;
            borrow = first || second;
        }
        self.trim();
    }

    fn to_decimal(&self) -> String {
        let mut rest = Big(self.0.clone());
        let mut groups = Vec::new();
        while rest.bits() > 0 {
            let mut remainder = 0u64;
            for digit in rest.0.iter_mut().rev() {
                let part = remainder << 32 | u64::from(*digit);
                *digit = (part / 1_000_000_000) as u32;
                remainder = part % 1_000_000_000;
            }
            rest.trim();
            groups.push(remainder);
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(left: &str, right: &str) -> Option<String> {
        let left = LongDouble::parse(left.as_bytes())?;
        Some(
            left.checked_add(LongDouble::parse(right.as_bytes())?)?
                .to_text(),
        )
    }

    #[test]
    fn sums_have_the_digits_of_redis() {
        for (left, right, expected) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-1", "0.5", "-0.5"),
            ("0", "-0", "0"),
            ("1", "1e-18", "1"),
            ("0.1", "0.2", "0.3"),
            ("0x10", "0x.8p1", "17"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("-0.00000000000000001", "0", "-0.00000000000000001"),
            ("-0.000000000000000001", "0", "0"),
        ] {
            assert_eq!(
                sum(left, right).as_deref(),
                Some(expected),
                "{left} + {right}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", " 1", "1 ", "abc", "1e", "1e+", ".", "-", "nan", "1.2.3", "0x", "1e5000", "1e-5000",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1e4932", "1e4932"), None);
        assert_eq!(LongDouble::parse(b"0e999999999999"), Some(ZERO));
        assert_eq!(sum("1e4932", "0").map(|text| text.len()), Some(4933));
    }
}
