//! The sandbox from outside: guests go in, answers and faults come out.

mod batches;
mod contract;
mod guest;
mod hostile;
mod refusals;
