//! The program as its users meet it: a host in a namespace of its own with pods around it, and
//! commands that ask and change it. Needs root.
//!
//! - [`bed`]: a running host; [`http`]: requests without the program's own client
//! - `running`, `interfaces`: from start to end; `refusals`: what cannot be
//! - `asking`, `changing`: every command
//! - `api`, `scraping`: what programs read

mod api;
mod asking;
mod bed;
mod capturing;
mod changing;
mod http;
mod interfaces;
mod refusals;
mod running;
mod scraping;
