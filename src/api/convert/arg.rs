//! Arguments and results.

use lineshaft_client::proto::{self, arg::Value};

use super::limit;
use crate::error::Error;
use crate::task::{Arg, ArgError, ArgValue};

/// Longest `Arg.name`, bytes.
const NAME_BYTES_MAX: usize = 200;

/// Checks every argument of a list; paths begin at `field`, the list's name.
pub(in crate::api) fn list(field: &str, args: Vec<proto::Arg>) -> Result<Vec<Arg>, Error> {
    let one = |(i, arg)| read(arg).map_err(|e: Error| e.within(&format!("{field}[{i}]")));
    args.into_iter().enumerate().map(one).collect()
}

fn read(arg: proto::Arg) -> Result<Arg, Error> {
    limit::at_most("name", arg.name.len(), NAME_BYTES_MAX, "bytes")?;
    let value = arg.value.ok_or_else(|| Error::invalid("value", "is required"))?;
    // Where an error about the value points: the member of the oneof that is set, and its elements if it has any.
    let (field, elements, value) = match value {
        Value::BoolValue(v) => ("bool_value", "", ArgValue::Bool(v)),
        Value::Int64Value(v) => ("int64_value", "", ArgValue::Int(v)),
        Value::Uint64Value(v) => ("uint64_value", "", ArgValue::Uint(v)),
        Value::DoubleValue(v) => ("double_value", "", ArgValue::Float(v)),
        Value::StringValue(v) => ("string_value", "", ArgValue::String(v)),
        Value::BytesValue(v) => ("bytes_value", "", ArgValue::Bytes(v)),
        Value::BoolList(v) => ("bool_list", "values", ArgValue::Bools(v.values)),
        Value::Int64List(v) => ("int64_list", "values", ArgValue::Ints(v.values)),
        Value::Uint64List(v) => ("uint64_list", "values", ArgValue::Uints(v.values)),
        Value::DoubleList(v) => ("double_list", "values", ArgValue::Floats(v.values)),
        Value::StringList(v) => ("string_list", "values", ArgValue::Strings(v.values)),
        Value::JsonValue(_) => return Err(Error::invalid("json_value", "is output only")),
    };
    Arg::new(arg.name, Some(&arg.r#type), value).map_err(|e| match e {
        ArgError::UnknownType(_) => Error::invalid("type", e),
        ArgError::Element { index, why } => Error::invalid(format!("{field}.{elements}[{index}]"), why),
        other => Error::invalid(field, other),
    })
}

/// As the protocol has it, its type always named.
pub(in crate::api) fn to_proto(arg: &Arg) -> proto::Arg {
    proto::Arg { name: arg.name.clone(), r#type: arg.type_name.as_str().to_owned(), value: Some(value(arg)) }
}

fn value(arg: &Arg) -> Value {
    match &arg.value {
        ArgValue::Bool(v) => Value::BoolValue(*v),
        ArgValue::Int(v) => Value::Int64Value(*v),
        ArgValue::Uint(v) => Value::Uint64Value(*v),
        ArgValue::Float(v) => Value::DoubleValue(*v),
        ArgValue::String(v) => Value::StringValue(v.clone()),
        ArgValue::Bytes(v) => Value::BytesValue(v.clone()),
        ArgValue::Bools(v) => Value::BoolList(proto::BoolList { values: v.clone() }),
        ArgValue::Ints(v) => Value::Int64List(proto::Int64List { values: v.clone() }),
        ArgValue::Uints(v) => Value::Uint64List(proto::Uint64List { values: v.clone() }),
        ArgValue::Floats(v) => Value::DoubleList(proto::DoubleList { values: v.clone() }),
        ArgValue::Strings(v) => Value::StringList(proto::StringList { values: v.clone() }),
        ArgValue::Nil => empty(arg),
        ArgValue::Json(text) => Value::JsonValue(text.clone()),
    }
}

// A nil slice is an empty list of its type for whoever reads it, as it is for a Go worker.
fn empty(arg: &Arg) -> Value {
    use crate::task::Kind::*;
    match arg.type_name.label().map(|l| l.kind) {
        Some(Bool) => Value::BoolList(proto::BoolList::default()),
        Some(Int | Int8 | Int16 | Int32 | Int64) => Value::Int64List(proto::Int64List::default()),
        Some(Uint8) => Value::BytesValue(Default::default()),
        Some(Uint | Uint16 | Uint32 | Uint64) => Value::Uint64List(proto::Uint64List::default()),
        Some(Float32 | Float64) => Value::DoubleList(proto::DoubleList::default()),
        Some(String) => Value::StringList(proto::StringList::default()),
        None => Value::JsonValue("null".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(type_name: &str, value: Value) -> proto::Arg {
        proto::Arg { name: String::new(), r#type: type_name.to_owned(), value: Some(value) }
    }

    fn refused(arg: proto::Arg) -> (String, String) {
        match list("args", vec![arg]).unwrap_err() {
            Error::Invalid { field, why } => (field, why),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn each_refusal_names_the_path_of_the_value_at_fault() {
        let ints = |values| Value::Int64List(proto::Int64List { values });
        let doubles = |values| Value::DoubleList(proto::DoubleList { values });
        let cases = [
            (arg("complex128", Value::Int64Value(1)), "args[0].type"),
            (arg("int8", Value::Int64Value(300)), "args[0].int64_value"),
            (arg("uint64", Value::Int64Value(-1)), "args[0].int64_value"),
            (arg("int64", Value::Uint64Value(u64::MAX)), "args[0].uint64_value"),
            (arg("[]int8", ints(vec![1, 2, 3, 4, 5, 6, 7, 128])), "args[0].int64_list.values[7]"),
            (arg("", Value::DoubleValue(f64::NAN)), "args[0].double_value"),
            (arg("float32", Value::DoubleValue(1e300)), "args[0].double_value"),
            (arg("", doubles(vec![0.5, f64::INFINITY])), "args[0].double_list.values[1]"),
            (arg("bool", Value::StringValue("true".into())), "args[0].string_value"),
            (arg("chan", Value::JsonValue("{}".into())), "args[0].json_value"),
            (proto::Arg::default(), "args[0].value"),
        ];
        for (bad, field) in cases {
            let text = format!("{bad:?}");
            assert_eq!(refused(bad).0, field, "{text}");
        }
    }

    #[test]
    fn every_kind_of_value_reads_back_with_its_type_named() {
        let values = [
            (Value::BoolValue(true), "bool"),
            (Value::Int64Value(i64::MIN), "int64"),
            (Value::Uint64Value(u64::MAX), "uint64"),
            (Value::DoubleValue(-0.0), "float64"),
            (Value::StringValue("é".into()), "string"),
            (Value::BytesValue(vec![0u8, 255].into()), "[]byte"),
            (Value::BoolList(proto::BoolList { values: vec![true, false] }), "[]bool"),
            (Value::Int64List(proto::Int64List { values: vec![i64::MAX] }), "[]int64"),
            (Value::Uint64List(proto::Uint64List { values: vec![u64::MAX] }), "[]uint64"),
            (Value::DoubleList(proto::DoubleList { values: vec![1.5] }), "[]float64"),
            (Value::StringList(proto::StringList { values: vec![String::new()] }), "[]string"),
        ];
        for (value, implied) in values {
            let read = list("args", vec![arg("", value.clone())]).unwrap();
            let back = to_proto(&read[0]);
            assert_eq!((back.value, back.r#type.as_str()), (Some(value), implied));
        }
    }
}
