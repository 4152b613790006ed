//! Matrix products of several tokens by dot products of four bytes in each lane (`vpdpbusd`), for 16 rows at a time.
//!
//! The algorithm stands here once, over [`Lanes`]; the folders `avx512` and `avxvnni` bind it to their registers, and
//! the tests to arrays, so that any machine tests its logic.
//!
//! In a panel a lane is a row: a vector holds four neighbouring columns of sixteen rows, and meets the same four columns
//! of a token in every lane. So no sum crosses lanes. Levels are stored from 0 up, since one side of the instruction is
//! unsigned.
//!
//! `gemv` is for one token, and takes the rows one by one.
mod gemv;
mod lanes;
mod level;
mod panel;
mod panel_small;
mod panel_super;
#[cfg(test)]
pub(in crate::kernel) mod portable;
mod source;
mod unpack;

pub(super) use gemv::gemv;
pub(super) use lanes::Lanes;
pub(super) use level::{PANEL_TOKENS, formats, level};
pub(super) use panel::{multiply, multiply_interleaved};
pub(super) use panel_small::SmallPanel;
pub(super) use panel_super::SuperPanel;
