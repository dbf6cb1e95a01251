//! What statements are given: values with their types.
//!
//! Each statement carries its types instead of being prepared first: that saves a round trip, and a proxy
//! that shares connections between transactions has nothing to keep.

use tokio_postgres::types::{ToSql, Type};

/// A value and its type.
pub(crate) type Argument<'a> = (&'a (dyn ToSql + Sync), Type);

/// A value whose type is known from its own.
pub(super) trait Value: ToSql + Sync {
    /// The type of one.
    const TYPE: Type;
    /// The type of a list of them.
    const ARRAY: Type;
}

macro_rules! values {
    ($($rust:ty => $one:ident, $list:ident;)*) => {
        $(impl Value for $rust {
            const TYPE: Type = Type::$one;
            const ARRAY: Type = Type::$list;
        })*
    };
}

values! {
    bool => BOOL, BOOL_ARRAY;
    i64 => INT8, INT8_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    &[u8] => BYTEA, BYTEA_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
}

impl<T: Value> Value for Option<T> {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T: Value> Value for Vec<T> {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAY;
}

/// One argument.
pub(super) fn argument<T: Value>(value: &T) -> Argument<'_> {
    (value, T::TYPE)
}

/// The arguments of a statement, in their order.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {
        [$($crate::store::postgres::arguments::argument(&$value)),*]
    };
}
pub(super) use arguments;

/// A statement with its arguments, to be sent together with others.
pub(super) struct Statement {
    sql: &'static str,
    arguments: Vec<(Box<dyn ToSql + Send + Sync>, Type)>,
}

impl Statement {
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql, arguments: Vec::new() }
    }

    /// Adds its next argument.
    pub(super) fn with<T: Value + Send + 'static>(mut self, value: T) -> Self {
        self.arguments.push((Box::new(value), T::TYPE));
        self
    }

    /// Its text.
    pub(super) fn sql(&self) -> &'static str {
        self.sql
    }

    /// Its arguments, in their order.
    pub(super) fn arguments(&self) -> Vec<Argument<'_>> {
        let mut arguments: Vec<Argument<'_>> = Vec::with_capacity(self.arguments.len());
        for (value, kind) in &self.arguments {
            arguments.push((&**value, kind.clone()));
        }
        arguments
    }
}
