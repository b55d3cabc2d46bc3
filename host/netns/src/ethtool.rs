//! Driver settings of a link, by the `SIOCETHTOOL` ioctl (`linux/ethtool.h`).
//!
//! Owns the layouts: every command is an array of 32-bit words that starts with its number.
//! Never interprets a feature's name; `feature` does.
//!
//! A reader must not break this: the kernel writes as much as the command's number and counts
//! say, so the constructors of [`Command`], and only they, decide on its length.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use crate::feature::called;
use crate::ns::enumerate;
use crate::{Feature, Namespace, NamespaceError, NetlinkError};

/// The driver settings of one link. It stays with the link's namespace, and with the name.
#[derive(Debug)]
pub struct Ethtool {
    /// Any socket will do; this kind takes no port.
    socket: UnixDatagram,
    link: String,
}

/// Who drives a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The driver's name, such as `veth` or `mlx5_core`.
    pub name: String,
    /// Its version; for most drivers the kernel's.
    pub version: String,
    /// The device's firmware version, or nothing.
    pub firmware: String,
    /// Where the device sits, such as `0000:3b:00.0`, or nothing.
    pub bus: String,
}

/// Queues in use. A driver has either separate or combined ones, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// That only receive.
    pub rx: u32,
    /// That only transmit.
    pub tx: u32,
    /// That do both.
    pub combined: u32,
}

impl Namespace {
    /// The driver settings of a link of this namespace.
    ///
    /// # Errors
    /// [`NetlinkError::NoSuchLink`], inside [`EthtoolError::Netlink`], lists the links there are.
    pub fn ethtool(&self, link: &str) -> Result<Ethtool, EthtoolError> {
        let link = self.netlink()?.link(link)?.name;
        let socket = self
            .run(UnixDatagram::unbound)?
            .map_err(|error| EthtoolError::from_io("opening a socket for", &link, error))?;
        Ok(Ethtool { socket, link })
    }
}

impl Ethtool {
    /// Who drives the link.
    pub fn driver(&self) -> Result<Driver, EthtoolError> {
        let answer = self.ask("reading the driver of", Command::driver())?;
        Ok(Driver {
            name: text(&answer[1..9]),
            version: text(&answer[9..17]),
            firmware: text(&answer[17..25]),
            bus: text(&answer[25..33]),
        })
    }

    /// Every feature that the kernel has a name for, in its order.
    pub fn features(&self) -> Result<Vec<Feature>, EthtoolError> {
        let blocks = self.feature_blocks()?;
        let names = self.ask("reading the features of", Command::feature_names(blocks))?;
        let states = self.ask("reading the features of", Command::features(blocks))?;
        let feature = |(bit, name): (usize, &[u32])| {
            let block = &states[2 + 4 * (bit / 32)..][..4];
            let [available, requested, active, never_changed] =
                [0, 1, 2, 3].map(|word: usize| block[word] >> (bit % 32) & 1 == 1);
            let changeable = available && !never_changed;
            Feature { name: text(name), active, requested, changeable, bit }
        };
        let count = names[2] as usize;
        let features = names[3..].chunks_exact(NAME_WORDS).take(count).enumerate().map(feature);
        // some bits have no meaning, and no name
        Ok(features.filter(|feature| !feature.name.is_empty()).collect())
    }

    /// Whether any of the features that `name` stands for is on; both the kernel's names and
    /// the short ones of `ethtool -K` are understood.
    pub fn is_on(&self, name: &str) -> Result<bool, EthtoolError> {
        Ok(called(&self.features()?, name)?.into_iter().any(|feature| feature.active))
    }

    /// Turns features on, by the names that [`is_on`](Ethtool::is_on) understands.
    ///
    /// # Errors
    /// [`EthtoolError::Fixed`] if the link does not let a feature change,
    /// [`EthtoolError::NotApplied`] if it needs another one that is off.
    pub fn enable(&self, names: &[&str]) -> Result<(), EthtoolError> {
        self.set_features(names, true)
    }

