//! Arguments, results and headers: what goes in comes out.

use std::collections::HashMap;

use lineshaft_client::proto::arg::Value as V;
use lineshaft_client::proto::value::Kind;
use lineshaft_client::proto::*;

use crate::rooms::Room;
use crate::stubs::{Stubs, again, arg, named, success, task};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, arguments:
            every_type_arrives_at_the_worker_and_comes_back_with_every_bit
            a_type_that_is_not_given_is_implied_by_the_value
            names_of_arguments_are_kept
            headers_arrive_with_every_digit_and_outlive_a_retry
        );
    };
}
pub(crate) use cases;

/// Every type, alone and as a list, at both ends of its range.
fn every_type() -> Vec<Arg> {
    let mut args = vec![
        arg("bool", V::BoolValue(true)),
        arg("bool", V::BoolValue(false)),
        arg("float32", V::DoubleValue(f64::from(f32::MAX))),
        arg("float32", V::DoubleValue(f64::from(f32::MIN_POSITIVE))),
        arg("float64", V::DoubleValue(f64::MAX)),
        arg("float64", V::DoubleValue(f64::from_bits(1))),
        arg("float64", V::DoubleValue(-0.1)),
        arg("float64", V::DoubleValue(1e21)),
        arg("string", V::StringValue(String::new())),
        arg("string", V::StringValue("\0\u{7}\"\\</\u{2028}é漢🦀\u{10ffff}".into())),
        arg("[]byte", V::BytesValue(bytes::Bytes::new())),
        arg("[]byte", V::BytesValue((0..=255).collect::<Vec<u8>>().into())),
        arg("[]uint8", V::BytesValue(vec![0, 255].into())),
        arg("[]bool", V::BoolList(BoolList { values: vec![true, false] })),
        arg("[]bool", V::BoolList(BoolList { values: vec![] })),
        arg("[]float32", V::DoubleList(DoubleList { values: vec![0.5, f64::from(f32::MIN)] })),
        arg("[]float64", V::DoubleList(DoubleList { values: vec![f64::MIN, 1e-7, 0.0] })),
        arg("[]string", V::StringList(StringList { values: vec!["".into(), "a\nb".into()] })),
        arg("[]string", V::StringList(StringList { values: vec![] })),
    ];
    let signed = [
        ("int", i64::MIN, i64::MAX),
        ("int8", i8::MIN.into(), i8::MAX.into()),
        ("int16", i16::MIN.into(), i16::MAX.into()),
        ("int32", i32::MIN.into(), i32::MAX.into()),
        ("int64", i64::MIN, i64::MAX),
    ];
    for (name, min, max) in signed {
        let list = Int64List { values: vec![min, -1, 0, max] };
        args.extend([arg(name, V::Int64Value(min)), arg(name, V::Int64Value(max))]);
        args.push(arg(&format!("[]{name}"), V::Int64List(list)));
    }
    let unsigned = [
        ("uint", u64::MAX),
        ("uint8", u8::MAX.into()),
        ("uint16", u16::MAX.into()),
        ("uint32", u32::MAX.into()),
        ("uint64", u64::MAX),
    ];
    for (name, max) in unsigned {
        args.extend([arg(name, V::Uint64Value(0)), arg(name, V::Uint64Value(max))]);
        if name != "uint8" {
            let list = Uint64List { values: vec![0, max, (1 << 53) + 1].into_iter().map(|u| u.min(max)).collect() };
            args.push(arg(&format!("[]{name}"), V::Uint64List(list)));
        }
    }
    args
}

pub(crate) async fn every_type_arrives_at_the_worker_and_comes_back_with_every_bit(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(Task { args: every_type(), ..task("a") }).await;
    let lease = stubs.lease("n").await;
    assert_eq!(lease.args, every_type());
    stubs.record(&lease, success(lease.args.clone())).await;
    assert_eq!(stubs.end("a").await.results, every_type());
}

pub(crate) async fn a_type_that_is_not_given_is_implied_by_the_value(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let implied = [
        ("bool", V::BoolValue(true)),
        ("int64", V::Int64Value(-1)),
        ("uint64", V::Uint64Value(1)),
        ("float64", V::DoubleValue(0.5)),
        ("string", V::StringValue("s".into())),
        ("[]byte", V::BytesValue(vec![1].into())),
        ("[]bool", V::BoolList(BoolList { values: vec![true] })),
        ("[]int64", V::Int64List(Int64List { values: vec![-1] })),
        ("[]uint64", V::Uint64List(Uint64List { values: vec![1] })),
        ("[]float64", V::DoubleList(DoubleList { values: vec![0.5] })),
        ("[]string", V::StringList(StringList { values: vec!["s".into()] })),
    ];
    let bare: Vec<Arg> = implied.iter().map(|(_, value)| arg("", value.clone())).collect();
    let full: Vec<Arg> = implied.iter().map(|(name, value)| arg(name, value.clone())).collect();
    stubs.send(Task { args: bare.clone(), ..task("a") }).await;
    let lease = stubs.lease("n").await;
    assert_eq!(lease.args, full);
    stubs.record(&lease, success(bare)).await;
    assert_eq!(stubs.end("a").await.results, full);
}

pub(crate) async fn names_of_arguments_are_kept(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let args = vec![Arg { name: "first \"one\"".into(), ..arg("int8", V::Int64Value(7)) }];
    stubs.send(Task { args: args.clone(), ..named("n") }).await;
    assert_eq!(stubs.lease("n").await.args, args);
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

pub(crate) async fn headers_arrive_with_every_digit_and_outlive_a_retry(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let numbers = ["9007199254740993", "1.50", "1e3", "-0", "1E-400", "123456789012345678901234567890.0"];
    let mut headers: HashMap<String, Value> =
        numbers.iter().map(|number| ((*number).to_owned(), value(Kind::NumberValue((*number).into())))).collect();
    let list = ListValue { values: vec![value(Kind::NullValue(true)), value(Kind::NumberValue("1.0".into()))] };
    let map = MapValue { values: HashMap::from([("é".to_owned(), value(Kind::ListValue(list.clone())))]) };
    let empty = MapValue { values: HashMap::new() };
    headers.extend([
        ("null".to_owned(), value(Kind::NullValue(true))),
        ("false".to_owned(), value(Kind::BoolValue(false))),
        ("text".to_owned(), value(Kind::StringValue("1.0 \"\u{0}é🦀".into()))),
        ("list".to_owned(), value(Kind::ListValue(list))),
        ("map".to_owned(), value(Kind::MapValue(map))),
        ("empty".to_owned(), value(Kind::MapValue(empty))),
        ("a key: with \"everything\"\n".to_owned(), value(Kind::StringValue(String::new()))),
    ]);
    stubs.send(Task { headers: headers.clone(), ..task("a") }).await;
    let first = stubs.lease("n").await;
    assert_eq!(first.headers, headers);
    stubs.record(&first, again("not yet")).await;
    let second = stubs.lease("n").await;
    assert_eq!((second.task_id.as_str(), second.attempt), ("a", 2));
    assert_eq!(second.headers, headers);
}
