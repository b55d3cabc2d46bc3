//! The admin API: HTTP and JSON over a unix socket. `API.md` shows it with examples.
//!
//! ```text
//! GET    /v1/status                                a host on one screen
//! GET    /v1/stats                                 all that is counted, at one moment
//! GET    /v1/ports                                 the ports          POST: adds one
//! DELETE /v1/ports/{port}                          takes one away
//! GET    /v1/attachments                           the pods of a node
//! GET    /v1/attachments/{container}/{interface}   one    PUT: attaches it    DELETE: detaches it
//! POST   /v1/attachments/…/…/check                 what is not as it was made
//! GET    /v1/services                              what has become of Services
//! GET    /v1/flows?pod=P&limit=N                   connections, and who carries them
//! POST   /v1/redecide                              decides live connections anew
//! POST   /v1/trace                                 what would become of a packet
//! GET    /v1/trace/live?filter=F&count=N           and of those that pass
//! GET    /v1/capture?filter=F&count=N              packets as they pass    DELETE: ends that
//! GET    /v1/filters                               the chain          POST: loads a filter
//! GET    /v1/filters/{name}                        one stage          DELETE: removes it
//! PUT    /v1/filters/{name}/module                 swaps the module
//! PUT    /v1/filters/{name}/config                 configures
//! PUT    /v1/filters/{name}/mode                   "enforce" or "shadow"
//! PUT    /v1/filters/{name}/position               moves
//! POST   /v1/filters/{name}/rollback               the version before, again
//! PUT    /v1/filters/{name}/canary                 tries a module     DELETE: abandons it
//! POST   /v1/filters/{name}/canary/promote         puts it into force
//! GET    /v1/filters/{name}/logs?after=N&follow=B  the log; followed, a stream of lines
//! GET    /v1/filters/{name}/maps?limit=N           its host maps, read as its manifest says
//! POST   /v1/succession/leave, …/drain, …/stay     of the host that takes over
//! GET    /v1/fates, /v1/workers, /v1/pauses        what became of packets, and so on
//! ```
//!
//! - [`types`]: what is said; [`error`]: how a request is refused
//! - [`socket`]: where; [`server`]: who answers, with [`ports`], [`attachments`], [`flows`], [`trace`],
//!   [`capture`], [`filters`], [`logs`], [`maps`], [`redecide`], [`services`], [`succession`]
//! - [`client`]: who asks
//!
//! Nothing here is on the way of a packet: calls of the dataplane block, so they run on threads
//! of their own, and the one thread of the asynchronous runtime never waits for a worker.

mod attachments;
mod capture;
pub(crate) mod client;
mod error;
mod filters;
mod flows;
mod logs;
mod maps;
mod policies;
mod ports;
pub(crate) mod redecide;
pub(crate) mod server;
mod services;
pub(crate) mod socket;
mod succession;
pub(crate) mod tables;
mod trace;
pub(crate) mod types;
