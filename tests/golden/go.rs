//! Values as Go prints them with `%v`.

use lineshaft::task::{Arg, ArgValue, Kind};

/// `arg`'s value.
pub(crate) fn shown(arg: &Arg) -> String {
    let float = |value: &f64| match arg.type_name.label().map(|label| label.kind) {
        Some(Kind::Float32) => exponent(format!("{}", *value as f32), *value),
        _ => exponent(format!("{value}"), *value),
    };
    match &arg.value {
        ArgValue::Bool(value) => value.to_string(),
        ArgValue::Int(value) => value.to_string(),
        ArgValue::Uint(value) => value.to_string(),
        ArgValue::Float(value) => float(value),
        ArgValue::String(value) => value.clone(),
        ArgValue::Bytes(value) => list(value.iter().map(u8::to_string)),
        ArgValue::Bools(values) => list(values.iter().map(bool::to_string)),
        ArgValue::Ints(values) => list(values.iter().map(i64::to_string)),
        ArgValue::Uints(values) => list(values.iter().map(u64::to_string)),
        ArgValue::Floats(values) => list(values.iter().map(float)),
        ArgValue::Strings(values) => list(values.iter().cloned()),
        ArgValue::Nil => "[]".to_owned(),
        ArgValue::Json(text) => text.clone(),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(" "))
}

// Only what the golden files need of it.
fn exponent(plain: String, value: f64) -> String {
    if value.abs() >= 1e21 { format!("{value:e}").replace('e', "e+") } else { plain }
}
