//! Several values at once: the arguments of a function, the results of a task.

use super::{FromArg, IntoArg, ValueError};
use crate::proto::Arg;

/// Values as they are on the wire, for functions that take or answer any number of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results(pub Vec<Arg>);

/// What a task can answer: `()` for nothing, one value, or a tuple of up to eight.
pub trait IntoResults {
    /// The results, in order.
    fn into_results(self) -> Vec<Arg>;

    /// As [`IntoResults::into_results`], for types of which not every value can be written.
    ///
    /// # Errors
    /// [`ValueError::Codec`].
    fn try_into_results(self) -> Result<Vec<Arg>, ValueError>
    where
        Self: Sized,
    {
        Ok(self.into_results())
    }
}

/// What the results of a task can be read as: `()` for none, one value, or a tuple of up to eight.
pub trait FromResults: Sized {
    /// Reads all of `results`.
    ///
    /// # Errors
    /// [`ValueError`]: another number of them, or other types.
    fn from_results(results: Vec<Arg>) -> Result<Self, ValueError>;
}

impl IntoResults for Results {
    fn into_results(self) -> Vec<Arg> {
        self.0
    }
}

impl FromResults for Results {
    fn from_results(results: Vec<Arg>) -> Result<Self, ValueError> {
        Ok(Self(results))
    }
}

impl<T: IntoArg> IntoResults for T {
    fn into_results(self) -> Vec<Arg> {
        vec![self.into_arg()]
    }

    fn try_into_results(self) -> Result<Vec<Arg>, ValueError> {
        Ok(vec![self.try_into_arg()?])
    }
}

impl<T: FromArg> FromResults for T {
    fn from_results(results: Vec<Arg>) -> Result<Self, ValueError> {
        <(T,)>::from_results(results).map(|(value,)| value)
    }
}

impl IntoResults for () {
    fn into_results(self) -> Vec<Arg> {
        Vec::new()
    }
}

impl FromResults for () {
    fn from_results(results: Vec<Arg>) -> Result<Self, ValueError> {
        if results.is_empty() { Ok(()) } else { Err(ValueError::Count { expected: 0, found: results.len() }) }
    }
}

/// The next value of `values` as a `T`; `position` counts on.
pub(crate) fn next<T: FromArg>(
    values: &mut std::vec::IntoIter<Arg>,
    position: &mut usize,
    count: usize,
) -> Result<T, ValueError> {
    let at = *position;
    *position += 1;
    let value = values.next().ok_or(ValueError::Count { expected: count, found: at })?;
    T::from_arg(value).map_err(|error| error.at(at))
}

macro_rules! tuples {
    ($($count:literal: $($name:ident)+;)*) => {$(
        impl<$($name: IntoArg),+> IntoResults for ($($name,)+) {
            #[allow(non_snake_case)]
            fn into_results(self) -> Vec<Arg> {
                let ($($name,)+) = self;
                vec![$($name.into_arg()),+]
            }

            #[allow(non_snake_case)]
            fn try_into_results(self) -> Result<Vec<Arg>, ValueError> {
                let ($($name,)+) = self;
                let results = [$($name.try_into_arg()),+];
                results.into_iter().enumerate().map(|(at, result)| result.map_err(|error| error.at(at))).collect()
            }
        }

        impl<$($name: FromArg),+> FromResults for ($($name,)+) {
            fn from_results(results: Vec<Arg>) -> Result<Self, ValueError> {
                if results.len() != $count {
                    return Err(ValueError::Count { expected: $count, found: results.len() });
                }
                let (mut values, mut position) = (results.into_iter(), 0);
                Ok(($(next::<$name>(&mut values, &mut position, $count)?,)+))
            }
        }
    )*};
}

tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_one_and_several_results_survive() {
        assert_eq!(<()>::from_results(().into_results()), Ok(()));
        assert_eq!(i64::from_results(7i64.into_results()), Ok(7));
        let several = (1i64, "a".to_owned(), vec![1.5f64]);
        assert_eq!(<(i64, String, Vec<f64>)>::from_results(several.clone().into_results()), Ok(several));
    }

    #[test]
    fn number_and_position_are_named() {
        let error = <(i64, i64)>::from_results(7i64.into_results()).unwrap_err();
        assert_eq!(error, ValueError::Count { expected: 2, found: 1 });
        let error = <(i64, i64)>::from_results((1i64, "x").into_results()).unwrap_err();
        assert_eq!(error.to_string(), "value 1: expected int64, found string");
    }
}
