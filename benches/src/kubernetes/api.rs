//! The API server of a cluster, asked through `kubectl proxy`: a request costs what the server takes
//! for it, and no start of a program.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use millrace_netns::Namespace;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::cluster::Scripts;

/// The API server.
pub(super) struct Api {
    proxy: Child,
    namespace: Namespace,
}

impl Api {
    /// Begins to ask.
    ///
    /// # Errors
    /// If `kubectl` does not serve.
    pub(super) fn of(scripts: &Scripts) -> Result<Self> {
        let namespace = scripts.control()?;
        let mut command = scripts.command("kubectl", &["proxy", &format!("--port={PORT}")]);
        // a group of its own: kubectl is a child of the script
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut proxy = command.stdout(Stdio::piped()).spawn().context("starting kubectl proxy")?;
        let output = proxy.stdout.take().context("its output is a pipe")?;
        let this = Self { proxy, namespace };
        let mut word = String::new();
        BufReader::new(output).read_line(&mut word)?;
        ensure!(word.starts_with(READY), "kubectl proxy does not serve: `{}`", word.trim());
        Ok(this)
    }

    /// Makes an object.
    ///
    /// # Errors
    /// If the server does not take it.
    pub(super) fn create(&self, at: &str, object: &Value) -> Result<()> {
        self.send("POST", at, "application/json", object)
    }

    /// Says what has become of an object.
    ///
    /// # Errors
    /// If the server does not take it.
    pub(super) fn status(&self, at: &str, status: &Value) -> Result<()> {
        let patch = json!({ "status": status });
        self.send("PATCH", &format!("{at}/status"), "application/merge-patch+json", &patch)
    }

    fn send(&self, method: &str, at: &str, kind: &str, object: &Value) -> Result<()> {
        let body = object.to_string();
        let stream = self.namespace.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)))?;
        let mut stream = stream.context("asking kubectl proxy")?;
        let length = body.len();
        let request = format!(
            "{method} {at} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status)?;
        ensure!(status.contains(" 20"), "{method} {at}: the API server says {}", status.trim());
        Ok(())
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.proxy.id()).ok().and_then(Pid::from_raw) {
            // one that has ended already is not there
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.proxy.wait();
    }
}

const PORT: u16 = 8001;
const READY: &str = "Starting to serve";
