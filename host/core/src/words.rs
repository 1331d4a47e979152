//! Words for the values of an enum, as metrics and logs name them. A list that leaves a value out does not compile, so
//! what counts all values of a label counts a new one too.

/// Gives an enum `ALL`, its values, and `as_str`, the word of each.
#[macro_export]
macro_rules! words {
    ($type:ty { $($value:ident => $word:literal),+ $(,)? }) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The value in one word, as metrics and logs name it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }
    };
}
