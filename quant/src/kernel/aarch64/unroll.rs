//! Loops that are certainly unrolled.

/// `body` for `j` = 0, 1, … below `count`, at most 16.
macro_rules! unrolled {
    ($count:expr, |$j:ident| $body:block) => {
        unrolled!(@ $count, $j, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $count:expr, $j:ident, $body:block, $($at:literal)*) => {$(
        if $at < $count {
            let $j: usize = $at;
            $body
        }
    )*};
}
pub(super) use unrolled;
