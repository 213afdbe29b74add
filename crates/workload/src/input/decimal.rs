//! Decimal text to integers, exactly.

/// The number that `text` writes, in units of 10^-`places`; nothing when it is no plain decimal number, has more places
/// than that (zeros at the end aside), or does not fit.
pub fn parse_decimal(text: &str, places: u32) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let missing_places = places.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let mut number: i64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        number = number.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    let number = number.checked_mul(10_i64.checked_pow(missing_places)?)?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_the_number_that_it_writes() {
        let cases = [
            ("35.26", Some(35_260_000)),
            ("-3.6", Some(-3_600_000)),
            ("28000.0", Some(28_000_000_000)),
            ("0.000001", Some(1)),
            ("0.0000010", Some(1)),
            ("-0", Some(0)),
            ("0.0000001", None),
            ("9223372036854.775807", Some(i64::MAX)),
            ("9223372036854.775808", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            (".5", None),
            ("5.", None),
            ("+5", None),
            ("1e3", None),
            ("NaN", None),
            ("inf", None),
            ("1,5", None),
            ("--1", None),
            ("1.-5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_decimal(text, 6), expected, "{text}");
        }
    }
}
