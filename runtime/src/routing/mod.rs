//! Which modules run on a study.

pub mod accepts;
