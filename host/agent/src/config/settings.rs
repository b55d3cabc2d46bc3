//! From keys that may be absent to settings that are there, with every default.

use std::path::PathBuf;

use millrace_dataplane::control::Settings;
use millrace_dataplane::control::request::AddPort;
use millrace_dataplane::worker::WorkerSettings;
use millrace_xsk::{AttachMode, UmemSettings, XskSettings};

use crate::api::types::LoadFilter;
use crate::config::{Attach, Config};
use crate::text::Span;

/// All that a dataplane is started with.
#[derive(Debug)]
pub(crate) struct StartPlan {
    /// Its settings.
    pub(crate) settings: Settings,
    /// Its filters, in order, with their modules.
    pub(crate) filters: Vec<LoadFilter>,
    /// Its ports.
    pub(crate) ports: Vec<AddPort>,
}

impl StartPlan {
    /// Reads the modules and configurations that `config` names.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        let filters = config.filters.iter().cloned().map(|filter| filter.read());
        Ok(Self {
            settings: config.settings(),
            filters: filters.collect::<anyhow::Result<_>>()?,
            ports: config.ports.iter().cloned().map(AddPort::from).collect(),
        })
    }
}

impl Config {
    /// The path of the admin socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into())
    }

    fn settings(&self) -> Settings {
        let usual = Settings::default();
        let worker = WorkerSettings {
            burst: self.burst.unwrap_or(usual.worker.burst),
            flows: self.flows.unwrap_or(usual.worker.flows),
            cache: !self.no_cache,
            spin: self.spin.map_or(usual.worker.spin, Span::duration),
        };
        let umem = UmemSettings {
            frames: self.frames.unwrap_or(usual.umem.frames),
            fill_ring: self.ring.unwrap_or(usual.umem.fill_ring),
            completion_ring: self.ring.unwrap_or(usual.umem.completion_ring),
        };
        let sockets = XskSettings {
            rx_ring: self.ring.unwrap_or(usual.sockets.rx_ring),
            tx_ring: self.ring.unwrap_or(usual.sockets.tx_ring),
            zero_copy: self.zero_copy,
        };
        let attach = match self.attach.unwrap_or(Attach::Auto) {
            Attach::Auto => None,
            Attach::Native => Some(AttachMode::Native),
            Attach::Generic => Some(AttachMode::Generic),
        };
        Settings {
            workers: self.workers.unwrap_or(usual.workers),
            cores: self.cores.clone(),
            worker,
            umem,
            sockets,
            attach,
            zero_copy: self.zero_copy,
            cache: self.module_cache.clone(),
            flow_cache: None,
        }
    }
}

/// Where the admin socket is unless said otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/millrace/millrace.sock";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_not_said_is_the_dataplanes_default() {
        let (settings, usual) = (Config::default().settings(), Settings::default());
        assert_eq!(format!("{settings:?}"), format!("{usual:?}"));
    }

    #[test]
    fn what_is_said_goes_where_it_belongs() {
        let config = Config {
            no_cache: true,
            spin: Some(Span::new(7)),
            ring: Some(512),
            zero_copy: true,
            attach: Some(Attach::Generic),
            ..Config::default()
        };
        let settings = config.settings();
        assert!(!settings.worker.cache && settings.zero_copy && settings.sockets.zero_copy);
        assert_eq!(settings.worker.spin, Duration::from_nanos(7));
        assert_eq!((settings.umem.fill_ring, settings.sockets.tx_ring), (512, 512));
        assert_eq!(settings.attach, Some(AttachMode::Generic));
    }
}
