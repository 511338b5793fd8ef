//! Numbers as Go prints them.

use std::io::Write;

// Writing into a vector cannot fail, so the results of `write!` are dropped in this file.

/// Appends an integer in full, however large.
pub(in crate::wire) fn write_i64(out: &mut Vec<u8>, value: i64) {
    match u8::try_from(value) {
        Ok(digit @ 0..=9) => out.push(b'0' + digit),
        _ => drop(write!(out, "{value}")),
    }
}

/// Appends an integer in full, however large.
pub(in crate::wire) fn write_u64(out: &mut Vec<u8>, value: u64) {
    match u8::try_from(value) {
        Ok(digit @ 0..=9) => out.push(b'0' + digit),
        _ => drop(write!(out, "{value}")),
    }
}

// Go prints plain notation from 1e-6 up to but excluding 1e21, as browsers do, and an exponent with a sign beyond.
macro_rules! write_float {
    ($name:ident, $float:ty) => {
        /// Appends the shortest decimal that reads back as the same float of this width. `value` is finite: JSON has no
        /// word for anything else, and what is not finite is written as the greatest finite value of its sign.
        pub(in crate::wire) fn $name(out: &mut Vec<u8>, value: $float) {
            // Unreachable by way of `Arg::new`; a body that no reader takes would be worse than a wrong number.
            let value = if value.is_nan() { 0.0 } else { value.clamp(<$float>::MIN, <$float>::MAX) };
            let size = value.abs();
            if size == 0.0 || (1e-6..1e21).contains(&size) {
                drop(write!(out, "{value}"));
                return;
            }
            let from = out.len();
            drop(write!(out, "{value:e}"));
            if size >= 1.0
                && let Some(e) = out[from..].iter().position(|c| *c == b'e')
            {
                out.insert(from + e + 1, b'+');
            }
        }
    };
}

write_float!(write_f32, f32);
write_float!(write_f64, f64);

#[cfg(test)]
mod tests {
    use super::*;

    // Printed by Go's `encoding/json`.
    #[test]
    fn floats_print_as_in_go() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (100.0, "100"),
            (1e20, "100000000000000000000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (-1e21, "-1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (0.00000123, "0.00000123"),
            (1e-7, "1e-7"),
            (9.99e-7, "9.99e-7"),
            (1.25e-10, "1.25e-10"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (9007199254740993.0, "9007199254740992"),
            (1.0 / 3.0, "0.3333333333333333"),
            (2.0 / 3.0, "0.6666666666666666"),
        ] {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
        for (value, want) in [
            (0.1f32, "0.1"),
            (16_777_216.0, "16777216"),
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (1e-6, "0.000001"),
            (f32::MAX, "3.4028235e+38"),
            (f32::from_bits(1), "1e-45"),
            (1.0 / 3.0, "0.33333334"),
        ] {
            let mut out = Vec::new();
            write_f32(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn integers_print_in_full() {
        for value in [0, 9, 10, -1, i64::MIN, i64::MAX, 9_007_199_254_740_993] {
            let mut out = Vec::new();
            write_i64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
        let mut out = Vec::new();
        write_u64(&mut out, u64::MAX);
        assert_eq!(out, b"18446744073709551615");
    }
}
