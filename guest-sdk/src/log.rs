//! Lines for your support people: [`info!`](crate::info), [`warn!`](crate::warn) and [`debug!`](crate::debug). They are
//! kept with the result, and shown to the operator when the job fails; past `log_kib` (64) a job they are dropped.
//! Never for findings, and never for what could name a patient.

/// Writes a line that is of interest when something is looked into.
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => { $crate::__private::log($crate::__private::Level::Debug, ::core::format_args!($($text)+)) };
}

/// Writes a line.
///
/// ```
/// # use gantry_guest::prelude::*;
/// # fn slabs(n: u32) {
/// info!("{n} slabs of 8 slices");
/// # }
/// ```
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::__private::log($crate::__private::Level::Info, ::core::format_args!($($text)+)) };
}

/// Writes a line that somebody should see.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::__private::log($crate::__private::Level::Warn, ::core::format_args!($($text)+)) };
}