    /// Turns features off, and with them those that need them.
    ///
    /// # Errors
    /// As [`enable`](Ethtool::enable).
    pub fn disable(&self, names: &[&str]) -> Result<(), EthtoolError> {
        self.set_features(names, false)
    }

    /// Queues in use.
    pub fn channels(&self) -> Result<Channels, EthtoolError> {
        let answer = self.ask("reading the channels of", Command::channels())?;
        Ok(Channels { rx: answer[5], tx: answer[6], combined: answer[8] })
    }

    /// Queues there is room for.
    pub fn max_channels(&self) -> Result<Channels, EthtoolError> {
        let answer = self.ask("reading the channels of", Command::channels())?;
        Ok(Channels { rx: answer[1], tx: answer[2], combined: answer[4] })
    }

    /// Sets how many queues are in use.
    pub fn set_channels(&self, channels: Channels) -> Result<(), EthtoolError> {
        let current = self.ask("reading the channels of", Command::channels())?;
        let command = Command::set_channels(channels, current[7]);
        self.ask("setting the channels of", command).map(drop)
    }

    fn set_features(&self, names: &[&str], on: bool) -> Result<(), EthtoolError> {
        let before = self.features()?;
        let mut bits = Vec::new();
        for name in names {
            let (changeable, fixed): (Vec<&Feature>, Vec<&Feature>) =
                called(&before, name)?.into_iter().partition(|feature| feature.changeable);
            // some of a family may be fixed; if all are, one has to be right already
            if changeable.is_empty() && fixed.iter().all(|feature| feature.active != on) {
                return Err(EthtoolError::Fixed {
                    feature: (*name).to_owned(),
                    link: self.link.clone(),
                });
            }
            bits.extend(changeable.into_iter().map(|feature| feature.bit));
        }
        let command = Command::set_features(self.feature_blocks()?, &bits, on);
        self.ask("changing the features of", command)?;
        let unchanged = |feature: &Feature| feature.active != on && bits.contains(&feature.bit);
        match self.features()?.into_iter().find(unchanged) {
            None => Ok(()),
            Some(Feature { name, .. }) => {
                Err(EthtoolError::NotApplied { feature: name, link: self.link.clone() })
            }
        }
    }

    fn feature_blocks(&self) -> Result<FeatureBlocks, EthtoolError> {
        let unknown = Command::features(FeatureBlocks(0));
        Ok(FeatureBlocks(self.ask("reading the features of", unknown)?[1]))
    }

    fn ask(&self, action: &'static str, command: Command) -> Result<Vec<u32>, EthtoolError> {
        self.execute(command).map_err(|error| EthtoolError::from_io(action, &self.link, error))
    }

    /// Returns the command's words as the kernel left them.
    fn execute(&self, mut command: Command) -> io::Result<Vec<u32>> {
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(self.link.bytes()) {
            *to = from as libc::c_char;
        }
        let data = command.words.as_mut_ptr().cast();
        let mut request = libc::ifreq {
            ifr_name: name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data },
        };
        // SAFETY: holds because the kernel reads the request and reads and writes no more than
        // the words that `data` points at, all of which live and are borrowed by nobody else;
        // established by the constructors of `Command`, which alone decide on its length.
        let outcome =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(command.words) }
    }
}

