//! Somebody else's way between the two interfaces, put in place and taken away by a script.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use super::ground::Ground;

/// A script that is called with `up` and with `down`.
///
/// It runs in the network namespace where packets are carried, with the two interfaces in
/// `PORT_A` and `PORT_B`. With `up` it returns once packets can pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What results call it.
    pub name: String,
    /// The script.
    pub path: PathBuf,
}

/// What a script has put in place; it is taken away when this is dropped.
pub struct Raised {
    name: String,
    down: Command,
}

impl Script {
    /// Puts its way in place.
    ///
    /// # Errors
    /// If the script cannot be run, or fails.
    pub fn raise(&self, ground: &Ground) -> Result<Raised> {
        // whatever it did before it failed is taken away as well
        let raised = Raised { name: self.name.clone(), down: self.command("down", ground) };
        call(&mut self.command("up", ground))?;
        Ok(raised)
    }

    fn command(&self, word: &str, ground: &Ground) -> Command {
        let [a, b] = ground.ports();
        let mut command = ground.host().command(&self.path);
        // what it prints is no result of ours
        command.arg(word).env("PORT_A", a).env("PORT_B", b).stdout(Stdio::null());
        command
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Err(error) = call(&mut self.down) {
            eprintln!("peer `{}`: {error:#}", self.name);
        }
    }
}

fn call(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.to_owned(), path: path.into() })
            }
            _ => Err(format!("`{text}` is not of the form NAME=SCRIPT")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_a_name_and_a_path() {
        let script: Script = "ovs=./ovs.sh".parse().expect("it has the form");
        assert_eq!(script, Script { name: "ovs".to_owned(), path: "./ovs.sh".into() });
        for wrong in ["ovs", "=./ovs.sh", "ovs="] {
            assert!(wrong.parse::<Script>().is_err(), "{wrong}");
        }
    }
}