/// Why driver settings could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EthtoolError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The link could not be looked up; most likely it does not exist.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The link existed, but does not any more.
    #[error("{action} `{link}`: the link is gone")]
    Gone {
        /// What was being done.
        action: &'static str,
        /// The link.
        link: String,
    },
    /// The caller lacks a privilege.
    #[error("{action} `{link}`: permission denied: needs CAP_NET_ADMIN; run as root")]
    Denied {
        /// What was being done.
        action: &'static str,
        /// The link.
        link: String,
    },
    /// The driver does not know the command.
    #[error("{action} `{link}`: its driver has no such setting")]
    Unsupported {
        /// What was being done.
        action: &'static str,
        /// The link.
        link: String,
    },
    /// No feature is called that.
    #[error("no feature is called `{name}`; there is {}", enumerate(known))]
    UnknownFeature {
        /// The name that was given.
        name: String,
        /// The kernel's names.
        known: Vec<String>,
    },
    /// The feature is fixed on this link.
    #[error("feature `{feature}` of `{link}` is fixed; its driver does not let it change")]
    Fixed {
        /// The name that was given.
        feature: String,
        /// The link.
        link: String,
    },
    /// The kernel took the change back.
    #[error(
        "feature `{feature}` of `{link}` did not change; it depends on another, as segmentation \
         does on checksums: change that first"
    )]
    NotApplied {
        /// The kernel's name.
        feature: String,
        /// The link.
        link: String,
    },
    /// The ioctl failed for another reason.
    #[error("{action} `{link}`: {source}")]
    Refused {
        /// What was being done.
        action: &'static str,
        /// The link.
        link: String,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl EthtoolError {
    fn from_io(action: &'static str, link: &str, source: io::Error) -> Self {
        let link = link.to_owned();
        match source.raw_os_error() {
            Some(libc::ENODEV) => Self::Gone { action, link },
            Some(libc::EPERM | libc::EACCES) => Self::Denied { action, link },
            Some(libc::EOPNOTSUPP) => Self::Unsupported { action, link },
            _ => Self::Refused { action, link, source },
        }
    }
}

/// How many blocks of 32 features the kernel has (`ETHTOOL_DEV_FEATURE_WORDS`). Only the kernel
/// says so; zero asks it.
#[derive(Clone, Copy)]
struct FeatureBlocks(u32);

/// A command with room for its answer.
struct Command {
    /// The number, then what the command takes, then zeros for what it gives.
    words: Vec<u32>,
}

impl Command {
    /// `struct ethtool_drvinfo`: five texts of 32 bytes, 12 reserved, five counts.
    fn driver() -> Self {
        Self::new(ETHTOOL_GDRVINFO, &[], 5 * 8 + 3 + 5)
    }

    /// `struct ethtool_channels`: four limits, four counts.
    fn channels() -> Self {
        Self::new(ETHTOOL_GCHANNELS, &[], 8)
    }

    /// The same; the kernel ignores the limits.
    fn set_channels(channels: Channels, other: u32) -> Self {
        let Channels { rx, tx, combined } = channels;
        Self::new(ETHTOOL_SCHANNELS, &[0, 0, 0, 0, rx, tx, other, combined], 0)
    }

    /// `struct ethtool_gstrings`: set, count, and 32 bytes for each feature, of which there are
    /// at most 32 a block.
    fn feature_names(blocks: FeatureBlocks) -> Self {
        Self::new(ETHTOOL_GSTRINGS, &[ETH_SS_FEATURES, 0], blocks.0 as usize * 32 * NAME_WORDS)
    }

    /// `struct ethtool_gfeatures`: the number of blocks there is room for, and four words each:
    /// available, requested, active, never changed.
    fn features(blocks: FeatureBlocks) -> Self {
        Self::new(ETHTOOL_GFEATURES, &[blocks.0], blocks.0 as usize * 4)
    }

    /// `struct ethtool_sfeatures`: the number of blocks, and two words each: which to change,
    /// and to what. `positions` are bits across the blocks.
    fn set_features(blocks: FeatureBlocks, positions: &[usize], on: bool) -> Self {
        let mut command = Self::new(ETHTOOL_SFEATURES, &[blocks.0], blocks.0 as usize * 2);
        for position in positions {
            let block = &mut command.words[2 + 2 * (position / 32)..][..2];
            block[0] |= 1 << (position % 32);
            block[1] |= u32::from(on) << (position % 32);
        }
        command
    }

    fn new(number: u32, arguments: &[u32], room: usize) -> Self {
        let mut words = vec![number];
        words.extend(arguments);
        words.resize(words.len() + room, 0);
        Self { words }
    }
}

/// Reads a text that ends with a zero or with the words.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> =
        words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Of the type that `ioctl` takes, which differs between C libraries.
const SIOCETHTOOL: libc::Ioctl = libc::SIOCETHTOOL as libc::Ioctl;
/// `ETH_GSTRING_LEN` is 32 bytes.
const NAME_WORDS: usize = 8;
const ETH_SS_FEATURES: u32 = 4;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;
